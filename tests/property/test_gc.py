"""Garbage collection over histories that the engine wrote: nothing needed ever goes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from hermes.broker.consumer import MessageState
from hermes.broker.recovery import recover
from hermes.broker.retention import Action, RetentionPolicy
from hermes.broker.snapshot import canonical
from hermes.broker.state import State
from hermes.broker.subject import matcher
from hermes.log.v1 import log_pb2
from tests.support.collecting import carry_out, collect, plan_in
from tests.support.story import ACTIONS, NUMBERS, Story
from tests.support.world import SECOND_NS, World

POLICIES = st.builds(
    RetentionPolicy,
    retention_ns=st.sampled_from([0, 3 * SECOND_NS]),
    audit_retention_ns=st.sampled_from([None, 0, 5 * SECOND_NS]),
)
OVERDUE = RetentionPolicy(retention_ns=0, max_unacked_retention_ns=0)


def readable(world: World) -> set[int]:
    """Offsets whose payloads a reader gets."""
    records, _ = world.log.reader().publishes(0, limit=10**9, limit_bytes=10**12)
    return {
        offset
        for record in records
        if record.payload is not None and record.first is not None and record.last is not None
        for offset in range(record.first, record.last + 1)
    }


def unsettled(world: World) -> set[int]:
    """Offsets that some consumer has not settled, message by message."""
    records, _ = world.log.reader().publishes(0, limit=10**9, limit_bytes=10**12)
    return {
        offset
        for consumer in world.state.consumers.values()
        for record in records
        if record.first is not None and record.last is not None
        for offset in range(record.first, record.last + 1)
        if (state := consumer.state_of(offset)) is not MessageState.SETTLED
        and (state is not MessageState.UNSEEN or matcher(consumer.policy.filters)(record.key or ""))
    }


def consumers_of(state: State) -> list[log_pb2.SnapshotConsumer]:
    return list(log_pb2.Snapshot.FromString(canonical(state)).consumers)


@settings(max_examples=60)
@given(ACTIONS, ACTIONS, POLICIES, NUMBERS)
def test_what_is_not_settled_stays_readable(
    before: list[tuple[int, int, int]],
    after: list[tuple[int, int, int]],
    policy: RetentionPolicy,
    seconds: int,
) -> None:
    story = Story()
    for actions in (before, after):
        world = story.play(actions)
        world.advance(seconds % 9)
        if len(world.log.segments()[-1].subjects):
            world.engine.roll()
            world.run()
        needed = unsettled(world) & readable(world)
        consumers = consumers_of(world.state)
        collect(world, policy)
        assert needed <= readable(world)
        assert consumers_of(world.state) == consumers
        assert canonical(recover(world.log.reader()).state) == canonical(world.state)
        # What could go as a whole is gone.
        assert Action.DROP not in {plan.action for plan in plan_in(world, policy)}
    drain(story)


@settings(max_examples=60)
@given(ACTIONS, ACTIONS)
def test_a_plan_that_comes_late_takes_nothing_that_is_needed_now(
    before: list[tuple[int, int, int]], after: list[tuple[int, int, int]]
) -> None:
    story = Story()
    world = story.play(before)
    world.engine.roll()
    world.run()
    plans = plan_in(world, RetentionPolicy(retention_ns=0))
    story.play(after)
    for plan in plans:
        needed = unsettled(world) & readable(world)
        carry_out(world, plan)
        assert needed <= readable(world)


@settings(max_examples=60)
@given(ACTIONS, ACTIONS, NUMBERS)
def test_past_the_longest_retention_nothing_is_stuck(
    before: list[tuple[int, int, int]], after: list[tuple[int, int, int]], late: int
) -> None:
    story = Story()
    world = story.play(before)
    world.engine.roll()
    world.run()
    for plan in plan_in(world, OVERDUE):
        if late % 2:
            world.advance(late % 7)  # a plan may be late: then it is not carried out, or right
        carry_out(world, plan)
    assert canonical(recover(world.log.reader()).state) == canonical(world.state)
    story.play(after)
    drain(story)


def drain(story: Story) -> None:
    """Everybody works until there is nothing left: no message is waiting for ever."""
    world = story.world
    for name in list(world.state.consumers):
        story.workers.append(world.join(name, credit=1_000))
    for _ in range(40):
        world.advance(3)
        for worker in story.workers:
            consumer = world.state.consumers.get(worker.seat.consumer)
            if consumer is not None:
                for first, last, _ in consumer.leases_of(worker.seat.member):
                    worker.ack((first, last))
        world.run()
    for consumer in world.state.consumers.values():
        assert (consumer.leases.count, consumer.waiting.count) == (0, 0)
