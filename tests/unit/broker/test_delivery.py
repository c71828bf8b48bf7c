"""Feeds, fetches and alarms, through the whole engine: what a member is sent, and when."""

from __future__ import annotations

import pytest

from hermes import limits
from hermes.broker import events as ev
from hermes.broker.core import Settings
from hermes.broker.ports import FetchAhead, Fetched, FetchRanges
from hermes.broker.settling import Verdict
from tests.support.world import POLICY, SECOND_NS, World, message, messages, read_for


def restarted(world: World) -> World:
    """The same store under a new engine: nothing in its ring, reads held back."""
    world.stop()
    world.start(world.log.image())
    world.auto_fetch = False
    return world


# ---------------------------------------------------------------- first attempts


def test_a_publish_and_its_delivery_are_one_commit() -> None:
    world = World()
    worker = world.join()
    world.auto_commit = False
    world.publish(messages(3))
    assert worker.port.got == []
    assert world.log.pending == 1
    world.log.commit_all()
    assert worker.port.got == [(0, 2, 1)]


def test_members_alternate_over_small_batches() -> None:
    world = World()
    first, second = world.join(), world.join()
    for _ in range(6):
        world.publish(message())
    assert first.port.offsets() == [0, 2, 4]
    assert second.port.offsets() == [1, 3, 5]


def test_a_partial_ack_splits_leases_across_batches() -> None:
    world = World()
    worker = world.join(credit=20)
    world.publish(messages(5), messages(5), messages(5))
    worker.ack((3, 6), (12, 12))
    world.run()
    held = [(first, last) for first, last, _ in world.consumer().leases.items()]
    assert held == [(0, 2), (7, 11), (13, 14)]
    assert world.consumer().members[worker.seat.member].in_flight == 10


def test_a_consumer_may_begin_in_the_middle_of_a_batch() -> None:
    world = World()
    world.publish(messages(10))
    worker = world.join(position=6)
    assert worker.port.got == [(6, 9, 1)]
    restarted(world).auto_fetch = True
    assert world.join("other", ">", position=7).port.got == [(7, 9, 1)]


def test_one_in_flight_is_one_in_flight() -> None:
    world = World()
    worker = world.join(credit=1)
    world.publish(messages(3), message())
    for offset in range(4):
        assert worker.port.take() == [(offset, offset, 1)]
        worker.ack((offset, offset))
        world.run()
    assert world.consumer().position == 4


def test_only_what_matches_is_delivered() -> None:
    world = World()
    worker = world.join("c", "a.*", "b.>")
    world.publish(message("a.x"), message("c"), message("b"), message("a.x.y"))
    assert worker.port.offsets() == [0, 2]
    assert world.consumer().position == 3


# ------------------------------------------------------------- window, ring, reads


def test_a_window_that_was_full_is_refilled_from_the_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WINDOW_BATCHES_MAX", 4)
    world = World()
    worker = world.join(credit=1)
    for i in range(30):
        world.publish(message("a" if i % 3 else "b"))
    assert world.engine.deliveries.behind == 1
    for offset in range(30):
        worker.ack((offset, offset))
        world.run()
    assert worker.port.offsets() == list(range(30))
    assert world.engine.deliveries.behind == 0


def test_a_window_that_was_full_is_refilled_by_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WINDOW_BATCHES_MAX", 4)
    world = World()
    world.engine.deliveries._ring.bytes_max = 1  # holds one batch
    worker = world.join("c", "a", credit=1)
    for i in range(30):
        world.publish(message("b" if i % 3 else "a"))
    for offset in range(0, 30, 3):
        worker.ack((offset, offset))
        world.run()
    assert worker.port.offsets() == list(range(0, 30, 3))


def test_reads_behind_the_ring_wait_for_the_commit() -> None:
    world = World()
    world.publish(messages(1))
    world = restarted(world)
    world.engine.deliveries._ring.bytes_max = 1
    world.auto_commit = False
    world.publish(messages(1), messages(1))
    worker = world.join()
    request = world.host.fetches.pop()
    assert isinstance(request, FetchAhead) and request.from_offset == 0
    world.answer(request)
    world.run()
    # The reader sees offset 0 only; 1 is neither committed nor in the ring.
    world.answer(world.host.fetches.pop())
    world.run()
    assert not world.host.fetches
    world.log.commit_all()
    world.run()
    world.auto_commit = world.auto_fetch = True
    world.run()
    assert worker.port.offsets() == [0, 1, 2]


def test_a_consumer_deleted_during_a_read_is_done_with() -> None:
    world = World()
    world.publish(messages(3))
    world = restarted(world)
    worker = world.join()
    world.engine.members.delete(world.session, "c")
    world.run()
    second = world.join("c", ">", position=2)
    old, new = world.host.fetches
    world.answer(old)
    world.run()
    assert worker.port.got == second.port.got == []
    world.answer(new)
    world.run()
    assert second.port.got == [(2, 2, 1)]


def test_an_answer_under_other_filters_is_dropped() -> None:
    # The read began for the filters before the update. Its answer was taken, so that
    # what only the new filters match was passed over, and never delivered.
    world = World()
    world.publish(message("x"), message("y"), message("x"))
    world = restarted(world)
    world.join("c", "x").leave()
    worker = world.join("c", "y", update=True)
    for request in world.host.fetches:
        world.answer(request)
    world.run()
    assert worker.port.got == [(1, 1, 1)]


def test_an_answer_to_the_feed_before_is_dropped() -> None:
    # A member left and came back while due messages were read: both answers were taken,
    # and the same offsets went out twice.
    world = World()
    world.join()
    world.publish(messages(10))
    world = restarted(world)
    world.join().leave()
    workers = world.join(credit=6, run=False), world.join(credit=40)
    requests = list(world.host.fetches)
    assert len(requests) == 2 and requests[0] == requests[1]
    for request in requests:
        world.answer(request)
    world.run()
    assert sorted(workers[0].port.offsets() + workers[1].port.offsets()) == list(range(10))


# ------------------------------------------------------------------- redeliveries


def test_a_redelivery_may_span_batches() -> None:
    world = World()
    worker = world.join(credit=20)
    world.publish(messages(4), messages(4), messages(4))
    worker.port.take()
    worker.nack((2, 9))
    world.run()
    assert worker.port.take() == [(2, 3, 2), (4, 7, 2), (8, 9, 2)]


def test_a_redelivery_that_is_not_in_the_ring_is_read() -> None:
    world = World()
    world.join(credit=20)
    world.publish(messages(4), messages(4))
    world = restarted(world)
    worker = world.join(credit=20)
    request = world.host.fetches.pop()
    assert isinstance(request, FetchRanges) and request.ranges == ((0, 7),)
    world.answer(request)
    world.run()
    assert worker.port.got == [(0, 3, 2), (4, 7, 2)]


def test_what_was_too_much_to_read_at_once_is_asked_for_again() -> None:
    world = World()
    world.publish(messages(2), messages(2), messages(2))
    world.join()
    restarted(world)
    worker = world.join()
    (request,) = world.host.fetches
    assert isinstance(request, FetchRanges)
    assert request.ranges == ((0, 5),)
    whole = read_for(world.log.reader(), request)
    some = Fetched(request, whole.batches[:1], unread=((2, 5),))
    world.host.fetches.clear()
    world.engine.fetched(some)
    world.run()
    assert worker.port.take() == [(0, 1, 2)]
    (rest,) = world.host.fetches
    assert isinstance(rest, FetchRanges)
    assert rest.ranges == ((2, 5),)
    world.auto_fetch = True
    world.run()
    assert worker.port.take() == [(2, 3, 2), (4, 5, 2)]


def test_a_late_ack_while_waiting_settles() -> None:
    world = World()
    worker = world.join(credit=20)
    world.publish(messages(10))
    worker.nack((0, 9), delay_ns=5 * SECOND_NS)
    world.run()
    assert worker.ack((3, 5)) == []
    world.advance(6)
    assert worker.port.take()[1:] == [(0, 2, 2), (6, 9, 2)]
    assert world.consumer().waiting.count == 0


def test_a_due_message_follows_those_that_were_acked_meanwhile() -> None:
    # The feed was full of due messages; all of them were acked late. Nothing was assigned
    # in that round, so nothing marked the consumer, and what was due beyond them waited
    # for the next thing to happen, without an alarm.
    settings = Settings(default_policy=POLICY, redelivery_batch_size=2)
    world = World(settings=settings)
    worker = world.join(credit=20)
    world.publish(*(message() for _ in range(10)))
    world.engine.members.credit(worker.seat, 1, 10**6)
    for offset in (0, 2, 4, 6, 8):
        worker.nack((offset, offset))
        world.advance(1)
    worker.port.take()
    worker.ack((0, 0), (2, 2))
    worker.ack((1, 1), (3, 3), (5, 5), (7, 7), (9, 9))
    world.run()
    assert worker.port.take() == [(4, 4, 2)]


def test_the_due_heap_built_anew_delivers_nothing_twice() -> None:
    # See test_dispatch: what the feed held came out of the rebuilt heap once more.
    world = World()
    worker = world.join(credit=5_000)
    world.publish(*(message() for _ in range(3_000)))
    world.engine.members.credit(worker.seat, 1, 10**6)
    worker.nack((0, 0))
    world.run()
    late = [(offset, offset) for offset in range(2, 2_400, 2)]  # as many heap entries
    worker.nack(*late, delay_ns=SECOND_NS)
    worker.ack(*late)
    worker.nack((2_500, 2_500))
    world.run()
    others = world.join(credit=1, run=False), world.join(credit=1)
    world.engine.members.credit(worker.seat, 5_000, 10**6)
    world.run()
    delivered = [
        offset
        for event in world.events()
        if isinstance(event, ev.Delivered) and event.attempt == 2
        for first, last in event.ranges
        for offset in range(first, last + 1)
    ]
    assert sorted(delivered) == [0, 2_500]
    assert [other.port.offsets() for other in others] == [[0], [2_500]]


def test_a_replay_comes_back_as_attempt_one_beside_first_attempts() -> None:
    world = World()
    worker = world.join(credit=20)
    world.publish(messages(3))
    worker.settle(Verdict.REJECT, (0, 2), attempt=1)
    world.run()
    worker.port.take()
    world.engine.members.replay(world.session, "c", [(0, 2)])
    world.publish(messages(2))
    assert (0, 2, 1) in worker.port.got
    assert world.consumer().dead.count == 0


def test_wide_ranges_become_several_records(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    worker = world.join("c", "a", credit=100, max_attempts=1)
    world.publish(message("a"))
    for _ in range(5):
        world.publish(messages(limits.BATCH_MESSAGES_MAX, "b"))
    world.publish(message("a"))
    last = world.state.next_offset - 1
    assert last >= limits.RECORD_HULL_MAX
    worker.nack((0, last))
    world.run()
    # Nacked and DeadLettered over this hull would each have been refused by the log.
    assert world.consumer().dead.count == 2
    nacks = [event.ranges for event in world.events() if isinstance(event, ev.Nacked)]
    assert nacks == [((0, 0),), ((last, last),)]
    assert world.engine.members.replay(world.session, "c", [(0, last)]) == 2
    world.run()
    worker.ack((0, last))
    world.run()
    assert world.consumer().unsettled == 0


# ------------------------------------------------------------------------- expiry


def test_more_expiries_than_a_round_takes_all_expire_now() -> None:
    settings = Settings(default_policy=POLICY, redelivery_batch_size=3)
    world = World(settings=settings)
    worker = world.join(credit=10)
    for _ in range(10):
        world.publish(message())
    world.auto_commit = False
    world.clock.advance(30)
    world.host.wake()
    world.run()
    assert world.consumer().waiting.count == 10
    assert worker.seat.overdue == 10
    assert all(waiting.failures == 1 for _, _, waiting in world.consumer().waiting.items())


def test_an_expired_lease_holds_the_credit_until_the_member_speaks() -> None:
    world = World()
    worker = world.join(credit=2)
    world.publish(messages(5))
    worker.port.take()
    world.advance(31)
    assert worker.port.take() == []
    assert world.consumer().waiting.count == 2
    world.engine.members.heard(worker.seat)
    world.run()
    assert worker.port.take() == [(0, 1, 2)]


def test_an_expired_lease_holds_the_credit_in_bytes_too() -> None:
    # Found by it: a member that never read was sent as much again after each timeout.
    world = World()
    worker = world.join(credit=1_000, credit_bytes=100)
    for _ in range(6):
        world.publish(messages(1, size=48))
    assert worker.port.take() == [(0, 0, 1), (1, 1, 1)]
    world.advance(31)
    assert worker.port.take() == []
    world.engine.members.heard(worker.seat)
    world.run()
    assert worker.port.take() == [(0, 0, 2), (1, 1, 2)]


def test_what_expired_at_one_member_goes_to_another() -> None:
    world = World()
    stalled = world.join(credit=4)
    world.publish(messages(4))
    stalled.port.take()
    other = world.join(credit=4)
    world.advance(31)
    assert other.port.got == [(0, 3, 2)]
    assert stalled.port.got == []


def test_an_extended_lease_expires_later() -> None:
    world = World()
    worker = world.join()
    world.publish(messages(2))
    world.advance(20)
    assert worker.settle(Verdict.EXTEND, (0, 0), attempt=1) == []
    world.run()
    worker.port.take()
    world.advance(11)
    assert world.consumer().leases.at(0) is not None
    assert world.consumer().waiting.count + world.consumer().leases.count == 2
    world.advance(20)
    expired = [event.ranges for event in world.events() if isinstance(event, ev.Expired)]
    assert (expired[0], expired[-1]) == (((1, 1),), ((0, 0),))
