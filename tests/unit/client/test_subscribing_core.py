"""All live subscriptions of a client on one stream, without a server."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest

from hermes.broker.v1 import broker_pb2 as pb
from hermes.client.core import subscribing
from hermes.client.core.deliveries import batch_of_one
from hermes.client.core.inbox import Inbox
from hermes.client.core.subscribing import SubscribeCore, SubscriptionState
from hermes.errors import InvalidArgumentError, NotFoundError, UnavailableError


def opened(core: SubscribeCore, pattern: str, *groups: str) -> SubscriptionState:
    waiter: Future[None] = Future()
    state = core.open(pattern, groups, waiter)
    core.next_request()
    core.on_response(pb.SubscribeBatchesResponse(opened=[state.number]), 0)
    assert waiter.done()
    return state


def connected() -> SubscribeCore:
    core = SubscribeCore()
    core.opening()
    return core


def live(payload: bytes, *numbers: int, offset: int | None = None) -> pb.SubscribeBatchesResponse:
    batch = batch_of_one("a.b", payload, None, None)
    one = pb.LiveDelivery(subscriptions=numbers, batch=batch, base_offset=offset)
    return pb.SubscribeBatchesResponse(deliveries=[one])


def ahead(core: SubscribeCore) -> bool:
    return core.is_ahead


def payloads(inbox: Inbox[Any]) -> list[bytes]:
    taken: list[bytes] = []
    while (item := inbox.take()) is not None:
        taken.append(item[0].payload(item[1]))
    return taken


def test_a_subscription_is_open_when_the_broker_says_so() -> None:
    core = connected()
    waiter: Future[None] = Future()
    state = core.open("a.>", ("workers",), waiter)
    request = core.next_request()
    assert request is not None
    (asked,) = request.open
    assert (asked.number, asked.pattern, list(asked.queue_groups)) == (1, "a.>", ["workers"])
    assert not waiter.done()
    core.on_response(pb.SubscribeBatchesResponse(opened=[1]), 0)
    assert waiter.done()
    assert core.next_request() is None
    core.on_response(live(b"x", state.number), 0)
    assert payloads(state.inbox) == [b"x"]


def test_one_delivery_reaches_each_subscription_it_is_for() -> None:
    core = connected()
    first, second, third = (opened(core, "a.>") for _ in range(3))
    core.on_response(live(b"x", first.number, third.number, offset=4), 0)
    assert payloads(second.inbox) == []
    taken = first.inbox.take()
    assert taken is not None
    assert taken[0].base_offset == 4
    assert payloads(third.inbox) == [b"x"]


def test_patterns_that_share_an_inbox_get_a_message_once() -> None:
    core = connected()
    first = opened(core, "a.*")
    second = core.open("a.b", (), Future(), first.inbox)
    core.on_response(live(b"x", first.number, second.number), 0)
    assert payloads(first.inbox) == [b"x"]


def test_a_refused_pattern_ends_its_subscription_only() -> None:
    core = connected()
    waiter: Future[None] = Future()
    state = core.open("a..b", (), waiter)
    other = opened(core, "ok")
    refusal = pb.Refusal(code="INVALID_ARGUMENT", message="empty token")
    closed = pb.SubscriptionClosed(number=state.number, refusal=refusal)
    core.on_response(pb.SubscribeBatchesResponse(closed=[closed]), 0)
    with pytest.raises(InvalidArgumentError, match="empty token"):
        waiter.result(0)
    assert state.inbox.ended
    assert not other.inbox.ended


def test_a_lost_connection_opens_all_again() -> None:
    core = connected()
    first, second = opened(core, "a"), opened(core, "b")
    core.close_subscription(first)
    core.on_lost(UnavailableError("gone"), 0)
    assert core.next_request() is None
    (asked,) = core.opening().open
    assert (asked.number, asked.pattern) == (second.number, "b")
    assert core.next_request() is None


def test_what_the_broker_dropped_is_counted_and_told() -> None:
    core = connected()
    state = opened(core, "a")
    told: list[int] = []
    state.lagged = told.append
    lag = pb.Lag(subscription=state.number, dropped=3)
    core.on_response(pb.SubscribeBatchesResponse(lags=[lag]), 0)
    assert (state.dropped, told) == (3, [3])


def test_a_full_inbox_loses_its_oldest_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscribing, "INBOX_MESSAGES_MAX", 2)
    core = connected()
    state = opened(core, "a")
    told: list[int] = []
    state.lagged = told.append
    for payload in (b"1", b"2", b"3", b"4"):
        core.on_response(live(payload, state.number), 0)
    assert payloads(state.inbox) == [b"3", b"4"]
    assert (state.dropped, told) == (2, [1, 1])


def test_an_inbox_is_bounded_in_bytes_but_keeps_at_least_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(subscribing, "INBOX_BYTES_MAX", 100)
    core = connected()
    state = opened(core, "a")
    for size in (60, 60, 500):
        core.on_response(live(bytes(size), state.number), 0)
    assert [len(payload) for payload in payloads(state.inbox)] == [500]
    assert state.dropped == 2
    core.on_response(live(bytes(60), state.number), 0)
    assert state.dropped == 2  # what was taken no longer counts


def test_reading_gives_way_only_to_a_user_who_is_taking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscribing, "INBOX_MESSAGES_MAX", 6)
    core = connected()
    state = opened(core, "a")
    for _ in range(3):
        core.on_response(live(b"x", state.number), 0)
    assert not ahead(core)
    core.on_response(live(b"x", state.number), 0)
    core.on_response(live(b"x", state.number), 0)
    assert ahead(core)
    state.inbox.take()
    assert ahead(core)
    assert not ahead(core)  # nothing was taken since: nobody waits for a slow user
    core.on_response(live(b"x", state.number), 0)
    assert ahead(core)
    while state.inbox.take():
        pass
    assert not ahead(core)


def test_closing_tells_the_broker_and_ends_the_inbox() -> None:
    core = connected()
    state = opened(core, "a")
    core.on_response(live(b"x", state.number), 0)
    core.close_subscription(state)
    request = core.next_request()
    assert request is not None
    assert list(request.close) == [state.number]
    assert state.inbox.ended
    assert state.inbox.take() is None
    core.on_response(live(b"late", state.number), 0)
    assert state.inbox.take() is None


def test_the_end_of_the_stream_ends_all_with_its_error() -> None:
    core = connected()
    state = opened(core, "a")
    waiter: Future[None] = Future()
    core.open("b", (), waiter)
    core.on_failed(NotFoundError("no"))
    assert isinstance(state.inbox.error, NotFoundError)
    with pytest.raises(NotFoundError):
        waiter.result(0)


def test_close_is_finished_once_the_broker_was_told() -> None:
    core = connected()
    opened(core, "a")
    core.close()
    assert not core.is_finished
    assert core.next_request() is not None
    assert core.is_finished
