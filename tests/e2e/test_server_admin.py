"""The admin RPCs over real gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from hermes import __version__, rpc
from hermes.admin.v1 import admin_pb2 as admin
from hermes.broker.v1 import broker_pb2 as pb
from hermes.server import Server
from tests.e2e.rpc_calls import (
    Consuming,
    Peer,
    config,
    envelope,
    error_of,
    server_and_peer,
)


@asynccontextmanager
async def with_dead_letters(tmp_path: Path) -> AsyncIterator[tuple[Server, Peer]]:
    """Consumer `billing` rejected a.0, a.2, b.3 and b.5; it acked the two between."""
    async with server_and_peer(config(tmp_path)) as (server, peer):
        for i, subject in enumerate(("a.0", "a.1", "a.2", "b.3", "b.4", "b.5")):
            await peer.publish_v1(envelope(subject, f"id-{i}", b"payload"))
        metadata = ((rpc.CLIENT_NAME_KEY, "the rejecter"),)
        member = Consuming(peer.call(rpc.CONSUME, metadata=metadata))
        await member.open("billing", "a.*", "b.*")
        for _ in range(6):
            await member.delivery()
        await member.settle(pb.VERDICT_ACK, 1, 1, 4, 4)
        await member.settle(
            pb.VERDICT_REJECT, 0, 0, 2, 3, 5, 5, attempt=1, reason="unreadable", token=1
        )
        await member.confirmed(1)
        await member.call.done_writing()
        await member.call.code()
        yield server, peer


async def listed(peer: Peer, **fields: Any) -> list[admin.DeadLetter]:
    """Every page of a list."""
    letters: list[admin.DeadLetter] = []
    request = admin.ListDeadLettersRequest(**fields)
    while True:
        page = await peer.call(rpc.LIST_DEAD_LETTERS, request)
        letters += page.dead_letters
        if not page.next_page_token:
            return letters
        request.page_token = page.next_page_token


async def test_server_info(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (_, peer):
        await peer.publish("a", b"1", b"2")
        info = await peer.call(rpc.GET_SERVER, admin.GetServerRequest())
        assert (info.version, info.next_offset, info.segments) == (__version__, 2, 1)
        assert info.store_id and info.store_bytes > 0 and info.started_at_ns > 0
        assert info.next_lsn > 2
    async with server_and_peer(config(None)) as (_, peer):
        info = await peer.call(rpc.GET_SERVER, admin.GetServerRequest())
        assert (info.store_id, info.segments, info.store_bytes) == ("", 0, 0)


async def test_a_segment_in_quarantine_is_told_and_whom_it_concerns(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (server, peer):
        ahead, behind = Consuming(peer.call(rpc.CONSUME)), Consuming(peer.call(rpc.CONSUME))
        await ahead.open("ahead", "a")
        await peer.publish("a", b"0", b"1", b"2")
        await ahead.delivery()
        await peer.publish("b", b"3")
        await behind.open("behind", "b", credit=pb.Credit(messages=1))
        await behind.delivery()
        host = server.host()
        host.roll()
        await peer.publish("a", b"4")
        await ahead.delivery()
        sealed = host.log.segments()[0]
        request = admin.ListConsumersRequest()
        before = await peer.call(rpc.LIST_CONSUMERS, request)
        assert [(c.pin.offset, c.pin.what, len(c.withheld)) for c in before.consumers] == [
            (0, "in flight", 0),
            (3, "in flight", 0),
        ]
        host.log.quarantine(sealed.first_lsn, "a page of it cannot be read")
        info = await peer.call(rpc.GET_SERVER, admin.GetServerRequest())
        (told,) = info.quarantined
        assert (told.first_lsn, told.last_lsn) == (1, sealed.last_lsn)
        assert (told.first_offset, told.last_offset) == (0, 3)
        assert told.reason == "a page of it cannot be read"
        assert (told.pinned_consumers, list(told.unsettled)) == (0, ["ahead", "behind"])
        assert (info.quarantined_segments, info.quarantined_records) == (1, sealed.records)
        consumers = (await peer.call(rpc.LIST_CONSUMERS, request)).consumers
        assert [(w.unread, w.unsettled) for c in consumers for w in c.withheld] == [(0, 3), (0, 1)]
        late = Consuming(peer.call(rpc.CONSUME))
        # The newest messages are in memory: it gets one, and the others are not considered.
        await late.open("late", ">", start=pb.Start(offset=1), credit=pb.Credit(messages=1))
        await late.delivery()
        info = await peer.call(rpc.GET_SERVER, admin.GetServerRequest())
        assert list(info.quarantined[0].pinned) == ["late"]
        detail = await peer.call(rpc.GET_CONSUMER, admin.GetConsumerRequest(name="late"))
        (withheld,) = detail.consumer.withheld
        assert (withheld.first_offset, withheld.last_offset) == (0, 3)
        assert (withheld.unread, withheld.unsettled) == (2, 1)
        assert (detail.consumer.pin.offset, detail.consumer.pin.what) == (1, "in flight")
        for member in (ahead, behind, late):
            member.call.cancel()


async def test_consumers_page_by_page_with_their_lag(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (_, peer):
        for name, pattern in (("b", "x"), ("a", "y"), ("c", ">")):
            member = Consuming(peer.call(rpc.CONSUME))
            await member.open(name, pattern)
            await member.call.done_writing()
            await member.call.code()
        await peer.publish("x", b"1", b"2")
        first = await peer.call(rpc.LIST_CONSUMERS, admin.ListConsumersRequest(page_size=2))
        assert [(c.name, c.lag) for c in first.consumers] == [("a", 0), ("b", 2)]
        request = admin.ListConsumersRequest(page_size=2, after=first.next)
        second = await peer.call(rpc.LIST_CONSUMERS, request)
        assert [(c.name, c.lag, c.members) for c in second.consumers] == [("c", 2, 0)]
        assert second.next == ""


async def test_one_consumer_and_its_members(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (_, peer):
        await peer.publish("a", b"1", b"2")
        metadata = ((rpc.CLIENT_NAME_KEY, "worker"), (rpc.CLIENT_VERSION_KEY, "python/9"))
        member = Consuming(peer.call(rpc.CONSUME, metadata=metadata))
        opened = await member.open("c", "a", credit=pb.Credit(messages=7))
        await member.delivery()
        detail = await peer.call(rpc.GET_CONSUMER, admin.GetConsumerRequest(name="c"))
        shown = detail.consumer
        assert (shown.position, shown.in_flight, shown.waiting, shown.lag) == (2, 2, 0, 0)
        assert (shown.oldest_unacked_offset, shown.max_attempts) == (0, 5)
        (found,) = detail.members
        assert (found.member, found.client_name, found.client_version) == (
            opened.member,
            "worker",
            "python/9",
        )
        assert (found.in_flight, found.credit.messages) == (2, 7)
        assert found.peer.startswith("ipv4:127.0.0.1:")
        member.call.cancel()


async def test_deleting_tells_what_was_given_up(tmp_path: Path) -> None:
    async with with_dead_letters(tmp_path) as (server, peer):
        await peer.publish("a.6", b"lag")
        deleted = await peer.call(rpc.DELETE_CONSUMER, admin.DeleteConsumerRequest(name="billing"))
        assert deleted.unsettled == 5
        assert server.host().engine.state.consumers == {}
        error = await error_of(
            peer.call(rpc.DELETE_CONSUMER, admin.DeleteConsumerRequest(name="billing"))
        )
        assert error.code() is grpc.StatusCode.NOT_FOUND


async def test_dead_letters_are_listed_with_filter_and_pages(tmp_path: Path) -> None:
    async with with_dead_letters(tmp_path) as (_, peer):
        letters = await listed(peer)
        for size in (1, 2, 3, 4):
            assert await listed(peer, page_size=size) == letters
            assert [(d.offset, d.subject, d.message_id) for d in letters] == [
                (0, "a.0", "id-0"),
                (2, "a.2", "id-2"),
                (3, "b.3", "id-3"),
                (5, "b.5", "id-5"),
            ]
        assert {d.reason for d in letters} == {"unreadable"}
        copies = [d.copy_offset for d in letters]
        assert sorted(copies) == [6, 7, 8, 9]
        assert [d.offset for d in await listed(peer, filter="b.*", page_size=1)] == [3, 5]
        assert await listed(peer, consumer="billing", filter="c.>") == []


async def test_one_dead_letter_with_its_custody(tmp_path: Path) -> None:
    async with with_dead_letters(tmp_path) as (_, peer):
        request = admin.GetDeadLetterRequest(consumer="billing", offset=2)
        detail = await peer.call(rpc.GET_DEAD_LETTER, request)
        assert [step.kind for step in detail.attempts] == ["delivered", "rejected", "dead_lettered"]
        assert [step.attempt for step in detail.attempts] == [1, 1, 1]
        assert detail.attempts[1].reason == "unreadable"
        assert {step.client_name for step in detail.attempts} == {"the rejecter"}
        content = pb.BatchContent.FromString(detail.message.batch.content)
        assert list(content.payloads) == [b"payload"]
        request.offset = 1
        error = await error_of(peer.call(rpc.GET_DEAD_LETTER, request))
        assert error.code() is grpc.StatusCode.NOT_FOUND


async def test_replay_and_discard(tmp_path: Path) -> None:
    async with with_dead_letters(tmp_path) as (server, peer):
        select = admin.SelectDeadLetters
        dry = await peer.call(
            rpc.REPLAY_DEAD_LETTERS, select(consumer="billing", filter="a.>", dry_run=True)
        )
        assert (dry.matched, dry.changed, list(dry.offsets)) == (2, 0, [0, 2])
        chosen = select(consumer="billing", offsets=[0, 1, 3])
        replayed = await peer.call(rpc.REPLAY_DEAD_LETTERS, chosen)
        assert (replayed.matched, replayed.changed, list(replayed.offsets)) == (2, 2, [0, 3])
        again = await peer.call(rpc.REPLAY_DEAD_LETTERS, chosen)
        assert (again.matched, again.changed) == (0, 0)
        gone = await peer.call(rpc.DISCARD_DEAD_LETTERS, select(consumer="billing", filter="b.*"))
        assert (gone.matched, list(gone.offsets)) == (1, [5])
        consumer = server.host().engine.state.consumers["billing"]
        assert [(first, last) for first, last, _ in consumer.dead.items()] == [(2, 2)]
        member = Consuming(peer.call(rpc.CONSUME))
        await member.open("billing")
        got = [await member.delivery(), await member.delivery()]
        assert [(d.base_offset, d.attempt) for d in got] == [(0, 1), (3, 1)]
        member.call.cancel()


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        (rpc.GET_CONSUMER, admin.GetConsumerRequest()),
        (rpc.DELETE_CONSUMER, admin.DeleteConsumerRequest(name="\n")),
        (rpc.LIST_CONSUMERS, admin.ListConsumersRequest(page_size=1_001)),
        (rpc.LIST_DEAD_LETTERS, admin.ListDeadLettersRequest(filter="a..b")),
        (rpc.LIST_DEAD_LETTERS, admin.ListDeadLettersRequest(page_token="x")),
        (rpc.GET_DEAD_LETTER, admin.GetDeadLetterRequest()),
        (rpc.REPLAY_DEAD_LETTERS, admin.SelectDeadLetters()),
    ],
)
async def test_bad_requests(tmp_path: Path, method: Any, request_: Any) -> None:
    async with server_and_peer(config(tmp_path)) as (_, peer):
        error = await error_of(peer.call(method, request_))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        (rpc.GET_CONSUMER, admin.GetConsumerRequest(name="no")),
        (rpc.LIST_DEAD_LETTERS, admin.ListDeadLettersRequest(consumer="no")),
        (rpc.GET_DEAD_LETTER, admin.GetDeadLetterRequest(consumer="no")),
        (rpc.DISCARD_DEAD_LETTERS, admin.SelectDeadLetters(consumer="no")),
    ],
)
async def test_unknown_consumers(tmp_path: Path, method: Any, request_: Any) -> None:
    async with server_and_peer(config(tmp_path)) as (_, peer):
        error = await error_of(peer.call(method, request_))
        assert error.code() is grpc.StatusCode.NOT_FOUND
        assert "'no'" in str(error.details())
