"""[P] A record of the log as event-level rows: one per message and event.

Theory: most rows of a record agree in most columns. So a record becomes *runs*: a run is
`count` rows that share everything but what is listed per message. A batch of a thousand
messages is one run, and so is the ack of all of them. Whoever wants columns multiplies
runs in bulk (export_arrow.py); whoever wants rows asks `EventRun.rows()`.

- A publish gives a row per message; so does whatever happens to messages of a consumer.
- A live delivery gives a row per message and receiver.
- A record about no message (a session, a consumer, a start of the server) gives one row.

Nothing is filtered here, and nothing is read: `Directory` looks up what is only named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec

from hermes.batch_of_one import id_of_one
from hermes.broker.event_codec import LAYOUTS
from hermes.broker.ranges import Range, decode_deltas
from hermes.broker.v1 import broker_pb2
from hermes.log.record import Kind, StoredRecord
from hermes.log.v1 import log_pb2
from hermes_inspect.directory import Directory, Person, Piece, live_ids

KIND_NAMES: Final[dict[int, str]] = {int(kind): kind.name.lower() for kind in Kind}

_BODIES: Final[dict[int, Any]] = {int(layout.kind): layout.body for layout in LAYOUTS} | {
    int(Kind.PUBLISHED): log_pb2.Published,
    int(Kind.PUBLISHED_LIVE): log_pb2.PublishedLive,
    int(Kind.SEGMENT_COMPACTED): log_pb2.SegmentCompacted,
    int(Kind.PAYLOAD_ERASED): log_pb2.PayloadErased,
}
_FIELDS: Final[dict[int, frozenset[str]]] = {
    kind: frozenset(body.DESCRIPTOR.fields_by_name) for kind, body in _BODIES.items()
}
# Kinds about offsets of one consumer: the key is the consumer.
SETTLEMENTS: Final = frozenset(
    int(layout.kind) for layout in LAYOUTS if "ranges" in _FIELDS[int(layout.kind)]
)
_OF_CONSUMER: Final = frozenset(int(layout.kind) for layout in LAYOUTS if layout.key == "consumer")

JOINED_MAX: Final = 32  # messages of a batch that is joined with its neighbours

_RELEASE_CAUSES: Final = {
    1: "handed back",
    2: "member gone",
    3: "server drained",
    4: "server restarted",
}
_DEAD_CAUSES: Final = {1: "too many failures", 2: "rejected by member"}
_DELETE_CAUSES: Final = {1: "deleted by request", 2: "deleted for inactivity"}


class EventRun(msgspec.Struct, gc=False):
    """`count` rows of one event. Lists are () or have an entry per row.

    `first` is the offset of the first row, the others follow; None: not in the line.
    An id of "" is none. `subjects`, where it is not (), takes the place of `subject`.
    `payload_hash` covers the whole batch as stored: salt and content.
    """

    lsn: int
    at_ns: int
    kind: int
    count: int = 1
    first: int | None = None
    subject: str | None = None
    consumer: str | None = None
    member: int | None = None
    peer: str | None = None
    principal: str | None = None
    attempt: int | None = None
    reason: str | None = None
    payload_hash: bytes | None = None
    ids: Sequence[str] = ()
    subjects: Sequence[str | None] = ()
    sizes: Sequence[int] = ()
    headers: Sequence[Mapping[str, str]] = ()
    payloads: Sequence[bytes] = ()

    @property
    def kind_name(self) -> str:
        return kind_name(self.kind)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Each row as a dictionary, for whoever takes them one by one."""
        shared = {
            "lsn": self.lsn,
            "recorded_at_ns": self.at_ns,
            "kind": self.kind_name,
            "consumer": self.consumer,
            "member": self.member,
            "peer": self.peer,
            "principal": self.principal,
            "attempt": self.attempt,
            "reason": self.reason,
            "payload_hash": self.payload_hash,
        }
        for i in range(self.count):
            yield shared | {
                "message_offset": None if self.first is None else self.first + i,
                "subject": self.subjects[i] if self.subjects else self.subject,
                "message_id": (self.ids[i] or None) if self.ids else None,
                "headers": dict(self.headers[i]) if self.headers else None,
                "payload": self.payloads[i] if self.payloads else None,
                "payload_bytes": self.sizes[i] if self.sizes else None,
            }


def kind_name(kind: int) -> str:
    """`published`, `dead_lettered`; `kind_99` for one that this version does not know."""
    return KIND_NAMES.get(kind) or f"kind_{kind}"


def parse_body(record: StoredRecord) -> Any:
    """The protobuf body of a record; None for kinds that tell nothing to rows or custody."""
    message = _BODIES.get(record.kind)
    return None if message is None else message.FromString(record.body)


@lru_cache(maxsize=4)
def head_of(head: bytes) -> tuple[int, tuple[str, ...]]:
    """How many messages a serialized BatchHead is about, and their ids, () for none.

    Remembered for the moment: custody and rows ask for the same one.
    """
    one = id_of_one(head)
    if one is not None:
        return 1, (one,) if one else ()
    parsed = broker_pb2.BatchHead.FromString(head)
    return parsed.count, tuple(parsed.ids)


def ranges_of(record: StoredRecord, body: Any) -> list[Range]:
    """The offsets of a settlement. Raises DataLossError when they do not decode."""
    assert record.first is not None and record.last is not None
    if record.first == record.last:
        return [(record.first, record.first)]
    return decode_deltas(record.first, record.last, body.ranges)


def event_runs(
    record: StoredRecord,
    body: Any,
    directory: Directory,
    *,
    payloads: bool = False,
    by_subject: bool = False,
) -> Iterator[EventRun]:
    """The rows of a record; `body` is `parse_body(record)`.

    Payload bytes come along only when asked for. `by_subject`: no run of several subjects.
    Notes publishes in the directory.
    """
    kind = record.kind
    if kind in (Kind.PUBLISHED, Kind.PUBLISHED_LIVE):
        yield _published(record, body, directory, payloads)
    elif kind in SETTLEMENTS:
        yield from _settled(record, body, directory, by_subject)
    elif kind == Kind.DELIVERED_LIVE:
        yield from _delivered_live(record, body, directory)
    else:
        yield _other(record, body, directory)


# -------------------------------------------------------------------- messages


def _published(record: StoredRecord, body: Any, directory: Directory, payloads: bool) -> EventRun:
    count, ids = head_of(body.head)
    if record.first is None:
        ids = live_ids(record.lsn, ids, count)
        directory.note_live(record.lsn, Piece(0, count - 1, record.key, ids))
    else:
        directory.note_publish(Piece(record.first, record.last or 0, record.key, ids))
    person = directory.person(body.session)
    run = EventRun(
        record.lsn,
        record.at_ns,
        record.kind,
        count,
        record.first,
        record.key,
        peer=person.peer,
        principal=person.principal,
        payload_hash=record.payload_hash,
        ids=ids,
        sizes=tuple(body.sizes),
    )
    if record.payload is not None:
        content = broker_pb2.BatchContent.FromString(record.payload)
        if content.headers:
            # As dictionaries at once: protobuf's maps are slow to look at twice.
            run.headers = [dict(entry.entries) for entry in content.headers]
        if payloads:
            run.payloads = content.payloads
    return run


def _settled(
    record: StoredRecord, body: Any, directory: Directory, by_subject: bool
) -> Iterator[EventRun]:
    member, attempt, person, reason = _facts(record, body, directory)
    for first, last in ranges_of(record, body):
        for piece in _joined(directory.messages(first, last), by_subject):
            yield EventRun(
                record.lsn,
                record.at_ns,
                record.kind,
                piece.last - piece.first + 1,
                piece.first,
                None if isinstance(piece, _Joined) else piece.subject,
                record.key,
                member,
                person.peer,
                person.principal,
                attempt,
                reason,
                ids=piece.ids,
                subjects=piece.subjects if isinstance(piece, _Joined) else (),
            )


class _Joined(msgspec.Struct, gc=False):
    """Batches in a row that were settled alike, whatever their subjects."""

    first: int
    last: int
    ids: list[str]
    subjects: list[str | None]


def _joined(pieces: Iterator[Piece], by_subject: bool) -> Iterator[Piece | _Joined]:
    """Single messages in a row as one: a run costs more than a row."""
    joined: _Joined | None = None
    for piece in pieces:
        n = piece.last - piece.first + 1
        if by_subject or n > JOINED_MAX:
            if joined is not None:
                yield joined
                joined = None
            yield piece
            continue
        if joined is None:
            joined = _Joined(piece.first, piece.last, [], [])
        joined.last = piece.last
        joined.ids.extend(piece.ids or ("",) * n)
        joined.subjects.extend((piece.subject,) * n)
    if joined is not None:
        yield joined


def _delivered_live(record: StoredRecord, body: Any, directory: Directory) -> Iterator[EventRun]:
    """A row per message and receiver. Batches that are gone count as one message."""
    if record.first is not None and record.last is not None:
        pieces = list(directory.messages(record.first, record.last))
    else:
        piece = directory.live(body.published_lsn)
        pieces = [Piece(0, 0, record.key)] if piece is None else [piece]
    for subscription in (*directory.audience(body.audience), *body.picks):
        person = directory.person(directory.session_of(subscription))
        for piece in pieces:
            yield EventRun(
                record.lsn,
                record.at_ns,
                record.kind,
                piece.last - piece.first + 1,
                None if record.first is None else piece.first,
                record.key,
                member=subscription,
                peer=person.peer,
                principal=person.principal,
                ids=piece.ids,
            )


# ------------------------------------------------------------------ all others


def _other(record: StoredRecord, body: Any, directory: Directory) -> EventRun:
    if body is None:
        return EventRun(record.lsn, record.at_ns, record.kind)
    member, _, person, reason = _facts(record, body, directory)
    run = EventRun(record.lsn, record.at_ns, record.kind, member=member, reason=reason)
    run.peer, run.principal = person.peer, person.principal
    if record.kind in _OF_CONSUMER:
        run.consumer = record.key
    else:
        run.subject = record.key
    if record.kind == Kind.SESSION_OPENED:
        run.peer, run.principal = body.peer or None, body.principal or None
    elif record.kind in (Kind.MEMBER_JOINED, Kind.SUBSCRIPTION_OPENED):
        run.member = record.lsn
    elif record.kind in (Kind.DROPPED, Kind.SUBSCRIPTION_CLOSED):
        run.member = body.subscription
    return run


def _facts(
    record: StoredRecord, body: Any, directory: Directory
) -> tuple[int | None, int | None, Person, str | None]:
    """(member, attempt, person, reason) of a record, as far as it tells them."""
    fields = _FIELDS[record.kind]
    member = (body.member or None) if "member" in fields else None
    attempt = (body.attempt or None) if "attempt" in fields else None
    if "attempts" in fields:
        attempt = body.attempts or None
    session = body.session if "session" in fields else 0
    if not session and member:
        session = directory.session_of(member)
    return member, attempt, directory.person(session), _reason(record.kind, body, fields)


def _reason(kind: int, body: Any, fields: frozenset[str]) -> str | None:
    if kind == Kind.RELEASED:
        return _RELEASE_CAUSES.get(body.cause)
    if kind == Kind.CONSUMER_DELETED:
        return _DELETE_CAUSES.get(body.cause)
    if kind == Kind.DEAD_LETTERED:
        return body.reason or _DEAD_CAUSES.get(body.cause)
    if kind == Kind.DROPPED:
        return f"{body.messages} messages"
    return (body.reason or None) if "reason" in fields else None
