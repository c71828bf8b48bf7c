"""[P] The newest batches of the line, in memory: whoever is near the tail reads no disk."""

from __future__ import annotations

from bisect import bisect_left

from hermes import limits
from hermes.broker.batch import LineBatch


class Ring:
    """Batches in offset order, dense, bounded in bytes, those of the objects included.

    A list with a moving head, so that a batch is found by bisection; what was dropped is
    cut off when it is half of the list.
    """

    __slots__ = ("_batches", "_bytes", "_head", "bytes_max")

    def __init__(self, bytes_max: int = limits.RING_BYTES_MAX) -> None:
        self.bytes_max = bytes_max
        self._batches: list[LineBatch | None] = []
        self._head = 0
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._batches) - self._head

    def append(self, batch: LineBatch) -> None:
        """Add the newest batch; the oldest go when there are too many bytes."""
        self._batches.append(batch)
        self._bytes += batch.bytes + limits.RING_OVERHEAD_BYTES
        while self._bytes > self.bytes_max and self._head < len(self._batches) - 1:
            oldest = self._batches[self._head]
            assert oldest is not None
            self._bytes -= oldest.bytes + limits.RING_OVERHEAD_BYTES
            self._batches[self._head] = None  # let go of the bytes now, of the slot later
            self._head += 1
        if self._head > len(self._batches) // 2:
            del self._batches[: self._head]
            self._head = 0

    def holds(self, offset: int) -> bool:
        """Whether this offset and all that followed it are here."""
        if not len(self):
            return False
        oldest = self._batches[self._head]
        assert oldest is not None
        return oldest.first <= offset

    def find(self, offset: int) -> LineBatch | None:
        """The batch that holds an offset."""
        found = self.since(offset, 1)
        return found[0] if found and found[0].first <= offset else None

    def since(self, offset: int, limit: int) -> list[LineBatch]:
        """Up to `limit` batches that hold an offset >= `offset`, in order."""
        start = bisect_left(
            self._batches,
            offset,
            lo=self._head,
            key=lambda batch: batch.last if batch is not None else -1,
        )
        stop = min(start + limit, len(self._batches))
        return [batch for batch in self._batches[start:stop] if batch is not None]
