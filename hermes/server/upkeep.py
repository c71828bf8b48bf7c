"""What happens by the clock: ticks, redelivery rounds, rolls by age, garbage collection.

What a round of garbage collection is stands in collector.py; here is when there is one:
every `gc_interval`, and sooner when the store is too large and may free itself.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from hermes import limits
from hermes.clock import Clock
from hermes.log.port import SegmentInfo
from hermes.log.record import Kind
from hermes.server.collector import Collector
from hermes.server.config import ServerConfig
from hermes.server.host import Host
from hermes.server.logs import get_logger
from hermes.server.quarantine import QuarantineWatch
from hermes.server.settings import NS_PER_SEC

TICK_SECS: Final = 1.0
# Between two rounds of a store that is too large.
PRESSURE_SECS: Final = 2.0
# SegmentSealed and Snapshot begin every segment but the first.
_RECORDS_OF_A_NEW_SEGMENT: Final = 2

_log = get_logger("hermes.server")


class Upkeep:
    """The clockwork of one host."""

    def __init__(
        self, host: Host, config: ServerConfig, clock: Clock, collector: Collector
    ) -> None:
        self._host = host
        self._collector = collector
        self._pressed = asyncio.Event()
        self._quarantine = QuarantineWatch(host)
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
        self._quarantine.look()
        while True:
            await asyncio.sleep(TICK_SECS)
            if self._host.failed.done():
                return
            self._host.tick()
            self._quarantine.look()
            if self._collector.is_pressed:
                self._pressed.set()

    async def _redeliver(self) -> None:
        # The engine's own alarm is the rule; this is the upper bound.
        while True:
            await asyncio.sleep(self._config.redelivery_interval_secs)
            self._host.wake()

    async def _collect(self) -> None:
        while True:
            await self._until_due()
            if self._host.failed.done():
                return
            try:
                await self._roll_if_old()
                await self._collector.run()
            except Exception as error:  # noqa: BLE001 - the next round may do better
                if not self._host.failed.done():
                    _log.error("garbage collection failed", exc_info=error)

    async def _until_due(self) -> None:
        """Until the next round."""
        least_secs = min(PRESSURE_SECS, self._config.gc_interval_secs)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._config.gc_interval_secs):
                await asyncio.sleep(least_secs)
                await self._pressed.wait()
        self._pressed.clear()

    async def _segments(self) -> list[SegmentInfo]:
        log = self._host.log
        return await self._host.read(lambda _: log.segments(subjects=False))

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
