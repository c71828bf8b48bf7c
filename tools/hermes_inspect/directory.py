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

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Generic, TypeVar

import msgspec
from sortedcontainers import SortedDict

from hermes.broker.v1 import broker_pb2
from hermes.log.record import Kind, StoredRecord
from hermes.log.v1 import log_pb2

REMEMBERED_MAX: Final = 10_000  # sessions, members, subscriptions, audiences: of each
MESSAGES_REMEMBERED_MAX: Final = 500_000
PIECES_REMEMBERED_MAX: Final = 50_000

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
        self._pieces: SortedDict[int, Piece] = SortedDict()
        self._oldest: deque[tuple[int, int]] = deque()  # first offset, messages
        self._messages = 0

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
        """Remember a batch of the line."""
        if piece.first in self._pieces:
            return
        self._pieces[piece.first] = piece
        size = piece.last - piece.first + 1 if piece.ids else 1
        self._oldest.append((piece.first, size))
        self._messages += size
        while (
            self._messages > MESSAGES_REMEMBERED_MAX or len(self._oldest) > PIECES_REMEMBERED_MAX
        ) and len(self._oldest) > 1:
            first, size = self._oldest.popleft()
            self._messages -= size
            del self._pieces[first]

    def messages(self, first: int, last: int) -> Iterator[Piece]:
        """What is known of the messages first..last, in order, without a gap."""
        at = first
        while at <= last:
            piece = self._piece_at(at)
            if piece is None:
                piece = self._fetch(at)
            yield piece.clip(at, last)
            at = piece.last + 1

    def _piece_at(self, offset: int) -> Piece | None:
        key = next(self._pieces.irange(maximum=offset, reverse=True), None)
        if key is None:
            return None
        piece: Piece = self._pieces[key]
        return piece if piece.last >= offset else None

    def _fetch(self, offset: int) -> Piece:
        """Read the batch that holds an offset, and some that follow it."""
        found: Piece | None = None
        after: int | None = None
        for record in self._publishes_from(offset):
            assert record.first is not None and record.last is not None
            body = log_pb2.Published.FromString(record.body)
            ids = tuple(broker_pb2.BatchHead.FromString(body.head).ids)
            piece = Piece(record.first, record.last, record.key, ids)
            if piece.first <= offset <= piece.last:
                found = piece
            elif after is None:
                after = piece.first
            self.note_publish(piece)
        if found is not None:
            return found
        # Its batch is gone: one unknown message, or all up to the next that is held.
        return Piece(offset, offset if after is None else max(offset, after - 1), None)


def live_ids(lsn: int, ids: Sequence[str], count: int) -> tuple[str, ...]:
    """Ids of live messages; one without gets the form that names its place, @lsn.index."""
    if ids:
        return tuple(text or f"@{lsn}.{index}" for index, text in enumerate(ids))
    return tuple(f"@{lsn}.{index}" for index in range(count))
