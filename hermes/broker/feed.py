"""[P] What one consumer with members can be sent next: a bounded window on the line.

First attempts come in offset order. A feed that is *tailing* gets each matching batch
as it is published; when its window is full, or it starts behind, it stops tailing and
is filled from the ring or by a reader until it has caught up. Redeliveries come in
beside, when they are due and their batch is at hand.

A feed is memory of this process, not state: it is made when the first member joins and
forgotten when the last one leaves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from hermes import limits
from hermes.broker.batch import LineBatch
from hermes.broker.ports import FetchAhead, FetchRanges
from hermes.broker.ranges import Range

Redelivery = tuple[LineBatch, int, int]  # batch, first, last


class Feed:
    """The window of one consumer."""

    __slots__ = (
        "_bytes",
        "awaited",
        "fetching",
        "pinned",
        "redeliveries",
        "scanned_to",
        "tailing",
        "window",
    )

    def __init__(self, position: int, next_offset: int) -> None:
        self.scanned_to = position  # every offset below was considered
        self.tailing = position >= next_offset
        self.fetching: FetchAhead | None = None  # a reader looks for first attempts
        # Offsets that cannot be read: to go on behind them would settle them unseen.
        self.pinned: Range | None = None
        self.awaited: FetchRanges | None = None  # a reader looks for due redeliveries
        self.window: deque[LineBatch] = deque()
        self.redeliveries: deque[Redelivery] = deque()
        self._bytes = 0

    @property
    def full(self) -> bool:
        return (
            len(self.window) >= limits.WINDOW_BATCHES_MAX or self._bytes >= limits.WINDOW_BYTES_MAX
        )

    @property
    def low(self) -> bool:
        """Half empty: time to read ahead."""
        return (
            len(self.window) < limits.WINDOW_BATCHES_MAX // 2
            and self._bytes < limits.WINDOW_BYTES_MAX // 2
        )

    @property
    def hungry(self) -> bool:
        """Behind, with room left: to be filled further."""
        return not self.tailing and not self.full

    def takes_redeliveries(self, entries_max: int) -> bool:
        """Whether more that is due may be put beside the window: bounded like it."""
        return (
            not self.awaited
            and len(self.redeliveries) < entries_max
            and sum(batch.bytes for batch, _, _ in self.redeliveries) < limits.WINDOW_BYTES_MAX
        )

    def published(self, batch: LineBatch) -> None:
        """A matching batch was published while tailing."""
        if self.full:
            self.tailing = False
            self.scanned_to = batch.first
        else:
            self._add(batch)

    def fill(self, batches: Iterable[LineBatch], scanned_to: int, next_offset: int) -> bool:
        """Matching batches found at or after `scanned_to`, which is now further on.

        Returns whether the feed has caught up and tails now.
        """
        for batch in batches:
            if batch.last >= self.scanned_to:
                self._add(batch)
        self.scanned_to = max(self.scanned_to, scanned_to)
        self.tailing = self.scanned_to >= next_offset
        return self.tailing

    def _add(self, batch: LineBatch) -> None:
        self.window.append(batch)
        self._bytes += batch.bytes

    def pop(self) -> LineBatch:
        """Take the oldest batch out of the window."""
        batch = self.window.popleft()
        self._bytes -= batch.bytes
        return batch
