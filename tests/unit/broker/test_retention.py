"""Which payloads and segments may go, and why the others stay."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hermes.broker import events as ev
from hermes.broker.consumer import Consumer, Dead, Lease, Waiting
from hermes.broker.needs import Examiner, needs_in, what_changed
from hermes.broker.retention import (
    Action,
    RetentionPolicy,
    SegmentPlan,
    StoreFull,
    is_overdue,
    plan_gc,
    pressure_of,
    to_examine,
)
from hermes.broker.state import State
from hermes.errors import StoreError
from hermes.log.port import Batch, Compaction, SegmentInfo
from tests.support.world import POLICY

NOW_NS = 1_000
KEEP, COMPACT, DROP = Action.KEEP, Action.COMPACT, Action.DROP


def segment(number: int, **changes: Any) -> SegmentInfo:
    """Ten messages in batches of two from number * 10 on, last written at number * 100."""
    first = number * 10
    info = SegmentInfo(
        first_lsn=first + 1,
        last_lsn=first + 10,
        records=10,
        bytes=1_000,
        first_offset=first,
        last_offset=first + 9,
        lowest_touched=first,
        highest_touched=first + 9,
        first_at_ns=number * 100,
        last_at_ns=number * 100,
        sealed=True,
        subjects=("a",),
        payload_bytes=500,
    )
    return msgspec.structs.replace(info, **changes)


def batches(info: SegmentInfo, key: str = "a") -> list[Batch]:
    assert info.first_offset is not None
    assert info.last_offset is not None
    firsts = range(info.first_offset, info.last_offset, 2)
    return [Batch(first, first + 1, 1, key) for first in firsts]


@pytest.fixture
def state() -> State:
    """One consumer of `a`, which has considered everything."""
    made = State()
    policy = msgspec.structs.replace(POLICY, filters=("a",))
    made.consumers["c"] = Consumer("c", 1, 0, policy, 100)
    return made


def plans(
    state: State,
    *segments: SegmentInfo,
    store_bytes: int = 0,
    key: str = "a",
    compactions: dict[int, Compaction] | None = None,
    **policy: Any,
) -> list[SegmentPlan]:
    """As the executor plans; by default payloads and trail are kept for 500 ns."""
    wanted = RetentionPolicy(**({"retention_ns": 500} | policy))
    pressure = pressure_of(wanted, store_bytes)
    asked = to_examine(segments, wanted, at_ns=NOW_NS, compactions=compactions, pressure=pressure)
    examined = {}
    for info in asked:
        assert info.first_offset is not None
        assert info.last_offset is not None
        examiner = Examiner(
            needs_in(state, info.first_offset, info.last_offset),
            info.retired,
            overdue=is_overdue(info, wanted, NOW_NS),
        )
        for batch in batches(info, key):
            examiner.take([batch])
        examined[info.first_lsn] = examiner.result()
    return plan_gc(
        segments, examined, wanted, at_ns=NOW_NS, compactions=compactions, pressure=pressure
    )


def told(made: list[SegmentPlan]) -> list[tuple[Action, str]]:
    return [(plan.action, plan.reason) for plan in made]


# ----------------------------------------------------------------- by age


def test_what_is_old_and_settled_loses_its_payloads(state: State) -> None:
    made = plans(state, segment(0), segment(5), segment(6), segment(7, sealed=False))
    assert told(made) == [
        (COMPACT, "past the retention"),
        (COMPACT, "past the retention"),
        (KEEP, "younger than the retention"),
        (KEEP, "active"),
    ]
    assert made[0].retired == ((0, 9),)
    assert (made[0].messages, made[0].bytes) == (10, 500)
    assert made[2].retired == ()


def test_past_the_audit_retention_too_it_goes_as_a_whole(state: State) -> None:
    old = [segment(n) for n in (0, 1, 6)]
    made = plans(state, *old, audit_retention_ns=800)
    assert told(made) == [
        (DROP, "past the audit retention; settled"),
        (DROP, "past the audit retention; settled"),
        (KEEP, "younger than the retention"),
    ]
    assert made[0].bytes == 1_000


def test_only_from_the_oldest_end(state: State) -> None:
    state.consumers["c"].restore_lease(3, 3, Lease(1, 1, 0, 0, 0))
    gone = segment(1, retired=((10, 19),), compacted_lsn=77)
    made = plans(state, segment(0), gone, segment(2), audit_retention_ns=500)
    assert [plan.action for plan in made] == [COMPACT, KEEP, COMPACT]
    assert made[1].reason == "an older segment is kept"


def test_what_was_compacted_waits_for_the_audit_retention(state: State) -> None:
    gone = segment(1, retired=((10, 19),), compacted_lsn=77)
    assert told(plans(state, gone)) == [(KEEP, "audit retention is to keep everything")]
    assert told(plans(state, gone, audit_retention_ns=950)) == [
        (KEEP, "younger than the audit retention")
    ]
    assert told(plans(state, gone, audit_retention_ns=900)) == [
        (DROP, "past the audit retention; settled")
    ]


def test_segments_without_messages(state: State) -> None:
    empty = segment(0, first_offset=None, last_offset=None, payload_bytes=0)
    assert told(plans(state, empty)) == [(KEEP, "audit retention is to keep everything")]
    assert plans(state, empty, audit_retention_ns=500)[0].action is DROP
    live = msgspec.structs.replace(empty, payload_bytes=70)
    (plan,) = plans(state, live)
    assert (plan.action, plan.retired, plan.bytes) == (COMPACT, (), 70)
    done = msgspec.structs.replace(live, compacted_lsn=9)
    assert plans(state, done)[0].action is KEEP


def test_what_is_under_way_is_left_alone(state: State) -> None:
    assert told(plans(state, segment(0), compactions={1: Compaction(1)})) == [
        (KEEP, "its compaction is under way")
    ]
    stuck = Compaction(1, StoreError("torn"), stuck=True)
    assert told(plans(state, segment(0), compactions={1: stuck})) == [
        (KEEP, "its compaction failed, not tried again before a restart: torn")
    ]


# ---------------------------------------------------------------- what is needed


def test_what_a_consumer_has_still_to_consider_stays(state: State) -> None:
    state.consumers["c"].position = 15
    made = plans(state, segment(0), segment(1), segment(2))
    assert made[0].retired == ((0, 9),)
    assert made[1].retired == ((10, 13),)  # 14 shares its batch with 15
    assert made[1].reason == "past the retention; consumer 'c' still needs offset 15, which stays"
    assert told(made)[2] == (KEEP, "consumer 'c' still needs offset 20")
    # Nothing it is interested in: nothing is needed, wherever its position stands.
    assert plans(state, segment(2), key="b")[0].retired == ((20, 29),)


@pytest.mark.parametrize("what", ["in flight", "waiting", "a dead letter"])
def test_what_is_unsettled_stays(state: State, what: str) -> None:
    consumer = state.consumers["c"]
    if what == "in flight":
        consumer.restore_lease(7, 7, Lease(1, 1, 0, 0, 0))
    elif what == "waiting":
        consumer.restore_waiting(7, 7, Waiting(1, 0, 0, 0))
    else:
        consumer.dead.add(7, 7, Dead(1, 1, ev.DeadCause.TOO_MANY_FAILURES, "", 0))
    made = plans(state, segment(0), segment(1), audit_retention_ns=500)
    assert made[0].retired == ((0, 5), (8, 9))
    assert made[0].reason.startswith(
        f"past the retention; consumer 'c' still needs offset 7, {what}"
    )
    assert made[1].retired == ((10, 19),)


def test_a_dead_letter_past_its_retention_is_needed_no_more(state: State) -> None:
    state.consumers["c"].dead.add(7, 7, Dead(1, 1, ev.DeadCause.TOO_MANY_FAILURES, "", 40))
    assert needs_in(state, 0, 9, dead_since_ns=40)[0].dead == ((7, 7),)
    assert needs_in(state, 0, 9, dead_since_ns=41) == ()


def test_a_little_is_not_worth_writing_a_segment_anew(state: State) -> None:
    state.consumers["c"].position = 2
    assert told(plans(state, segment(0))) == [
        (KEEP, "consumer 'c' still needs offset 2; little else is in it")
    ]
    # The last of it goes, however little it is.
    state.consumers["c"].position = 10
    rest = segment(0, retired=((0, 7),), payload_bytes=1)
    (plan,) = plans(state, rest)
    assert (plan.action, plan.retired, plan.messages) == (COMPACT, ((8, 9),), 2)


def test_every_consumer_that_pins_is_named(state: State) -> None:
    state.consumers["c"].position = 4
    policy = msgspec.structs.replace(POLICY, filters=(">",))
    other = state.consumers["other"] = Consumer("other", 2, 0, policy, 50)
    other.restore_lease(2, 3, Lease(1, 1, 0, 0, 0))
    (plan,) = plans(state, segment(0))
    assert plan.examined is not None
    assert [(pin.consumer, pin.offset, pin.what) for pin in plan.examined.pins] == [
        ("other", 2, "in flight"),
        ("c", 4, ""),
    ]
    assert (plan.examined.messages, plan.examined.kept_messages) == (2, 8)


# --------------------------------------------------------- past the longest retention


def test_past_the_longest_retention_what_is_unsettled_is_lost(state: State) -> None:
    consumer = state.consumers["c"]
    consumer.position = 15
    consumer.restore_waiting(10, 11, Waiting(1, 0, 0, 0))
    consumer.restore_lease(13, 13, Lease(1, 1, 0, 0, 0))
    made = plans(state, segment(1), segment(3), max_unacked_retention_ns=800)
    assert made[0].overdue
    assert made[0].retired == ((10, 11), (14, 19))  # a member has 13
    assert made[0].examined is not None
    assert made[0].examined.lost == (("c", 7),)  # 10, 11, and 15..19
    assert "unsettled messages go, of 'c' (7)" in made[0].reason
    assert told(made)[1] == (KEEP, "consumer 'c' still needs offset 30")


@pytest.mark.parametrize(
    "policy",
    [
        {"audit_retention_ns": 500},
        {"store_bytes_max": 100, "store_full": StoreFull.DROP_OLDEST_SETTLED},
    ],
    ids=["by age", "by size"],
)
def test_what_is_lost_unsettled_is_never_dropped_as_settled(
    state: State, policy: dict[str, Any]
) -> None:
    # Found by the simulation: a segment in which nothing was held past the longest retention
    # was dropped at once and called settled, so that no event told what was lost, and what
    # waited had no message any more.
    consumer = state.consumers["c"]
    consumer.restore_waiting(10, 11, Waiting(1, 0, 0, 0))
    made = plans(state, segment(1), store_bytes=9_000, max_unacked_retention_ns=800, **policy)
    assert [(plan.action, plan.overdue) for plan in made] == [(COMPACT, True)]
    assert "unsettled messages go, of 'c' (2)" in made[0].reason
    compacted = segment(1, retired=((10, 19),))
    made = plans(state, compacted, store_bytes=9_000, max_unacked_retention_ns=800, **policy)
    assert made[0].action is DROP


# -------------------------------------------------------------------- by size


def test_a_full_store_frees_what_is_settled_ahead_of_its_time(state: State) -> None:
    young = [segment(n) for n in (6, 7, 8)]
    policy: dict[str, Any] = {
        "store_bytes_max": 2_000,
        "store_full": StoreFull.DROP_OLDEST_SETTLED,
    }
    made = plans(state, *young, store_bytes=3_200, **policy)
    assert told(made) == [(COMPACT, "the store is full")] * 3
    # Not enough by that: the oldest go as a whole.
    made = plans(state, *young, store_bytes=4_200, **policy)
    assert told(made)[0] == (DROP, "the store is full; settled")
    assert [plan.action for plan in made[1:]] == [DROP, COMPACT]
    # What is needed never goes by size, and holds what is younger.
    state.consumers["c"].restore_lease(60, 60, Lease(1, 1, 0, 0, 0))
    made = plans(state, *young, store_bytes=9_000, **policy)
    assert [plan.action for plan in made] == [COMPACT, COMPACT, COMPACT]
    assert made[0].retired == ((62, 69),)


def test_what_is_in_quarantine_is_kept_and_holds_what_is_behind_it(state: State) -> None:
    damaged = segment(0, quarantined="a page cannot be read", subjects=())
    made = plans(state, damaged, segment(1), audit_retention_ns=500)
    assert told(made)[0] == (KEEP, "in quarantine: a page cannot be read")
    assert made[1].action is COMPACT
    full: dict[str, Any] = {"store_bytes_max": 900, "store_full": StoreFull.DROP_OLDEST_SETTLED}
    made = plans(state, damaged, segment(1), store_bytes=9_000, **full)
    assert [plan.action for plan in made] == [KEEP, COMPACT]
    nothing_in_it = segment(0, quarantined="gone", first_offset=None, last_offset=None)
    made = plans(state, nothing_in_it, audit_retention_ns=500)
    assert told(made) == [(KEEP, "in quarantine: gone")]


def test_a_store_that_refuses_frees_nothing_ahead(state: State) -> None:
    made = plans(state, segment(6), store_bytes=9_000, store_bytes_max=2_000)
    assert told(made) == [(KEEP, "younger than the retention")]


@pytest.mark.parametrize(
    "wrong", [{"retention_ns": -1}, {"retention_ns": 10, "max_unacked_retention_ns": 9}]
)
def test_policies_that_contradict_themselves(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="retention"):
        RetentionPolicy(**wrong)


# -------------------------------------------------- between the plan and the event


def test_needs_that_shrink_change_nothing(state: State) -> None:
    consumer = state.consumers["c"]
    consumer.position = 5
    consumer.restore_lease(2, 3, Lease(1, 1, 0, 0, 0))
    before = needs_in(state, 0, 9)
    consumer.position = 8
    consumer.restore_lease(5, 7, Lease(1, 1, 0, 0, 0))
    consumer.leases.remove(2, 3)
    consumer.restore_waiting(3, 3, Waiting(1, 0, 0, 0))
    assert what_changed(before, needs_in(state, 0, 9), [(0, 1)]) == ""


def test_needs_that_grow_stop_the_plan(state: State) -> None:
    consumer = state.consumers["c"]
    before = needs_in(state, 0, 9)
    consumer.restore_waiting(3, 3, Waiting(1, 0, 0, 0))  # a replay
    assert what_changed(before, needs_in(state, 0, 9), [(0, 9)]) != ""
    consumer.waiting.clear()
    consumer.position = 5
    before = needs_in(state, 0, 9)
    assert what_changed(before, before, [(0, 3)]) == ""
    consumer.position = 0
    assert "came, or moved" in what_changed(before, needs_in(state, 0, 9), [(0, 3)])
    consumer.position = 5
    policy = msgspec.structs.replace(POLICY, filters=("b",))
    state.consumers["late"] = Consumer("late", 9, 0, policy, 0)
    assert "'late' came" in what_changed(before, needs_in(state, 0, 9), [(0, 3)])


@pytest.mark.parametrize("then", ["leased", "dead"])
def test_what_waited_and_is_needed_now_stops_the_plan(state: State, then: str) -> None:
    # Found by the simulation: past the longest retention what waits goes. Delivered between
    # the plan and its event, its payload went from under the member that had it.
    consumer = state.consumers["c"]
    consumer.restore_waiting(2, 3, Waiting(1, 0, 0, 0))
    before = needs_in(state, 0, 9)
    assert what_changed(before, before, [(0, 9)]) == ""
    consumer.waiting.clear()
    if then == "leased":
        consumer.restore_lease(2, 3, Lease(1, 1, 0, 0, 0))
    else:
        consumer.dead.add(2, 3, Dead(1, 1, ev.DeadCause.REJECTED_BY_MEMBER, "", 0))
    assert "needs offset 2 again" in what_changed(before, needs_in(state, 0, 9), [(0, 9)])
    assert what_changed(before, needs_in(state, 0, 9), [(4, 9)]) == ""
