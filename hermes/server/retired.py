"""[P] Which offsets have lost their payloads: what whoever reads the line may skip.

Known from the segments' files, beside the state: a payload is no part of the fold.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from operator import itemgetter

from hermes.broker.ranges import Range, intersect, normalize

_FIRST = itemgetter(0)


class Retired:
    """A set of offsets."""

    __slots__ = ("_ranges",)

    def __init__(self, ranges: Iterable[Range]) -> None:
        self._ranges = normalize(ranges)

    def first_held(self, offset: int) -> int:
        """The first offset from this one on that is not in the set. O(log ranges)."""
        at = bisect_right(self._ranges, offset, key=_FIRST)
        if at and self._ranges[at - 1][1] >= offset:
            return self._ranges[at - 1][1] + 1
        return offset

    def within(self, ranges: Sequence[Range]) -> list[Range]:
        """The part of these (normal) ranges that is in the set."""
        return intersect(ranges, self._ranges)
