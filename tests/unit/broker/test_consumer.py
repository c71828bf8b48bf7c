"""The states of a message for one consumer: every pair of state and event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from hermes import limits
from hermes.broker import events as ev
from hermes.broker.consumer import (
    NEVER_NS,
    TRANSITIONS,
    Consumer,
    Dead,
    IllegalTransitionError,
    Lease,
    Member,
    MessageState,
    Waiting,
)
from hermes.broker.events import Ranges
from tests.support.world import POLICY

S = MessageState
OFFSET, POSITION = 5, 10
MEMBER, OTHER = 7, 8


def event_of(kind: type[ev.Event], ranges: Ranges = ((OFFSET, OFFSET),)) -> ev.RangesEvent:
    """An event of this kind about these offsets, from the member that holds them."""
    values: dict[str, Any] = {
        "engine_time_ns": 50, "consumer": "c", "ranges": ranges, "session": 1, "member": MEMBER,
        "attempt": 1, "deadline_ns": 200, "due_ns": 60, "reason": "", "at_ns": 9,
        "cause": ev.DeadCause.TOO_MANY_FAILURES, "attempts": 1, "failures": 1, "mean_bytes": 3,
    }  # fmt: skip
    if kind is ev.Released:
        values["cause"] = ev.ReleaseCause.MEMBER_GONE
    event = kind(**{n: values[n] for n in kind.__struct_fields__ if n in values})
    assert isinstance(event, ev.RangesEvent)
    return event


def consumer_in(state: MessageState, *, failures: int = 2, releases: int = 1) -> Consumer:
    """A consumer with two members, whose message OFFSET is in this state."""
    made = Consumer("c", 1, 0, POLICY, OFFSET if state is S.UNSEEN else POSITION)
    made.members = {MEMBER: Member(1, 10, 1_000), OTHER: Member(1, 10, 1_000)}
    if state is S.LEASED:
        made.restore_lease(OFFSET, OFFSET, Lease(MEMBER, 4, failures, releases, 100, 3))
    elif state is S.WAITING:
        made.restore_waiting(OFFSET, OFFSET, Waiting(4, failures, releases, 40))
    elif state is S.DEAD:
        made.dead.add(OFFSET, OFFSET, Dead(4, 5, ev.DeadCause.TOO_MANY_FAILURES, "", 9))
    return made


def picture(consumer: Consumer) -> tuple[object, ...]:
    """Everything that an event could change."""
    held = [list(m.items()) for m in (consumer.leases, consumer.waiting, consumer.dead)]
    members = {n: (m.in_flight, m.in_flight_bytes, m.alone) for n, m in consumer.members.items()}
    return consumer.position, consumer.last_active_ns, held, members


KINDS = sorted({kind for _, kind in TRANSITIONS}, key=lambda kind: kind.__name__)
PAIRS = [(state, kind) for state in S for kind in KINDS]


def name_of(value: object) -> str:
    return value.value if isinstance(value, S) else getattr(value, "__name__", "")


@pytest.mark.parametrize(("state", "kind"), PAIRS, ids=name_of)
def test_every_pair_does_what_the_table_says(state: MessageState, kind: type[ev.Event]) -> None:
    consumer = consumer_in(state)
    assert consumer.state_of(OFFSET) is state
    before = picture(consumer)
    if (state, kind) in TRANSITIONS:
        consumer.fold(event_of(kind))
        assert consumer.state_of(OFFSET) is TRANSITIONS[state, kind]
    else:
        with pytest.raises(IllegalTransitionError):
            consumer.fold(event_of(kind))
        assert picture(consumer) == before


@pytest.mark.parametrize("kind", [ev.Acked, ev.Nacked, ev.Extended, ev.DeadLettered])
def test_one_illegal_offset_refuses_the_whole_event(kind: type[ev.Event]) -> None:
    state = S.WAITING if kind is ev.DeadLettered else S.LEASED
    consumer = consumer_in(state)
    before = picture(consumer)
    with pytest.raises(IllegalTransitionError, match="settled"):
        consumer.fold(event_of(kind, ((OFFSET, OFFSET + 1),)))
    assert picture(consumer) == before


# --------------------------------------------------------------------- counters


@pytest.mark.parametrize(
    ("change", "counters"),
    [
        (lambda: event_of(ev.Nacked), (4, 3, 1, 60)),
        (lambda: event_of(ev.Expired), (4, 3, 1, 60)),
        (lambda: event_of(ev.Released), (4, 2, 2, 60)),
        (lambda: event_of(ev.Rejected), (4, 2, 1, NEVER_NS)),
    ],
    ids=["nacked", "expired", "released", "rejected"],
)
def test_what_a_returned_message_remembers(
    change: Callable[[], ev.RangesEvent], counters: tuple[int, ...]
) -> None:
    consumer = consumer_in(S.LEASED)
    consumer.fold(change())
    waiting = consumer.waiting.at(OFFSET)
    assert waiting is not None
    assert (waiting.attempt, waiting.failures, waiting.releases, waiting.due_ns) == counters


def test_a_release_that_counts_is_a_failure() -> None:
    consumer = consumer_in(S.LEASED)
    event = event_of(ev.Released)
    assert isinstance(event, ev.Released)
    consumer.fold(
        ev.Released(**{**{n: getattr(event, n) for n in event.__struct_fields__}, "failure": True})
    )
    waiting = consumer.waiting.at(OFFSET)
    assert waiting is not None and (waiting.failures, waiting.releases) == (3, 1)


def test_a_redelivery_carries_the_counters_on() -> None:
    consumer = consumer_in(S.WAITING)
    consumer.fold(event_of(ev.Delivered))
    lease = consumer.leases.at(OFFSET)
    assert lease == Lease(MEMBER, 1, 2, 1, 200, 3)
    assert consumer.position == POSITION


def test_a_replay_forgets_what_counted() -> None:
    consumer = consumer_in(S.DEAD)
    consumer.fold(event_of(ev.Replayed))
    assert consumer.waiting.at(OFFSET) == Waiting(0, 0, 0, 60)


# -------------------------------------------------------------- position, credit


def test_a_first_delivery_moves_the_position_over_what_does_not_match() -> None:
    consumer = consumer_in(S.UNSEEN)
    consumer.fold(event_of(ev.Delivered, ((6, 7), (9, 12))))
    assert consumer.position == 13
    states = [consumer.state_of(offset).value for offset in (5, 6, 8, 12, 13)]
    assert states == ["settled", "leased", "settled", "leased", "unseen"]


def test_one_delivery_may_hold_waiting_and_unseen_messages() -> None:
    consumer = consumer_in(S.WAITING)
    consumer.fold(event_of(ev.Delivered, ((OFFSET, OFFSET), (POSITION, POSITION + 1))))
    failures = [lease.failures for _, _, lease in consumer.leases.items()]
    assert failures == [2, 0]
    assert consumer.members[MEMBER].in_flight == 3


def test_in_flight_follows_every_way_in_and_out() -> None:
    consumer = consumer_in(S.UNSEEN)
    member = consumer.members[MEMBER]
    consumer.fold(event_of(ev.Delivered, ((5, 14),)))
    assert (member.in_flight, member.in_flight_bytes) == (10, 30)
    consumer.fold(event_of(ev.Acked, ((6, 7),)))
    consumer.fold(event_of(ev.Extended, ((8, 8),)))
    consumer.fold(event_of(ev.Nacked, ((9, 9), (11, 12))))
    assert (member.in_flight, member.in_flight_bytes) == (5, 15)
    consumer.fold(event_of(ev.Released, ((5, 5), (8, 8), (10, 10), (13, 14))))
    assert (member.in_flight, member.in_flight_bytes, member.alone) == (0, 0, 0)


def test_a_message_released_too_often_wants_its_member_alone() -> None:
    consumer = consumer_in(S.LEASED, releases=limits.RELEASES_BEFORE_ALONE - 1)
    consumer.fold(event_of(ev.Released))
    consumer.fold(event_of(ev.Delivered))
    assert consumer.members[MEMBER].alone == 1
    consumer.fold(event_of(ev.Acked))
    assert consumer.members[MEMBER].alone == 0


def test_acks_over_leased_and_waiting_settle_both() -> None:
    consumer = consumer_in(S.WAITING)
    consumer.restore_lease(6, 7, Lease(MEMBER, 1, 0, 0, 100))
    consumer.fold(event_of(ev.Acked, ((5, 7),)))
    assert consumer.unsettled == 0


def test_neighbours_that_wait_alike_are_one_range_in_whatever_order_they_came() -> None:
    consumer = consumer_in(S.UNSEEN)
    consumer.fold(event_of(ev.Delivered, ((5, 8),)))
    for offset in (6, 5, 8, 7):
        consumer.fold(event_of(ev.Nacked, ((offset, offset),)))
    assert len(consumer.waiting) == 1


def test_a_sought_consumer_forgets_what_is_under_way() -> None:
    consumer = consumer_in(S.LEASED)
    consumer.restore_waiting(6, 6, Waiting(1, 0, 0, 0))
    consumer.fold_sought(2)
    assert consumer.state_of(OFFSET) is S.UNSEEN
    assert (consumer.unsettled, consumer.members[MEMBER].in_flight) == (0, 0)


def test_copies_are_remembered_by_their_distance() -> None:
    consumer = consumer_in(S.SETTLED)
    consumer.dead.add(3, 6, Dead(1, 1, ev.DeadCause.REJECTED_BY_MEMBER, "", 0))
    consumer.fold_copied(4, 5, 104)
    shifts = [(first, last, dead.copy_shift) for first, last, dead in consumer.dead.items()]
    assert shifts == [(3, 3, None), (4, 5, 100), (6, 6, None)]


def test_what_is_unsettled_and_oldest() -> None:
    consumer = consumer_in(S.DEAD)
    assert (consumer.unsettled, consumer.oldest_unsettled) == (1, None)
    consumer.restore_waiting(7, 8, Waiting(1, 0, 0, 0))
    consumer.restore_lease(6, 6, Lease(OTHER, 1, 0, 0, 0))
    assert (consumer.unsettled, consumer.oldest_unsettled) == (4, 6)
    assert [(a, b) for a, b, _ in consumer.leases_of(OTHER)] == [(6, 6)]
    assert consumer.leases_of(MEMBER) == []


def test_the_heaps_do_not_grow_with_what_is_settled() -> None:
    consumer = consumer_in(S.UNSEEN)
    for offset in range(OFFSET, OFFSET + 10_000):
        consumer.fold(event_of(ev.Delivered, ((offset, offset),)))
        consumer.fold(event_of(ev.Rejected, ((offset, offset),)))
        consumer.fold(event_of(ev.DeadLettered, ((offset, offset),)))
    assert len(consumer.deadlines) < 2_000
    assert len(consumer.dues) == 0


@pytest.mark.parametrize("cause", [c for c in ev.ReleaseCause if c != ev.ReleaseCause.MEMBER_GONE])
def test_only_the_loss_of_a_member_makes_a_message_suspect(cause: ev.ReleaseCause) -> None:
    # Three deploys of the server once made a consumer work one message at a time.
    consumer = consumer_in(S.LEASED)
    event = event_of(ev.Released)
    consumer.fold(msgspec.structs.replace(event, cause=cause))
    waiting = consumer.waiting.at(OFFSET)
    assert waiting is not None and (waiting.failures, waiting.releases) == (2, 1)
