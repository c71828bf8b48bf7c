"""[P] Which offsets have lost their payloads: what whoever reads the line may skip.

Known from the segments' files, beside the state: a payload is no part of the fold. It is
learnt anew in each round of garbage collection, of all segments and on the event loop, so
the segments' own ranges are kept as they are, and found through their bounds.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import chain
from operator import itemgetter

from hermes.broker.ranges import Range, intersect, normalize

_FIRST = itemgetter(0)


class Retired:
    """A set of offsets."""

    __slots__ = ("_firsts", "_lasts", "_segments")

    def __init__(self, segments: Iterable[Sequence[Range]]) -> None:
        """Normal ranges of each segment, oldest segment first. O(segments)."""
        self._segments = [ranges for ranges in segments if ranges]
        self._firsts = [ranges[0][0] for ranges in self._segments]
        self._lasts = [ranges[-1][1] for ranges in self._segments]

    def first_held(self, offset: int) -> int:
        """The first offset from this one on that is not in the set.

        O(log ranges), and one step for each segment that is skipped as a whole.
        """
        for n in range(bisect_left(self._lasts, offset), len(self._segments)):
            ranges = self._segments[n]
            at = bisect_right(ranges, offset, key=_FIRST)
            if not at or ranges[at - 1][1] < offset:
                break
            offset = ranges[at - 1][1] + 1  # which may be the next segment's first
        return offset

    def within(self, ranges: Sequence[Range]) -> list[Range]:
        """The part of these (normal) ranges that is in the set."""
        if not ranges:
            return []
        first = bisect_left(self._lasts, ranges[0][0])
        end = bisect_right(self._firsts, ranges[-1][1])
        known = list(chain.from_iterable(self._segments[first:end]))
        return normalize(intersect(ranges, known))
