"""[P] A histogram of spans in bounded memory, with percentiles good to about 3 %.

Buckets grow with the value: each power of two is cut into 16 equal parts, so a bucket is
at most 1/16 of its value wide and a percentile, the middle of its bucket, at most 1/32
off. (The idea is Gil Tene's HdrHistogram.)
"""

from __future__ import annotations

from typing import Final

_PART_BITS: Final = 4
_PARTS: Final = 1 << _PART_BITS


class Histogram:
    """How often which span occurred, in nanoseconds; negative ones count as 0."""

    __slots__ = ("_buckets", "count", "highest_ns", "lowest_ns", "total_ns")

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self.count = 0
        self.total_ns = 0
        self.lowest_ns = 0
        self.highest_ns = 0

    def add(self, ns: int, times: int = 1) -> None:
        """Count a span, `times` times."""
        ns = max(0, ns)
        if not self.count or ns < self.lowest_ns:
            self.lowest_ns = ns
        self.highest_ns = max(self.highest_ns, ns)
        self.count += times
        self.total_ns += ns * times
        bucket = _bucket_of(ns)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + times

    def percentile(self, percent: float) -> int:
        """The span below or at which so many percent are; 0 when there is none.

        0 and 100 are the exact lowest and highest.
        """
        if not self.count or percent <= 0:
            return self.lowest_ns
        if percent >= 100:
            return self.highest_ns
        wanted = self.count * percent / 100
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= wanted:
                return min(max(_middle_of(bucket), self.lowest_ns), self.highest_ns)
        return self.highest_ns

    @property
    def mean_ns(self) -> int:
        return self.total_ns // self.count if self.count else 0


def _bucket_of(ns: int) -> int:
    if ns < _PARTS:
        return ns
    shift = ns.bit_length() - _PART_BITS - 1
    return (shift + 1) * _PARTS + (ns >> shift) - _PARTS


def _middle_of(bucket: int) -> int:
    if bucket < _PARTS:
        return bucket
    shift, part = bucket // _PARTS - 1, bucket % _PARTS
    return ((_PARTS + part) << shift) + ((1 << shift) >> 1)
