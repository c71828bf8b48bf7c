"""[P] Which segments may go, and why the others stay.

Plan, then act: `plan_gc` looks at facts and returns one line per segment with its
reason; an executor (hermes/server/upkeep.py) does what the plan says. This version drops whole
segments from the oldest end that are past `audit_retention` and hold nothing needed;
payloads stay as long as their segment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum

import msgspec

from hermes.broker.state import State
from hermes.broker.subject import matcher
from hermes.log.port import SegmentInfo


class Action(Enum):
    KEEP = "keep"
    DROP = "drop"


class SegmentPlan(msgspec.Struct, frozen=True):
    """What happens to one segment, and why."""

    segment: SegmentInfo
    action: Action
    reason: str


def plan_gc(
    segments: Sequence[SegmentInfo],
    state: State,
    positions: Mapping[str, int],
    *,
    at_ns: int,
    audit_retention_ns: int | None,
) -> list[SegmentPlan]:
    """One plan per segment, oldest first.

    `positions` gives, per consumer, the offset of the first matching message it has not
    considered (next_offset when there is none): further on than its position when what
    follows does not match its filter.
    """
    plans: list[SegmentPlan] = []
    blocked = ""
    for segment in segments:
        reason = blocked or _why_kept(segment, state, positions, at_ns, audit_retention_ns)
        plans.append(
            SegmentPlan(segment, Action.KEEP if reason else Action.DROP, reason or "settled")
        )
        if reason and not blocked:
            blocked = "an older segment is kept"
    return plans


def _why_kept(
    segment: SegmentInfo,
    state: State,
    positions: Mapping[str, int],
    at_ns: int,
    audit_retention_ns: int | None,
) -> str:
    """The reason to keep a segment; empty when it may go."""
    if not segment.sealed:
        return "active"
    if audit_retention_ns is None:
        return "audit retention is to keep everything"
    if segment.last_at_ns > at_ns - audit_retention_ns:
        return "younger than the audit retention"
    if segment.first_offset is None or segment.last_offset is None:
        return ""
    first, last = segment.first_offset, segment.last_offset
    for consumer in state.consumers.values():
        wanted = matcher(consumer.policy.filters)
        if positions.get(consumer.name, consumer.position) <= last and any(
            wanted(subject) for subject in segment.subjects
        ):
            return f"consumer {consumer.name!r} has still to consider offset " + str(
                max(first, positions.get(consumer.name, consumer.position))
            )
        for what, held in (
            ("in flight", consumer.leases),
            ("waiting", consumer.waiting),
            ("a dead letter", consumer.dead),
        ):
            pinned = held.overlapping(first, last)
            if pinned:
                return f"offset {pinned[0][0]} is {what} for consumer {consumer.name!r}"
    return ""
