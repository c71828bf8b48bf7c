"""When a lease ends without an ack: backoff, expiry, release, loss, death."""

from __future__ import annotations

import msgspec
import pytest

from hermes import limits
from hermes.broker import events as ev
from hermes.broker.consumer import Consumer, Lease
from hermes.broker.ranges import RangeMap
from hermes.broker.redelivery import (
    backoff_ns,
    decide_expiry,
    decide_loss,
    decide_release,
    due_leases,
    hulls,
)
from tests.support.world import POLICY, SECOND_NS

NATIVE = msgspec.structs.replace(
    POLICY, backoff_initial_ns=SECOND_NS, backoff_max_ns=300 * SECOND_NS
)


def consumer(
    *leases: tuple[int, int, int], policy: ev.Policy = POLICY, failures: int = 0
) -> Consumer:
    """Leases as (first, last, member), attempt 1, until 100."""
    made = Consumer("c", 1, 0, policy, 0)
    for first, last, member in leases:
        made.position = max(made.position, last + 1)
        made.restore_lease(first, last, Lease(member, 1, failures, 0, 100))
    return made


# ------------------------------------------------------------------------ backoff


def test_backoff_doubles_up_to_its_limit() -> None:
    seconds = [backoff_ns(NATIVE, failures, 0) // SECOND_NS for failures in range(1, 12)]
    assert seconds == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert backoff_ns(NATIVE, 10_000, 0) == 300 * SECOND_NS


def test_jitter_takes_at_most_a_tenth_and_spreads() -> None:
    delays = {backoff_ns(NATIVE, 1, offset) for offset in range(1_000)}
    assert min(delays) > 0.9 * SECOND_NS
    assert max(delays) == SECOND_NS
    assert len(delays) > 500
    assert backoff_ns(NATIVE, 1, 7) == backoff_ns(NATIVE, 1, 7)


def test_no_backoff_is_at_once() -> None:
    assert backoff_ns(POLICY, 5, 3) == 0


def test_a_hull_is_never_wider_than_a_record_may_be() -> None:
    wide = limits.RECORD_HULL_MAX
    assert hulls([(0, 0), (wide, wide)]) == [((0, 0),), ((wide, wide),)]
    assert hulls([(wide - 1, wide - 1), (0, 0)]) == [((0, 0), (wide - 1, wide - 1))]
    assert hulls([(0, wide)]) == [((0, wide - 1),), ((wide, wide),)]


# ------------------------------------------------------------------------- expiry


def test_only_leases_past_their_deadline_are_due() -> None:
    held = consumer((0, 4, 1))
    assert due_leases(held, 99, 10) == []
    assert [(a, b) for a, b, _ in due_leases(held, 100, 10)] == [(0, 4)]


def test_settled_and_extended_leases_are_not_due() -> None:
    held = consumer((0, 9, 1))
    held.fold(ev.Acked(engine_time_ns=1, consumer="c", ranges=((3, 4),), session=0, member=1))
    held.fold(
        ev.Extended(
            engine_time_ns=1,
            consumer="c",
            ranges=((7, 7),),
            session=0,
            member=1,
            attempt=1,
            deadline_ns=200,
        )
    )
    assert [(a, b) for a, b, _ in due_leases(held, 100, 10)] == [(0, 2), (5, 6), (8, 9)]


def test_no_more_ranges_than_asked_for_and_the_rest_next_time() -> None:
    held = consumer(*((i, i, 1) for i in range(5)))
    assert [len(due_leases(held, 100, 2)) for _ in range(4)] == [2, 2, 1, 0]


def test_a_lease_is_due_once_though_its_entries_overlap() -> None:
    # 5 was delivered and released, then delivered again together with 4, with the same
    # deadline. The old entry named 5 and the new one 4..5: 5 expired twice in one round,
    # the second time while waiting, which stopped the broker.
    held = consumer((5, 5, 1))
    held.leases.remove(5, 5)
    held.restore_lease(4, 5, Lease(1, 2, 0, 1, 100))
    assert [(a, b) for a, b, _ in due_leases(held, 100, 10)] == [(4, 5)]


def test_an_expiry_is_a_failure_and_the_last_one_is_death() -> None:
    held = consumer((0, 1, 1), (2, 2, 2), failures=POLICY.max_attempts - 1)
    events = decide_expiry(held, due_leases(held, 100, 10), now_ns=100, at_ns=7)
    for event in events:
        assert isinstance(event, ev.RangesEvent)
        held.fold(event)
    assert [type(event).__name__ for event in events] == ["Expired", "DeadLettered"] * 2
    dead = [event for event in events if isinstance(event, ev.DeadLettered)]
    assert [(e.ranges, e.failures, e.attempts, e.at_ns) for e in dead] == [
        (((0, 1),), 5, 1, 7),
        (((2, 2),), 5, 1, 7),
    ]
    assert held.dead.count == 3


def test_without_a_limit_nothing_dies() -> None:
    policy = msgspec.structs.replace(POLICY, max_attempts=0)
    held = consumer((0, 0, 1), policy=policy, failures=10_000)
    events = decide_expiry(held, due_leases(held, 100, 1), now_ns=100, at_ns=0)
    assert [type(event).__name__ for event in events] == ["Expired"]


# --------------------------------------------------------------- release and loss


def test_a_release_is_due_at_once_and_free() -> None:
    held = consumer((0, 1, 1), policy=NATIVE)
    pieces = list(held.leases.items())
    (event,) = decide_release(held, pieces, ev.ReleaseCause.HANDED_BACK, session=3, now_ns=50)
    assert isinstance(event, ev.Released)
    assert (event.due_ns, event.failure) == (50, False)
    held.fold(event)
    assert [(w.failures, w.releases) for _, _, w in held.waiting.items()] == [(0, 0)]


@pytest.mark.parametrize(
    ("leases", "failure"),
    [
        ([(0, 0, 1)], True),
        ([(0, 0, 1), (1, 1, 2)], True),  # the other lease is another member's
        ([(0, 1, 1)], False),
        ([(0, 0, 1), (5, 5, 1)], False),
    ],
)
def test_a_lost_member_convicts_only_its_only_message(
    leases: list[tuple[int, int, int]], failure: bool
) -> None:
    held = consumer(*leases, policy=NATIVE)
    events = decide_loss(held, 1, session=0, now_ns=50, at_ns=0)
    released = [event for event in events if isinstance(event, ev.Released)]
    assert [event.failure for event in released] == [failure]
    assert released[0].due_ns == (50 + backoff_ns(NATIVE, 1, 0) if failure else 50)


def test_a_message_that_kills_its_worker_dies_in_the_end() -> None:
    held = consumer((0, 0, 1), failures=POLICY.max_attempts - 1)
    names = [type(e).__name__ for e in decide_loss(held, 1, session=0, now_ns=1, at_ns=0)]
    assert names == ["Released", "DeadLettered"]


def test_a_lost_member_without_leases_changes_nothing() -> None:
    assert decide_loss(consumer((0, 0, 2)), 1, session=0, now_ns=1, at_ns=0) == []


def test_what_a_range_map_is_missing() -> None:
    held: RangeMap[None] = RangeMap([(2, 3, None), (6, 6, None)])
    assert held.missing(0, 8) == [(0, 1), (4, 5), (7, 8)]
    assert held.missing(2, 3) == []
    assert held.missing(4, 5) == [(4, 5)]
