"""What the Admin service tells, as plain frozen structs, and how they are made.

Field names are those of the wire, so that docs/protocol.md explains both. A count of
0 that means "never" or "no limit" keeps its meaning. No protobuf leaves through here.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec
from google.protobuf.message import Message

from hermes.admin.v1 import admin_pb2 as pb
from hermes.broker.v1 import broker_pb2


class QuarantinedSegment(msgspec.Struct, frozen=True):
    """A damaged segment that is left out: records first_lsn..last_lsn, of which the messages
    have offsets first_offset..last_offset (None: there are none in it).

    `pinned` are consumers that have not considered all of it and wait in front of it,
    `unsettled` those with messages of it in flight, waiting or dead: the first 20 names each,
    of so many.
    """

    first_lsn: int
    last_lsn: int
    first_offset: int | None
    last_offset: int | None
    reason: str
    path: str
    pinned_consumers: int
    pinned: tuple[str, ...]
    unsettled_consumers: int
    unsettled: tuple[str, ...]


class ServerInfo(msgspec.Struct, frozen=True):
    """The broker as a whole. `store_id` is empty without a store.

    `quarantined` are the first 100 damaged segments, of `quarantined_segments`.
    """

    version: str
    store_id: str
    next_lsn: int
    oldest_offset: int
    next_offset: int
    started_at_ns: int
    consumers: int
    subscriptions: int
    segments: int
    store_bytes: int
    quarantined: tuple[QuarantinedSegment, ...] = ()
    quarantined_segments: int = 0
    quarantined_records: int = 0


class BackupProgress(msgspec.Struct, frozen=True, gc=False):
    """How far a backup is. `total_bytes` is to be copied, as far as is known."""

    copied_bytes: int
    total_bytes: int
    segments: int  # in their place


class BackupInfo(msgspec.Struct, frozen=True, gc=False):
    """A complete backup: the records first_lsn..last_lsn of a store.

    `path` is on the server's machine; `chain` is the last record's link in hexadecimal; the
    `copied_` ones are what this run added.
    """

    path: str
    store_id: str
    first_lsn: int
    last_lsn: int
    next_offset: int
    chain: str
    segments: int
    bytes: int
    copied_segments: int
    copied_bytes: int


class GcPin(msgspec.Struct, frozen=True, gc=False):
    """The first offset that a consumer needs of a segment; `what` is "" when it has still to
    consider it."""

    consumer: str
    offset: int
    what: str


class GcSegment(msgspec.Struct, frozen=True):
    """One segment in a plan of garbage collection, or what a round did with it.

    `action` is keep, compact or drop; byte counts are about right; `lost` is per consumer
    how many messages it had not settled; `retired` are ranges of offsets, the first 100;
    `problem` says why a round did not do it.
    """

    first_lsn: int
    last_lsn: int
    bytes: int
    payload_bytes: int
    first_offset: int | None
    last_offset: int | None
    first_at_ns: int
    last_at_ns: int
    action: str
    reason: str
    freed_bytes: int
    retired_messages: int
    kept_messages: int
    pins: tuple[GcPin, ...]
    lost: dict[str, int]
    retired: tuple[tuple[int, int], ...]
    problem: str


class GcConsumer(msgspec.Struct, frozen=True, gc=False):
    """A consumer that keeps segments past their retention; `abandoned`: nobody serves it."""

    name: str
    members: int
    lag: int
    idle_ns: int
    segments: int
    bytes: int
    inactivity_limit_ns: int  # 0: none
    abandoned: bool


class GcReport(msgspec.Struct, frozen=True):
    """What garbage collection would do, or did. `refusing`: publishes, for want of room."""

    segments: tuple[GcSegment, ...]
    consumers: tuple[GcConsumer, ...]
    store_bytes: int
    store_bytes_max: int | None
    refusing: bool


class Withheld(msgspec.Struct, frozen=True, gc=False):
    """What a damaged segment keeps from a consumer, in messages.

    `unread` are those it has not considered yet: it waits in front of them. `unsettled` are in
    flight, waiting or dead, and are not delivered again meanwhile.
    """

    first_lsn: int
    first_offset: int
    last_offset: int
    unread: int
    unsettled: int


class ConsumerInfo(msgspec.Struct, frozen=True):
    """A consumer now. Unsettled is `lag + in_flight + waiting + dead`.

    `pin` is the oldest message it needs, which garbage collection keeps; None: nothing.
    """

    name: str
    filters: tuple[str, ...]
    position: int
    lag: int
    in_flight: int
    waiting: int
    dead: int
    members: int
    created_at_ns: int
    ack_timeout_ns: int
    max_attempts: int  # 0: never given up on
    backoff_initial_ns: int
    backoff_max_ns: int
    oldest_unacked_offset: int | None
    inactivity_limit_ns: int  # 0: kept until deleted
    withheld: tuple[Withheld, ...] = ()
    pin: GcPin | None = None


class MemberInfo(msgspec.Struct, frozen=True, gc=False):
    """One connection that works for a consumer. Credit is what it can take at once."""

    member: int
    peer: str
    client_name: str
    client_version: str
    in_flight: int
    credit_messages: int
    credit_bytes: int


class ConsumerDetail(msgspec.Struct, frozen=True):
    consumer: ConsumerInfo
    members: tuple[MemberInfo, ...]


class DeadLetter(msgspec.Struct, frozen=True, gc=False):
    """A message given up on for one consumer."""

    consumer: str
    offset: int
    subject: str
    message_id: str
    attempts: int
    failures: int
    reason: str
    dead_at_ns: int
    copy_offset: int | None  # of its copy on _dead_letter.<subject>


class DeadMessage(msgspec.Struct, frozen=True):
    """The message itself, as published."""

    subject: str
    payload: bytes
    headers: dict[str, str]
    published_at_ns: int


class AttemptInfo(msgspec.Struct, frozen=True, gc=False):
    """One step in the custody of a message: delivered, nacked, expired, ..."""

    lsn: int
    at_ns: int
    kind: str
    attempt: int
    member: int
    peer: str
    client_name: str
    reason: str


class DeadLetterDetail(msgspec.Struct, frozen=True):
    """`message` is None when its payload is no longer held."""

    dead_letter: DeadLetter
    message: DeadMessage | None
    attempts: tuple[AttemptInfo, ...]


class DeadLetterOutcome(msgspec.Struct, frozen=True):
    """`changed` is 0 in a dry run; `offsets` are the first 1,000."""

    matched: int
    changed: int
    offsets: tuple[int, ...]


# ------------------------------------------------------------------- conversions


StructT = TypeVar("StructT", bound=msgspec.Struct)


def copied(message: Message, kind: type[StructT]) -> StructT:
    """A struct whose fields have the names of the message's."""
    return kind(*(getattr(message, field) for field in kind.__struct_fields__))


def consumer_info(found: pb.Consumer) -> ConsumerInfo:
    return ConsumerInfo(
        name=found.name,
        filters=tuple(found.filters),
        position=found.position,
        lag=found.lag,
        in_flight=found.in_flight,
        waiting=found.waiting,
        dead=found.dead,
        members=found.members,
        created_at_ns=found.created_at_ns,
        ack_timeout_ns=found.ack_timeout_ns,
        max_attempts=found.max_attempts,
        backoff_initial_ns=found.backoff.initial_ns,
        backoff_max_ns=found.backoff.max_ns,
        oldest_unacked_offset=(
            found.oldest_unacked_offset if found.HasField("oldest_unacked_offset") else None
        ),
        inactivity_limit_ns=found.inactivity_limit_ns,
        withheld=tuple(copied(some, Withheld) for some in found.withheld),
        pin=copied(found.pin, GcPin) if found.HasField("pin") else None,
    )


def server_info(found: pb.ServerInfo) -> ServerInfo:
    info = copied(found, ServerInfo)
    segments = tuple(_quarantined(segment) for segment in found.quarantined)
    return msgspec.structs.replace(info, quarantined=segments)


def _quarantined(found: pb.QuarantinedSegment) -> QuarantinedSegment:
    segment = copied(found, QuarantinedSegment)
    return msgspec.structs.replace(
        segment,
        first_offset=found.first_offset if found.HasField("first_offset") else None,
        last_offset=found.last_offset if found.HasField("last_offset") else None,
        pinned=tuple(found.pinned),
        unsettled=tuple(found.unsettled),
    )


def member_info(found: pb.Member) -> MemberInfo:
    return MemberInfo(
        found.member,
        found.peer,
        found.client_name,
        found.client_version,
        found.in_flight,
        found.credit.messages,
        found.credit.bytes,
    )


def dead_letter(found: pb.DeadLetter) -> DeadLetter:
    return DeadLetter(
        consumer=found.consumer,
        offset=found.offset,
        subject=found.subject,
        message_id=found.message_id,
        attempts=found.attempts,
        failures=found.failures,
        reason=found.reason,
        dead_at_ns=found.dead_at_ns,
        copy_offset=found.copy_offset if found.HasField("copy_offset") else None,
    )


def dead_message(delivery: broker_pb2.Delivery, offset: int) -> DeadMessage | None:
    content = broker_pb2.BatchContent.FromString(delivery.batch.content)
    index = offset - delivery.base_offset
    if not 0 <= index < len(content.payloads):
        return None
    headers = dict(content.headers[index].entries) if content.headers else {}
    return DeadMessage(
        delivery.batch.subject, content.payloads[index], headers, delivery.published_at_ns
    )


def backup_info(done: pb.BackupDone) -> BackupInfo:
    return BackupInfo(
        path=done.path,
        store_id=done.store_id,
        first_lsn=done.first_lsn,
        last_lsn=done.last_lsn,
        next_offset=done.next_offset,
        chain=done.chain.hex(),
        segments=done.segments,
        bytes=done.bytes,
        copied_segments=done.copied_segments,
        copied_bytes=done.copied_bytes,
    )


def gc_segment(found: pb.GcSegment) -> GcSegment:
    plain = {
        name: getattr(found, name)
        for name in ("first_lsn", "last_lsn", "bytes", "payload_bytes", "first_at_ns", "last_at_ns")
    }
    return GcSegment(
        **plain,
        first_offset=found.first_offset if found.HasField("first_offset") else None,
        last_offset=found.last_offset if found.HasField("last_offset") else None,
        action=found.action,
        reason=found.reason,
        freed_bytes=found.freed_bytes,
        retired_messages=found.retired_messages,
        kept_messages=found.kept_messages,
        pins=tuple(copied(pin, GcPin) for pin in found.pins),
        lost={loss.consumer: loss.messages for loss in found.lost},
        retired=tuple((span.first, span.last) for span in found.retired),
        problem=found.problem,
    )


def gc_report(segments: list[GcSegment], done: pb.GcDone) -> GcReport:
    return GcReport(
        tuple(sorted(segments, key=lambda segment: segment.first_lsn)),
        tuple(copied(consumer, GcConsumer) for consumer in done.consumers),
        done.store_bytes,
        done.store_bytes_max if done.HasField("store_bytes_max") else None,
        done.refusing,
    )
