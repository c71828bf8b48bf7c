"""Takes the reading that a scrape asks for, on the event loop's thread.

The engine's state changes on that thread only, so what is read between two awaits fits
together. Consumers are read in slices, so that no turn of the loop waits for many of them.

What costs I/O is asked of a reader beside the loop: the segments, and the lag of consumers
that are not known to have caught up. A lag is exact or absent. Counting it can cost each
batch behind; so it stops after a while, those furthest behind first, and what was not
counted is told as a number.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from heapq import nlargest
from typing import Final

import msgspec

from hermes import limits
from hermes.broker.consumer import Consumer
from hermes.broker.engine import Engine
from hermes.broker.subject import matcher
from hermes.clock import Clock
from hermes.errors import StoreError, UnavailableError
from hermes.log.port import LogReader, SegmentInfo
from hermes.server.checkpoint_sinks import Sink
from hermes.server.healing import Healing
from hermes.server.host import Host
from hermes.server.logs import get_logger
from hermes.server.metrics import (
    BrokerReading,
    ConsumerReading,
    LogReading,
    Reading,
    ScrubReading,
    SinkReading,
)
from hermes.server.scrub import Scrub
from hermes.server.settings import NS_PER_SEC

# Of one scrape, for counting lags; the count that is under way then is finished. A count
# costs up to a millisecond per hundred subjects that match, and the loop's thread feels it.
COUNT_SECS: Final = 0.25
# Some hundred microseconds of the loop.
_SLICE: Final = 500

_log = get_logger("hermes.server")

_Asked = tuple[int, tuple[str, ...]]  # position and filters


class MetricsReader:
    """Reads one server. `get_host` raises UnavailableError while nothing is served."""

    def __init__(
        self,
        get_host: Callable[[], Host],
        is_serving: Callable[[], bool],
        get_sinks: Callable[[], Sequence[Sink]],
        healing: Healing,
        scrub: Scrub,
        clock: Clock,
    ) -> None:
        self._get_host = get_host
        self._is_serving = is_serving
        self._get_sinks = get_sinks
        self._healing = healing
        self._scrub = scrub
        self._clock = clock

    async def read(self) -> Reading:
        """The server as it is now, across a reopening of its log too."""
        try:
            broker = await self._read_broker(self._get_host())
        except UnavailableError:
            broker = None  # there is none, or it ended just now
        healing = self._healing
        return Reading(
            serving=self._is_serving(),
            failures=healing.failures,
            reopenings=healing.reopenings,
            open_refusals=healing.refusals,
            last_outage_secs=healing.last_outage_secs,
            scrub=_scrub_reading(self._scrub) if self._scrub.enabled else None,
            broker=broker,
        )

    async def _read_broker(self, host: Host) -> BrokerReading:
        """Raises UnavailableError when the log fails or is closed meanwhile."""
        log, engine = host.log, host.engine
        consumers, asked = await _consumers(engine)
        segments: list[SegmentInfo] | None = None
        lags: dict[_Asked, int] = {}
        try:
            segments, lags = await host.read(
                lambda reader: (log.segments(subjects=False), self._lags(reader, asked))
            )
        except StoreError as error:
            # Say what can be said: whoever looks into a sick server needs it most.
            _log.debug("the store could not be read for metrics", error=str(error))
        consumers = [
            msgspec.structs.replace(c, lag=lags.get(asked[c.name])) if c.name in asked else c
            for c in consumers
        ]
        return BrokerReading(
            log=_log_reading(host, segments) if log.durable else None,
            streams=len(host.streams),
            subscriptions=len(engine.fanout.buffers),
            live_dropped=engine.fanout.dropped,
            consumers=len(consumers),
            in_flight=sum(c.in_flight for c in consumers),
            waiting=sum(c.waiting for c in consumers),
            dead=sum(c.dead for c in consumers),
            uncounted=sum(c.lag is None for c in consumers),
            shown=tuple(nlargest(limits.METRICS_CONSUMERS_MAX, consumers, key=_weight)),
            sinks=tuple(SinkReading(s.name, s.delivered, s.failed) for s in self._get_sinks()),
        )

    def _lags(self, reader: LogReader, asked: dict[str, _Asked]) -> dict[_Asked, int]:
        """Matching messages at or after each position, as many as there is time for."""
        until_ns = self._clock.monotonic_ns() + int(COUNT_SECS * NS_PER_SEC)
        lags: dict[_Asked, int] = {}
        for position, filters in sorted(set(asked.values())):  # furthest behind first
            if self._clock.monotonic_ns() > until_ns:
                break
            lags[position, filters] = reader.count_messages(position, matcher(filters))
        return lags


def _scrub_reading(scrub: Scrub) -> ScrubReading:
    ended_ns = scrub.last_pass_at_ns
    return ScrubReading(
        passes=scrub.passes,
        segments=scrub.segments_checked,
        bytes=scrub.bytes_checked,
        damaged=len(scrub.damaged),
        last_pass_at_secs=ended_ns / NS_PER_SEC if ended_ns else None,
    )


def _log_reading(host: Host, segments: list[SegmentInfo] | None) -> LogReading:
    log = host.log
    quarantined = log.quarantined
    return LogReading(
        store_id=log.store_id,
        last_lsn=log.committed.lsn,
        next_offset=log.next_offset,
        oldest_offset=log.oldest_offset,
        queued_bytes=log.queued_bytes,
        free_bytes=log.free_bytes,
        low_space=log.low_space,
        full=host.engine.store_size.full,
        commits=host.commits,
        segments=None if segments is None else len(segments),
        segment_bytes=None if segments is None else sum(s.bytes for s in segments),
        quarantined_segments=len(quarantined),
        quarantined_records=sum(q.last_lsn - q.first_lsn + 1 for q in quarantined),
    )


async def _consumers(engine: Engine) -> tuple[list[ConsumerReading], dict[str, _Asked]]:
    """Every consumer, and of those that may lag what is to be counted."""
    readings: list[ConsumerReading] = []
    asked: dict[str, _Asked] = {}
    consumers = list(engine.state.consumers.values())
    for start in range(0, len(consumers), _SLICE):
        for consumer in consumers[start : start + _SLICE]:
            if not engine.deliveries.has_caught_up(consumer):
                asked[consumer.name] = consumer.position, consumer.policy.filters
            readings.append(_reading(consumer))
        await asyncio.sleep(0)
    return readings, asked


def _reading(consumer: Consumer) -> ConsumerReading:
    """With lag 0; what is not known to be so is counted afterwards."""
    return ConsumerReading(
        name=consumer.name,
        lag=0,
        in_flight=consumer.leases.count,
        waiting=consumer.waiting.count,
        dead=consumer.dead.count,
        members=len(consumer.members),
    )


def _weight(consumer: ConsumerReading) -> tuple[int, int]:
    """Who is shown rather than others: the largest lag, then the most that is unsettled."""
    return consumer.lag or 0, consumer.in_flight + consumer.waiting + consumer.dead
