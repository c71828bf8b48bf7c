"""[P] When ranges of offsets fall due: a heap that forgives what it no longer holds.

Entries are never removed when a message is settled; they are checked against the
truth (a RangeMap) when they surface. So an ack costs nothing here. When more than
`SLACK` times as many entries as live ranges pile up, the heap is built anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush

SLACK = 4
REBUILD_MIN = 1_024

Entry = tuple[int, int, int]  # due_ns, first, last


class DueQueue:
    """A min-heap of (due_ns, first, last)."""

    __slots__ = ("_heap",)

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._heap: list[Entry] = list(entries)
        heapify(self._heap)

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, due_ns: int, first: int, last: int) -> None:
        heappush(self._heap, (due_ns, first, last))

    def next_due_ns(self) -> int | None:
        """Earliest time in the heap; the entry may be stale. None when empty."""
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now_ns: int) -> Iterator[Entry]:
        """Take out entries that are due, earliest first."""
        while self._heap and self._heap[0][0] <= now_ns:
            yield heappop(self._heap)

    def trim(self, live: int, entries: Iterable[Entry]) -> None:
        """Build anew from `entries` when the heap has outgrown the `live` ranges."""
        if len(self._heap) > SLACK * live + REBUILD_MIN:
            self._heap = list(entries)
            heapify(self._heap)
