"""Engine time: goes on where the log ended, whatever the wall clock does."""

from __future__ import annotations

import pytest

from hermes.broker.engine_time import GAP_NS_MAX, STEP_NS_MIN, EngineTime, resume_at


@pytest.mark.parametrize(
    ("gap_ns", "resumed_ns"),
    [(5, 105), (0, 100), (-(10**12), 100), (GAP_NS_MAX + 1, 100 + GAP_NS_MAX)],
)
def test_it_resumes_after_the_gap_within_bounds(gap_ns: int, resumed_ns: int) -> None:
    assert resume_at(100, 10**15, 10**15 + gap_ns) == resumed_ns


def test_it_follows_the_monotonic_clock_both_ways() -> None:
    time = EngineTime(1_000, 50, 10**18)
    assert (time.at(50), time.at(60)) == (1_000, 1_010)
    assert time.monotonic_at(time.at(77)) == 77


def test_a_step_of_the_wall_clock_is_told_once() -> None:
    time = EngineTime(0, 0, 10**18)
    assert time.step(10, 10**18 + 10 + STEP_NS_MIN - 1) == 0
    assert time.step(20, 10**18 + 20 - 5 * STEP_NS_MIN) == -5 * STEP_NS_MIN
    assert time.step(30, 10**18 + 30 - 5 * STEP_NS_MIN) == 0
