"""[P] What has happened: the events of the broker, in past tense.

Deciders return events; only `fold` (state.py) applies them; the codec
(event_codec.py) turns each into one record of the log and back. Offset ranges are
tuples of inclusive (first, last) pairs, ascending and disjoint.

Every event carries `engine_time_ns`, the broker's monotonic time, and where someone
outside caused it `session`, the lsn of that SessionOpened (0: the broker itself).
An event that creates something (a session, a consumer, a member, a subscription,
an audience) gives it the lsn of its own record as identity.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from hermes.broker.ranges import Range

Ranges = tuple[Range, ...]


class ReleaseCause(IntEnum):
    """Why a lease was handed back without a verdict."""

    HANDED_BACK = 1
    MEMBER_GONE = 2
    SERVER_DRAINED = 3
    SERVER_RESTARTED = 4


class DeadCause(IntEnum):
    """Why a message was given up on."""

    TOO_MANY_FAILURES = 1
    REJECTED_BY_MEMBER = 2
    PAYLOAD_GONE = 3


class DeleteCause(IntEnum):
    """Why a consumer ended."""

    BY_REQUEST = 1
    FOR_INACTIVITY = 2


class Policy(msgspec.Struct, frozen=True, gc=False):
    """What belongs to a consumer and is the same for all its members."""

    filters: tuple[str, ...]
    ack_timeout_ns: int
    max_attempts: int  # failures until dead letter; 0: never
    backoff_initial_ns: int
    backoff_max_ns: int
    inactivity_limit_ns: int  # 0: none


class Event(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Base of all events."""

    engine_time_ns: int


# ------------------------------------------------------------------ messages


class Published(Event, frozen=True, kw_only=True):
    """One batch entered the message line at offsets first..last."""

    subject: str
    first: int
    last: int
    head: bytes
    content: bytes | None  # None when read back without its payload
    sizes: tuple[int, ...]
    ids: tuple[str, ...] = ()
    session: int = 0
    producer_id: bytes = b""
    producer_sequence: int = 0
    dead_letter_consumer: str = ""
    dead_letter_offset: int = 0


class PublishedLive(Event, frozen=True, kw_only=True):
    """One batch was forwarded, fire-and-forget."""

    subject: str
    head: bytes
    content: bytes | None
    sizes: tuple[int, ...]
    ids: tuple[str, ...] = ()
    session: int = 0


class AudienceFormed(Event, frozen=True, kw_only=True):
    """A set of subscriptions that DeliveredLive refers to."""

    subscriptions: tuple[int, ...]


class DeliveredLive(Event, frozen=True, kw_only=True):
    """A batch was handed to live subscriptions: an audience and the groups' picks."""

    subject: str
    published_lsn: int
    audience: int
    picks: tuple[int, ...] = ()
    first: int | None = None
    last: int | None = None


class Dropped(Event, frozen=True, kw_only=True):
    """A subscription's full buffer lost its oldest messages."""

    session: int
    subscription: int
    messages: int
    first_published_lsn: int
    last_published_lsn: int


# --------------------------------------------------------------- settlements


class RangesEvent(Event, frozen=True, kw_only=True):
    """Something happened to offsets of one consumer."""

    consumer: str
    ranges: Ranges


class Delivered(RangesEvent, frozen=True, kw_only=True):
    """Leased to a member; committed to be sent."""

    session: int
    member: int
    attempt: int
    deadline_ns: int
    mean_bytes: int = 0


class Acked(RangesEvent, frozen=True, kw_only=True):
    session: int
    member: int


class Nacked(RangesEvent, frozen=True, kw_only=True):
    session: int
    member: int
    attempt: int
    due_ns: int
    reason: str = ""


class Rejected(RangesEvent, frozen=True, kw_only=True):
    """Refused by the member; DeadLettered follows in the same transaction."""

    session: int
    member: int
    attempt: int
    reason: str = ""


class Extended(RangesEvent, frozen=True, kw_only=True):
    session: int
    member: int
    attempt: int
    deadline_ns: int


class Expired(RangesEvent, frozen=True, kw_only=True):
    member: int
    attempt: int
    due_ns: int


class Released(RangesEvent, frozen=True, kw_only=True):
    session: int
    member: int
    attempt: int
    cause: ReleaseCause
    due_ns: int
    failure: bool = False


class DeadLettered(RangesEvent, frozen=True, kw_only=True):
    session: int
    cause: DeadCause
    attempts: int
    failures: int
    at_ns: int
    reason: str = ""


class Replayed(RangesEvent, frozen=True, kw_only=True):
    session: int
    due_ns: int


class Discarded(RangesEvent, frozen=True, kw_only=True):
    session: int


class Reopened(RangesEvent, frozen=True, kw_only=True):
    session: int
    due_ns: int


# ----------------------------------------------------------------- consumers


class ConsumerEvent(Event, frozen=True, kw_only=True):
    consumer: str
    session: int = 0


class ConsumerCreated(ConsumerEvent, frozen=True, kw_only=True):
    policy: Policy
    position: int
    at_ns: int


class ConsumerUpdated(ConsumerEvent, frozen=True, kw_only=True):
    policy: Policy


class ConsumerPaused(ConsumerEvent, frozen=True, kw_only=True):
    pass


class ConsumerResumed(ConsumerEvent, frozen=True, kw_only=True):
    pass


class ConsumerSought(ConsumerEvent, frozen=True, kw_only=True):
    """Moved: what is leased or waiting is forgotten, offsets count again from `position`."""

    position: int


class ConsumerDeleted(ConsumerEvent, frozen=True, kw_only=True):
    cause: DeleteCause


class MemberJoined(ConsumerEvent, frozen=True, kw_only=True):
    credit_messages: int
    credit_bytes: int


class MemberLeft(ConsumerEvent, frozen=True, kw_only=True):
    member: int
    reason: str = ""


# ---------------------------------------------------- sessions, subscriptions


class SessionOpened(Event, frozen=True, kw_only=True):
    principal: str
    peer: str
    client_name: str
    client_version: str
    client_id: str


class SessionClosed(Event, frozen=True, kw_only=True):
    session: int
    reason: str = ""


class SubscriptionOpened(Event, frozen=True, kw_only=True):
    session: int
    pattern: str
    queue_groups: tuple[str, ...] = ()


class SubscriptionClosed(Event, frozen=True, kw_only=True):
    session: int
    pattern: str
    subscription: int
    dropped: int = 0


# ------------------------------------------------------- the log, the server


class SegmentSealed(Event, frozen=True, kw_only=True):
    """Written by the log; folded as nothing."""


class SegmentCompacted(Event, frozen=True, kw_only=True):
    """Payloads of a sealed segment are retired; its records, and the state, stay as they are.

    Empty `ranges`: those of its live messages only.
    """

    first_lsn: int
    last_lsn: int
    ranges: Ranges


class SegmentDropped(Event, frozen=True, kw_only=True):
    first_lsn: int
    last_lsn: int
    first_offset: int | None
    last_offset: int | None
    chain: bytes


class Lost(Event, frozen=True, kw_only=True):
    """An operator accepted that committed records are gone."""

    first_lsn: int
    last_lsn: int
    first_offset: int
    next_offset: int


class CheckpointTaken(Event, frozen=True, kw_only=True):
    """A committed record's link was signed; `note` is the signed text. Changes no state."""

    lsn: int
    chain: bytes
    at_ns: int
    note: str


class ClockStepped(Event, frozen=True, kw_only=True):
    step_ns: int


class ServerStarted(Event, frozen=True, kw_only=True):
    """Sessions, members and subscriptions of the run before are gone."""

    version: str
    host: str
    boot_id: str
    config_digest: bytes
    clean_stop: bool
    dedup_window_ns: int
    dedup_ids_max: int


class ServerStopped(Event, frozen=True, kw_only=True):
    reason: str
