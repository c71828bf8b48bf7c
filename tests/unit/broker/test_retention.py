"""Which segments may go, and why the others stay."""

from __future__ import annotations

import msgspec
import pytest

from hermes.broker import events as ev
from hermes.broker.consumer import Consumer, Dead, Lease, Waiting
from hermes.broker.retention import Action, plan_gc
from hermes.broker.state import State
from hermes.log.port import SegmentInfo
from tests.support.world import POLICY

NOW_NS = 1_000


def segment(number: int, *, sealed: bool = True, subjects: tuple[str, ...] = ("a",)) -> SegmentInfo:
    """Ten offsets from number * 10 on, last written at number * 100."""
    first = number * 10
    return SegmentInfo(
        first_lsn=first + 1,
        last_lsn=first + 10,
        records=10,
        bytes=1,
        first_offset=first if subjects else None,
        last_offset=first + 9 if subjects else None,
        lowest_touched=first,
        highest_touched=first + 9,
        first_at_ns=number * 100,
        last_at_ns=number * 100,
        sealed=sealed,
        subjects=subjects,
    )


@pytest.fixture
def state() -> State:
    """One consumer of `a`, which has considered everything."""
    made = State()
    policy = msgspec.structs.replace(POLICY, filters=("a",))
    made.consumers["c"] = Consumer("c", 1, 0, policy, 100)
    return made


def plan(
    state: State,
    *segments: SegmentInfo,
    retention_ns: int | None = 500,
    positions: dict[str, int] | None = None,
) -> list[tuple[Action, str]]:
    plans = plan_gc(segments, state, positions or {}, at_ns=NOW_NS, audit_retention_ns=retention_ns)
    return [(p.action, p.reason) for p in plans]


def test_what_is_old_and_settled_goes(state: State) -> None:
    plans = plan(state, segment(0), segment(1), segment(6), segment(7, sealed=False))
    assert [action.value for action, _ in plans] == ["drop", "drop", "keep", "keep"]
    assert plans[2][1] == "younger than the audit retention"
    assert plans[3][1] == "an older segment is kept"


def test_the_active_segment_stays(state: State) -> None:
    assert plan(state, segment(0, sealed=False)) == [(Action.KEEP, "active")]


def test_everything_stays_without_a_retention(state: State) -> None:
    assert plan(state, segment(0), retention_ns=None)[0][0] is Action.KEEP


def test_what_a_consumer_has_still_to_consider_stays(state: State) -> None:
    state.consumers["c"].position = 15
    assert plan(state, segment(0))[0][0] is Action.DROP
    assert plan(state, segment(1)) == [
        (Action.KEEP, "consumer 'c' has still to consider offset 15")
    ]
    assert plan(state, segment(1), positions={"c": 20})[0][0] is Action.DROP
    assert plan(state, segment(1, subjects=("b",)))[0][0] is Action.DROP


@pytest.mark.parametrize("what", ["in flight", "waiting", "a dead letter"])
def test_what_is_unsettled_stays(state: State, what: str) -> None:
    consumer = state.consumers["c"]
    if what == "in flight":
        consumer.restore_lease(7, 7, Lease(1, 1, 0, 0, 0))
    elif what == "waiting":
        consumer.restore_waiting(7, 7, Waiting(1, 0, 0, 0))
    else:
        consumer.dead.add(7, 7, Dead(1, 1, ev.DeadCause.TOO_MANY_FAILURES, "", 0))
    plans = plan(state, segment(0), segment(1))
    assert plans[0] == (Action.KEEP, f"offset 7 is {what} for consumer 'c'")
    assert plans[1] == (Action.KEEP, "an older segment is kept")


def test_a_segment_without_messages_holds_nothing_needed(state: State) -> None:
    state.consumers["c"].position = 0
    assert plan(state, segment(0, subjects=()))[0][0] is Action.DROP
