"""[P] Who and what a record refers to: sessions, members, subscriptions, messages.

Records name things by number: a delivery names offsets and a member's lsn, a member's
record names its session, a session's record the peer. The directory turns numbers into
what a reader wants to see. It learns from the records that pass (`note_publish`) and asks
for what it has not seen through the two look-ups it was given, so it can begin anywhere
in the log. What the log no longer holds (dropped segments) is unknown, not an error.

Rules
- Memory is bounded: the oldest entries are forgotten, and asked for again when needed.
- Answers depend on the log alone, never on what happened to be remembered.

How records become rows is in rows.py.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Generic, TypeVar

import msgspec

from hermes.broker.v1 import broker_pb2
from hermes.log.record import Kind, StoredRecord
from hermes.log.v1 import log_pb2

REMEMBERED_MAX: Final = 10_000  # sessions, members, subscriptions, audiences: of each
MESSAGES_REMEMBERED_MAX: Final = 300_000  # of the newest that passed
PIECE_COST: Final = 3  # of a batch, in messages
LINES_BEHIND_MAX: Final = 32  # of those that had to be read

K = TypeVar("K")
V = TypeVar("V")

RecordAt = Callable[[int], StoredRecord | None]
PublishesFrom = Callable[[int], Sequence[StoredRecord]]


class Person(msgspec.Struct, frozen=True, gc=False):
    """Who was at the other end of a session. Empty: the broker itself, or unknown."""

    principal: str | None = None
    peer: str | None = None


NOBODY: Final = Person()


class Piece(msgspec.Struct, frozen=True, gc=False):
    """Messages first..last of one batch. `ids` is () or one per message, "" for none.

    `subject` is None when the log no longer holds the batch.
    """

    first: int
    last: int
    subject: str | None
    ids: Sequence[str] = ()

    def clip(self, first: int, last: int) -> Piece:
        """The part of it within first..last."""
        if first <= self.first and last >= self.last:
            return self
        first, last = max(first, self.first), min(last, self.last)
        ids = self.ids[first - self.first : last - self.first + 1] if self.ids else ()
        return Piece(first, last, self.subject, ids)


class _Memory(Generic[K, V]):
    """A bounded dictionary that forgets what was not asked for the longest."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K, find: Callable[[K], V]) -> V:
        try:
            self._held.move_to_end(key)
            return self._held[key]
        except KeyError:
            value = find(key)
            self.put(key, value)
            return value

    def put(self, key: K, value: V) -> None:
        self._held[key] = value
        if len(self._held) > self._limit:
            self._held.popitem(last=False)


class Directory:
    """Look-ups by lsn and offset, remembered."""

    def __init__(self, record_at: RecordAt, publishes_from: PublishesFrom) -> None:
        """`record_at` gives the record of an lsn; `publishes_from` some Published records
        in order, beginning with the one that holds an offset or the next one after it."""
        self._record_at = record_at
        self._publishes_from = publishes_from
        self._people: _Memory[int, Person] = _Memory(REMEMBERED_MAX)
        self._sessions: _Memory[int, int] = _Memory(REMEMBERED_MAX)  # of members, subscriptions
        self._audiences: _Memory[int, tuple[int, ...]] = _Memory(REMEMBERED_MAX)
        self._live: _Memory[int, Piece] = _Memory(REMEMBERED_MAX)
        self._known: dict[int, Person] = {}  # from a snapshot: their records may be dropped
        self._tail = _Line()
        self._behind: deque[_Line] = deque(maxlen=LINES_BEHIND_MAX)

    def seed(self, people: Iterable[tuple[int, Person]]) -> None:
        """Sessions that were open where the log begins."""
        self._known.update(people)

    # ------------------------------------------------------------------ people

    def person(self, session: int) -> Person:
        """Who had a session; NOBODY for 0 and for what is not known."""
        return self._people.get(session, self._find_person) if session else NOBODY

    def _find_person(self, session: int) -> Person:
        record = self._record_at(session)
        if record is None or record.kind != Kind.SESSION_OPENED:
            return self._known.get(session, NOBODY)
        body = log_pb2.SessionOpened.FromString(record.body)
        return Person(body.principal or None, body.peer or None)

    def session_of(self, lsn: int) -> int:
        """The session of a member or a subscription; 0 when unknown."""
        return self._sessions.get(lsn, self._find_session)

    def _find_session(self, lsn: int) -> int:
        record = self._record_at(lsn)
        if record is None:
            return 0
        if record.kind == Kind.MEMBER_JOINED:
            return log_pb2.MemberJoined.FromString(record.body).session
        if record.kind == Kind.SUBSCRIPTION_OPENED:
            return log_pb2.SubscriptionOpened.FromString(record.body).session
        return 0

    def audience(self, lsn: int) -> tuple[int, ...]:
        """The subscriptions of an Audience record; () for 0 or when unknown."""
        return self._audiences.get(lsn, self._find_audience) if lsn else ()

    def _find_audience(self, lsn: int) -> tuple[int, ...]:
        record = self._record_at(lsn)
        if record is None or record.kind != Kind.AUDIENCE:
            return ()
        return tuple(log_pb2.Audience.FromString(record.body).subscriptions)

    # ---------------------------------------------------------------- messages

    def live(self, lsn: int) -> Piece | None:
        """The messages of a PublishedLive record, numbered from 0; None when unknown."""
        piece = self._live.get(lsn, self._find_live)
        return piece if piece.last >= 0 else None

    def note_live(self, lsn: int, piece: Piece) -> None:
        self._live.put(lsn, piece)

    def _find_live(self, lsn: int) -> Piece:
        record = self._record_at(lsn)
        if record is None or record.kind != Kind.PUBLISHED_LIVE:
            return Piece(0, -1, None)
        head = broker_pb2.BatchHead.FromString(log_pb2.PublishedLive.FromString(record.body).head)
        return Piece(0, head.count - 1, record.key, live_ids(lsn, head.ids, head.count))

    def note_publish(self, piece: Piece) -> None:
        """Remember a batch of the line. They come in order, each after the one before."""
        if self._tail and self._tail.last + 1 != piece.first:
            self._tail = _Line()
        self._tail.append(piece)
        if self._tail.size > MESSAGES_REMEMBERED_MAX:
            self._tail.forget_half()

    def messages(self, first: int, last: int) -> Iterator[Piece]:
        """What is known of the messages first..last, in order, without a gap."""
        at = first
        while at <= last:
            line = self._line_with(at)
            if line is None:
                piece = self._missing(at)
                yield piece.clip(at, last)
                at = piece.last + 1
            else:
                for piece in line.pieces_from(at):
                    yield piece.clip(at, last)
                    at = piece.last + 1
                    if at > last:
                        return

    def _line_with(self, offset: int) -> _Line | None:
        """What is remembered around an offset, or can be read there."""
        for line in (self._tail, *self._behind):
            if line and line.first <= offset <= line.last:
                return line
        line = self._read(offset)
        if not line or not line.first <= offset <= line.last:
            return None
        self._behind.appendleft(line)  # and the one that was read first is forgotten
        return line

    def _read(self, offset: int) -> _Line:
        line = _Line()
        for record in self._publishes_from(offset):
            assert record.first is not None and record.last is not None
            if line and line.last + 1 != record.first:
                break
            body = log_pb2.Published.FromString(record.body)
            ids = tuple(broker_pb2.BatchHead.FromString(body.head).ids)
            line.append(Piece(record.first, record.last, record.key, ids))
        return line

    def _missing(self, offset: int) -> Piece:
        """Messages whose batch is gone: all up to the next that is held, or just one."""
        after = self._publishes_from(offset)[:1]
        if not after or after[0].first is None:
            return Piece(offset, offset, None)
        return Piece(offset, max(offset, after[0].first - 1), None)


class _Line:
    """Batches one after another, without a gap."""

    def __init__(self) -> None:
        self._pieces: list[Piece] = []
        self._firsts: list[int] = []
        self.size = 0  # what it costs to remember: ids, and batches

    def __bool__(self) -> bool:
        return bool(self._pieces)

    @property
    def first(self) -> int:
        return self._firsts[0]

    @property
    def last(self) -> int:
        return self._pieces[-1].last

    def append(self, piece: Piece) -> None:
        self._pieces.append(piece)
        self._firsts.append(piece.first)
        self.size += len(piece.ids) + PIECE_COST

    def forget_half(self) -> None:
        """Forget the older half."""
        half = len(self._pieces) // 2
        del self._pieces[:half]
        del self._firsts[:half]
        self.size = sum(len(piece.ids) + PIECE_COST for piece in self._pieces)

    def pieces_from(self, offset: int) -> Iterator[Piece]:
        """The batch that holds an offset, and those after it."""
        # By index: islice would walk over all that lies before.
        pieces = self._pieces
        for i in range(bisect_right(self._firsts, offset) - 1, len(pieces)):
            yield pieces[i]


def live_ids(lsn: int, ids: Sequence[str], count: int) -> tuple[str, ...]:
    """Ids of live messages; one without gets the form that names its place, @lsn.index."""
    if ids:
        return tuple(text or f"@{lsn}.{index}" for index, text in enumerate(ids))
    return tuple(f"@{lsn}.{index}" for index in range(count))
