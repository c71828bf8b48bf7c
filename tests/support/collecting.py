"""Garbage collection in a World, as the server's executor does it but for the waiting."""

from __future__ import annotations

from hermes.broker.needs import Examined, Examiner, needs_in
from hermes.broker.retention import (
    Action,
    RetentionPolicy,
    SegmentPlan,
    is_overdue,
    plan_gc,
    to_examine,
)
from tests.support.world import World


def plan_in(world: World, policy: RetentionPolicy) -> list[SegmentPlan]:
    """What would be done now."""
    segments, at_ns = world.log.segments(), world.clock.wall_ns()
    examined: dict[int, Examined] = {}
    for segment in to_examine(segments, policy, at_ns=at_ns):
        first, last = segment.first_offset, segment.last_offset
        assert first is not None
        assert last is not None
        overdue = is_overdue(segment, policy, at_ns)
        examiner = Examiner(needs_in(world.state, first, last), segment.retired, overdue=overdue)
        at = first
        while at <= last:  # in pages, as from a disk
            found = world.log.reader().batches(at, before_offset=last + 1, limit=3)
            examiner.take(found)
            at = found[-1].last + 1
        examined[segment.first_lsn] = examiner.result()
    return plan_gc(segments, examined, policy, at_ns=at_ns)


def carry_out(world: World, plan: SegmentPlan) -> str:
    """Why it is not true any more; empty when it is done."""
    problem = world.engine.collecting.why_not(plan, dead_since_ns=None)
    if problem or plan.action is Action.KEEP:
        return problem
    if plan.action is Action.DROP:
        world.engine.drop_segment(plan.segment)
        world.run()
    else:
        world.engine.collecting.compact(plan)
        world.run()
        world.log.compact(plan.segment.first_lsn)
    return ""


def collect(world: World, policy: RetentionPolicy) -> list[SegmentPlan]:
    """A round of what one plan says."""
    plans = plan_in(world, policy)
    for plan in plans:
        assert carry_out(world, plan) == ""
    return plans
