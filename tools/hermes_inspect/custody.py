"""[P] Custody: what became of each message for each consumer, as of a place in the log.

Theory: the fold of the broker keeps what is unsettled, because that is what it decides
on. An audit asks for the settled, and that is everything ever published times every
consumer. So it is folded in two steps, and neither needs memory that grows with the log:

1. `Tracker` walks the log once, in order. It keeps the consumers (`Owner`: where each
   began, which filter applied from which offset on, when it was deleted) and turns each
   record that touches messages into *ops*: small, over a range of offsets.
2. Ops are sorted into windows of the message line (custody_spill.py). Window by window,
   `Board` replays the ops of one consumer over arrays of `WINDOW_OFFSETS` entries, and
   what is left in them are the rows.

A row is *changed* when something with an lsn of the exported range decided it: a first
export writes all rows, a later one those that changed.

What an outcome means is told in docs/audit.md. Nothing here reads, and nothing legal or
illegal is judged: a record that is in the log has happened.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from hermes.broker.event_codec import decode_policy
from hermes.broker.ranges import decode_deltas
from hermes.broker.state import State
from hermes.broker.subject import matcher
from hermes.log.record import Kind, StoredRecord
from hermes_inspect.rows import SETTLEMENTS, head_of, ranges_of

WINDOW_OFFSETS: Final = 65_536

# Outcomes, by the code that a board holds. UNKNOWN was settled before the range and is no row.
OUTCOMES: Final = (
    "never delivered",
    "in flight",
    "waiting",
    "acked",
    "dead",
    "discarded",
    "before start",
    "consumer deleted",
    "payload retired undelivered",
    "skipped",
    "unknown",
)
UNSEEN, LEASED, WAITING, ACKED, DEAD, DISCARDED, BEFORE, DELETED, RETIRED, SKIPPED, UNKNOWN = range(
    len(OUTCOMES)
)

# What an op says. The settlements' say to which outcome they lead.
PUBLISH, DELIVER, ACK, RETURN, BURY, DISCARD, REOPEN, RETIRE, SEEK, SEED = range(10)

# (what, lsn, at_ns, first, last, consumer's number or subject, ids, attempts, position or state)
Op = tuple[int, int, int, int, int, Any, Any]

_OP_OF_KIND: Final[dict[int, int]] = {
    int(Kind.DELIVERED): DELIVER,
    int(Kind.ACKED): ACK,
    int(Kind.NACKED): RETURN,
    int(Kind.REJECTED): RETURN,
    int(Kind.EXPIRED): RETURN,
    int(Kind.RELEASED): RETURN,
    int(Kind.DEAD_LETTERED): BURY,
    int(Kind.REPLAYED): REOPEN,
    int(Kind.REOPENED): REOPEN,
    int(Kind.DISCARDED): DISCARD,
}


def _table(code: int, *sources: int) -> bytes:
    """A translation that turns some codes into one."""
    return bytes(code if value in sources else value for value in range(256))


_TO_BEFORE: Final = _table(BEFORE, UNSEEN)
_TO_UNKNOWN: Final = _table(UNKNOWN, UNSEEN)
_TO_RETIRED: Final = _table(RETIRED, UNSEEN)
_TO_SKIPPED: Final = _table(SKIPPED, UNSEEN, LEASED, WAITING)
_TO_DELETED: Final = _table(DELETED, UNSEEN, LEASED, WAITING, SKIPPED)
_SOUGHT_BACK: Final = _table(UNSEEN, LEASED, WAITING, ACKED, DISCARDED, SKIPPED)


class Owner(msgspec.Struct):
    """A consumer through its life. Its identity is `created_lsn`: names are used again.

    `filters` are (from offset, patterns), ascending. `complete` is False when it was
    created before the fold began: then what lies below `start` is not known.
    """

    name: str
    created_lsn: int
    start: int
    position: int
    filters: list[tuple[int, tuple[str, ...]]]
    complete: bool = True
    deleted_lsn: int = 0
    deleted_at_ns: int = 0

    def filters_over(self, first: int, last: int) -> list[tuple[int, int, tuple[str, ...]]]:
        """The patterns that applied to offsets first..last, in pieces."""
        if len(self.filters) == 1:
            return [(first, last, self.filters[0][1])]
        pieces = []
        for n, (begin, patterns) in enumerate(self.filters):
            end = self.filters[n + 1][0] - 1 if n + 1 < len(self.filters) else last
            a, b = (first if n == 0 else max(first, begin)), min(last, end)
            if a <= b:
                pieces.append((a, b, patterns))
        return pieces

    def filter_from(self, offset: int, patterns: tuple[str, ...]) -> None:
        """From an offset on these patterns apply."""
        self.filters = [entry for entry in self.filters if entry[0] < offset]
        self.filters.append((offset, patterns))


class Tracker(msgspec.Struct):
    """Step one: the consumers, and what the log says about messages, as ops.

    `lowest` is the lowest offset whose history before the range is needed, as far as the
    fold has met a reason for it; None for none.
    """

    owners: list[Owner] = msgspec.field(default_factory=list)
    numbers: dict[str, int] = msgspec.field(default_factory=dict)  # of those that live
    next_offset: int = 0
    lowest: int | None = None

    def seed(self, state: State) -> list[Op]:
        """Take over the consumers as they were before the range; ops for what they held."""
        ops: list[Op] = []
        self.next_offset = state.next_offset
        lsn = state.next_lsn - 1
        for name, consumer in state.consumers.items():
            number = self._adopt(
                Owner(
                    name,
                    consumer.created_lsn,
                    consumer.position,
                    consumer.position,
                    [(0, consumer.policy.filters)],
                    complete=False,
                )
            )
            for first, last, lease in consumer.leases.items():
                ops.append((SEED, lsn, 0, first, last, number, (LEASED, lease.attempt)))
            for first, last, waiting in consumer.waiting.items():
                ops.append((SEED, lsn, 0, first, last, number, (WAITING, waiting.attempt)))
            for first, last, dead in consumer.dead.items():
                ops.append((SEED, lsn, dead.at_ns, first, last, number, (DEAD, dead.attempts)))
        return ops

    def fold(self, record: StoredRecord, body: Any) -> list[Op]:
        """The ops of the next record of the range; `body` is `rows.parse_body(record)`."""
        kind = record.kind
        if kind == Kind.PUBLISHED:
            return self._published(record, body)
        if kind in SETTLEMENTS:
            return self._settled(record, body)
        if kind in (Kind.SEGMENT_COMPACTED, Kind.PAYLOAD_ERASED):
            return retirements(record, body)
        if kind == Kind.CONSUMER_CREATED:
            patterns = decode_policy(body.policy).filters
            position = body.position
            self._adopt(Owner(record.key or "", record.lsn, position, position, [(0, patterns)]))
            self._need(0)
        elif record.key in self.numbers:
            return self._of_consumer(record, body, self.numbers[record.key])
        return []

    def seeded(self) -> dict[str, int]:
        """Numbers, by name, of the consumers that were there before the range."""
        return {owner.name: n for n, owner in enumerate(self.owners) if not owner.complete}

    def _adopt(self, owner: Owner) -> int:
        self.owners.append(owner)
        self.numbers[owner.name] = len(self.owners) - 1
        return len(self.owners) - 1

    def _need(self, offset: int) -> None:
        self.lowest = offset if self.lowest is None else min(self.lowest, offset)

    def _published(self, record: StoredRecord, body: Any) -> list[Op]:
        assert record.last is not None
        self.next_offset = record.last + 1
        return [publish_op(record, body)]

    def _settled(self, record: StoredRecord, body: Any) -> list[Op]:
        number = self.numbers.get(record.key or "")
        if number is None:
            return []
        if record.kind == Kind.DELIVERED and record.last is not None:
            owner = self.owners[number]
            owner.position = max(owner.position, record.last + 1)
        elif record.kind == Kind.REOPENED and record.first is not None:
            self._need(record.first)
        return settlements(record, body, number)

    def _of_consumer(self, record: StoredRecord, body: Any, number: int) -> list[Op]:
        owner = self.owners[number]
        if record.kind == Kind.CONSUMER_UPDATED:
            owner.filter_from(owner.position, decode_policy(body.policy).filters)
        elif record.kind == Kind.CONSUMER_DELETED:
            owner.deleted_lsn, owner.deleted_at_ns = record.lsn, record.at_ns
            del self.numbers[owner.name]
        elif record.kind == Kind.CONSUMER_SOUGHT:
            last = max(owner.position, body.position) - 1
            owner.filter_from(body.position, owner.filters[-1][1])
            owner.position = body.position
            self._need(0)
            if last >= 0:
                return [(SEEK, record.lsn, record.at_ns, 0, last, number, body.position)]
        return []


def settlements(record: StoredRecord, body: Any, number: int) -> list[Op]:
    """The ops of what happened to messages of the consumer with this number."""
    what = _OP_OF_KIND.get(record.kind)
    if what is None:  # Extended: the lease goes on
        return []
    lsn, at_ns = record.lsn, record.at_ns
    return [(what, lsn, at_ns, a, b, number, None) for a, b in ranges_of(record, body)]


def publish_op(record: StoredRecord, body: Any) -> Op:
    """The op of a batch: subject, and the ids if it has any."""
    assert record.first is not None and record.last is not None
    ids = head_of(body.head)[1] or None
    return (PUBLISH, record.lsn, record.at_ns, record.first, record.last, record.key, ids)


def retirements(record: StoredRecord, body: Any) -> list[Op]:
    """Ops of SegmentCompacted and PayloadErased: these payloads are gone, for everybody."""
    if record.first is None or record.last is None:
        return []
    deltas = body.retired if record.kind == Kind.SEGMENT_COMPACTED else ()
    ranges = decode_deltas(record.first, record.last, deltas)
    return [(RETIRE, record.lsn, record.at_ns, a, b, None, None) for a, b in ranges]


# --------------------------------------------------------------- one window


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
        elif what == DISCARD:
            self._set(a, b, DISCARDED, at_ns)
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
            a, b = first - window.base, last - window.base + 1
            if lsn >= self.since_lsn and UNSEEN in self.state[a:b]:
                self.changed[a:b] = b"\1" * (b - a)
            self.state[a:b] = self.state[a:b].translate(_TO_RETIRED)
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
