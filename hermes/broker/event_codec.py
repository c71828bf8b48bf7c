"""[P] Events to records of the log and back.

A record's columns carry what look-ups need (key, first, last); its body, protobuf,
carries the rest (proto/hermes/log/v1/log.proto). Body fields have the names of the
event's fields, so one table says it all: per event its kind, its body message and
which field goes into the key column. Only published batches need code of their own.

Kinds that the log or the journal writes (SegmentSealed, Snapshot, ...) decode to None.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import msgspec

from hermes.broker import events as ev
from hermes.broker.ranges import decode_deltas, encode_deltas
from hermes.broker.v1 import broker_pb2
from hermes.log.record import Kind, Record, StoredRecord, look_up_term
from hermes.log.v1 import log_pb2

_PUBLISHED: Final = int(Kind.PUBLISHED)


class Layout(msgspec.Struct, frozen=True):
    """How one event lies in a record."""

    kind: Kind
    event: type[ev.Event]
    body: Callable[..., Any]
    key: str | None  # event field that is the record's key
    hull: bool  # first and last are columns, not in the body
    ranges: bool  # they are the hull of its ranges
    policy: bool
    fields: tuple[str, ...]  # event field = body field


def _layout(kind: Kind, event: type[ev.Event], body: Any, key: str | None = None) -> Layout:
    names = tuple(name for name in event.__struct_fields__ if name != key)
    hull = "first" in names
    left_out = {"ranges", "first", "last", "policy"}
    fields = tuple(name for name in names if name not in left_out)
    ranges, policy = "ranges" in names, "policy" in names
    return Layout(kind, event, body, key, hull, ranges, policy, fields)


LAYOUTS: tuple[Layout, ...] = (
    _layout(Kind.AUDIENCE, ev.AudienceFormed, log_pb2.Audience),
    _layout(Kind.DELIVERED_LIVE, ev.DeliveredLive, log_pb2.DeliveredLive, "subject"),
    _layout(Kind.DROPPED, ev.Dropped, log_pb2.Dropped),
    _layout(Kind.DELIVERED, ev.Delivered, log_pb2.Delivered, "consumer"),
    _layout(Kind.ACKED, ev.Acked, log_pb2.Acked, "consumer"),
    _layout(Kind.NACKED, ev.Nacked, log_pb2.Nacked, "consumer"),
    _layout(Kind.REJECTED, ev.Rejected, log_pb2.Rejected, "consumer"),
    _layout(Kind.EXTENDED, ev.Extended, log_pb2.Extended, "consumer"),
    _layout(Kind.EXPIRED, ev.Expired, log_pb2.Expired, "consumer"),
    _layout(Kind.RELEASED, ev.Released, log_pb2.Released, "consumer"),
    _layout(Kind.DEAD_LETTERED, ev.DeadLettered, log_pb2.DeadLettered, "consumer"),
    _layout(Kind.REPLAYED, ev.Replayed, log_pb2.Replayed, "consumer"),
    _layout(Kind.DISCARDED, ev.Discarded, log_pb2.Discarded, "consumer"),
    _layout(Kind.REOPENED, ev.Reopened, log_pb2.Reopened, "consumer"),
    _layout(Kind.CONSUMER_CREATED, ev.ConsumerCreated, log_pb2.ConsumerCreated, "consumer"),
    _layout(Kind.CONSUMER_UPDATED, ev.ConsumerUpdated, log_pb2.ConsumerUpdated, "consumer"),
    _layout(Kind.CONSUMER_PAUSED, ev.ConsumerPaused, log_pb2.ConsumerPaused, "consumer"),
    _layout(Kind.CONSUMER_RESUMED, ev.ConsumerResumed, log_pb2.ConsumerResumed, "consumer"),
    _layout(Kind.CONSUMER_SOUGHT, ev.ConsumerSought, log_pb2.ConsumerSought, "consumer"),
    _layout(Kind.CONSUMER_DELETED, ev.ConsumerDeleted, log_pb2.ConsumerDeleted, "consumer"),
    _layout(Kind.MEMBER_JOINED, ev.MemberJoined, log_pb2.MemberJoined, "consumer"),
    _layout(Kind.MEMBER_LEFT, ev.MemberLeft, log_pb2.MemberLeft, "consumer"),
    _layout(Kind.SESSION_OPENED, ev.SessionOpened, log_pb2.SessionOpened),
    _layout(Kind.SESSION_CLOSED, ev.SessionClosed, log_pb2.SessionClosed),
    _layout(Kind.SUBSCRIPTION_OPENED, ev.SubscriptionOpened, log_pb2.SubscriptionOpened, "pattern"),
    _layout(Kind.SUBSCRIPTION_CLOSED, ev.SubscriptionClosed, log_pb2.SubscriptionClosed, "pattern"),
    _layout(Kind.CHECKPOINT, ev.CheckpointTaken, log_pb2.Checkpoint),
    _layout(Kind.CLOCK_STEPPED, ev.ClockStepped, log_pb2.ClockStepped),
    _layout(Kind.SERVER_STARTED, ev.ServerStarted, log_pb2.ServerStarted),
    _layout(Kind.SERVER_STOPPED, ev.ServerStopped, log_pb2.ServerStopped),
)

_BY_EVENT = {layout.event: layout for layout in LAYOUTS}
_BY_KIND: dict[int, Layout] = {layout.kind: layout for layout in LAYOUTS}

# What protobuf gives back as int or repeated field, and the event's own type of it.
_CONVERT: dict[type[ev.Event], dict[str, Callable[[Any], Any]]] = {
    ev.AudienceFormed: {"subscriptions": tuple},
    ev.DeliveredLive: {"picks": tuple},
    ev.SubscriptionOpened: {"queue_groups": tuple},
    ev.Released: {"cause": ev.ReleaseCause},
    ev.DeadLettered: {"cause": ev.DeadCause},
    ev.ConsumerDeleted: {"cause": ev.DeleteCause},
}

_NOTHING: Final[dict[str, Callable[[Any], Any]]] = {}


def encode(event: ev.Event, at_ns: int) -> Record:
    """The record of an event, to be appended at Unix time `at_ns`."""
    own_code = _ENCODERS.get(type(event))
    if own_code is not None:
        return own_code(event, at_ns)
    layout = _BY_EVENT[type(event)]
    body = layout.body(**{name: getattr(event, name) for name in layout.fields})
    first: int | None = None
    last: int | None = None
    if layout.ranges:
        ranges = event.ranges  # type: ignore[attr-defined]
        first, last = ranges[0][0], ranges[-1][1]
        if len(ranges) > 1:
            body.ranges.extend(encode_deltas(first, ranges))
    elif layout.hull:
        first, last = event.first, event.last  # type: ignore[attr-defined]
    if layout.policy:
        body.policy.CopyFrom(encode_policy(event.policy))  # type: ignore[attr-defined]
    key = getattr(event, layout.key) if layout.key else None
    return Record(at_ns, layout.kind, key, first, last, body.SerializeToString())


def decode(record: StoredRecord) -> ev.Event | None:
    """The event of a record; None for kinds that change no state of the broker."""
    kind = record.kind
    if kind == _PUBLISHED:
        return _decode_published(record)
    layout = _BY_KIND.get(kind)
    if layout is None:
        own_code = _DECODERS.get(kind)
        return None if own_code is None else own_code(record)
    body = layout.body.FromString(record.body)  # type: ignore[attr-defined]
    values: dict[str, Any] = {name: getattr(body, name) for name in layout.fields}
    for name, convert in _CONVERT.get(layout.event, _NOTHING).items():
        values[name] = convert(values[name])
    if layout.key:
        values[layout.key] = record.key
    if layout.ranges:
        assert record.first is not None and record.last is not None
        values["ranges"] = tuple(decode_deltas(record.first, record.last, body.ranges))
    elif layout.hull:
        values["first"], values["last"] = record.first, record.last
    if layout.policy:
        values["policy"] = decode_policy(body.policy)
    return layout.event(**values)


# -------------------------------------------------------------------- batches


def _encode_published(event: ev.Published, at_ns: int) -> Record:
    rest = log_pb2.Published(
        head=event.head,
        sizes=event.sizes,
        producer_id=event.producer_id,
        producer_sequence=event.producer_sequence,
    )
    if event.dead_letter_consumer or event.dead_letter_offset:
        rest.dead_letter_consumer = event.dead_letter_consumer
        rest.dead_letter_offset = event.dead_letter_offset
    # Protobuf messages are joined by joining their bytes.
    body = _published_front(event.engine_time_ns, event.session) + rest.SerializeToString()
    return Record(
        at_ns,
        _PUBLISHED,
        event.subject,
        event.first,
        event.last,
        body,
        event.content,
        _terms(event.ids) if event.ids else (),
    )


@lru_cache(maxsize=16)
def _published_front(engine_time_ns: int, session: int) -> bytes:
    """The first fields of a body, the same for all batches of a frame."""
    return log_pb2.Published(engine_time_ns=engine_time_ns, session=session).SerializeToString()


def _encode_published_live(event: ev.PublishedLive, at_ns: int) -> Record:
    body = log_pb2.PublishedLive(
        engine_time_ns=event.engine_time_ns,
        session=event.session,
        head=event.head,
        sizes=event.sizes,
    )
    return Record(
        at_ns,
        Kind.PUBLISHED_LIVE,
        event.subject,
        body=body.SerializeToString(),
        payload=event.content,
        terms=_terms(event.ids),
    )


def _terms(ids: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(look_up_term(text) for text in ids if text)


def ids_of_head(head: bytes) -> tuple[str, ...]:
    """The ids column of a serialized BatchHead; () when it has none."""
    return tuple(broker_pb2.BatchHead.FromString(head).ids)


def _decode_published(record: StoredRecord) -> ev.Published:
    body = log_pb2.Published.FromString(record.body)
    assert record.key is not None and record.first is not None and record.last is not None
    return ev.Published(
        engine_time_ns=body.engine_time_ns,
        subject=record.key,
        first=record.first,
        last=record.last,
        head=body.head,
        content=record.payload,
        sizes=tuple(body.sizes),
        ids=ids_of_head(body.head),
        session=body.session,
        producer_id=body.producer_id,
        producer_sequence=body.producer_sequence,
        dead_letter_consumer=body.dead_letter_consumer,
        dead_letter_offset=body.dead_letter_offset,
    )


def _decode_published_live(record: StoredRecord) -> ev.PublishedLive:
    body = log_pb2.PublishedLive.FromString(record.body)
    assert record.key is not None
    return ev.PublishedLive(
        engine_time_ns=body.engine_time_ns,
        subject=record.key,
        head=body.head,
        content=record.payload,
        sizes=tuple(body.sizes),
        ids=ids_of_head(body.head),
        session=body.session,
    )


# ------------------------------------------- events about the log, and policy


_LogEvent = ev.SegmentCompacted | ev.SegmentDropped | ev.Lost


def _encode_log_event(event: _LogEvent, at_ns: int) -> Record:
    if isinstance(event, ev.SegmentCompacted):
        compacted = log_pb2.SegmentCompacted(
            engine_time_ns=event.engine_time_ns, first_lsn=event.first_lsn, last_lsn=event.last_lsn
        )
        first = last = None
        if event.ranges:
            first, last = event.ranges[0][0], event.ranges[-1][1]
            compacted.retired.extend(encode_deltas(first, event.ranges))
        body = compacted.SerializeToString()
        return Record(at_ns, Kind.SEGMENT_COMPACTED, None, first, last, body)
    if isinstance(event, ev.SegmentDropped):
        dropped = log_pb2.SegmentDropped(
            engine_time_ns=event.engine_time_ns,
            first_lsn=event.first_lsn,
            last_lsn=event.last_lsn,
            first_offset=event.first_offset,
            last_offset=event.last_offset,
            chain=event.chain,
        )
        return Record(at_ns, Kind.SEGMENT_DROPPED, body=dropped.SerializeToString())
    lost = log_pb2.Lost(
        engine_time_ns=event.engine_time_ns,
        first_lsn=event.first_lsn,
        last_lsn=event.last_lsn,
        first_offset=event.first_offset,
        next_offset=event.next_offset,
    )
    return Record(at_ns, Kind.LOST, body=lost.SerializeToString())


def _decode_log_event(record: StoredRecord) -> _LogEvent:
    if record.kind == Kind.SEGMENT_COMPACTED:
        compacted = log_pb2.SegmentCompacted.FromString(record.body)
        ranges: ev.Ranges = ()
        if record.first is not None and record.last is not None:
            ranges = tuple(decode_deltas(record.first, record.last, compacted.retired))
        return ev.SegmentCompacted(
            engine_time_ns=compacted.engine_time_ns,
            first_lsn=compacted.first_lsn,
            last_lsn=compacted.last_lsn,
            ranges=ranges,
        )
    if record.kind == Kind.SEGMENT_DROPPED:
        body = log_pb2.SegmentDropped.FromString(record.body)
        return ev.SegmentDropped(
            engine_time_ns=body.engine_time_ns,
            first_lsn=body.first_lsn,
            last_lsn=body.last_lsn,
            first_offset=body.first_offset if body.HasField("first_offset") else None,
            last_offset=body.last_offset if body.HasField("last_offset") else None,
            chain=body.chain,
        )
    lost = log_pb2.Lost.FromString(record.body)
    return ev.Lost(
        engine_time_ns=lost.engine_time_ns,
        first_lsn=lost.first_lsn,
        last_lsn=lost.last_lsn,
        first_offset=lost.first_offset,
        next_offset=lost.next_offset,
    )


def encode_policy(policy: ev.Policy) -> log_pb2.ConsumerPolicy:
    return log_pb2.ConsumerPolicy(
        filters=policy.filters,
        ack_timeout_ns=policy.ack_timeout_ns,
        max_attempts=policy.max_attempts,
        backoff_initial_ns=policy.backoff_initial_ns,
        backoff_max_ns=policy.backoff_max_ns,
        inactivity_limit_ns=policy.inactivity_limit_ns,
    )


_ENCODERS: dict[type[ev.Event], Callable[[Any, int], Record]] = {
    ev.Published: _encode_published,
    ev.PublishedLive: _encode_published_live,
    ev.SegmentCompacted: _encode_log_event,
    ev.SegmentDropped: _encode_log_event,
    ev.Lost: _encode_log_event,
}
_DECODERS: dict[int, Callable[[StoredRecord], ev.Event]] = {
    Kind.PUBLISHED_LIVE: _decode_published_live,
    Kind.SEGMENT_COMPACTED: _decode_log_event,
    Kind.SEGMENT_DROPPED: _decode_log_event,
    Kind.LOST: _decode_log_event,
}


def decode_policy(body: log_pb2.ConsumerPolicy) -> ev.Policy:
    return ev.Policy(
        filters=tuple(body.filters),
        ack_timeout_ns=body.ack_timeout_ns,
        max_attempts=body.max_attempts,
        backoff_initial_ns=body.backoff_initial_ns,
        backoff_max_ns=body.backoff_max_ns,
        inactivity_limit_ns=body.inactivity_limit_ns,
    )
