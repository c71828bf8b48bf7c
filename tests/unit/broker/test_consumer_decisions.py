"""Members that leave, consumers that end, and what a restart releases."""

from __future__ import annotations

import msgspec
import pytest

from hermes.broker import events as ev
from hermes.broker.consumer import Consumer, Lease, Member
from hermes.broker.consumers import decide_inactive, decide_leave, decide_restart
from hermes.broker.state import State
from tests.support.world import POLICY, SECOND_NS

HELD = msgspec.structs.replace(POLICY, filters=("a",))


@pytest.fixture
def state() -> State:
    made = State()
    made.consumers["c"] = Consumer("c", 4, 0, HELD, 10)
    return made


@pytest.mark.parametrize("lost", [False, True])
def test_a_member_that_leaves_gives_its_leases_back_first(state: State, lost: bool) -> None:
    consumer = state.consumers["c"]
    consumer.members[1] = Member(1, 1, 1)
    consumer.restore_lease(0, 1, Lease(1, 1, 0, 0, 100))
    consumer.restore_lease(5, 5, Lease(2, 1, 0, 0, 100))
    released, left = decide_leave(
        consumer,
        1,
        session=3,
        lost=lost,
        cause=ev.ReleaseCause.MEMBER_GONE,
        reason="r",
        now_ns=50,
        at_ns=0,
    )
    assert isinstance(released, ev.Released) and released.ranges == ((0, 1),)
    assert isinstance(left, ev.MemberLeft) and (left.member, left.reason) == (1, "r")


def test_only_an_unused_consumer_with_a_limit_ends(state: State) -> None:
    consumer = state.consumers["c"]
    consumer.last_active_ns = 100
    assert decide_inactive(state, 10**18) == []
    consumer.policy = msgspec.structs.replace(HELD, inactivity_limit_ns=SECOND_NS)
    assert decide_inactive(state, 100 + SECOND_NS) == []
    consumer.members[1] = Member(1, 1, 1)
    assert decide_inactive(state, 101 + SECOND_NS) == []
    consumer.members.clear()
    (event,) = decide_inactive(state, 101 + SECOND_NS)
    assert (event.consumer, event.cause) == ("c", ev.DeleteCause.FOR_INACTIVITY)


def test_a_restart_releases_every_lease_for_free(state: State) -> None:
    consumer = state.consumers["c"]
    consumer.restore_lease(0, 0, Lease(1, 1, 4, 0, 100))
    consumer.restore_lease(1, 3, Lease(2, 2, 0, 9, 100))
    events = decide_restart(state, 50)
    for event in events:
        assert isinstance(event, ev.Released)
        assert (event.cause, event.failure) == (ev.ReleaseCause.SERVER_RESTARTED, False)
        consumer.fold(event)
    assert [(w.failures, w.releases) for _, _, w in consumer.waiting.items()] == [(4, 0), (0, 9)]
