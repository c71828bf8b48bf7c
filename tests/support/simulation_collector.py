"""Garbage collection in the simulation: what hermes/server/collector.py does, a stage at a time.

    survey -> event -> (committed) -> the deed -> the next plan of the survey

The stages are steps of the simulation: between any two of them messages are published,
consumers come and go, a segment is damaged, the process dies. What is under way dies with
its epoch; what was announced is finished by the next opening.
"""

from __future__ import annotations

from collections import deque
from functools import partial

from hermes.broker.needs import Examined, Examiner, Need, needs_of
from hermes.broker.ranges import Range
from hermes.broker.retention import (
    Action,
    RetentionPolicy,
    SegmentPlan,
    is_overdue,
    plan_gc,
    pressure_of,
    to_examine,
)
from hermes.errors import SegmentDamagedError
from hermes.log.port import LogReader, SegmentInfo
from hermes.server.collector import examine
from hermes.server.retired import Retired
from tests.support.simulation_host import Epoch


class Collector:
    """Of one epoch: at most one plan is being carried out."""

    def __init__(self, epoch: Epoch, policy: RetentionPolicy) -> None:
        self._epoch = epoch
        self._policy = policy
        self._plans: deque[SegmentPlan] = deque()
        self._waits = False  # for a commit
        self._announced: int | None = None  # committed; its payloads are to go
        self._known: dict[int, tuple[tuple[Need, ...], int, bool, Examined]] = {}

    def step(self) -> None:
        """One stage further, if it has not to wait for a commit."""
        if self._waits:
            return
        if self._announced is not None:
            self._retire(self._announced)
        elif self._plans:
            self._decide(self._plans.popleft())
        else:
            self._survey()

    # ------------------------------------------------------------------- plans

    def _survey(self) -> None:
        """Look at what there is. What is damaged ends the round: the next one leaves it out."""
        epoch, policy = self._epoch, self._policy
        segments = epoch.log.segments(subjects=False)
        epoch.retired = Retired(segment.retired for segment in segments)
        busy = {compaction.first_lsn: compaction for compaction in epoch.log.compactions}
        pressure = pressure_of(policy, sum(segment.bytes for segment in segments))
        at_ns = epoch.clock.wall_ns()
        asked = to_examine(segments, policy, at_ns=at_ns, compactions=busy, pressure=pressure)
        needs = self._needs(asked, at_ns)
        try:
            examined = {
                segment.first_lsn: self._examine(segment, tuple(needs[segment.first_lsn]), at_ns)
                for segment in asked
            }
        except SegmentDamagedError:
            return
        plans = plan_gc(
            segments, examined, policy, at_ns=at_ns, compactions=busy, pressure=pressure
        )
        self._plans = deque(plan for plan in plans if plan.action is not Action.KEEP)

    def _needs(self, segments: list[SegmentInfo], at_ns: int) -> dict[int, list[Need]]:
        needs: dict[int, list[Need]] = {segment.first_lsn: [] for segment in segments}
        if segments:
            bounds = [_offsets(segment) for segment in segments]
            for consumer in self._epoch.engine.state.consumers.values():
                found = needs_of(consumer, bounds, dead_since_ns=self._dead_since(at_ns))
                for n, need in found.items():
                    needs[segments[n].first_lsn].append(need)
        return needs

    def _examine(self, segment: SegmentInfo, needs: tuple[Need, ...], at_ns: int) -> Examined:
        overdue = is_overdue(segment, self._policy, at_ns)
        question = (needs, segment.compacted_lsn, overdue)
        known = self._known.get(segment.first_lsn)
        if known is not None and known[:3] == question:
            return known[3]
        examiner = Examiner(needs, segment.retired, overdue=overdue)
        at, last = _offsets(segment)
        while at <= last:
            look = partial(examine, examiner=examiner, first=at, last=last)
            at = self._epoch.look(look)
        found = examiner.result()
        self._known[segment.first_lsn] = (*question, found)
        return found

    def _dead_since(self, at_ns: int) -> int | None:
        retention_ns = self._policy.dead_letter_retention_ns
        return None if retention_ns is None else at_ns - retention_ns

    # -------------------------------------------------------------------- deeds

    def _decide(self, plan: SegmentPlan) -> None:
        """Record it, if it is still true; nothing happens between the look and the event."""
        epoch, segment = self._epoch, plan.segment
        chain = b""
        if plan.action is Action.DROP:
            try:
                chain = epoch.look(lambda reader: _chain_of(reader, segment.last_lsn))
            except SegmentDamagedError:
                self._give_up(plan)
                return
        dead_since_ns = self._dead_since(epoch.clock.wall_ns())
        if epoch.engine.collecting.why_not(plan, dead_since_ns=dead_since_ns):
            self._give_up(plan)
            return
        if plan.action is Action.DROP:
            epoch.engine.drop_segment(segment, chain)
        else:
            epoch.engine.collecting.compact(plan)
        self._waits = True
        epoch.engine.journal.after_commit(lambda: self._committed(plan))
        epoch.turn()

    def _committed(self, plan: SegmentPlan) -> None:
        self._waits = False
        if plan.action is Action.COMPACT:
            self._announced = plan.segment.first_lsn

    def _retire(self, first_lsn: int) -> None:
        """Have the log take out what was announced. It refuses where that segment, or the
        one with the announcement, was found damaged meanwhile: the next opening does it."""
        self._announced = None
        try:
            self._epoch.log.compact(first_lsn)
        except ValueError:
            if not self._epoch.log.quarantined:
                raise

    def _give_up(self, plan: SegmentPlan) -> None:
        """It stays: then nothing behind it is dropped either."""
        if plan.action is Action.DROP:
            self._plans = deque(p for p in self._plans if p.action is not Action.DROP)


def _chain_of(reader: LogReader, lsn: int) -> bytes:
    return reader.read(lsn, limit=1, limit_bytes=1, payloads=False)[0].chain


def _offsets(segment: SegmentInfo) -> Range:
    assert segment.first_offset is not None
    assert segment.last_offset is not None
    return segment.first_offset, segment.last_offset
