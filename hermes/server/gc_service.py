"""The RPCs PlanGc and RunGc: garbage collection for people to see, and to ask for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from hermes import limits, rpc
from hermes.admin.v1 import admin_pb2
from hermes.broker.retention import Action, SegmentPlan
from hermes.broker.subject import matcher
from hermes.server.abandoned import Pinning
from hermes.server.broker_service import GetHost
from hermes.server.collector import Collector, Outcome, Survey
from hermes.server.endpoint import AnyMethod, Behaviour
from hermes.server.host import Host
from hermes.server.sessions import Context, Stream


class GcService:
    """The handlers."""

    def __init__(self, get_host: GetHost, get_collector: Callable[[], Collector]) -> None:
        self._get_host = get_host
        self._get_collector = get_collector

    def handlers(self) -> dict[AnyMethod, Behaviour]:
        """Method -> behaviour."""
        return {rpc.PLAN_GC: self.plan, rpc.RUN_GC: self.run}

    async def plan(self, _request: admin_pb2.PlanGcRequest, context: Context) -> None:
        host, collector = self._get_host(), self._get_collector()
        host.require_store("garbage collection")
        async with host.streams.opened(context, told_of_drain=False) as stream:
            with stream.interruptible():
                survey = await collector.survey()
            for plan in survey.plans:
                await stream.write(admin_pb2.GcProgress(segment=_segment(Outcome(plan))))
            await stream.write(await _done(host, collector, survey))

    async def run(self, _request: admin_pb2.RunGcRequest, context: Context) -> None:
        host, collector = self._get_host(), self._get_collector()
        host.require_store("garbage collection")
        async with host.streams.opened(context, told_of_drain=False) as stream:
            survey, told = await _run(collector, stream)
            for plan in survey.plans:
                if plan.segment.first_lsn not in told:
                    await stream.write(admin_pb2.GcProgress(segment=_segment(Outcome(plan))))
            await stream.write(await _done(host, collector, survey))


async def _run(collector: Collector, stream: Stream) -> tuple[Survey, set[int]]:
    """A round, told as it goes on; also which segments were told. It is ended when the stream
    is; what was begun is finished."""
    told_of: set[int] = set()
    outcomes: list[Outcome] = []

    def told(outcome: Outcome) -> None:
        outcomes.append(outcome)
        stream.wake()

    work = asyncio.ensure_future(collector.run(told))
    work.add_done_callback(lambda _: stream.wake())
    try:
        while not work.done() or outcomes:
            if not outcomes:
                await stream.wait()
            while outcomes:
                segment = _segment(outcomes.pop(0))
                told_of.add(segment.first_lsn)
                await stream.write(admin_pb2.GcProgress(segment=segment))
        return work.result(), told_of
    finally:
        work.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await work


def _segment(outcome: Outcome) -> admin_pb2.GcSegment:
    plan, segment = outcome.plan, outcome.plan.segment
    shown = admin_pb2.GcSegment(
        first_lsn=segment.first_lsn,
        last_lsn=segment.last_lsn,
        bytes=segment.bytes,
        payload_bytes=segment.payload_bytes,
        first_offset=segment.first_offset,
        last_offset=segment.last_offset,
        first_at_ns=segment.first_at_ns,
        last_at_ns=segment.last_at_ns,
        action=plan.action.value,
        reason=plan.reason,
        freed_bytes=plan.bytes,
        retired_messages=plan.messages,
        problem=outcome.problem,
    )
    _describe_findings(plan, shown)
    return shown


def _describe_findings(plan: SegmentPlan, shown: admin_pb2.GcSegment) -> None:
    found = plan.examined
    if found is None:
        return
    shown.kept_messages = found.kept_messages
    for pin in found.pins:
        shown.pins.add(consumer=pin.consumer, offset=pin.offset, what=pin.what)
    if plan.action is Action.COMPACT:
        for name, messages in found.lost:
            shown.lost.add(consumer=name, messages=messages)
        for first, last in plan.retired[: limits.GC_RANGES_TOLD_MAX]:
            shown.retired.add(first=first, last=last)


async def _done(host: Host, collector: Collector, survey: Survey) -> admin_pb2.GcProgress:
    pinning = collector.abandoned.pinning(survey.plans)
    lags = await _lags(host, pinning)
    done = admin_pb2.GcDone(
        store_bytes=survey.store_bytes,
        store_bytes_max=collector.policy.store_bytes_max,
        refusing=host.engine.store_size.full,
    )
    for one in pinning:
        done.consumers.add(
            name=one.name,
            members=one.members,
            lag=lags[one.name],
            idle_ns=one.idle_ns,
            segments=one.segments,
            bytes=one.bytes,
            inactivity_limit_ns=one.inactivity_limit_ns,
            abandoned=one.abandoned,
        )
    return admin_pb2.GcProgress(done=done)


async def _lags(host: Host, pinning: list[Pinning]) -> dict[str, int]:
    """Matching messages at or after each one's position."""
    consumers = host.engine.state.consumers
    known = [consumers[one.name] for one in pinning if one.name in consumers]
    asked = [(host.first_held(c.position), matcher(c.policy.filters)) for c in known]
    counts = await host.read(lambda reader: reader.count_each(asked))
    found = {c.name: count for c, count in zip(known, counts, strict=True)}
    return dict.fromkeys((one.name for one in pinning), 0) | found
