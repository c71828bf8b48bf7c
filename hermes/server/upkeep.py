"""What happens by the clock: ticks, redelivery rounds, rolls by age, garbage collection.

Garbage collection plans first (hermes.broker.retention) and then acts, one segment at a
time: the event is committed before the file goes. This version drops only whole oldest
segments past the audit retention that hold nothing needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from hermes import limits
from hermes.broker.retention import Action, plan_gc
from hermes.broker.subject import matcher
from hermes.clock import Clock
from hermes.log.port import LogReader, SegmentInfo
from hermes.log.record import Kind
from hermes.server.config import ServerConfig
from hermes.server.host import Host
from hermes.server.logs import get_logger
from hermes.server.settings import NS_PER_SEC

TICK_SECS: Final = 1.0
# SegmentSealed and Snapshot begin every segment but the first.
_RECORDS_OF_A_NEW_SEGMENT: Final = 2

_log = get_logger("hermes.server")


class Upkeep:
    """The clockwork of one host."""

    def __init__(self, host: Host, config: ServerConfig, clock: Clock) -> None:
        self._host = host
        self._config = config
        self._clock = clock

    async def run(self) -> None:
        """For ever; cancel it to stop."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tick())
            tasks.create_task(self._redeliver())
            if self._host.log.durable:
                tasks.create_task(self._collect())

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECS)
            if self._host.failed.done():
                return
            self._host.tick()

    async def _redeliver(self) -> None:
        # The engine's own alarm is the rule; this is the upper bound.
        while True:
            await asyncio.sleep(self._config.redelivery_interval_secs)
            self._host.wake()

    async def _collect(self) -> None:
        while True:
            await asyncio.sleep(self._config.gc_interval_secs)
            if self._host.failed.done():
                return
            try:
                await self._roll_if_old()
                await self._drop_what_may_go()
            except Exception as error:  # noqa: BLE001 - the next round may do better
                if not self._host.failed.done():
                    _log.error("garbage collection failed", exc_info=error)

    async def _segments(self) -> list[SegmentInfo]:
        log = self._host.log
        return await self._host.read(lambda _: log.segments())

    async def _roll_if_old(self) -> None:
        active = (await self._segments())[-1]
        age_ns = self._clock.wall_ns() - active.first_at_ns
        if (
            age_ns > self._config.segment_age_secs * NS_PER_SEC
            and await self._holds_news(active)
            and not self._host.failed.done()
        ):
            self._host.roll()

    async def _holds_news(self, segment: SegmentInfo) -> bool:
        """Whether there is more in it than what every roll brings: one checkpoint at most."""
        from_lsn = segment.first_lsn
        if from_lsn > 1:
            from_lsn += _RECORDS_OF_A_NEW_SEGMENT
        size = limits.TRANSACTION_BYTES_MAX
        records = await self._host.read(
            lambda reader: reader.read(from_lsn, limit=2, limit_bytes=size, payloads=False)
        )
        return any(record.kind != Kind.CHECKPOINT for record in records)

    async def _drop_what_may_go(self) -> None:
        if self._config.audit_retention_secs is None:
            return
        while await self._drop_oldest():
            pass

    async def _drop_oldest(self) -> bool:
        """Drop the oldest segment if it may go; whether to look at the next one."""
        assert self._config.audit_retention_secs is not None
        interests = self._interests()
        positions = await self._positions()
        segments = await self._segments()
        last_lsn = segments[0].last_lsn

        def chain_of(reader: LogReader) -> bytes:
            return reader.read(last_lsn, limit=1, limit_bytes=1, payloads=False)[0].chain

        chain = await self._host.read(chain_of)
        # From here to the event nothing is awaited: nobody can come to need the segment.
        if self._interests() != interests:
            return True  # somebody else wants messages now: look again
        plan = plan_gc(
            segments[:1],
            self._host.engine.state,
            positions,
            at_ns=self._clock.wall_ns(),
            audit_retention_ns=int(self._config.audit_retention_secs * NS_PER_SEC),
        )[0]
        if plan.action is not Action.DROP:
            return False
        self._host.engine.drop_segment(plan.segment, chain)
        await self._host.committed()
        _log.info(
            "segment dropped",
            first_lsn=plan.segment.first_lsn,
            last_lsn=plan.segment.last_lsn,
            bytes=plan.segment.bytes,
            reason=plan.reason,
        )
        return True

    def _interests(self) -> dict[str, tuple[int, tuple[str, ...]]]:
        """Which consumers there are, and what each wants."""
        consumers = self._host.engine.state.consumers.values()
        return {c.name: (c.created_lsn, c.policy.filters) for c in consumers}

    async def _positions(self) -> Mapping[str, int]:
        """Per consumer, the first matching message it has not considered."""
        state = self._host.engine.state
        asked = [(c.name, c.position, c.policy.filters) for c in state.consumers.values()]
        next_offset = state.next_offset

        def behind(reader: LogReader) -> dict[str, int]:
            return {
                name: position
                for name, position, filters in asked
                if reader.count_messages(position, matcher(filters))
            }

        found = await self._host.read(behind)
        return {name: found.get(name, max(position, next_offset)) for name, position, _ in asked}
