"""What is known of retired payloads, segment by segment, against a plain set of offsets."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from hermes.broker.ranges import Range, intersect, normalize
from hermes.server.retired import Retired

LINE = 60
OFFSETS = st.integers(0, LINE)
SETS = st.sets(OFFSETS)
BOUNDS = st.sets(OFFSETS, max_size=8).map(sorted)


def ranges_of(offsets: set[int]) -> list[Range]:
    return normalize((offset, offset) for offset in offsets)


def retired_of(offsets: set[int], bounds: list[int]) -> Retired:
    """As the segments would tell it, whose first offsets are 0 and the bounds."""
    line = ranges_of(offsets)
    starts = [0, *bounds, LINE + 1]
    return Retired(
        intersect(line, [(start, end - 1)])
        for start, end in itertools.pairwise(starts)
        if start < end
    )


@given(SETS, BOUNDS)
def test_first_held_skips_what_is_in_the_set(offsets: set[int], bounds: list[int]) -> None:
    retired = retired_of(offsets, bounds)
    for asked in range(LINE + 3):
        expected = next(offset for offset in range(asked, LINE + 4) if offset not in offsets)
        assert retired.first_held(asked) == expected


@given(SETS, BOUNDS, SETS)
def test_within_is_the_intersection(offsets: set[int], bounds: list[int], asked: set[int]) -> None:
    assert retired_of(offsets, bounds).within(ranges_of(asked)) == ranges_of(offsets & asked)
