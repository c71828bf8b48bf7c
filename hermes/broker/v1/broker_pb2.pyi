from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    VERDICT_ACK: _ClassVar[Verdict]
    VERDICT_NACK: _ClassVar[Verdict]
    VERDICT_REJECT: _ClassVar[Verdict]
    VERDICT_EXTEND: _ClassVar[Verdict]
    VERDICT_RELEASE: _ClassVar[Verdict]
VERDICT_UNSPECIFIED: Verdict
VERDICT_ACK: Verdict
VERDICT_NACK: Verdict
VERDICT_REJECT: Verdict
VERDICT_EXTEND: Verdict
VERDICT_RELEASE: Verdict

class EventEnvelope(_message.Message):
    __slots__ = ("id", "subject", "payload", "headers", "timestamp_nanos")
    class HeadersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_NANOS_FIELD_NUMBER: _ClassVar[int]
    id: str
    subject: bytes
    payload: bytes
    headers: _containers.ScalarMap[str, str]
    timestamp_nanos: int
    def __init__(self, id: _Optional[str] = ..., subject: _Optional[bytes] = ..., payload: _Optional[bytes] = ..., headers: _Optional[_Mapping[str, str]] = ..., timestamp_nanos: _Optional[int] = ...) -> None: ...

class SubscribeRequest(_message.Message):
    __slots__ = ("subject", "queue_groups")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    QUEUE_GROUPS_FIELD_NUMBER: _ClassVar[int]
    subject: bytes
    queue_groups: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, subject: _Optional[bytes] = ..., queue_groups: _Optional[_Iterable[str]] = ...) -> None: ...

class PublishAck(_message.Message):
    __slots__ = ("accepted",)
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    accepted: int
    def __init__(self, accepted: _Optional[int] = ...) -> None: ...

class PublishDurableAck(_message.Message):
    __slots__ = ("accepted", "persisted")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    PERSISTED_FIELD_NUMBER: _ClassVar[int]
    accepted: int
    persisted: int
    def __init__(self, accepted: _Optional[int] = ..., persisted: _Optional[int] = ...) -> None: ...

class DurableSubscribeRequest(_message.Message):
    __slots__ = ("subject", "consumer_name", "queue_groups", "max_in_flight", "ack_timeout_seconds")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_NAME_FIELD_NUMBER: _ClassVar[int]
    QUEUE_GROUPS_FIELD_NUMBER: _ClassVar[int]
    MAX_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    ACK_TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    subject: bytes
    consumer_name: str
    queue_groups: _containers.RepeatedScalarFieldContainer[str]
    max_in_flight: int
    ack_timeout_seconds: int
    def __init__(self, subject: _Optional[bytes] = ..., consumer_name: _Optional[str] = ..., queue_groups: _Optional[_Iterable[str]] = ..., max_in_flight: _Optional[int] = ..., ack_timeout_seconds: _Optional[int] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("message_id",)
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    message_id: str
    def __init__(self, message_id: _Optional[str] = ...) -> None: ...

class Nack(_message.Message):
    __slots__ = ("message_id", "requeue")
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEUE_FIELD_NUMBER: _ClassVar[int]
    message_id: str
    requeue: bool
    def __init__(self, message_id: _Optional[str] = ..., requeue: _Optional[bool] = ...) -> None: ...

class DurableClientMessage(_message.Message):
    __slots__ = ("subscribe", "ack", "nack")
    SUBSCRIBE_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    NACK_FIELD_NUMBER: _ClassVar[int]
    subscribe: DurableSubscribeRequest
    ack: Ack
    nack: Nack
    def __init__(self, subscribe: _Optional[_Union[DurableSubscribeRequest, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., nack: _Optional[_Union[Nack, _Mapping]] = ...) -> None: ...

class Redelivery(_message.Message):
    __slots__ = ("envelope", "attempt")
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    envelope: EventEnvelope
    attempt: int
    def __init__(self, envelope: _Optional[_Union[EventEnvelope, _Mapping]] = ..., attempt: _Optional[int] = ...) -> None: ...

class DurableServerMessage(_message.Message):
    __slots__ = ("envelope", "redelivery")
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    REDELIVERY_FIELD_NUMBER: _ClassVar[int]
    envelope: EventEnvelope
    redelivery: Redelivery
    def __init__(self, envelope: _Optional[_Union[EventEnvelope, _Mapping]] = ..., redelivery: _Optional[_Union[Redelivery, _Mapping]] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("subject", "head", "content")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    subject: str
    head: bytes
    content: bytes
    def __init__(self, subject: _Optional[str] = ..., head: _Optional[bytes] = ..., content: _Optional[bytes] = ...) -> None: ...

class BatchHead(_message.Message):
    __slots__ = ("count", "ids", "keys", "timestamps_ns")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMPS_NS_FIELD_NUMBER: _ClassVar[int]
    count: int
    ids: _containers.RepeatedScalarFieldContainer[str]
    keys: _containers.RepeatedScalarFieldContainer[str]
    timestamps_ns: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, count: _Optional[int] = ..., ids: _Optional[_Iterable[str]] = ..., keys: _Optional[_Iterable[str]] = ..., timestamps_ns: _Optional[_Iterable[int]] = ...) -> None: ...

class BatchContent(_message.Message):
    __slots__ = ("payloads", "headers")
    PAYLOADS_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    payloads: _containers.RepeatedScalarFieldContainer[bytes]
    headers: _containers.RepeatedCompositeFieldContainer[Headers]
    def __init__(self, payloads: _Optional[_Iterable[bytes]] = ..., headers: _Optional[_Iterable[_Union[Headers, _Mapping]]] = ...) -> None: ...

class Headers(_message.Message):
    __slots__ = ("entries",)
    class EntriesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.ScalarMap[str, str]
    def __init__(self, entries: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Drain(_message.Message):
    __slots__ = ("reason", "grace_ms")
    REASON_FIELD_NUMBER: _ClassVar[int]
    GRACE_MS_FIELD_NUMBER: _ClassVar[int]
    reason: str
    grace_ms: int
    def __init__(self, reason: _Optional[str] = ..., grace_ms: _Optional[int] = ...) -> None: ...

class Start(_message.Message):
    __slots__ = ("oldest", "newest", "offset", "time_ns")
    OLDEST_FIELD_NUMBER: _ClassVar[int]
    NEWEST_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    TIME_NS_FIELD_NUMBER: _ClassVar[int]
    oldest: bool
    newest: bool
    offset: int
    time_ns: int
    def __init__(self, oldest: _Optional[bool] = ..., newest: _Optional[bool] = ..., offset: _Optional[int] = ..., time_ns: _Optional[int] = ...) -> None: ...

class PublishBatchesRequest(_message.Message):
    __slots__ = ("open", "sequence", "batches", "live")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    LIVE_FIELD_NUMBER: _ClassVar[int]
    open: PublishOpen
    sequence: int
    batches: _containers.RepeatedCompositeFieldContainer[Batch]
    live: bool
    def __init__(self, open: _Optional[_Union[PublishOpen, _Mapping]] = ..., sequence: _Optional[int] = ..., batches: _Optional[_Iterable[_Union[Batch, _Mapping]]] = ..., live: _Optional[bool] = ...) -> None: ...

class PublishOpen(_message.Message):
    __slots__ = ("producer_id", "first_sequence")
    PRODUCER_ID_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    producer_id: bytes
    first_sequence: int
    def __init__(self, producer_id: _Optional[bytes] = ..., first_sequence: _Optional[int] = ...) -> None: ...

class PublishBatchesResponse(_message.Message):
    __slots__ = ("opened", "results", "drain")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    opened: PublishOpened
    results: _containers.RepeatedCompositeFieldContainer[PublishResult]
    drain: Drain
    def __init__(self, opened: _Optional[_Union[PublishOpened, _Mapping]] = ..., results: _Optional[_Iterable[_Union[PublishResult, _Mapping]]] = ..., drain: _Optional[_Union[Drain, _Mapping]] = ...) -> None: ...

class PublishOpened(_message.Message):
    __slots__ = ("max_message_bytes", "max_batch_messages", "max_frame_bytes", "last_sequence")
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    MAX_FRAME_BYTES_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    max_message_bytes: int
    max_batch_messages: int
    max_frame_bytes: int
    last_sequence: int
    def __init__(self, max_message_bytes: _Optional[int] = ..., max_batch_messages: _Optional[int] = ..., max_frame_bytes: _Optional[int] = ..., last_sequence: _Optional[int] = ...) -> None: ...

class PublishResult(_message.Message):
    __slots__ = ("sequence", "batches", "count", "base_offset", "duplicate_indexes", "duplicate_offsets", "duplicate", "refusal")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    BASE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_INDEXES_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_OFFSETS_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    batches: int
    count: int
    base_offset: int
    duplicate_indexes: _containers.RepeatedScalarFieldContainer[int]
    duplicate_offsets: _containers.RepeatedScalarFieldContainer[int]
    duplicate: bool
    refusal: Refusal
    def __init__(self, sequence: _Optional[int] = ..., batches: _Optional[int] = ..., count: _Optional[int] = ..., base_offset: _Optional[int] = ..., duplicate_indexes: _Optional[_Iterable[int]] = ..., duplicate_offsets: _Optional[_Iterable[int]] = ..., duplicate: _Optional[bool] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("code", "message", "hint")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    HINT_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    hint: str
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., hint: _Optional[str] = ...) -> None: ...

class ConsumeRequest(_message.Message):
    __slots__ = ("open", "settlements", "credit", "heartbeat")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    SETTLEMENTS_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    open: ConsumeOpen
    settlements: _containers.RepeatedCompositeFieldContainer[Settlement]
    credit: Credit
    heartbeat: int
    def __init__(self, open: _Optional[_Union[ConsumeOpen, _Mapping]] = ..., settlements: _Optional[_Iterable[_Union[Settlement, _Mapping]]] = ..., credit: _Optional[_Union[Credit, _Mapping]] = ..., heartbeat: _Optional[int] = ...) -> None: ...

class ConsumeOpen(_message.Message):
    __slots__ = ("consumer", "filters", "start", "credit", "ack_timeout_ns", "max_attempts", "backoff", "inactivity_limit_ns", "update")
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    ACK_TIMEOUT_NS_FIELD_NUMBER: _ClassVar[int]
    MAX_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    BACKOFF_FIELD_NUMBER: _ClassVar[int]
    INACTIVITY_LIMIT_NS_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    consumer: str
    filters: _containers.RepeatedScalarFieldContainer[str]
    start: Start
    credit: Credit
    ack_timeout_ns: int
    max_attempts: int
    backoff: Backoff
    inactivity_limit_ns: int
    update: bool
    def __init__(self, consumer: _Optional[str] = ..., filters: _Optional[_Iterable[str]] = ..., start: _Optional[_Union[Start, _Mapping]] = ..., credit: _Optional[_Union[Credit, _Mapping]] = ..., ack_timeout_ns: _Optional[int] = ..., max_attempts: _Optional[int] = ..., backoff: _Optional[_Union[Backoff, _Mapping]] = ..., inactivity_limit_ns: _Optional[int] = ..., update: _Optional[bool] = ...) -> None: ...

class Credit(_message.Message):
    __slots__ = ("messages", "bytes")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    messages: int
    bytes: int
    def __init__(self, messages: _Optional[int] = ..., bytes: _Optional[int] = ...) -> None: ...

class Backoff(_message.Message):
    __slots__ = ("initial_ns", "max_ns")
    INITIAL_NS_FIELD_NUMBER: _ClassVar[int]
    MAX_NS_FIELD_NUMBER: _ClassVar[int]
    initial_ns: int
    max_ns: int
    def __init__(self, initial_ns: _Optional[int] = ..., max_ns: _Optional[int] = ...) -> None: ...

class Settlement(_message.Message):
    __slots__ = ("verdict", "ranges", "attempt", "delay_ns", "reason", "token")
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    DELAY_NS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    verdict: Verdict
    ranges: _containers.RepeatedScalarFieldContainer[int]
    attempt: int
    delay_ns: int
    reason: str
    token: int
    def __init__(self, verdict: _Optional[_Union[Verdict, str]] = ..., ranges: _Optional[_Iterable[int]] = ..., attempt: _Optional[int] = ..., delay_ns: _Optional[int] = ..., reason: _Optional[str] = ..., token: _Optional[int] = ...) -> None: ...

class ConsumeResponse(_message.Message):
    __slots__ = ("opened", "deliveries", "confirmed", "stale", "heartbeat", "drain")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    CONFIRMED_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    opened: ConsumeOpened
    deliveries: _containers.RepeatedCompositeFieldContainer[Delivery]
    confirmed: _containers.RepeatedScalarFieldContainer[int]
    stale: _containers.RepeatedCompositeFieldContainer[Stale]
    heartbeat: int
    drain: Drain
    def __init__(self, opened: _Optional[_Union[ConsumeOpened, _Mapping]] = ..., deliveries: _Optional[_Iterable[_Union[Delivery, _Mapping]]] = ..., confirmed: _Optional[_Iterable[int]] = ..., stale: _Optional[_Iterable[_Union[Stale, _Mapping]]] = ..., heartbeat: _Optional[int] = ..., drain: _Optional[_Union[Drain, _Mapping]] = ...) -> None: ...

class ConsumeOpened(_message.Message):
    __slots__ = ("created", "position", "oldest_offset", "missed", "ack_timeout_ns", "max_attempts", "backoff", "credit", "filters", "member")
    CREATED_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    OLDEST_OFFSET_FIELD_NUMBER: _ClassVar[int]
    MISSED_FIELD_NUMBER: _ClassVar[int]
    ACK_TIMEOUT_NS_FIELD_NUMBER: _ClassVar[int]
    MAX_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    BACKOFF_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    created: bool
    position: int
    oldest_offset: int
    missed: int
    ack_timeout_ns: int
    max_attempts: int
    backoff: Backoff
    credit: Credit
    filters: _containers.RepeatedScalarFieldContainer[str]
    member: int
    def __init__(self, created: _Optional[bool] = ..., position: _Optional[int] = ..., oldest_offset: _Optional[int] = ..., missed: _Optional[int] = ..., ack_timeout_ns: _Optional[int] = ..., max_attempts: _Optional[int] = ..., backoff: _Optional[_Union[Backoff, _Mapping]] = ..., credit: _Optional[_Union[Credit, _Mapping]] = ..., filters: _Optional[_Iterable[str]] = ..., member: _Optional[int] = ...) -> None: ...

class Delivery(_message.Message):
    __slots__ = ("base_offset", "attempt", "batch", "selection", "published_at_ns")
    BASE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    SELECTION_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    base_offset: int
    attempt: int
    batch: Batch
    selection: _containers.RepeatedScalarFieldContainer[int]
    published_at_ns: int
    def __init__(self, base_offset: _Optional[int] = ..., attempt: _Optional[int] = ..., batch: _Optional[_Union[Batch, _Mapping]] = ..., selection: _Optional[_Iterable[int]] = ..., published_at_ns: _Optional[int] = ...) -> None: ...

class Stale(_message.Message):
    __slots__ = ("verdict", "ranges", "token")
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    verdict: Verdict
    ranges: _containers.RepeatedScalarFieldContainer[int]
    token: int
    def __init__(self, verdict: _Optional[_Union[Verdict, str]] = ..., ranges: _Optional[_Iterable[int]] = ..., token: _Optional[int] = ...) -> None: ...

class SubscribeBatchesRequest(_message.Message):
    __slots__ = ("open", "close", "heartbeat")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    open: _containers.RepeatedCompositeFieldContainer[SubscriptionOpen]
    close: _containers.RepeatedScalarFieldContainer[int]
    heartbeat: int
    def __init__(self, open: _Optional[_Iterable[_Union[SubscriptionOpen, _Mapping]]] = ..., close: _Optional[_Iterable[int]] = ..., heartbeat: _Optional[int] = ...) -> None: ...

class SubscriptionOpen(_message.Message):
    __slots__ = ("number", "pattern", "queue_groups")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    PATTERN_FIELD_NUMBER: _ClassVar[int]
    QUEUE_GROUPS_FIELD_NUMBER: _ClassVar[int]
    number: int
    pattern: str
    queue_groups: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, number: _Optional[int] = ..., pattern: _Optional[str] = ..., queue_groups: _Optional[_Iterable[str]] = ...) -> None: ...

class SubscribeBatchesResponse(_message.Message):
    __slots__ = ("opened", "closed", "deliveries", "lags", "heartbeat", "drain")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    LAGS_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    opened: _containers.RepeatedScalarFieldContainer[int]
    closed: _containers.RepeatedCompositeFieldContainer[SubscriptionClosed]
    deliveries: _containers.RepeatedCompositeFieldContainer[LiveDelivery]
    lags: _containers.RepeatedCompositeFieldContainer[Lag]
    heartbeat: int
    drain: Drain
    def __init__(self, opened: _Optional[_Iterable[int]] = ..., closed: _Optional[_Iterable[_Union[SubscriptionClosed, _Mapping]]] = ..., deliveries: _Optional[_Iterable[_Union[LiveDelivery, _Mapping]]] = ..., lags: _Optional[_Iterable[_Union[Lag, _Mapping]]] = ..., heartbeat: _Optional[int] = ..., drain: _Optional[_Union[Drain, _Mapping]] = ...) -> None: ...

class SubscriptionClosed(_message.Message):
    __slots__ = ("number", "refusal")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    number: int
    refusal: Refusal
    def __init__(self, number: _Optional[int] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ...) -> None: ...

class LiveDelivery(_message.Message):
    __slots__ = ("subscriptions", "batch", "base_offset", "published_at_ns")
    SUBSCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    BASE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    subscriptions: _containers.RepeatedScalarFieldContainer[int]
    batch: Batch
    base_offset: int
    published_at_ns: int
    def __init__(self, subscriptions: _Optional[_Iterable[int]] = ..., batch: _Optional[_Union[Batch, _Mapping]] = ..., base_offset: _Optional[int] = ..., published_at_ns: _Optional[int] = ...) -> None: ...

class Lag(_message.Message):
    __slots__ = ("subscription", "dropped")
    SUBSCRIPTION_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    subscription: int
    dropped: int
    def __init__(self, subscription: _Optional[int] = ..., dropped: _Optional[int] = ...) -> None: ...

class ReadRequest(_message.Message):
    __slots__ = ("filters", "start", "limit", "follow")
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    filters: _containers.RepeatedScalarFieldContainer[str]
    start: Start
    limit: int
    follow: bool
    def __init__(self, filters: _Optional[_Iterable[str]] = ..., start: _Optional[_Union[Start, _Mapping]] = ..., limit: _Optional[int] = ..., follow: _Optional[bool] = ...) -> None: ...

class ReadResponse(_message.Message):
    __slots__ = ("deliveries", "next_offset", "oldest_offset")
    DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    OLDEST_OFFSET_FIELD_NUMBER: _ClassVar[int]
    deliveries: _containers.RepeatedCompositeFieldContainer[Delivery]
    next_offset: int
    oldest_offset: int
    def __init__(self, deliveries: _Optional[_Iterable[_Union[Delivery, _Mapping]]] = ..., next_offset: _Optional[int] = ..., oldest_offset: _Optional[int] = ...) -> None: ...
