"""[P] What the broker remembers of publishing, to answer a retry without a second event.

Two memories. *Ids*: (subject, id) of durable messages within a time window, bounded in
count. *Producers*: per producer the last sequences with the offsets they got, one
comparison per batch. Both are folded from Published alone and kept in snapshots.
"""

from __future__ import annotations

from collections import OrderedDict, deque

import msgspec

from hermes import limits


class IdWindow:
    """(subject, id) -> offset for the ids of the last `window_ns`, at most `ids_max`."""

    __slots__ = ("_seen", "ids_max", "window_ns")

    def __init__(self, window_ns: int = 0, ids_max: int = limits.DEDUP_IDS_MAX) -> None:
        self.window_ns = window_ns
        self.ids_max = ids_max
        self._seen: OrderedDict[tuple[str, str], tuple[int, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, IdWindow):
            return NotImplemented
        return list(self.items()) == list(other.items()) and (
            (self.window_ns, self.ids_max) == (other.window_ns, other.ids_max)
        )

    __hash__ = None  # type: ignore[assignment]  # mutable

    def items(self) -> list[tuple[str, str, int, int]]:
        """(subject, id, offset, engine_time_ns), oldest first."""
        return [(s, i, offset, at) for (s, i), (offset, at) in self._seen.items()]

    def find(self, subject: str, id: str, now_ns: int) -> int | None:
        """The offset this id got, if that was within the window."""
        found = self._seen.get((subject, id))
        if found is None or found[1] < now_ns - self.window_ns:
            return None
        return found[0]

    def remember(self, subject: str, ids: tuple[str, ...], first: int, now_ns: int) -> None:
        """The messages first, first+1, ... carry these ids ("" is none)."""
        if not self.window_ns:
            return
        seen = self._seen
        for i, text in enumerate(ids):
            if text:
                seen[subject, text] = (first + i, now_ns)
                seen.move_to_end((subject, text))
        self._forget(now_ns)

    def resize(self, window_ns: int, ids_max: int, now_ns: int) -> None:
        self.window_ns, self.ids_max = window_ns, ids_max
        self._forget(now_ns)

    def _forget(self, now_ns: int) -> None:
        seen, oldest = self._seen, now_ns - self.window_ns
        while seen and (len(seen) > self.ids_max or next(iter(seen.values()))[1] < oldest):
            seen.popitem(last=False)


class Stored(msgspec.Struct, frozen=True, gc=False):
    """A batch a producer has committed."""

    sequence: int
    offset: int
    count: int


class Producers:
    """producer id -> its last committed sequences; the least recent producers are dropped."""

    __slots__ = ("_producers",)

    def __init__(self) -> None:
        self._producers: OrderedDict[bytes, deque[Stored]] = OrderedDict()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Producers):
            return NotImplemented
        return list(self.items()) == list(other.items())

    __hash__ = None  # type: ignore[assignment]  # mutable

    def items(self) -> list[tuple[bytes, list[Stored]]]:
        """Least recent producer first; sequences ascending."""
        return [(id, list(stored)) for id, stored in self._producers.items()]

    def last_sequence(self, producer_id: bytes) -> int:
        """Highest sequence committed; 0 for an unknown producer."""
        stored = self._producers.get(producer_id)
        return stored[-1].sequence if stored else 0

    def find(self, producer_id: bytes, sequence: int) -> Stored | None:
        """What this sequence became, while it is remembered."""
        for stored in reversed(self._producers.get(producer_id, ())):
            if stored.sequence <= sequence:
                return stored if stored.sequence == sequence else None
        return None

    def remember(self, producer_id: bytes, stored: Stored) -> None:
        kept = self._producers.get(producer_id)
        if kept is None:
            kept = self._producers[producer_id] = deque(maxlen=limits.PRODUCER_SEQUENCES_KEPT)
            while len(self._producers) > limits.PRODUCERS_MAX:
                self._producers.popitem(last=False)
        else:
            self._producers.move_to_end(producer_id)
        kept.append(stored)
