"""What garbage collection records: the engine's side of a plan (retention.py).

The event comes first: SegmentDropped or SegmentCompacted is committed, and only then the
log is told to touch a file; what a crash leaves undone, the next opening does.
"""

from __future__ import annotations

from functools import partial

from hermes.broker import events as ev
from hermes.broker.core import Core
from hermes.broker.dead_letters import decide_gone
from hermes.broker.needs import needs_in, what_changed
from hermes.broker.redelivery import hulls
from hermes.broker.retention import Action, SegmentPlan
from hermes.log.port import SegmentInfo

GONE_REASON = "payload retired undelivered: past the longest retention of what is unsettled"


class Collecting:
    """Commands of the executor."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def drop(self, segment: SegmentInfo, chain: bytes = b"") -> None:
        """Drop the oldest segment: the event first, the file once that is committed."""
        now_ns = self._core.begin()
        self._core.journal.record(
            ev.SegmentDropped(
                engine_time_ns=now_ns,
                first_lsn=segment.first_lsn,
                last_lsn=segment.last_lsn,
                first_offset=segment.first_offset,
                last_offset=segment.last_offset,
                chain=chain,
            )
        )
        self._core.journal.after_commit(partial(self._remove, segment.first_lsn))

    def _remove(self, first_lsn: int) -> None:
        """The file. If damage was found while its event was committed, in it or in one before
        it, it stays until the next opening."""
        if not self._is_held(first_lsn):
            self._core.log.drop(first_lsn)

    def _is_quarantined(self, first_lsn: int) -> bool:
        return any(damaged.first_lsn == first_lsn for damaged in self._core.log.quarantined)

    def _is_held(self, first_lsn: int) -> bool:
        """Whether it, or an older segment, is kept as evidence: files go from the oldest end."""
        return any(damaged.first_lsn <= first_lsn for damaged in self._core.log.quarantined)

    def why_not(self, plan: SegmentPlan, *, dead_since_ns: int | None) -> str:
        """Why the plan is no longer to be carried out; empty when it may be, in this turn."""
        segment, found = plan.segment, plan.examined
        if self._is_quarantined(segment.first_lsn):
            return "it was found damaged meanwhile: it is evidence"
        if plan.action is Action.DROP and self._is_held(segment.first_lsn):
            return "an older segment was found damaged meanwhile, and stays"
        if found is None or segment.first_offset is None or segment.last_offset is None:
            return ""
        now = needs_in(
            self._core.state, segment.first_offset, segment.last_offset, dead_since_ns=dead_since_ns
        )
        return what_changed(found.needs, now, found.retired)

    def compact(self, plan: SegmentPlan) -> None:
        """Record that payloads are retired. The caller tells the log to take them out, once
        this is committed."""
        now_ns = self._core.begin()
        segment = plan.segment
        if plan.overdue:
            # What a consumer has yet to consider needs no event of its own: SegmentCompacted
            # names it, and it will be skipped.
            at_ns = self._core.journal.wall_ns
            for consumer in self._core.state.consumers.values():
                for event in decide_gone(
                    consumer, plan.retired, GONE_REASON, now_ns=now_ns, at_ns=at_ns
                ):
                    self._core.journal.record(event)
        for ranges in hulls(plan.retired) or [()]:
            self._core.journal.record(
                ev.SegmentCompacted(
                    engine_time_ns=now_ns,
                    first_lsn=segment.first_lsn,
                    last_lsn=segment.last_lsn,
                    ranges=ranges,
                )
            )
