"""[P] The few statistics of the bench: median, spread, percentiles by nearest rank."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median


def percentile(ordered: Sequence[float], part: float) -> float:
    """The value below or at which `part` (0..1) of an ascending sequence lies."""
    if not ordered:
        raise ValueError("no values")
    rank = max(1, math.ceil(part * len(ordered)))
    return ordered[rank - 1]


def latencies_ms(values_ns: Sequence[int]) -> dict[str, float]:
    """p50, p99 and the worst of latencies in nanoseconds, as milliseconds."""
    ordered = sorted(values_ns)
    return {
        "p50_ms": percentile(ordered, 0.50) / 1e6,
        "p99_ms": percentile(ordered, 0.99) / 1e6,
        "max_ms": ordered[-1] / 1e6,
    }


def spread(values: Sequence[float]) -> float:
    """Half the range of the values as a part of their median: 0.1 reads "±10 %"."""
    middle = median(values)
    return (max(values) - min(values)) / (2 * middle) if middle else 0.0


def number(value: float) -> str:
    """Three digits or more, with separators where they help."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
