"""Ranges against plain sets, and RangeMap against a plain dict of offsets."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hermes.broker import ranges
from hermes.broker.ranges import Range, RangeMap

OFFSETS = st.integers(0, 60)
SETS = st.sets(OFFSETS)
PAIRS = st.tuples(OFFSETS, st.integers(0, 12)).map(lambda pair: (pair[0], pair[0] + pair[1]))


def offsets_of(pairs: list[Range]) -> set[int]:
    return {offset for first, last in pairs for offset in range(first, last + 1)}


def ranges_of(offsets: set[int]) -> list[Range]:
    return ranges.normalize((offset, offset) for offset in offsets)


def is_normal(pairs: list[Range]) -> bool:
    return all(first <= last for first, last in pairs) and all(
        left[1] + 1 < right[0] for left, right in itertools.pairwise(pairs)
    )


@given(st.lists(PAIRS))
def test_normalize_keeps_the_offsets(pairs: list[Range]) -> None:
    normal = ranges.normalize(pairs)
    assert is_normal(normal)
    assert offsets_of(normal) == offsets_of(pairs)
    assert ranges.count(normal) == len(offsets_of(pairs))


@given(SETS, SETS)
def test_intersect_and_subtract_are_those_of_sets(left: set[int], right: set[int]) -> None:
    common = ranges.intersect(ranges_of(left), ranges_of(right))
    rest = ranges.subtract(ranges_of(left), ranges_of(right))
    assert is_normal(common)
    assert is_normal(rest)
    assert offsets_of(common) == left & right
    assert offsets_of(rest) == left - right


@given(SETS)
def test_wire_form_round_trip(offsets: set[int]) -> None:
    pairs = ranges_of(offsets)
    assert ranges.unflatten_pairs(ranges.flatten(pairs)) == pairs


@given(st.sets(OFFSETS, min_size=1), st.integers(0, 5), st.booleans())
def test_disk_form_round_trip(offsets: set[int], before: int, wide: bool) -> None:
    pairs = ranges_of(offsets)
    first = pairs[0][0] - (before if wide else 0)
    deltas = ranges.encode_deltas(first, pairs)
    assert all(delta >= 0 for delta in deltas)
    assert ranges.decode_deltas(first, pairs[-1][1], deltas) == pairs


@given(SETS, st.integers(1, 20))
def test_split_hulls_loses_nothing_and_bounds_every_group(offsets: set[int], width: int) -> None:
    pairs = ranges_of(offsets)
    groups = list(ranges.split_hulls(pairs, width))
    assert all(group[-1][1] - group[0][0] + 1 <= width for group in groups)
    assert ranges.normalize(pair for group in groups for pair in group) == pairs
    flat = ranges.flatten(pair for group in groups for pair in group)
    assert flat == sorted(flat)


class RangeMapAgainstDict(RuleBasedStateMachine):
    """Every operation on a RangeMap, and on a dict from offset to value."""

    def __init__(self) -> None:
        super().__init__()
        self.map: RangeMap[str] = RangeMap()
        self.model: dict[int, str] = {}

    @rule(pair=PAIRS, value=st.sampled_from("ab"), merge=st.booleans())
    def add(self, pair: Range, value: str, merge: bool) -> None:
        offsets = range(pair[0], pair[1] + 1)
        taken = any(offset in self.model for offset in offsets)
        try:
            self.map.add(*pair, value, merge=merge)
        except ValueError:
            assert taken
        else:
            assert not taken
            self.model.update(dict.fromkeys(offsets, value))

    @rule(pair=PAIRS)
    def remove(self, pair: Range) -> None:
        expected = self.within(pair)
        for offset in expected:
            del self.model[offset]
        assert self.spelled_out(self.map.remove(*pair)) == expected

    @rule(pair=PAIRS)
    def remove_one_whole_range(self, pair: Range) -> None:
        touched = next(((f, v) for f, last, v in self.map.items() if last >= pair[0]), None)
        if touched is not None:
            first, value = touched
            last = next(last for f, last, _ in self.map.items() if f == first)
            assert self.map.remove(first, last) == [(first, last, value)]
            for offset in range(first, last + 1):
                del self.model[offset]

    @rule(pair=PAIRS)
    def look_up(self, pair: Range) -> None:
        expected = self.within(pair)
        assert self.spelled_out(self.map.overlapping(*pair)) == expected
        assert self.map.covers(*pair) == (len(expected) == pair[1] - pair[0] + 1)
        assert self.map.at(pair[0]) == self.model.get(pair[0])

    @invariant()
    def holds_the_same(self) -> None:
        items = list(self.map.items())
        assert items == sorted(items)
        assert self.spelled_out(items) == self.model
        assert self.map.count == len(self.model)
        assert len(self.map) == len(items)
        assert self.map.first() == min(self.model, default=None)
        assert self.map.last() == max(self.model, default=None)
        assert RangeMap(items) == self.map

    def within(self, pair: Range) -> dict[int, str]:
        return {o: v for o, v in self.model.items() if pair[0] <= o <= pair[1]}

    @staticmethod
    def spelled_out(pieces: list[tuple[int, int, str]]) -> dict[int, str]:
        offsets = [(o, v) for first, last, v in pieces for o in range(first, last + 1)]
        assert len(dict(offsets)) == len(offsets), "an offset in two ranges"
        return dict(offsets)


TestRangeMap = RangeMapAgainstDict.TestCase
