"""What a reading becomes for a scrape, and that the documentation names all of it."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from hermes.server.metrics import (
    BrokerReading,
    ConsumerReading,
    LogReading,
    Reading,
    ScrubReading,
    ServerCollector,
    SinkReading,
    families,
)
from tests.support.scraping import Scraped

LOG = LogReading(
    store_id="5a0e",
    last_lsn=40,
    next_offset=31,
    oldest_offset=2,
    queued_bytes=512,
    free_bytes=10**12,
    low_space=True,
    full=True,
    commits=7,
    segments=3,
    segment_bytes=90_000,
    quarantined_segments=1,
    quarantined_records=12,
)
BROKER = BrokerReading(
    log=LOG,
    streams=4,
    subscriptions=5,
    live_dropped=6,
    consumers=3,
    in_flight=8,
    waiting=9,
    dead=10,
    uncounted=1,
    shown=(
        ConsumerReading(name='bill"ing\n', lag=11, in_flight=2, waiting=3, dead=4, members=1),
        ConsumerReading(name="ütopia", lag=None, in_flight=0, waiting=0, dead=0, members=0),
    ),
    sinks=(SinkReading("file", 20, 0), SinkReading("url", 18, 2)),
)
READING = Reading(
    serving=True,
    failures=2,
    reopenings=1,
    open_refusals=5,
    last_outage_secs=0.25,
    scrub=ScrubReading(passes=21, segments=63, bytes=8192, damaged=1, last_pass_at_secs=1.5e9),
    broker=BROKER,
)


def scraped(reading: Reading) -> Scraped:
    registry = CollectorRegistry()
    registry.register(ServerCollector(lambda: reading))
    return Scraped(generate_latest(registry).decode())


def test_everything_in_a_reading_is_told() -> None:
    found = scraped(READING)
    assert found.of("store_info") == {"5a0e": 1}
    assert (found["serving"], found["log_failures_total"], found["log_reopenings_total"]) == (
        1,
        2,
        1,
    )
    assert (found["log_open_refusals_total"], found["log_last_outage_seconds"]) == (5, 0.25)
    assert (found["log_last_lsn"], found["log_next_offset"]) == (40, 31)
    assert (found["log_oldest_offset"], found["log_queued_bytes"]) == (2, 512)
    assert (found["log_free_bytes"], found["log_low_space"]) == (10**12, 1)
    assert found["log_full"] == 1
    assert (found["scrub_passes_total"], found["scrub_segments_total"]) == (21, 63)
    assert (found["scrub_bytes_total"], found["scrub_damaged_segments"]) == (8192, 1)
    assert found["scrub_last_pass_timestamp_seconds"] == 1.5e9
    assert (found["log_commits_total"], found["log_segments"], found["log_bytes"]) == (7, 3, 90_000)
    assert (found["log_quarantined_segments"], found["log_quarantined_records"]) == (1, 12)
    assert (found["streams"], found["subscriptions"]) == (4, 5)
    assert found["live_dropped_messages_total"] == 6
    assert (found["consumers"], found["consumers_left_out"]) == (3, 1)
    assert found["consumers_uncounted"] == 1
    assert (found["in_flight_messages"], found["waiting_messages"]) == (8, 9)
    assert found["dead_messages"] == 10
    assert found.of("consumer_lag_messages") == {'bill"ing\n': 11}
    assert found.of("consumer_in_flight_messages") == {'bill"ing\n': 2, "ütopia": 0}
    assert found.of("consumer_waiting_messages") == {'bill"ing\n': 3, "ütopia": 0}
    assert found.of("consumer_dead_messages") == {'bill"ing\n': 4, "ütopia": 0}
    assert found.of("consumer_members") == {'bill"ing\n': 1, "ütopia": 0}
    assert found.of("checkpoints_delivered_total") == {"file": 20, "url": 18}
    assert found.of("checkpoints_failed_total") == {"file": 0, "url": 2}


def test_what_nobody_can_know_is_absent() -> None:
    without_log = scraped(msgspec.structs.replace(READING, serving=False, scrub=None, broker=None))
    assert {name for name, _ in without_log.samples} == {
        "hermes_build_info",
        "hermes_serving",
        "hermes_log_failures_total",
        "hermes_log_reopenings_total",
        "hermes_log_open_refusals_total",
        "hermes_log_last_outage_seconds",
    }
    assert without_log["serving"] == 0
    before_first = ScrubReading(passes=0, segments=0, bytes=0, damaged=0, last_pass_at_secs=None)
    found = scraped(msgspec.structs.replace(READING, scrub=before_first))
    assert found["scrub_passes_total"] == 0
    assert not found.of("scrub_last_pass_timestamp_seconds")
    unread = msgspec.structs.replace(LOG, segments=None, segment_bytes=None)
    broker = msgspec.structs.replace(BROKER, log=unread)
    found = scraped(msgspec.structs.replace(READING, broker=broker))
    assert not found.of("log_segments") and not found.of("log_bytes")
    assert found["log_last_lsn"] == 40
    without_store = msgspec.structs.replace(BROKER, log=None)
    found = scraped(msgspec.structs.replace(READING, broker=without_store))
    assert not found.of("log_free_bytes") and not found.of("store_info")
    assert found["streams"] == 4


@pytest.mark.parametrize("reading", [READING, None])
def test_the_metrics_are_the_documented_ones(repository: Path, reading: Reading | None) -> None:
    suffix = {"counter": "_total", "info": "_info"}
    told = [family.name + suffix.get(family.type, "") for family in families(reading)]
    operations = (repository / "docs" / "operations.md").read_text()
    section = operations.partition("\n## Metrics\n")[2].partition("\n## ")[0]
    documented = re.findall(r"^\| `(hermes_\w+)` \|", section, re.MULTILINE)
    assert told == documented
    assert set(re.findall(r"hermes_\w+", section)) <= set(told)


def test_the_newer_format_holds_the_same() -> None:
    registry = CollectorRegistry()
    registry.register(ServerCollector(lambda: READING))
    text = generate_openmetrics(registry).decode()  # type: ignore[no-untyped-call]
    parsed = parse_openmetrics(text)  # type: ignore[no-untyped-call]
    names = [family.name for family in parsed]
    assert names == [family.name for family in families(READING)]
