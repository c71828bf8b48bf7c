"""[P] What is kept, what goes, and why: the plan of a garbage collection.

Theory: a message is *needed* while a consumer whose filter matches has not settled it, and
a dead letter until it is replayed, discarded or past its retention. A sealed segment past
`retention` loses the payloads that nobody needs (it is compacted); past `audit_retention`,
from the oldest end, a segment that holds nothing needed goes as a whole. What is needed
never goes by size, and by time only past `max_unacked_retention`, if one is set.

Plan, then act, in steps that each do one thing:

1. `to_examine` names the segments whose age (or a full store) asks for a closer look;
2. what consumers need of each is taken from the state, and its batches are held against
   that (needs.py);
3. `plan_gc` turns facts and findings into one line per segment: action, reason, figures;
4. an executor (hermes/server/collector.py) has the engine carry a line out, which looks at
   the needs again on the same turn of the loop as the event: a consumer may have come.

Costs: step 1 and 3 are O(segments); needs are O(consumers) per examined segment, and the
look at its batches O(batches): only where its needs have changed since the last time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum

import msgspec

from hermes.broker.needs import Examined
from hermes.broker.ranges import Range
from hermes.log.port import Compaction, SegmentInfo

# A segment is written anew when at least so much of it goes (1 / n): until then the work
# costs more than it frees. What nothing needed stands against is always done: it is the last
# time.
WORTH_PART = 8
# A full store is brought down to this part of its limit, so that it is not full again at once.
ROOM_PART = 10


class StoreFull(Enum):
    """What happens when the store has reached its size."""

    REFUSE = "refuse"
    DROP_OLDEST_SETTLED = "drop-oldest-settled"


class RetentionPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """For how long what is kept; None is for ever, or without a bound.

    Raises ValueError when two of them contradict each other.
    """

    retention_ns: int
    audit_retention_ns: int | None = None
    dead_letter_retention_ns: int | None = None
    max_unacked_retention_ns: int | None = None
    store_bytes_max: int | None = None
    store_full: StoreFull = StoreFull.REFUSE

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, int) and value < 0:
                raise ValueError(f"{name} is {value}, expected 0 or more")
        longest_ns = self.max_unacked_retention_ns
        if longest_ns is not None and longest_ns < self.retention_ns:
            raise ValueError(
                "max_unacked_retention is shorter than retention: what is needed "
                "would go before what is settled"
            )

    @property
    def store_bytes_goal(self) -> int | None:
        """What a store that is too large is brought down to."""
        size = self.store_bytes_max
        return None if size is None else size - size // ROOM_PART


class Action(Enum):
    KEEP = "keep"
    COMPACT = "compact"
    DROP = "drop"


class SegmentPlan(msgspec.Struct, frozen=True):
    """What happens to one segment, and why.

    `examined` is what was found in it, None where nobody had to look. `bytes` are those
    that the action frees, about. `overdue`: it goes whatever consumers still need.
    """

    segment: SegmentInfo
    action: Action
    reason: str
    examined: Examined | None = None
    bytes: int = 0
    overdue: bool = False

    @property
    def retired(self) -> tuple[Range, ...]:
        """The offsets whose payloads go by a compaction."""
        return self.examined.retired if self.action is Action.COMPACT and self.examined else ()

    @property
    def messages(self) -> int:
        """How many messages lose their payload by a compaction."""
        return self.examined.messages if self.action is Action.COMPACT and self.examined else 0


class Pressure(msgspec.Struct, frozen=True):
    """The store is too large, and may free what is settled ahead of its time."""

    excess_bytes: int


def pressure_of(policy: RetentionPolicy, store_bytes: int) -> Pressure | None:
    """None unless the store is beyond its goal and the policy lets it free itself."""
    goal = policy.store_bytes_goal
    if goal is None or policy.store_full is StoreFull.REFUSE or store_bytes <= goal:
        return None
    return Pressure(store_bytes - goal)


def to_examine(
    segments: Sequence[SegmentInfo],
    policy: RetentionPolicy,
    *,
    at_ns: int,
    compactions: Mapping[int, Compaction] | None = None,
    pressure: Pressure | None = None,
) -> list[SegmentInfo]:
    """The segments that `plan_gc` wants findings of: oldest first."""
    busy = compactions or {}
    return [
        segment
        for segment in segments
        if segment.sealed
        and not segment.quarantined
        and segment.first_lsn not in busy
        and _holds_messages(segment)
        and (pressure or at_ns - segment.last_at_ns >= _soonest(policy))
    ]


def is_overdue(segment: SegmentInfo, policy: RetentionPolicy, at_ns: int) -> bool:
    """Whether its payloads go even where a consumer has not settled them."""
    limit_ns = policy.max_unacked_retention_ns
    return limit_ns is not None and at_ns - segment.last_at_ns >= limit_ns


def _soonest(policy: RetentionPolicy) -> int:
    audit_ns = policy.audit_retention_ns
    return policy.retention_ns if audit_ns is None else min(policy.retention_ns, audit_ns)


def _holds_messages(segment: SegmentInfo) -> bool:
    """Whether there is a durable message in it whose payload is still held."""
    first, last = segment.first_offset, segment.last_offset
    return first is not None and last is not None and segment.retired != ((first, last),)


def plan_gc(
    segments: Sequence[SegmentInfo],
    examined: Mapping[int, Examined],
    policy: RetentionPolicy,
    *,
    at_ns: int,
    compactions: Mapping[int, Compaction] | None = None,
    pressure: Pressure | None = None,
) -> list[SegmentPlan]:
    """One plan per segment, oldest first.

    `examined` has, by first lsn, the findings for what `to_examine` named; a segment without
    them is kept. `compactions` are those announced and not done.
    """
    planner = _Planner(examined, policy, at_ns, compactions or {}, pressure)
    plans = [planner.plan(segment) for segment in segments]
    if pressure is None or planner.compacted_bytes >= pressure.excess_bytes:
        return plans
    missing_bytes = pressure.excess_bytes - planner.compacted_bytes
    return _drop_ahead(plans, missing_bytes, compactions or {})


class _Planner:
    """Plans segments one after the other, oldest first."""

    def __init__(
        self,
        examined: Mapping[int, Examined],
        policy: RetentionPolicy,
        at_ns: int,
        compactions: Mapping[int, Compaction],
        pressure: Pressure | None,
    ) -> None:
        self.compacted_bytes = 0  # freed by the plans so far
        self._examined = examined
        self._policy = policy
        self._at_ns = at_ns
        self._compactions = compactions
        self._pressure = pressure
        self._oldest = True  # every older one goes

    def plan(self, segment: SegmentInfo) -> SegmentPlan:
        plan = self._plan(segment)
        self._oldest = self._oldest and plan.action is Action.DROP
        if plan.action is Action.COMPACT:
            self.compacted_bytes += plan.bytes
        return plan

    def _plan(self, segment: SegmentInfo) -> SegmentPlan:
        policy = self._policy
        age_ns = self._at_ns - segment.last_at_ns
        found = self._examined.get(segment.first_lsn)
        if not segment.sealed:
            return SegmentPlan(segment, Action.KEEP, "active")
        if segment.quarantined:
            return SegmentPlan(segment, Action.KEEP, f"in quarantine: {segment.quarantined}")
        under_way = self._compactions.get(segment.first_lsn)
        if under_way is not None:
            return SegmentPlan(segment, Action.KEEP, _told(under_way))
        if age_ns < _soonest(policy) and not self._pressure:
            return SegmentPlan(segment, Action.KEEP, "younger than the retention")
        settled = _is_settled(segment, found)
        audit_ns = policy.audit_retention_ns
        past_audit = audit_ns is not None and age_ns >= audit_ns
        if settled and past_audit and self._oldest:
            return SegmentPlan(
                segment, Action.DROP, "past the audit retention; settled", found, segment.bytes
            )
        if age_ns >= policy.retention_ns or self._pressure:
            plan = self._compaction(segment, found)
            if plan is not None:
                return plan
        if found is not None and found.kept_messages:
            return SegmentPlan(segment, Action.KEEP, found.why_kept, found)
        if found is None and not settled:
            return SegmentPlan(segment, Action.KEEP, "not looked at yet")
        if past_audit and settled:
            return SegmentPlan(segment, Action.KEEP, "an older segment is kept", found)
        if audit_ns is None:
            reason = "audit retention is to keep everything"
        else:
            reason = "younger than the audit retention"
        return SegmentPlan(segment, Action.KEEP, reason, found)

    def _compaction(self, segment: SegmentInfo, found: Examined | None) -> SegmentPlan | None:
        """Compact it; or keep it, when that is not worth the work; None: nothing to gain."""
        if segment.first_offset is None:  # live messages only: there is no offset to retire
            if not segment.payload_bytes or segment.compacted_lsn:
                return None
            reason = "past the retention; holds payloads of live messages only"
            return SegmentPlan(segment, Action.COMPACT, reason, bytes=segment.payload_bytes)
        if found is None or not found.messages:
            return None
        freed = segment.payload_bytes * found.messages // (found.messages + found.kept_messages)
        overdue = is_overdue(segment, self._policy, self._at_ns)
        if found.kept_messages and freed * WORTH_PART < segment.bytes and not found.lost:
            reason = f"{found.why_kept}; little else is in it"
            return SegmentPlan(segment, Action.KEEP, reason, found)
        reason = self._why_compacted(segment, found)
        return SegmentPlan(segment, Action.COMPACT, reason, found, freed, overdue)

    def _why_compacted(self, segment: SegmentInfo, found: Examined) -> str:
        young = self._at_ns - segment.last_at_ns < self._policy.retention_ns
        reasons = ["the store is full" if young else "past the retention"]
        if found.lost:
            lost = ", ".join(f"{name!r} ({messages:,})" for name, messages in found.lost)
            reasons.append(f"past the longest retention too: unsettled messages go, of {lost}")
        if found.kept_messages:
            reasons.append(f"{found.why_kept}, which stays")
        return "; ".join(reasons)


def _told(compaction: Compaction) -> str:
    if compaction.error is None:
        return "its compaction is under way"
    again = "not tried again before a restart" if compaction.stuck else "to be tried again"
    return f"its compaction failed, {again}: {compaction.error}"


def _drop_ahead(
    plans: Iterable[SegmentPlan], missing_bytes: int, busy: Mapping[int, Compaction]
) -> list[SegmentPlan]:
    """Of a store that compaction alone does not make small enough: drop what is settled, from
    the oldest end."""
    result: list[SegmentPlan] = []
    oldest = True
    for plan in plans:
        settled = (
            plan.segment.sealed
            and not plan.segment.quarantined
            and plan.segment.first_lsn not in busy
            and _is_settled(plan.segment, plan.examined)
        )
        oldest = oldest and (settled or plan.action is Action.DROP)
        if oldest and plan.action is not Action.DROP and missing_bytes > 0:
            missing_bytes -= plan.segment.bytes - plan.bytes
            result.append(
                SegmentPlan(
                    plan.segment,
                    Action.DROP,
                    "the store is full; settled",
                    plan.examined,
                    plan.segment.bytes,
                )
            )
        else:
            result.append(plan)
    return result


def _is_settled(segment: SegmentInfo, found: Examined | None) -> bool:
    """Whether nothing is left in it for anybody. What goes unsettled, for its age, is compacted
    first: that is what records the loss."""
    if not _holds_messages(segment):
        return True
    return found is not None and not found.kept_messages and not found.lost
