"""[P] Custody: what became of each message for each consumer, as of a place in the log.

Theory: the fold of the broker keeps what is unsettled, because that is what it decides
on. An audit asks for the settled, and that is everything ever published times every
consumer. So it is folded in two steps, and neither needs memory that grows with the log:

1. `Tracker` walks the log once, in order. It keeps the consumers (`Owner`: where each
   began, which filter applied from which offset on, when it was deleted) and turns each
   record that touches messages into *ops*: small, over a range of offsets.
2. Ops are sorted into windows of the message line (custody_spill.py). Window by window,
   `Board` (custody_board.py) replays the ops of one consumer over arrays of
   `WINDOW_OFFSETS` entries, and what is left in them are the rows.

A row is *changed* when something with an lsn of the exported range decided it: a first
export writes all rows, a later one those that changed.

What an outcome means is told in docs/audit.md. Nothing here reads, and nothing legal or
illegal is judged: a record that is in the log has happened.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from hermes.broker.event_codec import decode_policy
from hermes.broker.events import DeadCause
from hermes.broker.ranges import decode_deltas
from hermes.broker.state import State
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
PUBLISH, DELIVER, ACK, RETURN, BURY, DISCARD, REOPEN, RETIRE, SEEK, SEED, GONE = range(11)

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
                code = RETIRED if dead.cause is DeadCause.PAYLOAD_GONE else DEAD
                ops.append((SEED, lsn, dead.at_ns, first, last, number, (code, dead.attempts)))
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
    if what == BURY and body.cause == DeadCause.PAYLOAD_GONE.value:
        what = GONE
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
