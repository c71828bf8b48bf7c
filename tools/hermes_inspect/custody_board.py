"""[P] Custody of one window of the message line: ops replayed, consumer by consumer.

`Window` is what was published there, `Board` what became of it for one consumer. Step two of
what custody.py tells; its ops and codes are there.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Any, Final

from hermes.broker.subject import matcher
from hermes_inspect.custody import (
    ACK,
    ACKED,
    BEFORE,
    BURY,
    DEAD,
    DELETED,
    DELIVER,
    DISCARD,
    DISCARDED,
    GONE,
    LEASED,
    REOPEN,
    RETIRED,
    RETURN,
    SEEK,
    SKIPPED,
    UNKNOWN,
    UNSEEN,
    WAITING,
    Op,
    Owner,
)


def _table(code: int, *sources: int) -> bytes:
    """A translation that turns some codes into one."""
    return bytes(code if value in sources else value for value in range(256))


_TO_BEFORE: Final = _table(BEFORE, UNSEEN)
_TO_UNKNOWN: Final = _table(UNKNOWN, UNSEEN)
# What waits cannot be delivered again either. Who holds it has it, and may still ack.
_TO_RETIRED: Final = _table(RETIRED, UNSEEN, WAITING)
# An operator's or retention's last word on what was dead; why it was is said by RETIRED.
_TO_DISCARDED: Final = bytes(v if v == RETIRED else DISCARDED for v in range(256))
_TO_SKIPPED: Final = _table(SKIPPED, UNSEEN, LEASED, WAITING)
_TO_DELETED: Final = _table(DELETED, UNSEEN, LEASED, WAITING, SKIPPED)
_SOUGHT_BACK: Final = _table(UNSEEN, LEASED, WAITING, ACKED, DISCARDED, SKIPPED)


class Window:
    """The messages of one window, whoever consumes them: where each was published.

    `batch` has, per offset, the index of its batch in `publishes`, -1 when its record is
    not held. Arrays have an entry per offset from `base` on.
    """

    def __init__(self, base: int, size: int, publishes: Sequence[Op]) -> None:
        self.base = base
        self.size = size
        self.publishes = publishes
        self.batch = array("i", (-1,)) * size
        self.ids: list[str | None] = [None] * size
        for number, (_, _, _, first, last, _, ids) in enumerate(publishes):
            a, b = first - base, last - base + 1
            self.batch[a:b] = array("i", (number,)) * (b - a)
            if ids:
                self.ids[a:b] = [text or None for text in ids]

    def spans(self, day_ns: int, otherwise_ns: int) -> list[tuple[int, int, int]]:
        """(begin, end, day) of runs of entries published on one UTC day; the end is not
        in it. What has no publish goes with its neighbour, or with `otherwise_ns`."""
        spans: list[tuple[int, int, int]] = []
        for _, _, at_ns, first, _, _, _ in self.publishes:
            day = at_ns // day_ns
            if not spans:
                spans.append((0, self.size, day))
            elif spans[-1][2] != day:
                begin, _, before = spans[-1]
                spans[-1] = (begin, first - self.base, before)
                spans.append((first - self.base, self.size, day))
        return spans or [(0, self.size, otherwise_ns // day_ns)]


class Board:
    """Step two: one consumer's messages of one window. Arrays of `size` entries.

    After `finish`: `included` says which entries are rows at all, `changed` which of
    them something in the range decided. `first_at_ns` and `settled_at_ns` are 0 for never.
    """

    def __init__(self, window: Window, owner: Owner, since_lsn: int) -> None:
        size = window.size
        self.window = window
        self.owner = owner
        self.since_lsn = since_lsn
        self.state = bytearray(size)
        self.included = bytearray(size)
        self.changed = bytearray(size)
        self.attempts = array("i", bytes(4 * size))
        self.first_at_ns = array("q", bytes(8 * size))
        self.settled_at_ns = array("q", bytes(8 * size))

    def apply(self, op: Op) -> None:
        """Replay an op of this consumer. Ops come in lsn order."""
        what, lsn, at_ns, first, last, _, extra = op
        a, b = first - self.window.base, last - self.window.base + 1
        n = b - a
        if lsn >= self.since_lsn:
            self.changed[a:b] = b"\1" * n
        if what == DELIVER:
            self._deliver(a, b, at_ns)
        elif what == ACK:
            self._set(a, b, ACKED, at_ns)
        elif what == RETURN:
            self.state[a:b] = bytes((WAITING,)) * n
        elif what == BURY:
            self._set(a, b, DEAD, at_ns)
        elif what == GONE:
            self._set(a, b, RETIRED, at_ns)
        elif what == DISCARD:
            self._discard(a, b, at_ns)
        elif what == REOPEN:
            self._set(a, b, WAITING, 0)
        elif what == SEEK:
            self._seek(a, b, max(0, extra - self.window.base))
        else:
            code, attempts = extra
            self._set(a, b, code, at_ns)
            # The broker counts anew after a replay; the history may know of more.
            known = self.attempts[a:b]
            self.attempts[a:b] = array("i", (max(had, attempts) for had in known))

    def _set(self, a: int, b: int, code: int, at_ns: int) -> None:
        self.state[a:b] = bytes((code,)) * (b - a)
        self.settled_at_ns[a:b] = array("q", (at_ns,)) * (b - a)

    def _discard(self, a: int, b: int, at_ns: int) -> None:
        for i in range(a, b):
            if self.state[i] != RETIRED:
                self.settled_at_ns[i] = at_ns
        self.state[a:b] = self.state[a:b].translate(_TO_DISCARDED)

    def _deliver(self, a: int, b: int, at_ns: int) -> None:
        n = b - a
        if not any(self.attempts[a:b]):
            self.attempts[a:b] = array("i", (1,)) * n
            self.first_at_ns[a:b] = array("q", (at_ns,)) * n
        else:
            for i in range(a, b):
                if not self.attempts[i]:
                    self.first_at_ns[i] = at_ns
                self.attempts[i] += 1
        self.state[a:b] = bytes((LEASED,)) * n

    def _seek(self, a: int, b: int, at: int) -> None:
        at = min(max(at, a), b)
        self.state[a:at] = self.state[a:at].translate(_TO_SKIPPED)
        self.state[at:b] = self.state[at:b].translate(_SOUGHT_BACK)

    def finish(self, retired: Iterable[Op] = ()) -> None:
        """Decide what no op has decided."""
        self._include()
        owner, window = self.owner, self.window
        before = min(max(0, owner.start - window.base), window.size)
        table = _TO_BEFORE if owner.complete else _TO_UNKNOWN
        self.state[:before] = self.state[:before].translate(table)
        for _, lsn, _, first, last, _, _ in retired:
            if 0 < owner.deleted_lsn < lsn:
                continue  # what was unsettled then ended with the consumer
            a, b = first - window.base, last - window.base + 1
            before_it = self.state[a:b]
            self.state[a:b] = before_it.translate(_TO_RETIRED)
            if lsn >= self.since_lsn and self.state[a:b] != before_it:
                self.changed[a:b] = b"\1" * (b - a)
        if owner.deleted_lsn:
            self.state[:] = self.state.translate(_TO_DELETED)
            at = self.state.find(DELETED)
            while at >= 0:
                self.settled_at_ns[at] = owner.deleted_at_ns
                self.changed[at] |= owner.deleted_lsn >= self.since_lsn
                at = self.state.find(DELETED, at + 1)
        if owner.created_lsn >= self.since_lsn:
            self.changed[:] = b"\1" * window.size

    def _include(self) -> None:
        """Mark what the filter matched, and what was delivered whatever matched."""
        owner, base = self.owner, self.window.base
        included, changed, since_lsn = self.included, self.changed, self.since_lsn
        only = matcher(owner.filters[0][1]) if len(owner.filters) == 1 else None
        matches: dict[Any, bool] = {}  # subject -> whether its only filter does
        for _, lsn, _, first, last, subject, _ in self.window.publishes:
            a, b = first - base, last - base + 1
            ones = b"\1" * (b - a)
            if lsn >= since_lsn:
                changed[a:b] = ones
            if owner.deleted_lsn and lsn > owner.deleted_lsn:
                continue
            if only is not None:
                if subject not in matches:
                    matches[subject] = only(subject)
                if matches[subject]:
                    included[a:b] = ones
                continue
            for begin, end, patterns in owner.filters_over(first, last):
                if matcher(patterns)(subject):
                    included[begin - base : end - base + 1] = b"\1" * (end - begin + 1)
        at = self.included.find(0)
        while at >= 0:
            if self.attempts[at]:
                self.included[at] = 1
            at = self.included.find(0, at + 1)
