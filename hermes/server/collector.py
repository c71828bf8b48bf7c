"""Carries out garbage collection on one host: surveys, plans, acts, tells.

The decisions are hermes.broker.retention's; here is what they cost: reading beside the loop,
one segment at a time, and remembering what was found until a consumer's needs there change.
A round acts on one survey, segment by segment, each with its event committed before its file
is touched, and surveys again until there is nothing left to do. Whatever cannot be done (no
room for the copy, a consumer that came meanwhile) is said and left to the next round.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

import msgspec

from hermes import limits
from hermes.broker.needs import Examined, Examiner, Need, needs_of
from hermes.broker.ranges import Range
from hermes.broker.retention import (
    Action,
    Pressure,
    RetentionPolicy,
    SegmentPlan,
    StoreFull,
    is_overdue,
    plan_gc,
    pressure_of,
    to_examine,
)
from hermes.clock import Clock
from hermes.errors import HermesError
from hermes.log.port import LogReader, SegmentInfo
from hermes.server.abandoned import Abandoned
from hermes.server.healing import reopening_error
from hermes.server.host import Host
from hermes.server.logs import get_logger

# A round that always finds more to do is one that goes in circles.
_PASSES_MAX: Final = 8
_POLL_SECS: Final = 0.02
# Looking at batches is Python's work, which the event loop waits for: not more than half of it.
_EXAMINE_RESTS: Final = 1
# Findings with more ranges are looked for again: they would fill the memory.
_REMEMBERED_RANGES_MAX: Final = 1_000

_log = get_logger("hermes.server")


class Survey(msgspec.Struct, frozen=True):
    """A plan for every segment, and what it was made for."""

    plans: Sequence[SegmentPlan]
    store_bytes: int
    pressure: Pressure | None = None


class Outcome(msgspec.Struct, frozen=True):
    """What became of one plan; `problem` says why it was not carried out."""

    plan: SegmentPlan
    problem: str = ""


class _Known(msgspec.Struct, frozen=True):
    """What was found in a segment, and for which question."""

    needs: tuple[Need, ...]
    compacted_lsn: int
    overdue: bool
    found: Examined


class Collector:
    """Garbage collection of one host, one round at a time."""

    def __init__(
        self, host: Host, policy: RetentionPolicy, clock: Clock, *, slack_bytes: int = 0
    ) -> None:
        """`slack_bytes`: how far a store that frees itself may exceed its size meanwhile."""
        self.policy = policy
        self.abandoned = Abandoned(host, policy)
        self._host = host
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()
        self._known: dict[int, _Known] = {}
        self._handing: set[asyncio.Future[str]] = set()
        size = host.engine.store_size
        size.slack_bytes = slack_bytes
        size.is_stuck = policy.store_full is StoreFull.REFUSE

    @property
    def is_pressed(self) -> bool:
        """Whether the store is too large, and may free itself."""
        return pressure_of(self.policy, self._host.engine.store_size.bytes) is not None

    # ------------------------------------------------------------------- plans

    async def survey(self) -> Survey:
        """What there is, and what would be done. Raises UnavailableError."""
        log, policy = self._host.log, self.policy
        segments = await self._host.read(lambda _: log.segments(subjects=False))
        self._note(segments)
        busy = {compaction.first_lsn: compaction for compaction in log.compactions}
        store_bytes = sum(segment.bytes for segment in segments)
        pressure = pressure_of(policy, store_bytes)
        at_ns = self._clock.wall_ns()
        asked = to_examine(segments, policy, at_ns=at_ns, compactions=busy, pressure=pressure)
        needs = await self._needs(asked, at_ns)
        examined = {}
        for segment in asked:
            found = self._examine(segment, tuple(needs[segment.first_lsn]), at_ns)
            examined[segment.first_lsn] = await found
        self._known = {lsn: known for lsn, known in self._known.items() if lsn in examined}
        plans = plan_gc(
            segments, examined, policy, at_ns=at_ns, compactions=busy, pressure=pressure
        )
        return Survey(plans, store_bytes, pressure)

    def _note(self, segments: Sequence[SegmentInfo]) -> None:
        """What others want to know of the segments."""
        self._host.engine.store_size.sealed_bytes = sum(s.bytes for s in segments if s.sealed)
        self._host.note_retired(segments)

    async def _needs(self, segments: Sequence[SegmentInfo], at_ns: int) -> dict[int, list[Need]]:
        """What consumers need of each segment, by its first lsn: one consumer per turn."""
        needs: dict[int, list[Need]] = {segment.first_lsn: [] for segment in segments}
        bounds = [_offsets(segment) for segment in segments]
        if not bounds:
            return needs
        consumers = self._host.engine.state.consumers
        for name in list(consumers):
            consumer = consumers.get(name)
            if consumer is not None:
                found = needs_of(consumer, bounds, dead_since_ns=self._dead_since(at_ns))
                for n, need in found.items():
                    needs[segments[n].first_lsn].append(need)
                if found:
                    await asyncio.sleep(0)  # the loop is for others too
        return needs

    async def _examine(self, segment: SegmentInfo, needs: tuple[Need, ...], at_ns: int) -> Examined:
        """Hold a segment against what is needed of it; from memory if nothing changed."""
        overdue = is_overdue(segment, self.policy, at_ns)
        known = self._known.get(segment.first_lsn)
        if known is not None and (known.needs, known.compacted_lsn, known.overdue) == (
            needs,
            segment.compacted_lsn,
            overdue,
        ):
            return known.found
        found = await self._hold_against(segment, Examiner(needs, segment.retired, overdue=overdue))
        if len(found.retired) <= _REMEMBERED_RANGES_MAX:
            known = _Known(needs, segment.compacted_lsn, overdue, found)
            self._known[segment.first_lsn] = known
        return found

    async def _hold_against(self, segment: SegmentInfo, examiner: Examiner) -> Examined:
        """Show the examiner all batches of a segment, and rest between two looks."""
        at, last = _offsets(segment)
        while at <= last:
            began_ns = self._clock.monotonic_ns()
            look = partial(examine, examiner=examiner, first=at, last=last)
            at = await self._host.read(look)
            worked_ns = self._clock.monotonic_ns() - began_ns
            await asyncio.sleep(_EXAMINE_RESTS * worked_ns / 1e9)
        return examiner.result()

    def _dead_since(self, at_ns: int) -> int | None:
        retention_ns = self.policy.dead_letter_retention_ns
        return None if retention_ns is None else at_ns - retention_ns

    # ------------------------------------------------------------------ rounds

    async def run(self, told: Callable[[Outcome], None] = lambda _: None) -> Survey:
        """A round: until nothing is left that can be done. Returns the survey after it.

        `told` gets the outcome of every plan but those to keep. Raises UnavailableError.
        """
        async with self._one_at_a_time:
            if self._handing:  # of a round that was ended: its announcement is still the newest
                await asyncio.wait(self._handing)
            failed: set[int] = set()
            survey = await self.survey()
            for _ in range(_PASSES_MAX):
                plans = [p for p in survey.plans if p.action is not Action.KEEP]
                plans = [p for p in plans if p.segment.first_lsn not in failed]
                done = 0
                for outcome in await self._act_on(plans, told):
                    if outcome.problem:
                        failed.add(outcome.plan.segment.first_lsn)
                    else:
                        done += 1
                if not done:
                    break
                survey = await self.survey()
            self._host.engine.store_size.is_stuck = (
                self.policy.store_full is StoreFull.REFUSE or survey.pressure is not None
            )
            self.abandoned.look_at(survey.plans)
            return survey

    async def _act_on(
        self, plans: Iterable[SegmentPlan], told: Callable[[Outcome], None]
    ) -> list[Outcome]:
        outcomes = []
        may_drop = True
        for plan in plans:
            if plan.action is Action.DROP and not may_drop:
                continue  # an older one stayed after all
            try:
                problem = await self._carry_out(plan)
            except HermesError as error:
                if self._host.failed.done():
                    raise
                problem = str(error)
            may_drop = may_drop and not (problem and plan.action is Action.DROP)
            outcome = Outcome(plan, problem)
            outcomes.append(outcome)
            _tell(outcome)
            told(outcome)
        return outcomes

    async def _carry_out(self, plan: SegmentPlan) -> str:
        """Why it could not be; empty when it is done."""
        if plan.action is Action.DROP:
            return await self._drop(plan)
        return await self._compact(plan)

    async def _drop(self, plan: SegmentPlan) -> str:
        last_lsn = plan.segment.last_lsn

        def chain_of(reader: LogReader) -> bytes:
            return reader.read(last_lsn, limit=1, limit_bytes=1, payloads=False)[0].chain

        chain = await self._host.read(chain_of)
        # From here to the event nothing is awaited: nobody can come to need the segment.
        problem = self._why_not(plan)
        if not problem:
            self._host.engine.drop_segment(plan.segment, chain)
            await self._host.committed()
        return problem

    async def _compact(self, plan: SegmentPlan) -> str:
        log, first_lsn = self._host.log, plan.segment.first_lsn
        if not log.room_to_compact(first_lsn):
            return "the disk has no room for the copy that a compaction needs"
        problem = self._why_not(plan)
        if problem:
            return problem
        self._host.engine.collecting.compact(plan)
        # Whoever ends the round now: what is announced is handed to the log all the same.
        handing = asyncio.ensure_future(self._hand_over(first_lsn))
        self._handing.add(handing)
        handing.add_done_callback(self._handed)
        problem = await asyncio.shield(handing)
        while not problem:
            under_way = [c for c in log.compactions if c.first_lsn == first_lsn]
            if not under_way:
                return ""
            if under_way[0].error is not None:
                return str(under_way[0].error)
            if self._host.failed.done():
                raise reopening_error()
            await asyncio.sleep(_POLL_SECS)
        return problem

    async def _hand_over(self, first_lsn: int) -> str:
        """Tell the log of a compaction, once its event is committed; why it does not take it."""
        await self._host.committed()
        try:
            await self._host.read(lambda _: self._host.log.compact(first_lsn))
        except ValueError as error:
            return str(error)
        return ""

    def _handed(self, handing: asyncio.Future[str]) -> None:
        self._handing.discard(handing)
        if not handing.cancelled():
            handing.exception()  # seen: whoever waited may be gone

    def _why_not(self, plan: SegmentPlan) -> str:
        """Why a plan is not true any more, on this turn of the loop."""
        dead_since_ns = self._dead_since(self._clock.wall_ns())
        return self._host.engine.collecting.why_not(plan, dead_since_ns=dead_since_ns)


def _offsets(segment: SegmentInfo) -> Range:
    assert segment.first_offset is not None
    assert segment.last_offset is not None
    return segment.first_offset, segment.last_offset


def examine(reader: LogReader, examiner: Examiner, first: int, last: int) -> int:
    """Show the next batches of first..last; on a reader's thread. Returns where to go on."""
    batches = reader.batches(first, before_offset=last + 1, limit=limits.GC_BATCHES_PER_READ)
    examiner.take(batches)
    return batches[-1].last + 1 if batches else last + 1


def _tell(outcome: Outcome) -> None:
    plan, segment = outcome.plan, outcome.plan.segment
    fields = {
        "first_lsn": segment.first_lsn,
        "last_lsn": segment.last_lsn,
        "bytes": segment.bytes,
        "reason": plan.reason,
    }
    if outcome.problem:
        what = "dropped" if plan.action is Action.DROP else "compacted"
        _log.warning(f"segment not {what}", problem=outcome.problem, **fields)
    elif plan.action is Action.DROP:
        _log.info("segment dropped", **fields)
    else:
        _log.info("segment compacted", messages=plan.messages, freed_bytes=plan.bytes, **fields)
    if not outcome.problem and plan.overdue and plan.examined is not None and plan.examined.lost:
        _log.warning(
            "unsettled messages have lost their payloads", consumers=dict(plan.examined.lost)
        )
