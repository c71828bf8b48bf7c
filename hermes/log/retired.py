"""[P] Sets of retired offsets: ascending ranges, disjoint, not touching; both ends included.

What the log must know of them and no more: how they join, and that a batch is inside or
outside. The broker has its own arithmetic of ranges; the log does not know the broker.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Range = tuple[int, int]


def joined(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """Any ranges as one set."""
    found: list[Range] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return tuple(found)


def first_cut(retired: Sequence[Range], batches: Iterable[Range]) -> Range | None:
    """The first range that does not consist of whole batches; None if each does.

    `retired` is a set, `batches` are all of a segment in order, dense.
    """
    bounds = list(batches)
    firsts, lasts = {first for first, _ in bounds}, {last for _, last in bounds}
    for first, last in retired:
        if first not in firsts or last not in lasts:
            return first, last
    return None
