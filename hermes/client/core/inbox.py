"""[P] Messages received and not yet handed out.

An entry is a delivery and an iterator over the indexes still to hand out, so a batch
costs one entry whatever its size. Taking is one step that cannot be interrupted: who
is cancelled while waiting has taken nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from hermes.client.core.deliveries import Delivered
from hermes.errors import HermesError

DeliveredT = TypeVar("DeliveredT", bound=Delivered)


def _ignore() -> None:
    """Nobody asked to be told."""


class Inbox(Generic[DeliveredT]):
    """A queue of messages with an end.

    `ready` is set by the owner and called when something arrived or the end came,
    `released` when a delivery has been handed out completely.
    After `end`, `take` still gives what is buffered, unless it was cleared.
    """

    __slots__ = ("_entries", "buffered", "buffered_bytes", "ended", "error", "ready", "released")

    def __init__(self) -> None:
        self._entries: deque[tuple[DeliveredT, Iterator[int]]] = deque()
        self.buffered = 0  # messages
        self.buffered_bytes = 0  # of every entry not handed out completely
        self.ended = False
        self.error: HermesError | None = None
        self.ready: Callable[[], None] = _ignore
        self.released: Callable[[], None] = _ignore

    def put(self, delivered: DeliveredT, indexes: range | list[int]) -> None:
        self._entries.append((delivered, iter(indexes)))
        self.buffered += len(indexes)
        self.buffered_bytes += delivered.size_bytes
        self.ready()

    def take(self) -> tuple[DeliveredT, int] | None:
        """The oldest message, or None when nothing is buffered."""
        entries = self._entries
        while entries:
            delivered, indexes = entries[0]
            for index in indexes:
                self.buffered -= 1
                return delivered, index
            entries.popleft()
            self.buffered_bytes -= delivered.size_bytes
            self.released()
        return None

    def take_batch(self) -> tuple[DeliveredT, range | list[int]] | None:
        """What is left of the oldest delivery, as indexes; None when nothing is buffered."""
        entries = self._entries
        while entries:
            delivered, indexes = entries.popleft()
            self.buffered_bytes -= delivered.size_bytes
            rest = list(indexes)
            self.buffered -= len(rest)
            self.released()
            if rest:
                first, last = rest[0], rest[-1]
                return delivered, range(first, last + 1) if last - first < len(rest) else rest
        return None

    def drop_oldest(self) -> tuple[DeliveredT, int]:
        """Drop the rest of the oldest entry; gives it and how many messages it held."""
        delivered, indexes = self._entries.popleft()
        dropped = sum(1 for _ in indexes)
        self.buffered -= dropped
        self.buffered_bytes -= delivered.size_bytes
        return delivered, dropped

    def discard(self, delivered: DeliveredT, unwanted: set[int]) -> set[int]:
        """Remove buffered messages of one delivery; gives the indexes that were there."""
        found: set[int] = set()
        kept: deque[tuple[DeliveredT, Iterator[int]]] = deque()
        for entry, indexes in self._entries:
            if entry is not delivered:
                kept.append((entry, indexes))
                continue
            rest = list(indexes)
            found |= unwanted.intersection(rest)
            kept.append((entry, iter([index for index in rest if index not in unwanted])))
        self._entries = kept
        self.buffered -= len(found)
        return found

    def clear(self) -> Iterable[tuple[DeliveredT, list[int]]]:
        """Remove everything; gives what was there."""
        removed = [(delivered, list(indexes)) for delivered, indexes in self._entries]
        self._entries.clear()
        self.buffered = self.buffered_bytes = 0
        return removed

    def end(self, error: HermesError | None = None) -> None:
        """No more will come; whoever waits is told. The first end counts."""
        if not self.ended:
            self.ended = True
            self.error = error
        self.ready()
