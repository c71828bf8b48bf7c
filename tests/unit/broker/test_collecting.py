"""What the engine records when payloads go, and how deliveries do without them."""

from __future__ import annotations

import pytest

from hermes.broker import events as ev
from hermes.broker.needs import Examined
from hermes.broker.ranges import Range
from hermes.broker.retention import Action, RetentionPolicy, SegmentPlan
from tests.support.collecting import carry_out, collect, plan_in
from tests.support.world import SECOND_NS, World, messages

NOW = RetentionPolicy(retention_ns=0)
AUDIT = RetentionPolicy(retention_ns=0, audit_retention_ns=0)
OVERDUE = RetentionPolicy(retention_ns=0, max_unacked_retention_ns=0)


def retire(world: World, *ranges: Range) -> None:
    """Take payloads out of the oldest segment, needed or not."""
    segment = world.log.segments()[0]
    found = Examined((), ranges, 1, 0)
    world.engine.collecting.compact(SegmentPlan(segment, Action.COMPACT, "for a test", found))
    world.run()
    world.log.compact(segment.first_lsn)


def restarted(world: World) -> None:
    """Nothing is in memory any more."""
    world.engine.roll()
    world.run()
    world.stop()
    world.start(world.log.image())


def with_a_plan(policy: RetentionPolicy) -> tuple[World, SegmentPlan]:
    """A settled sealed segment with offsets 0..2, and what is to be done with it."""
    world = World()
    world.publish(messages(3))
    world.engine.roll()
    world.run()
    return world, plan_in(world, policy)[0]


def test_a_message_that_cannot_be_read_again_is_dead_and_holds_nothing_up() -> None:
    # Found by it: what was due and had no payload stayed waiting for ever.
    world = World()
    worker = world.join(credit=10)
    world.publish(messages(2), messages(2))
    worker.nack((0, 3), delay_ns=5 * SECOND_NS)
    world.run()
    restarted(world)
    retire(world, (0, 1))
    worker = world.join(credit=10)
    world.advance(10)
    assert worker.port.got == [(2, 3, 2)]
    dead = world.consumer().dead.at(0)
    assert dead is not None
    assert (dead.cause, dead.reason) == (
        ev.DeadCause.PAYLOAD_GONE,
        "its payload is retired or cannot be read",
    )
    assert world.consumer().waiting.count == 0
    # Also when it is replayed.
    world.engine.members.replay(world.session, "c", [(0, 1)])
    world.run()
    assert world.consumer().dead.count == 2


def test_a_late_consumer_passes_over_what_is_retired() -> None:
    world = World()
    world.publish(*(messages(1) for _ in range(6)))
    restarted(world)
    world.publish(messages(1))
    retire(world, (0, 1), (3, 3))
    worker = world.join(credit=10)
    assert worker.port.offsets() == [2, 4, 5, 6]
    worker.ack((2, 2), (4, 6))
    world.run()
    collect(world, NOW)
    assert world.log.segments()[0].retired == ((0, 5),)


def test_a_loss_is_recorded_before_the_payload_goes() -> None:
    world = World()
    worker = world.join(credit=1)
    world.publish(messages(1), messages(1), messages(1))
    worker.nack((0, 0), delay_ns=100 * SECOND_NS)
    world.run()
    assert worker.port.offsets() == [0, 1]
    world.engine.roll()
    world.run()
    before = len(world.events())
    collect(world, OVERDUE)
    dead, compacted = world.events()[before:]
    assert isinstance(dead, ev.DeadLettered)
    assert (dead.ranges, dead.cause) == (((0, 0),), ev.DeadCause.PAYLOAD_GONE)
    assert isinstance(compacted, ev.SegmentCompacted)
    assert compacted.ranges == ((0, 0), (2, 2))  # a member has 1
    restarted(world)
    assert world.join(credit=10).port.offsets() == [1]


def test_a_plan_that_is_no_longer_true_is_not_carried_out() -> None:
    world = World()
    world.publish(messages(3))
    world.engine.roll()
    world.run()
    (plan, _) = plan_in(world, NOW)
    assert plan.action is Action.COMPACT
    worker = world.join(credit=10)
    assert "came, or moved" in carry_out(world, plan)
    worker.ack((0, 2))
    world.run()
    assert carry_out(world, plan) == ""


@pytest.mark.parametrize("policy", [NOW, AUDIT], ids=["compact", "drop"])
def test_what_is_found_damaged_after_the_plan_is_left_alone(policy: RetentionPolicy) -> None:
    # Found by the simulation: a plan made before was carried out on a segment that is kept
    # as evidence.
    world, plan = with_a_plan(policy)
    world.log.quarantine(plan.segment.first_lsn, "a page cannot be read")
    before = len(world.events())
    assert "found damaged" in carry_out(world, plan)
    assert len(world.events()) == before


def test_damage_found_while_a_drop_is_committed_ends_nothing() -> None:
    # Found by the simulation: the log refuses to drop what is in quarantine, and the refusal
    # came out of the engine's own commit.
    world, plan = with_a_plan(AUDIT)
    first_lsn = plan.segment.first_lsn
    world.engine.drop_segment(plan.segment)
    world.log.quarantine(first_lsn, "a page cannot be read")
    world.run()
    assert world.log.segments()[0].first_lsn == first_lsn
    worker = world.join(credit=10)
    world.publish(messages(1))
    assert worker.port.offsets() == [3]
    restarted(world)
    assert world.log.segments()[0].first_lsn > first_lsn  # opening goes on with the drop


def test_nothing_is_dropped_from_behind_what_is_kept_as_evidence() -> None:
    # Found by the simulation: the first drop of a plan was held up by damage, and the second
    # was announced all the same, which the log refused.
    world, first = with_a_plan(AUDIT)
    world.publish(messages(3))
    world.engine.roll()
    world.run()
    _, second, _ = plan_in(world, AUDIT)
    assert second.action is Action.DROP
    world.log.quarantine(first.segment.first_lsn, "a page cannot be read")
    before = len(world.events())
    assert "an older segment" in carry_out(world, second)
    assert len(world.events()) == before
