"""Sets of offsets as ranges: the edges that a reader wants spelled out."""

from __future__ import annotations

import pytest

from hermes import limits
from hermes.broker import ranges
from hermes.broker.ranges import RangeMap
from hermes.errors import DataLossError, InvalidArgumentError


def test_normalize_sorts_and_joins_what_touches() -> None:
    assert ranges.normalize([(7, 9), (0, 1), (2, 2), (8, 12), (20, 20)]) == [
        (0, 2),
        (7, 12),
        (20, 20),
    ]
    assert ranges.normalize([(0, 10), (3, 4)]) == [(0, 10)]
    assert ranges.normalize([]) == []


def test_normalize_refuses_a_reversed_range() -> None:
    with pytest.raises(ValueError, match=r"5\.\.4"):
        ranges.normalize([(5, 4)])


def test_subtract_when_a_hole_spans_two_ranges() -> None:
    assert ranges.subtract([(0, 4), (6, 9)], [(3, 7)]) == [(0, 2), (8, 9)]
    assert ranges.subtract([(0, 9)], [(0, 0), (4, 5), (9, 9)]) == [(1, 3), (6, 8)]
    assert ranges.subtract([(3, 4)], [(0, 9)]) == []


def test_intersect() -> None:
    assert ranges.intersect([(0, 4), (6, 9)], [(3, 7), (9, 12)]) == [(3, 4), (6, 7), (9, 9)]
    assert ranges.intersect([(0, 4)], []) == []


# ---------------------------------------------------------------------- wire form


def test_unflatten_reads_pairs_and_joins_neighbours() -> None:
    assert ranges.unflatten_pairs([1, 3, 4, 4, 9, 9]) == [(1, 4), (9, 9)]
    assert ranges.unflatten_pairs([]) == []
    assert ranges.unflatten_pairs([0, 0]) == [(0, 0)]


@pytest.mark.parametrize(
    ("bounds", "told"),
    [
        ([1], "expected pairs"),
        ([5, 4], "ends before it begins"),
        ([5, 6, 1, 2], "ascending"),
        ([1, 5, 5, 6], "do not overlap"),
        ([1, 5, 1, 5], "do not overlap"),
    ],
)
def test_unflatten_refuses(bounds: list[int], told: str) -> None:
    with pytest.raises(InvalidArgumentError, match=told):
        ranges.unflatten_pairs(bounds)


def test_unflatten_takes_the_limit_and_no_more() -> None:
    most = [n for i in range(limits.SETTLEMENT_RANGES_MAX) for n in (2 * i, 2 * i)]
    assert len(ranges.unflatten_pairs(most)) == limits.SETTLEMENT_RANGES_MAX
    with pytest.raises(InvalidArgumentError, match=f"at most {limits.SETTLEMENT_RANGES_MAX}"):
        ranges.unflatten_pairs([*most, 1_000_000, 1_000_000])


# ---------------------------------------------------------------------- disk form


def test_deltas_count_what_is_skipped() -> None:
    assert ranges.encode_deltas(10, [(10, 11), (14, 14)]) == [0, 2, 2, 1]
    assert ranges.decode_deltas(10, 14, [0, 2, 2, 1]) == [(10, 11), (14, 14)]


def test_a_single_range_needs_no_deltas() -> None:
    assert ranges.encode_deltas(10, [(10, 20)]) == []
    assert ranges.decode_deltas(10, 20, []) == [(10, 20)]
    # ... unless the record spans more than it.
    assert ranges.decode_deltas(8, 20, ranges.encode_deltas(8, [(10, 20)])) == [(10, 20)]


@pytest.mark.parametrize("deltas", [[0], [0, 0], [0, 12], [11, 1], [0, 2, 0, 0], [0, 1, 5, 9]])
def test_damaged_deltas_are_named(deltas: list[int]) -> None:
    with pytest.raises(DataLossError, match=r"10\.\.20"):
        ranges.decode_deltas(10, 20, deltas)


# -------------------------------------------------------------------------- hulls


def test_split_hulls_fills_up_to_the_width() -> None:
    assert list(ranges.split_hulls([(0, 0), (9, 9), (10, 10)], 10)) == [
        [(0, 0), (9, 9)],
        [(10, 10)],
    ]


def test_split_hulls_cuts_only_what_is_too_wide() -> None:
    assert list(ranges.split_hulls([(0, 2), (5, 29)], 10)) == [
        [(0, 2)],
        [(5, 14)],
        [(15, 24)],
        [(25, 29)],
    ]
    assert list(ranges.split_hulls([(5, 14)], 10)) == [[(5, 14)]]
    assert list(ranges.split_hulls([])) == []


# ----------------------------------------------------------------------- RangeMap


def test_remove_of_a_whole_range() -> None:
    held = RangeMap([(0, 9, "a"), (10, 19, "b")])
    assert held.remove(0, 9) == [(0, 9, "a")]
    assert list(held.items()) == [(10, 19, "b")]
    assert held.count == 10


def test_remove_leaves_what_sticks_out_on_either_side() -> None:
    held = RangeMap([(0, 9, "a"), (12, 19, "b")])
    assert held.remove(5, 14) == [(5, 9, "a"), (12, 14, "b")]
    assert list(held.items()) == [(0, 4, "a"), (15, 19, "b")]
    assert held.remove(1, 2) == [(1, 2, "a")]
    assert list(held.items()) == [(0, 0, "a"), (3, 4, "a"), (15, 19, "b")]
    assert held.count == 8


def test_remove_of_nothing() -> None:
    held = RangeMap([(5, 9, "a")])
    assert held.remove(0, 4) == []
    assert held.remove(10, 20) == []
    assert held.remove(7, 6) == []
    assert held == RangeMap([(5, 9, "a")])


def test_add_refuses_an_overlap_and_changes_nothing() -> None:
    held = RangeMap([(5, 9, "a")])
    for first, last in [(9, 9), (0, 5), (0, 20), (6, 7), (5, 9)]:
        with pytest.raises(ValueError, match=r"overlaps 5\.\.9"):
            held.add(first, last, "b")
    with pytest.raises(ValueError, match="ends before"):
        held.add(3, 2, "b")
    assert held == RangeMap([(5, 9, "a")])


def test_merge_extends_the_left_neighbour_when_the_value_is_equal() -> None:
    held: RangeMap[str] = RangeMap([(0, 4, "a")])
    held.add(5, 9, "a", merge=True)
    held.add(10, 10, "b", merge=True)
    held.add(12, 12, "b", merge=True)
    held.add(13, 13, "b")
    assert list(held.items()) == [(0, 9, "a"), (10, 10, "b"), (12, 12, "b"), (13, 13, "b")]
    assert held.count == 13


def test_look_ups() -> None:
    held = RangeMap([(0, 4, "a"), (5, 5, "b"), (8, 9, "c")])
    assert [held.at(offset) for offset in (0, 4, 5, 6, 9, 10)] == ["a", "a", "b", None, "c", None]
    assert held.overlapping(3, 8) == [(3, 4, "a"), (5, 5, "b"), (8, 8, "c")]
    assert held.overlapping(6, 7) == []
    assert held.covers(1, 5)
    assert not held.covers(1, 6)
    assert not held.covers(6, 7)
    assert (held.first(), held.last(), len(held)) == (0, 9, 3)
    assert repr(held) == "RangeMap(0..4: 'a', 5..5: 'b', 8..9: 'c')"
    held.clear()
    assert (held.first(), held.last(), len(held), held.count) == (None, None, 0, 0)
    assert not held


def test_equality_sees_values_and_cuts() -> None:
    assert RangeMap([(0, 9, "a")]) == RangeMap([(0, 9, "a")])
    assert RangeMap([(0, 9, "a")]) != RangeMap([(0, 9, "b")])
    assert RangeMap([(0, 9, "a")]) != RangeMap([(0, 4, "a"), (5, 9, "a")])
    assert RangeMap([(0, 9, "a")]) != {0: (9, "a")}
