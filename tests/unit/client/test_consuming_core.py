"""A member without a server: deliveries, verdicts, lease keeping, lost connections."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from hermes.broker.v1 import broker_pb2 as pb
from hermes.client.core.consuming import ConsumeCore
from hermes.client.core.leases import Leased
from hermes.client.core.settlements import ACK, Terms
from hermes.errors import ClosedError, NotFoundError, StaleError, UnavailableError
from tests.unit.client.fake_broker import batch_delivery, consume_opened, delivery

SECOND = 1_000_000_000
LOST_CONNECTION = UnavailableError("gone")
Ranges = list[tuple[str, list[int]]]


def make_core(*, max_lease_ns: int = 3600 * SECOND, update: bool = False) -> ConsumeCore:
    options = pb.ConsumeOpen(
        consumer="c", filters=[">"], credit=pb.Credit(messages=10), update=update
    )
    return ConsumeCore(options, max_lease_ns=max_lease_ns)


def opened_core(*, max_lease_ns: int = 3600 * SECOND) -> ConsumeCore:
    core = make_core(max_lease_ns=max_lease_ns)
    core.opening()
    core.on_response(consume_opened(), 0)
    return core


def deliver(core: ConsumeCore, *deliveries: pb.Delivery, now_ns: int = 0) -> None:
    core.on_response(pb.ConsumeResponse(deliveries=deliveries), now_ns)


def take(core: ConsumeCore) -> tuple[Leased, int]:
    taken = core.inbox.take()
    assert taken is not None
    return taken


def finished(core: ConsumeCore) -> bool:
    return core.is_finished


def sent(core: ConsumeCore) -> Ranges:
    request = core.next_request()
    if request is None:
        return []
    return [(pb.Verdict.Name(s.verdict), list(s.ranges)) for s in request.settlements]


def test_opening_tells_what_the_consumer_is_like() -> None:
    core = make_core()
    waiter: Future[None] = Future()
    core.wait_opened(waiter)
    assert core.opening().open.consumer == "c"
    assert not waiter.done()
    core.on_response(consume_opened(created=True, position=7, filters=["a.>"]), 0)
    assert waiter.done()
    assert core.info is not None
    assert (core.info.created, core.info.position, core.info.filters) == (True, 7, ("a.>",))


def test_messages_of_a_batch_are_handed_out_in_order_and_acked_as_a_range() -> None:
    core = opened_core()
    deliver(core, batch_delivery(5, [b"0", b"1", b"2"]))
    taken = [take(core) for _ in range(3)]
    assert [leased.payload(index) for leased, index in taken] == [b"0", b"1", b"2"]
    assert core.in_hand == 3
    for leased, index in taken:
        core.settle(leased, index, ACK)
    assert core.in_hand == 0
    assert sent(core) == [("VERDICT_ACK", [5, 7])]


def test_only_the_selected_part_of_a_batch_is_leased() -> None:
    core = opened_core()
    deliver(core, batch_delivery(10, [b"0", b"1", b"2", b"3"], selection=[1, 1, 3, 3]))
    taken = [take(core), take(core)]
    assert [index for _, index in taken] == [1, 3]
    assert core.inbox.take() is None
    core.on_timer(10 * SECOND)
    assert sent(core) == [("VERDICT_EXTEND", [11, 11, 13, 13])]


def test_a_second_verdict_on_a_message_is_stale() -> None:
    core = opened_core()
    deliver(core, delivery(1, b""))
    leased, index = take(core)
    core.settle(leased, index, ACK)
    waiter: Future[None] = Future()
    core.settle(leased, index, Terms(pb.VERDICT_NACK, 1), waiter)
    with pytest.raises(StaleError):
        waiter.result(0)
    assert sent(core) == [("VERDICT_ACK", [1, 1])]
    assert core.in_hand == 0


def test_leases_are_extended_at_a_third_of_the_ack_timeout_while_unsettled() -> None:
    core = opened_core()  # ack timeout 30 s
    deliver(core, batch_delivery(0, [b"0", b"1"]), delivery(2, b"2"))
    leased, index = take(core)
    core.settle(leased, index, ACK)
    sent(core)
    assert core.next_timer_ns() == 10 * SECOND
    core.on_timer(5 * SECOND)
    assert sent(core) == []
    core.on_timer(10 * SECOND)
    assert sent(core) == [("VERDICT_EXTEND", [1, 2])]
    assert core.next_timer_ns() == 20 * SECOND


def test_extensions_of_different_attempts_leave_apart() -> None:
    core = opened_core()
    deliver(core, delivery(0, b"", attempt=1), delivery(1, b"", attempt=3))
    core.on_timer(10 * SECOND)
    request = core.next_request()
    assert request is not None
    assert [(s.attempt, list(s.ranges)) for s in request.settlements] == [
        (1, [0, 0]),
        (3, [1, 1]),
    ]


def test_a_settled_message_is_not_extended() -> None:
    core = opened_core()
    deliver(core, delivery(0, b""))
    core.settle(*take(core), ACK)
    sent(core)
    assert core.next_timer_ns() is None
    core.on_timer(100 * SECOND)
    assert sent(core) == []


def test_a_lease_is_kept_no_longer_than_max_lease_and_then_reported() -> None:
    core = opened_core(max_lease_ns=45 * SECOND)
    lost: list[tuple[int, list[int]]] = []
    core.lease_lost = lambda leased, indexes: lost.append((leased.first_offset, indexes))
    deliver(core, delivery(4, b""))
    take(core)
    core.on_timer(10 * SECOND)
    assert sent(core) == [("VERDICT_EXTEND", [4, 4])]
    core.on_timer(20 * SECOND)  # until 50 s would be too long
    assert sent(core) == []
    assert core.next_timer_ns() == 40 * SECOND
    core.on_timer(40 * SECOND - 1)
    assert lost == []
    core.on_timer(40 * SECOND)
    assert lost == [(4, [0])]
    assert core.next_timer_ns() is None


def test_after_leases_ran_out_a_waiting_user_makes_the_member_heard() -> None:
    """The broker holds the credit of expired leases until the member sends something."""
    core = opened_core(max_lease_ns=30 * SECOND)
    deliver(core, delivery(4, b""))
    core.ask()
    assert core.next_request() is None
    core.on_timer(10 * SECOND)
    core.on_timer(30 * SECOND)
    assert core.inbox.take() is None
    assert core.next_request() is None
    core.ask()
    request = core.next_request()
    assert request is not None
    assert request.heartbeat
    core.ask()
    assert core.next_request() is None


def test_a_lease_running_out_does_not_hold_up_the_extension_of_others() -> None:
    core = opened_core(max_lease_ns=45 * SECOND)
    deliver(core, delivery(0, b""))
    core.on_timer(10 * SECOND)
    deliver(core, delivery(1, b""), now_ns=18 * SECOND)
    core.on_timer(20 * SECOND)
    core.next_request()
    assert core.next_timer_ns() == 28 * SECOND
    core.on_timer(28 * SECOND)
    assert sent(core) == [("VERDICT_EXTEND", [1, 1])]


def test_a_stale_extension_loses_the_lease_in_hand_and_forgets_the_buffered() -> None:
    core = opened_core()
    lost: list[list[int]] = []
    core.lease_lost = lambda _leased, indexes: lost.append(indexes)
    deliver(core, batch_delivery(0, [b"0", b"1", b"2"]))
    leased, index = take(core)
    core.on_timer(10 * SECOND)
    sent(core)
    stale = pb.Stale(verdict=pb.VERDICT_EXTEND, ranges=[0, 1])
    core.on_response(pb.ConsumeResponse(stale=[stale]), 0)
    assert lost == [[0]]  # 1 was in the buffer: it will come again
    assert take(core)[1] == 2
    assert core.inbox.take() is None
    # A late ack still counts for the broker, unless it was settled otherwise.
    core.settle(leased, index, ACK)
    assert sent(core) == [("VERDICT_ACK", [0, 0])]


def test_a_lost_connection_forgets_the_buffer_and_keeps_acks() -> None:
    core = opened_core()
    lost: list[int] = []
    core.lease_lost = lambda leased, _indexes: lost.append(leased.first_offset)
    deliver(core, *(delivery(offset, b"") for offset in range(4)))
    acked, in_hand = take(core), take(core)
    core.settle(*acked, ACK)
    assert sent(core) == [("VERDICT_ACK", [0, 0])]  # never confirmed
    core.on_lost(LOST_CONNECTION, 0)
    assert lost == [1]
    assert core.inbox.take() is None
    assert core.next_timer_ns() is None
    assert sent(core) == []
    # Acks that were never confirmed come along with the opening request.
    assert [list(s.ranges) for s in core.opening().settlements] == [[0, 0]]
    core.on_response(consume_opened(created=False), 0)
    core.settle(*in_hand, ACK)
    assert sent(core) == [("VERDICT_ACK", [1, 1])]
    deliver(core, delivery(2, b"", attempt=2))
    assert take(core)[0].attempt == 2


def test_an_update_is_asked_for_once() -> None:
    core = make_core(update=True)
    assert core.opening().open.update
    core.on_lost(LOST_CONNECTION, 0)
    assert core.opening().open.update  # never opened: still asked for
    core.on_response(consume_opened(), 0)
    core.on_lost(LOST_CONNECTION, 0)
    assert not core.opening().open.update


def test_closing_sends_the_verdicts_given_before_and_then_is_finished() -> None:
    """The half-close releases the rest. Released one by one it came back at once, one
    attempt older, before the broker had seen the half-close."""
    core = opened_core()
    deliver(core, delivery(0, b""), delivery(1, b"", attempt=2), delivery(2, b""))
    core.settle(*take(core), ACK)
    held = take(core)
    core.close()
    assert not finished(core)
    assert sent(core) == [("VERDICT_ACK", [0, 0])]
    assert finished(core)
    assert core.inbox.ended
    assert core.inbox.take() is None
    deliver(core, delivery(3, b""))
    assert core.inbox.take() is None
    with pytest.raises(ClosedError):
        core.settle(*held, ACK)


def test_waiting_for_confirmation_covers_every_verdict_so_far() -> None:
    core = opened_core()
    done: Future[None] = Future()
    core.wait_confirmed(done)
    assert done.done()
    deliver(core, delivery(0, b""))
    core.settle(*take(core), ACK)
    waiting: Future[None] = Future()
    core.wait_confirmed(waiting)
    request = core.next_request()
    assert request is not None
    assert not waiting.done()
    tokens = [settlement.token for settlement in request.settlements]
    core.on_response(pb.ConsumeResponse(confirmed=tokens), 0)
    assert waiting.done()


def test_the_end_of_the_consumer_reaches_everybody() -> None:
    core = make_core()
    opened: Future[None] = Future()
    core.wait_opened(opened)
    core.on_failed(NotFoundError("deleted"))
    with pytest.raises(NotFoundError):
        opened.result(0)
    assert core.inbox.ended
    assert isinstance(core.inbox.error, NotFoundError)


def test_after_the_end_a_verdict_raises_what_ended_it() -> None:
    core = opened_core()
    deliver(core, delivery(0, b""))
    held = take(core)
    core.on_failed(NotFoundError("deleted"))
    with pytest.raises(NotFoundError):
        core.settle(*held, ACK)


def test_drain_finishes_when_everything_in_hand_is_settled() -> None:
    core = opened_core()
    deliver(core, delivery(0, b""))
    held = take(core)
    core.on_response(pb.ConsumeResponse(drain=pb.Drain(reason="restart")), 0)
    assert not finished(core)
    core.settle(*held, ACK)
    assert not finished(core)
    assert sent(core) == [("VERDICT_ACK", [0, 0])]
    assert finished(core)
