"""[P] Sets of offsets as ranges, and maps from offsets to values as ranges.

Theory: what a broker knows of messages (leased, waiting, dead, acked) comes in runs,
so the cost of an operation should be that of the runs it touches, never that of the
offsets in them. A `Range` is a pair `(first, last)`, both included.

Rules
- A *normal* list of ranges is sorted, disjoint, and holds no two ranges that touch.
  Everything here returns normal lists; `intersect`, `subtract`, `encode_deltas` and
  `split_hulls` also expect them. What comes from outside passes `normalize` (own
  code), `unflatten_pairs` (the wire) or `decode_deltas` (the disk) first.
- `RangeMap` keeps its ranges as they were added: whether two neighbours are one range
  is the caller's business (`merge=True`), because a range may stand for one delivery.

What an offset or a value means does not belong here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from sortedcontainers import SortedDict

from hermes import limits
from hermes.errors import DataLossError, InvalidArgumentError

Range = tuple[int, int]
V = TypeVar("V")


# ------------------------------------------------------------------ lists of ranges


def normalize(ranges: Iterable[Range]) -> list[Range]:
    """The same offsets as a normal list. Raises ValueError for a range with last < first."""
    normal: list[Range] = []
    for first, last in sorted(ranges):
        if last < first:
            raise ValueError(f"range {first}..{last} ends before it begins")
        if normal and first <= normal[-1][1] + 1:
            if last > normal[-1][1]:
                normal[-1] = (normal[-1][0], last)
        else:
            normal.append((first, last))
    return normal


def count(ranges: Iterable[Range]) -> int:
    """How many offsets disjoint ranges hold."""
    return sum(last - first + 1 for first, last in ranges)


def intersect(left: Sequence[Range], right: Sequence[Range]) -> list[Range]:
    """Offsets in both. O(len(left) + len(right))."""
    common: list[Range] = []
    i = j = 0
    while i < len(left) and j < len(right):
        first = max(left[i][0], right[j][0])
        last = min(left[i][1], right[j][1])
        if first <= last:
            common.append((first, last))
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return common


def subtract(left: Sequence[Range], right: Sequence[Range]) -> list[Range]:
    """Offsets in `left` and not in `right`. O(len(left) + len(right))."""
    rest: list[Range] = []
    j = 0
    for first, last in left:
        at = first
        while j < len(right) and right[j][0] <= last:
            hole_first, hole_last = right[j]
            if at < hole_first:
                rest.append((at, hole_first - 1))
            at = max(at, hole_last + 1)
            if hole_last > last:  # it may reach into the next range of `left`
                break
            j += 1
        if at <= last:
            rest.append((at, last))
    return rest


def split_hulls(
    ranges: Iterable[Range], width: int = limits.RECORD_HULL_MAX
) -> Iterator[list[Range]]:
    """Runs of ranges, in order, of which none spans more than `width` offsets.

    A range is cut only when it is wider than that by itself.
    """
    group: list[Range] = []
    for first, last in ranges:
        if group and last - group[0][0] >= width:
            yield group
            group = []
        at = first
        while last - at >= width:
            yield [(at, at + width - 1)]
            at += width
        group.append((at, last))
    if group:
        yield group


# ------------------------------------------------------------------------ wire form


def flatten(ranges: Iterable[Range]) -> list[int]:
    """The wire form: first0, last0, first1, last1, ..."""
    return [bound for pair in ranges for bound in pair]


def unflatten_pairs(bounds: Sequence[int]) -> list[Range]:
    """Read the wire form; ranges that touch are joined.

    Raises InvalidArgumentError unless the bounds are pairs, ascending, disjoint, and
    at most `limits.SETTLEMENT_RANGES_MAX`.
    """
    if len(bounds) % 2:
        raise InvalidArgumentError(
            f"{len(bounds)} range bounds; expected pairs of first and last", bounds=len(bounds)
        )
    if len(bounds) > 2 * limits.SETTLEMENT_RANGES_MAX:
        raise InvalidArgumentError(
            f"{len(bounds) // 2} ranges; expected at most {limits.SETTLEMENT_RANGES_MAX}",
            hint="send them in several settlements",
            ranges=len(bounds) // 2,
        )
    ranges: list[Range] = []
    end = -1
    pairs = iter(bounds)
    for first, last in zip(pairs, pairs, strict=True):
        if last < first:
            raise InvalidArgumentError(
                f"range {first}..{last} ends before it begins", first=first, last=last
            )
        if first <= end:
            raise InvalidArgumentError(
                f"range {first}..{last} does not lie after {end}; "
                "expected ascending ranges that do not overlap",
                first=first,
                last=last,
            )
        if ranges and first == end + 1:
            ranges[-1] = (ranges[-1][0], last)
        else:
            ranges.append((first, last))
        end = last
    return ranges


# ------------------------------------------------------------------------ disk form


def encode_deltas(first: int, ranges: Sequence[Range]) -> list[int]:
    """The disk form of a normal list against its record's `first`; the record ends where it does.

    skip0, length0, skip1, length1, ... ; empty when the one range begins at `first`.
    """
    if len(ranges) == 1 and ranges[0][0] == first:
        return []
    deltas: list[int] = []
    at = first
    for begin, last in ranges:
        deltas.append(begin - at)
        deltas.append(last - begin + 1)
        at = last + 1
    return deltas


def decode_deltas(first: int, last: int, deltas: Sequence[int]) -> list[Range]:
    """Read the disk form of a record that spans first..last; no deltas are all of it.

    Raises DataLossError when they are not pairs, or leave the record's span.
    """
    if not deltas:
        return [(first, last)]
    ranges: list[Range] = []
    at = first
    if len(deltas) % 2 == 0:
        pairs = iter(deltas)
        for skip, length in zip(pairs, pairs, strict=True):
            begin = at + skip
            at = begin + length
            if skip < 0 or length < 1 or at > last + 1:
                break
            if ranges and skip == 0:
                ranges[-1] = (ranges[-1][0], at - 1)
            else:
                ranges.append((begin, at - 1))
        else:
            return ranges
    raise DataLossError(
        f"the ranges of a record over {first}..{last} do not decode",
        hint="run hermes-inspect verify on the store",
        first=first,
        last=last,
    )


# ----------------------------------------------------------------------- RangeMap


class RangeMap(Generic[V]):
    """Disjoint ranges of offsets, each with a value.

    Every operation costs O(log n) for n ranges, plus the ranges it touches. Two maps
    are equal when they hold the same ranges with equal values, cut alike.
    """

    # Neighbours are found with irange(): the bisect methods of sortedcontainers return
    # positions, and a position costs a rebuild of its index after every change.
    __slots__ = ("_count", "_entries", "_highest")

    def __init__(self, items: Iterable[tuple[int, int, V]] = ()) -> None:
        self._entries: SortedDict[int, tuple[int, V]] = SortedDict()
        self._count = 0
        self._highest = -1  # no offset above it was ever held: most ranges are added there
        for first, last, value in items:
            self.add(first, last, value)

    @property
    def count(self) -> int:
        """How many offsets are held. O(1)."""
        return self._count

    def __len__(self) -> int:
        """How many ranges are held."""
        return len(self._entries)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RangeMap):
            return NotImplemented
        return bool(self._entries == other._entries)

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        held = ", ".join(f"{first}..{last}: {value!r}" for first, last, value in self.items())
        return f"RangeMap({held})"

    def items(self) -> Iterator[tuple[int, int, V]]:
        """(first, last, value) of every range, in order. Do not change the map meanwhile."""
        for first, (last, value) in self._entries.items():
            yield first, last, value

    def first(self) -> int | None:
        """The lowest offset held; None when empty."""
        return self._entries.peekitem(0)[0] if self._entries else None

    def last(self) -> int | None:
        """The highest offset held; None when empty."""
        return self._entries.peekitem(-1)[1][0] if self._entries else None

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._count = 0
        self._highest = -1

    def add(self, first: int, last: int, value: V, *, merge: bool = False) -> None:
        """Hold `value` for first..last.

        With `merge` it becomes one range with neighbours that touch it and have an equal
        value, so that what is held looks the same in whatever order it came. Raises
        ValueError, and changes nothing, when last < first or when part of it is held.
        """
        if last < first:
            raise ValueError(f"range {first}..{last} ends before it begins")
        entries = self._entries
        if first > self._highest + merge:  # above everything, and nothing to extend
            before = None
        else:
            before = self._at_or_before(last)
        if before is not None:
            end, held = entries[before]
            if end >= first:
                raise ValueError(f"range {first}..{last} overlaps {before}..{end}")
            if merge and end == first - 1 and held == value:
                self._count -= end - before + 1
                first = before
        if merge and last < self._highest:
            end, held = entries.get(last + 1, (last, value))
            if end > last and held == value:
                del entries[last + 1]
                self._count -= end - last
                last = end
        entries[first] = (last, value)
        self._count += last - first + 1
        self._highest = max(self._highest, last)

    def at(self, offset: int) -> V | None:
        """The value held for an offset; None when there is none."""
        before = self._at_or_before(offset)
        if before is None:
            return None
        last, value = self._entries[before]
        return value if offset <= last else None

    def overlapping(self, first: int, last: int) -> list[tuple[int, int, V]]:
        """What is held within first..last, in order, clipped to it."""
        exact = self._entries.get(first)
        if exact is not None and exact[0] >= last >= first:  # no more than one delivery
            return [(first, last, exact[1])]
        pieces: list[tuple[int, int, V]] = []
        for key in self._touching(first, last):
            end, value = self._entries[key]
            pieces.append((max(key, first), min(end, last), value))
        return pieces

    def covers(self, first: int, last: int) -> bool:
        """Whether every offset of first..last is held."""
        return count((begin, end) for begin, end, _ in self.overlapping(first, last)) == max(
            0, last - first + 1
        )

    def missing(self, first: int, last: int) -> list[Range]:
        """The part of first..last that is not held."""
        held = [(begin, end) for begin, end, _ in self.overlapping(first, last)]
        return subtract([(first, last)], held)

    def remove(self, first: int, last: int) -> list[tuple[int, int, V]]:
        """Let go of first..last; returns what was held there, in order, clipped to it.

        What sticks out of a range on either side stays, with its value.
        """
        entries = self._entries
        exact = entries.get(first)
        if exact is not None and exact[0] == last:  # an ack of one whole delivery
            del entries[first]
            self._count -= last - first + 1
            return [(first, last, exact[1])]
        removed: list[tuple[int, int, V]] = []
        for key in self._touching(first, last):
            end, value = entries[key]
            piece_first, piece_last = max(key, first), min(end, last)
            if key < first:
                entries[key] = (first - 1, value)
            else:
                del entries[key]
            if end > last:
                entries[last + 1] = (end, value)
            self._count -= piece_last - piece_first + 1
            removed.append((piece_first, piece_last, value))
        return removed

    def _at_or_before(self, offset: int) -> int | None:
        """First offset of the last range that begins at or before `offset`."""
        return next(self._entries.irange(maximum=offset, reverse=True), None)

    def _touching(self, first: int, last: int) -> list[int]:
        """First offsets of the ranges that share an offset with first..last."""
        if last < first:
            return []
        keys = list(self._entries.irange(minimum=first, maximum=last))
        if not keys or keys[0] != first:
            before = self._at_or_before(first)
            if before is not None and self._entries[before][0] >= first:
                keys.insert(0, before)
        return keys
