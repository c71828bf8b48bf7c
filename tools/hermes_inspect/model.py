"""[P] What a record says: one typed view of each, whichever its kind.

Theory: a record is columns and a protobuf body. The broker's own codec turns it into an
event; a view keeps what every reader asks for under one name (who, which messages, which
attempt, why) and the rest as `details`, by the names of the body's fields. So a list, a
filter, a timeline and a JSON object need no case per kind.

A body that cannot be parsed gives a view that says so (`broken`): the log is shown as far
as it can be read. How a view looks is `views.py`'s business; who a session was is found
out by `sessions.py`.
"""

from __future__ import annotations

from enum import IntEnum
from functools import cache
from typing import Any, Final

import msgspec
from google.protobuf.message import DecodeError

from hermes.broker import events as ev
from hermes.broker.event_codec import LAYOUTS, decode
from hermes.broker.ranges import Range, count
from hermes.broker.v1 import broker_pb2
from hermes.errors import HermesError
from hermes.log.record import Kind, StoredRecord
from hermes.log.v1 import log_pb2

_OF_CONSUMERS = {layout.kind for layout in LAYOUTS if layout.key == "consumer"}
# What the key of a record is.
CONSUMER_KINDS: Final[frozenset[int]] = frozenset(_OF_CONSUMERS)
SUBJECT_KINDS: Final[frozenset[int]] = frozenset(
    {Kind.PUBLISHED, Kind.PUBLISHED_LIVE, Kind.DELIVERED_LIVE}
)
PATTERN_KINDS: Final[frozenset[int]] = frozenset(
    {Kind.SUBSCRIPTION_OPENED, Kind.SUBSCRIPTION_CLOSED}
)
# About messages of one consumer: their records have offsets.
SETTLEMENT_KINDS: Final[frozenset[int]] = frozenset(
    {Kind.DELIVERED, *(k for k in Kind if Kind.ACKED <= k <= Kind.REOPENED)}
)

# Fields that have a place of their own in a view, or that no reader needs.
_TAKEN: Final = frozenset({"engine_time_ns", "deadline_ns", "due_ns", "ranges", "policy"}) | {
    *("session", "member", "attempt", "reason", "consumer", "subject", "pattern"),
    *("first", "last", "head", "content", "sizes", "ids", "at_ns"),
}


class RecordView(msgspec.Struct, frozen=True):
    """One record, told.

    `ranges` are the offsets it is about, `messages` how many messages that is (of a live
    batch: its own). `session` is the lsn of the SessionOpened of who caused it, 0: the broker.
    `payload_bytes` is the size of the payloads of a publish; None for other kinds.
    """

    record: StoredRecord
    name: str  # the kind, lower case: dead_lettered
    subject: str = ""
    consumer: str = ""
    pattern: str = ""
    ranges: tuple[Range, ...] = ()
    messages: int = 0
    session: int = 0
    member: int = 0
    attempt: int = 0
    reason: str = ""
    ids: tuple[str, ...] = ()
    payload_bytes: int | None = None
    sizes: tuple[int, ...] = ()
    details: dict[str, Any] = {}
    event: ev.Event | None = None
    broken: str = ""

    @property
    def lsn(self) -> int:
        return self.record.lsn

    @property
    def at_ns(self) -> int:
        return self.record.at_ns

    @property
    def kind(self) -> int:
        return self.record.kind

    @property
    def retired(self) -> bool:
        """Whether it once had a payload that is gone; only of records read with payloads."""
        return self.record.payload_hash is not None and self.record.payload is None


class Gap(msgspec.Struct, frozen=True):
    """Records that should be there and cannot be shown: lsns, both included, and why."""

    first_lsn: int
    last_lsn: int
    why: str


Item = RecordView | Gap


class Message(msgspec.Struct, frozen=True):
    """One message of a publish. `offset` is None for a live one."""

    index: int
    offset: int | None
    id: str
    payload: bytes
    headers: dict[str, str]
    timestamp_ns: int


@cache
def kind_name(kind: int) -> str:
    """`dead_lettered`; a kind of a later version by its number."""
    try:
        return Kind(kind).name.lower()
    except ValueError:
        return f"kind_{kind}"


def view_of(record: StoredRecord) -> RecordView:
    """What a record says. Never raises for what is on disk."""
    name = kind_name(record.kind)
    try:
        event = decode(record)
        if event is None:
            return RecordView(record, name, **_of_log(record))
        return RecordView(record, name, **_of_event(record, event))
    except (DecodeError, AssertionError, ValueError, HermesError) as error:
        return RecordView(record, name, broken=f"cannot be parsed: {str(error) or 'no offsets'}")


def _of_event(record: StoredRecord, event: ev.Event) -> dict[str, Any]:
    told: dict[str, Any] = {"event": event}
    for field in ("subject", "consumer", "pattern", "session", "member", "attempt", "reason"):
        value = getattr(event, field, None)
        if value:
            told[field] = value
    if isinstance(event, (ev.RangesEvent, ev.SegmentCompacted)):
        told["ranges"] = event.ranges
        told["messages"] = count(event.ranges)
    elif record.first is not None and record.last is not None:
        told["ranges"] = ((record.first, record.last),)
        told["messages"] = record.last - record.first + 1
    if isinstance(event, (ev.Published, ev.PublishedLive)):
        sizes = event.sizes
        told.update(ids=event.ids, sizes=sizes, messages=len(sizes) or 1, payload_bytes=sum(sizes))
    told["details"] = _details(record, event)
    return told


def _details(record: StoredRecord, event: ev.Event) -> dict[str, Any]:
    """What is left, plain: numbers, text, lists. Engine times become wall clock times."""
    details: dict[str, Any] = {}
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if name in _TAKEN or value in (0, "", b"", (), None):
            continue
        details[name] = _plain(value)
    for name in ("deadline_ns", "due_ns"):
        at_ns = getattr(event, name, 0)
        if 0 < at_ns < 2**62:
            details[name.replace("_ns", "_at_ns")] = record.at_ns + at_ns - event.engine_time_ns
    policy = getattr(event, "policy", None)
    if policy is not None:
        details.update(_plain(msgspec.structs.asdict(policy)))
    return details


def _plain(value: Any) -> Any:
    match value:
        case IntEnum():
            return value.name.lower()
        case bytes():
            return value.hex()
        case tuple():
            return list(value)
        case dict():
            return {name: _plain(item) for name, item in value.items()}
    return value


def _of_log(record: StoredRecord) -> dict[str, Any]:
    """Kinds that change no state of the broker."""
    match record.kind:
        case Kind.SNAPSHOT:
            snapshot = log_pb2.Snapshot.FromString(record.body)
            details = {
                "next_offset": snapshot.next_offset,
                "consumers": len(snapshot.consumers),
                "sessions": len(snapshot.sessions),
                "body_bytes": len(record.body),
            }
            return {"details": details}
        case Kind.SEGMENT_SEALED:
            sealed = log_pb2.SegmentSealed.FromString(record.body)
            names = ("first_lsn", "last_lsn", "records", "first_offset", "last_offset")
            return {"details": {n: getattr(sealed, n) for n in names if _has(sealed, n)}}
        case Kind.PAYLOAD_ERASED:
            erased = log_pb2.PayloadErased.FromString(record.body)
            first, last = record.first, record.last
            return {
                "ranges": () if first is None or last is None else ((first, last),),
                "messages": 0 if first is None or last is None else last - first + 1,
                "session": erased.session,
                "reason": erased.reason,
                "details": {"published_lsn": erased.published_lsn},
            }
        case Kind.CHECKPOINT:
            checkpoint = log_pb2.Checkpoint.FromString(record.body)
            return {"details": {"lsn": checkpoint.lsn, "chain": checkpoint.chain.hex()}}
    return {}


def _has(message: Any, name: str) -> bool:
    return not name.endswith("_offset") or message.HasField(name)


# ------------------------------------------------------------------------- messages


def messages_of(view: RecordView) -> list[Message]:
    """The messages of a publish; [] for other kinds, and when its payload is not at hand."""
    event, payload = view.event, view.record.payload
    if payload is None or not isinstance(event, (ev.Published, ev.PublishedLive)):
        return []
    columns = broker_pb2.BatchHead.FromString(event.head)
    content = broker_pb2.BatchContent.FromString(payload)
    base = view.record.first
    return [
        Message(
            index=i,
            offset=None if base is None else base + i,
            id=columns.ids[i] if columns.ids else "",
            payload=body,
            headers=dict(content.headers[i].entries) if content.headers else {},
            timestamp_ns=columns.timestamps_ns[i] if columns.timestamps_ns else view.at_ns,
        )
        for i, body in enumerate(content.payloads)
    ]
