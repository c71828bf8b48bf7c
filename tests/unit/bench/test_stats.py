"""Percentiles by nearest rank, spreads, and payloads that tell their place."""

from __future__ import annotations

import pytest

from hermes_bench import payloads
from hermes_bench.stats import latencies_ms, number, percentile, spread


@pytest.mark.parametrize(
    ("part", "value"), [(0.0, 1), (0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100)]
)
def test_percentile_is_the_nearest_rank(part: float, value: int) -> None:
    assert percentile(range(1, 101), part) == value


def test_percentile_of_one_value_is_that_value() -> None:
    assert percentile([7.0], 0.99) == 7.0


def test_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_latencies_are_sorted_and_in_milliseconds() -> None:
    assert latencies_ms([3_000_000, 1_000_000, 2_000_000]) == {
        "p50_ms": 2.0,
        "p99_ms": 3.0,
        "max_ms": 3.0,
    }


def test_spread_is_half_the_range_of_the_median() -> None:
    assert spread([90.0, 100.0, 110.0]) == pytest.approx(0.1)
    assert spread([5.0]) == 0.0
    assert spread([0.0, 0.0]) == 0.0


def test_payloads_have_their_size_and_number() -> None:
    ring = payloads.ring(100)
    assert len(ring) == payloads.RING
    assert {len(payload) for payload in ring} == {100}
    payloads.check_order(ring[3], payloads.RING + 3)
    with pytest.raises(ValueError, match="message 4 is number 3"):
        payloads.check_order(ring[3], 4)


def test_a_payload_too_small_for_its_number_is_refused() -> None:
    assert len(payloads.ring(8)[0]) == 8
    with pytest.raises(ValueError, match="at least 8 bytes"):
        payloads.ring(7)


def test_numbers_for_people() -> None:
    assert [number(value) for value in (1234567.8, 100, 99.94, 0.01234)] == [
        *("1,234,568", "100", "99.9", "0.0123")
    ]
