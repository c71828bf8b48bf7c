"""Histograms against sorted lists; latencies message by message; bounded memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes.broker import events as ev
from hermes_inspect import tally as module
from hermes_inspect.histogram import Histogram
from hermes_inspect.tally import OTHERS, ConsumerTally, Tally, latency_fields, rate

SPANS = st.lists(st.tuples(st.integers(0, 10**13), st.integers(1, 50)), min_size=1, max_size=60)


@given(SPANS, st.sampled_from([1, 50, 90, 99, 99.9]))
def test_percentiles_are_near(spans: list[tuple[int, int]], percent: float) -> None:
    histogram = Histogram()
    for ns, times in spans:
        histogram.add(ns, times)
    everything = sorted(ns for ns, times in spans for _ in range(times))
    wanted = everything[max(0, -(-len(everything) * percent // 100).__int__() - 1)]
    assert abs(histogram.percentile(percent) - wanted) <= wanted / 16 + 1
    assert histogram.percentile(0) == everything[0]
    assert histogram.percentile(100) == everything[-1]
    assert histogram.count == len(everything)
    assert histogram.mean_ns == sum(everything) // len(everything)


def test_an_empty_histogram() -> None:
    assert Histogram().percentile(50) == 0
    assert latency_fields(Histogram()) == {"measured": 0}


def publish(first: int, last: int, at: int, subject: str = "a.b") -> ev.Published:
    return ev.Published(
        engine_time_ns=at,
        subject=subject,
        first=first,
        last=last,
        head=b"",
        content=None,
        sizes=(10,) * (last - first + 1),
    )


def deliver(first: int, last: int, at: int, attempt: int = 1) -> ev.Delivered:
    return ev.Delivered(
        engine_time_ns=at,
        consumer="c",
        ranges=((first, last),),
        session=1,
        member=2,
        attempt=attempt,
        deadline_ns=0,
        mean_bytes=10,
    )


def ack(first: int, last: int, at: int) -> ev.Acked:
    return ev.Acked(engine_time_ns=at, consumer="c", ranges=((first, last),), session=1, member=2)


def tallied(*events: ev.Event) -> Tally:
    tally = Tally()
    for lsn, event in enumerate(events, 1):
        tally.add(lsn, event.engine_time_ns, 1, event)
    return tally


def consumer_of(*events: ev.Event) -> ConsumerTally:
    return tallied(*events).consumers["c"]


def test_latencies_are_of_messages_not_of_records() -> None:
    found = consumer_of(
        publish(0, 4, 1_000), publish(5, 9, 2_000), deliver(3, 6, 5_000), ack(3, 5, 9_000)
    )
    assert (found.delivered, found.acked, found.bytes) == (4, 3, 40)
    first = found.publish_to_deliver
    assert (first.count, first.total_ns) == (4, 2 * 4_000 + 2 * 3_000)
    assert (found.deliver_to_ack.count, found.deliver_to_ack.total_ns) == (3, 3 * 4_000)
    assert (found.publish_to_ack.count, found.publish_to_ack.total_ns) == (3, 2 * 8_000 + 7_000)


def test_an_ack_counts_from_the_latest_delivery() -> None:
    found = consumer_of(
        publish(0, 0, 0), deliver(0, 0, 100), deliver(0, 0, 500, attempt=2), ack(0, 0, 700)
    )
    assert (found.delivered, found.redelivered) == (2, 1)
    assert (found.deliver_to_ack.count, found.deliver_to_ack.total_ns) == (1, 200)
    assert (found.publish_to_deliver.count, found.publish_to_deliver.total_ns) == (1, 100)
    assert found.publish_to_ack.total_ns == 700


def test_what_was_published_before_the_range_is_not_measured() -> None:
    found = consumer_of(publish(10, 19, 50), deliver(5, 12, 100), ack(5, 12, 200))
    assert (found.delivered, found.acked) == (8, 8)
    assert found.publish_to_deliver.count == 3
    assert found.publish_to_ack.count == 3


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PUBLISHES_KEPT", 10)
    monkeypatch.setattr(module, "DELIVERIES_KEPT", 5)
    monkeypatch.setattr(module, "SUBJECTS_MAX", 3)
    publishes = [publish(n, n, n, f"s.{n}") for n in range(100)]
    deliveries = [deliver(n, n, 200) for n in range(100)]
    tally = tallied(*publishes, *deliveries, *(ack(n, n, 300) for n in range(100)))
    assert len(tally._firsts) < 20
    assert len(tally.subjects) == 4
    assert tally.subjects[OTHERS].messages == 97
    found = tally.consumers["c"]
    assert (found.delivered, found.acked, found.deliver_to_ack.count) == (100, 100, 5)
    assert 10 <= found.publish_to_deliver.count < 20


def test_rates() -> None:
    assert rate(10, 2 * 10**9) == 5.0
    assert rate(10, 0) == 0.0
