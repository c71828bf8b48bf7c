"""What a scrape tells of a server: every metric's name and meaning, made from one reading.

Theory: nothing is counted for the metrics' sake. A reading is taken when somebody asks
(metrics_reading.py), from what the server knows anyway; the table below turns it into what
Prometheus reads. So a server that nobody scrapes pays nothing, and no message ever does.

While there is no log that is open, only what the server itself knows is told: a number
that nobody can know is absent, not 0. Counters of the broker begin at 0 with each opening
of the log, as a counter may.

No state is kept here, and nothing is read; docs/operations.md has the same table, with alerts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from hermes import __version__


class ConsumerReading(msgspec.Struct, frozen=True, kw_only=True):
    """One consumer, in messages. `lag`: matching ones it was never sent; None: not counted."""

    name: str
    lag: int | None
    in_flight: int
    waiting: int
    dead: int
    members: int


class SinkReading(msgspec.Struct, frozen=True):
    """Where checkpoints go: delivered ones, and those given up on."""

    name: str
    delivered: int
    failed: int


class LogReading(msgspec.Struct, frozen=True, kw_only=True):
    """An open store. What is None could not be read."""

    store_id: str
    last_lsn: int
    next_offset: int
    oldest_offset: int
    queued_bytes: int
    free_bytes: int
    low_space: bool
    full: bool
    commits: int
    segments: int | None
    segment_bytes: int | None
    quarantined_segments: int
    quarantined_records: int


class BrokerReading(msgspec.Struct, frozen=True, kw_only=True):
    """An engine on its log, which is None without a store.

    `shown` are the consumers told one by one, of `consumers` in all.
    """

    log: LogReading | None
    streams: int
    subscriptions: int
    live_dropped: int
    consumers: int
    in_flight: int
    waiting: int
    dead: int
    uncounted: int
    shown: tuple[ConsumerReading, ...]
    sinks: tuple[SinkReading, ...]


class ScrubReading(msgspec.Struct, frozen=True, kw_only=True):
    """The scrub of old segments; `last_pass_at_secs` is Unix time, None before the first end."""

    passes: int
    segments: int
    bytes: int
    damaged: int
    last_pass_at_secs: float | None


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """A server at one moment; `broker` is None while it has no open log, `scrub` without one."""

    serving: bool
    failures: int
    reopenings: int
    open_refusals: int
    last_outage_secs: float
    scrub: ScrubReading | None
    broker: BrokerReading | None


class _Row(msgspec.Struct, frozen=True):
    """A metric without its `hermes_`, its meaning, and where its value is in a reading."""

    name: str
    text: str
    value: Callable[[Any], float | None]  # None: not told
    is_counter: bool = False

    def family(self, *labels: str) -> CounterMetricFamily | GaugeMetricFamily:
        kind = CounterMetricFamily if self.is_counter else GaugeMetricFamily
        return kind(f"hermes_{self.name}", self.text, labels=labels)


def _gauge(name: str, text: str, value: Callable[[Any], float | None]) -> _Row:
    return _Row(name, text, value)


def _counter(name: str, text: str, value: Callable[[Any], float | None]) -> _Row:
    """Its name ends in `_total` for whoever reads it."""
    return _Row(name, text, value, is_counter=True)


_OF_SERVER: Final = (
    _gauge("serving", "1 while calls are served, as the health service says.", lambda r: r.serving),
    _counter("log_failures", "Failures of the log while it was served.", lambda r: r.failures),
    _counter("log_reopenings", "Failures after which it was served again.", lambda r: r.reopenings),
    _counter(
        "log_open_refusals", "Tries to open the log again that failed.", lambda r: r.open_refusals
    ),
    _gauge(
        "log_last_outage_seconds",
        "From the last failure until it was served again; 0 before the first.",
        lambda r: r.last_outage_secs,
    ),
)
_OF_SCRUB: Final = (
    _counter("scrub_passes", "Ends of a pass over all old segments.", lambda r: r.passes),
    _counter("scrub_segments", "Old segments that were checked.", lambda r: r.segments),
    _counter("scrub_bytes", "Bytes of old segments that were checked.", lambda r: r.bytes),
    _gauge(
        "scrub_damaged_segments", "Segments that were found damaged by it.", lambda r: r.damaged
    ),
    _gauge(
        "scrub_last_pass_timestamp_seconds",
        "When the last pass ended, Unix time.",
        lambda r: r.last_pass_at_secs,
    ),
)
_OF_LOG: Final = (
    _gauge("log_last_lsn", "Last committed record.", lambda r: r.last_lsn),
    _gauge("log_next_offset", "Messages ever published durably.", lambda r: r.next_offset),
    _gauge("log_oldest_offset", "Oldest message that is still kept.", lambda r: r.oldest_offset),
    _counter("log_commits", "Commits, of one group of records each.", lambda r: r.commits),
    _gauge("log_queued_bytes", "Records that wait for their commit.", lambda r: r.queued_bytes),
    _gauge("log_segments", "Segments of the store.", lambda r: r.segments),
    _gauge("log_bytes", "Size of the segments' files.", lambda r: r.segment_bytes),
    _gauge(
        "log_quarantined_segments",
        "Damaged segments that are left out.",
        lambda r: r.quarantined_segments,
    ),
    _gauge(
        "log_quarantined_records", "Records in these segments.", lambda r: r.quarantined_records
    ),
    _gauge("log_free_bytes", "Free on the disk of the store.", lambda r: r.free_bytes),
    _gauge("log_low_space", "1 while publishing is refused for want of it.", lambda r: r.low_space),
    _gauge(
        "log_full", "1 while publishing is refused at the limit of the store.", lambda r: r.full
    ),
)
_OF_BROKER: Final = (
    _gauge("streams", "Streams that are open.", lambda r: r.streams),
    _gauge("subscriptions", "Live subscriptions.", lambda r: r.subscriptions),
    _counter(
        "live_dropped_messages",
        "Lost by live subscriptions whose buffer was full.",
        lambda r: r.live_dropped,
    ),
    _gauge("consumers", "Consumers.", lambda r: r.consumers),
    _gauge("in_flight_messages", "Leased, of all consumers.", lambda r: r.in_flight),
    _gauge("waiting_messages", "To be delivered again, of all consumers.", lambda r: r.waiting),
    _gauge("dead_messages", "Dead letters of all consumers.", lambda r: r.dead),
    _gauge(
        "consumers_left_out",
        "Consumers without series of their own: there are too many.",
        lambda r: r.consumers - len(r.shown),
    ),
    _gauge(
        "consumers_uncounted",
        "Consumers whose lag could not be counted in the time a scrape may take.",
        lambda r: r.uncounted,
    ),
)
_OF_CONSUMER: Final = (
    _gauge("consumer_lag_messages", "Matching messages it was never sent.", lambda r: r.lag),
    _gauge("consumer_in_flight_messages", "Leased to its members.", lambda r: r.in_flight),
    _gauge("consumer_waiting_messages", "To be delivered again.", lambda r: r.waiting),
    _gauge("consumer_dead_messages", "Its dead letters.", lambda r: r.dead),
    _gauge("consumer_members", "Connections that work for it.", lambda r: r.members),
)
_OF_SINK: Final = (
    _counter("checkpoints_delivered", "Signed checkpoints it took.", lambda r: r.delivered),
    _counter("checkpoints_failed", "Those given up on.", lambda r: r.failed),
)


def families(reading: Reading | None) -> Iterator[Metric]:
    """Every metric; those that the reading cannot tell, or all without one, hold no sample."""
    broker = None if reading is None else reading.broker
    log = None if broker is None else broker.log
    version = None if reading is None else {"version": __version__}
    yield _info("build", "The server.", version)
    store = None if log is None else {"store_id": log.store_id}
    yield _info("store", "The store that is open.", store)
    yield from _scalars(_OF_SERVER, reading)
    yield from _scalars(_OF_SCRUB, None if reading is None else reading.scrub)
    yield from _scalars(_OF_LOG, log)
    yield from _scalars(_OF_BROKER, broker)
    yield from _labelled(_OF_CONSUMER, "consumer", () if broker is None else broker.shown)
    yield from _labelled(_OF_SINK, "sink", () if broker is None else broker.sinks)


def _info(name: str, text: str, labels: dict[str, str] | None) -> Metric:
    family = InfoMetricFamily(f"hermes_{name}", text)
    if labels is not None:
        family.add_metric((), labels)
    return family


def _scalars(rows: Iterable[_Row], reading: Any) -> Iterator[Metric]:
    for row in rows:
        family = row.family()
        value = None if reading is None else row.value(reading)
        if value is not None:
            family.add_metric((), value)
        yield family


def _labelled(rows: Iterable[_Row], label: str, readings: Iterable[Any]) -> Iterator[Metric]:
    for row in rows:
        family = row.family(label)
        for reading in readings:
            value = row.value(reading)
            if value is not None:
                family.add_metric((reading.name,), value)
        yield family


class ServerCollector(Collector):
    """Takes a reading at each scrape. `read` is called on the scrape's thread."""

    def __init__(self, read: Callable[[], Reading]) -> None:
        self._read = read

    def describe(self) -> Iterator[Metric]:
        return families(None)

    def collect(self) -> Iterator[Metric]:
        return families(self._read())
