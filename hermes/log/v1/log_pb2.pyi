from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KIND_UNSPECIFIED: _ClassVar[Kind]
    PUBLISHED: _ClassVar[Kind]
    PUBLISHED_LIVE: _ClassVar[Kind]
    AUDIENCE: _ClassVar[Kind]
    DELIVERED: _ClassVar[Kind]
    DELIVERED_LIVE: _ClassVar[Kind]
    ACKED: _ClassVar[Kind]
    NACKED: _ClassVar[Kind]
    REJECTED: _ClassVar[Kind]
    EXTENDED: _ClassVar[Kind]
    EXPIRED: _ClassVar[Kind]
    RELEASED: _ClassVar[Kind]
    DEAD_LETTERED: _ClassVar[Kind]
    REPLAYED: _ClassVar[Kind]
    DISCARDED: _ClassVar[Kind]
    REOPENED: _ClassVar[Kind]
    DROPPED: _ClassVar[Kind]
    CONSUMER_CREATED: _ClassVar[Kind]
    CONSUMER_UPDATED: _ClassVar[Kind]
    CONSUMER_PAUSED: _ClassVar[Kind]
    CONSUMER_RESUMED: _ClassVar[Kind]
    CONSUMER_SOUGHT: _ClassVar[Kind]
    CONSUMER_DELETED: _ClassVar[Kind]
    SESSION_OPENED: _ClassVar[Kind]
    SESSION_CLOSED: _ClassVar[Kind]
    MEMBER_JOINED: _ClassVar[Kind]
    MEMBER_LEFT: _ClassVar[Kind]
    SUBSCRIPTION_OPENED: _ClassVar[Kind]
    SUBSCRIPTION_CLOSED: _ClassVar[Kind]
    SNAPSHOT: _ClassVar[Kind]
    SEGMENT_SEALED: _ClassVar[Kind]
    SEGMENT_COMPACTED: _ClassVar[Kind]
    SEGMENT_DROPPED: _ClassVar[Kind]
    PAYLOAD_ERASED: _ClassVar[Kind]
    LOST: _ClassVar[Kind]
    CHECKPOINT: _ClassVar[Kind]
    CLOCK_STEPPED: _ClassVar[Kind]
    SERVER_STARTED: _ClassVar[Kind]
    SERVER_STOPPED: _ClassVar[Kind]

class ReleaseCause(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RELEASE_CAUSE_UNSPECIFIED: _ClassVar[ReleaseCause]
    HANDED_BACK: _ClassVar[ReleaseCause]
    MEMBER_GONE: _ClassVar[ReleaseCause]
    SERVER_DRAINED: _ClassVar[ReleaseCause]
    SERVER_RESTARTED: _ClassVar[ReleaseCause]

class DeadCause(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DEAD_CAUSE_UNSPECIFIED: _ClassVar[DeadCause]
    TOO_MANY_FAILURES: _ClassVar[DeadCause]
    REJECTED_BY_MEMBER: _ClassVar[DeadCause]
    PAYLOAD_GONE: _ClassVar[DeadCause]

class DeleteCause(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DELETE_CAUSE_UNSPECIFIED: _ClassVar[DeleteCause]
    DELETED_BY_REQUEST: _ClassVar[DeleteCause]
    DELETED_FOR_INACTIVITY: _ClassVar[DeleteCause]
KIND_UNSPECIFIED: Kind
PUBLISHED: Kind
PUBLISHED_LIVE: Kind
AUDIENCE: Kind
DELIVERED: Kind
DELIVERED_LIVE: Kind
ACKED: Kind
NACKED: Kind
REJECTED: Kind
EXTENDED: Kind
EXPIRED: Kind
RELEASED: Kind
DEAD_LETTERED: Kind
REPLAYED: Kind
DISCARDED: Kind
REOPENED: Kind
DROPPED: Kind
CONSUMER_CREATED: Kind
CONSUMER_UPDATED: Kind
CONSUMER_PAUSED: Kind
CONSUMER_RESUMED: Kind
CONSUMER_SOUGHT: Kind
CONSUMER_DELETED: Kind
SESSION_OPENED: Kind
SESSION_CLOSED: Kind
MEMBER_JOINED: Kind
MEMBER_LEFT: Kind
SUBSCRIPTION_OPENED: Kind
SUBSCRIPTION_CLOSED: Kind
SNAPSHOT: Kind
SEGMENT_SEALED: Kind
SEGMENT_COMPACTED: Kind
SEGMENT_DROPPED: Kind
PAYLOAD_ERASED: Kind
LOST: Kind
CHECKPOINT: Kind
CLOCK_STEPPED: Kind
SERVER_STARTED: Kind
SERVER_STOPPED: Kind
RELEASE_CAUSE_UNSPECIFIED: ReleaseCause
HANDED_BACK: ReleaseCause
MEMBER_GONE: ReleaseCause
SERVER_DRAINED: ReleaseCause
SERVER_RESTARTED: ReleaseCause
DEAD_CAUSE_UNSPECIFIED: DeadCause
TOO_MANY_FAILURES: DeadCause
REJECTED_BY_MEMBER: DeadCause
PAYLOAD_GONE: DeadCause
DELETE_CAUSE_UNSPECIFIED: DeleteCause
DELETED_BY_REQUEST: DeleteCause
DELETED_FOR_INACTIVITY: DeleteCause

class Published(_message.Message):
    __slots__ = ("engine_time_ns", "session", "head", "sizes", "producer_id", "producer_sequence", "dead_letter_consumer", "dead_letter_offset")
    ENGINE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    SIZES_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_ID_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    DEAD_LETTER_CONSUMER_FIELD_NUMBER: _ClassVar[int]
    DEAD_LETTER_OFFSET_FIELD_NUMBER: _ClassVar[int]
    engine_time_ns: int
    session: int
    head: bytes
    sizes: _containers.RepeatedScalarFieldContainer[int]
    producer_id: bytes
    producer_sequence: int
    dead_letter_consumer: str
    dead_letter_offset: int
    def __init__(self, engine_time_ns: _Optional[int] = ..., session: _Optional[int] = ..., head: _Optional[bytes] = ..., sizes: _Optional[_Iterable[int]] = ..., producer_id: _Optional[bytes] = ..., producer_sequence: _Optional[int] = ..., dead_letter_consumer: _Optional[str] = ..., dead_letter_offset: _Optional[int] = ...) -> None: ...

class PublishedLive(_message.Message):
    __slots__ = ("engine_time_ns", "session", "head", "sizes")
    ENGINE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    SIZES_FIELD_NUMBER: _ClassVar[int]
    engine_time_ns: int
    session: int
    head: bytes
    sizes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, engine_time_ns: _Optional[int] = ..., session: _Optional[int] = ..., head: _Optional[bytes] = ..., sizes: _Optional[_Iterable[int]] = ...) -> None: ...

class Audience(_message.Message):
    __slots__ = ("engine_time_ns", "subscriptions")
    ENGINE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    engine_time_ns: int
    subscriptions: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, engine_time_ns: _Optional[int] = ..., subscriptions: _Optional[_Iterable[int]] = ...) -> None: ...

class DeliveredLive(_message.Message):
    __slots__ = ("engine_time_ns", "published_lsn", "audience", "picks")
    ENGINE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_LSN_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    PICKS_FIELD_NUMBER: _ClassVar[int]
    engine_time_ns: int
    published_lsn: int
    audience: int
    picks: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, engine_time_ns: _Optional[int] = ..., published_lsn: _Optional[int] = ..., audience: _Optional[int] = ..., picks: _Optional[_Iterable[int]] = ...) -> None: ...

class Dropped(_message.Message):
    __slots__ = ("engine_time_ns", "session", "subscription", "messages", "first_published_lsn", "last_published_lsn")
    ENGINE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTION_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    FIRST_PUBLISHED_LSN_FIELD_NUMBER: _ClassVar[int]
    LAST_PUBLISHED_LSN_FIELD_NUMBER: _ClassVar[int]
    engine_time_ns: int
    session: int
    subscription: int
    messages: int
    first_published_lsn: int
    last_published_lsn: int
    def __init__(self, engine_time_ns: _Optional[int] = ..., session: _Optional[int] = ..., subscription: _Optional[int] = ..., messages: _Optional[int] = ..., first_published_lsn: _Optional[int] = ..., last_published_lsn: _Optional[int] = ...) -> None: ...

class Delivered(_message.Message):
    __slots__ = ("engine_time_ns", "session", "member", "attempt", "deadline_ns", "ranges", "mean_bytes")
    ENGINE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_NS_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    MEAN_BYTES_FIELD_NUMBER: _ClassVar[int]
    engine_time_ns: int
    session: int
    member: int
    attempt: int
    deadline_ns: int
    ranges: _containers.RepeatedScalarFieldContainer[int]
    mean_bytes: int
    def __init__(self, engine_time_ns: _Optional[int] = ..., session: _Optional[int] = ..., member: _Optional[int] = ..., attempt: _Optional[int] = ..., deadline_ns: _Optional[int] = ..., ranges: _Optional[_Iterable[int]] = ..., mean_bytes: _Optional[int] = ...) -> None: ...

class Acked(_message.Message):
    __slots__ = ("engine_time_ns", "session", "member", "ranges")
    ENGINE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    engine_time_ns: int
    session: int
    member: int
    ranges: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, engine_time_ns: _Optional[int] = ..., session: _Optional[int] = ..., member: _Optional[int] = ..., ranges: _Optional[_Iterable[int]] = ...) -> None: ...

class Nacked(_message.Message):
    __slots__ = ("engine_time_ns", "session", "member", "attempt", "due_ns", "reason", "ranges")
    ENGINE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    DUE_NS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    engine_time_ns: int
    session: int
    member: int
    attempt: int
    due_ns: int
    reason: str
    ranges: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, engine_time_ns: _Optional[int] = ..., session: _Optional[int] = ..., member: _Optional[int] = ..., attempt: _Optional[int] = ..., due_ns: _Optional[int] = ..., reason: _Optional[str] = ..., ranges: _Optional[_Iterable[int]] = ...) -> None: ...

class Rejected(_message.Message):
    __slots__ = ("engine_time_ns", "session", "member", "attempt", "reason", "ranges")
    ENGINE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    engine_time_ns: int
    session: int
    member: int
    attempt: int
    reason: str
    ranges: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, engine_time_ns: _Optional[int] = ..., session: _Optional[int] = ..., member: _Optional[int] = ..., attempt: _Optional[int] = ..., reason: _Optional[str] = ..., ranges: _Optional[_Iterable[int]] = ...) -> None: ...

class Extended(_message.Message):
    __slots__ = ("engine_time_ns", "session", "member", "attempt", "deadline_ns", "ranges")
    ENGINE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_NS_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    engine_time_ns: int
    session: int
    member: int
    attempt: int
    deadline_ns: int
    ranges: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, engine_time_ns: _Optional[int] = ..., session: _Optional[int] = ..., member: _Optional[int] = ..., attempt: _Optional[int] = ..., deadline_ns: _Optional[int] = ..., ranges: _Optional[_Iterable[int]] = ...) -> None: ...

class Expired(_message.Message):
    __slots__ = ("engine_time_ns", "member", "attempt", "due_ns", "ranges")
    ENGINE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    DUE_NS_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    engine_time_ns: int
    member: int
    attempt: int
    due_ns: int
    ranges: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, engine_time_ns: _Optional[int] = ..., member: _Optional[int] = ..., attempt: _Optional[int] = ..., due_ns: _Optional[int] = ..., ranges: _Optional[_Iterable[int]] = ...) -> None: ...

class Released(_message.Message):
    __slots__ = ("engine_time_ns", "session", "member", "attempt", "cause", "failure", "due_ns", "ranges")
    ENGINE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    DUE_NS_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    engine_time_ns: int
    session: int
    member: int
    attempt: int
    cause: ReleaseCause
    failure: bool
    due_ns: int
    ranges: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, engine_time_ns: _Optional[int] = ..., session: _Optional[int] = ..., member: _Optional[int] = ..., attempt: _Optional[int] = ..., cause: _Optional[_Union[ReleaseCause, str]] = ..., failure: _Optional[bool] = ..., due_ns: _Optional[int] = ..., ranges: _Optional[_Iterable[int]] = ...) -> None: ...

class DeadLettered(_message.Message):
    __slots__ = ("engine_time_ns", "session", "cause", "attempts", "failures", "reason", "at_ns", "ranges")
    ENGINE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    AT_NS_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    engine_time_ns: int
    session: int
    cause: DeadCause
    attempts: int
    failures: int
    reason: str
    at_ns: int
    ranges: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, engine_time_ns: _Optional[int] = ..., session: _Optional[int] = ..., cause: _Optional[_Union[DeadCause, str]] = ..., attempts: _Optional[int] = ..., failures: _Optional[int] = ..., reason: _Optional[str] = ..., at_ns: _Optional[int] = ..., ranges: _Optional[_Iterable[int]] = ...) -> None: ...

class Replayed(_message.Message):
    __slots__ = ("engine_time_ns", "session", "due_ns", "ranges")
    ENGINE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    DUE_NS_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    engine_time_ns: int
    session: int
    due_ns: int
    ranges: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, engine_time_ns: _Optional[int] = ..., session: _Optional[int] = ..., due_ns: _Optional[int] = ..., ranges: _Optional[_Iterable[int]] = ...) -> None: ...

class Discarded(_message.Message):
    __slots__ = ("engine_time_ns", "session", "ranges")
    ENGINE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    engine_time_ns: int
    session: int
    ranges: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, engine_time_ns: _Optional[int] = ..., session: _Optional[int] = ..., ranges: _Optional[_Iterable[int]] = ...) -> None: ...

class Reopened(_message.Message):
    __slots__ = ("engine_time_ns", "session", "due_ns", "ranges")
    ENGINE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    DUE_NS_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    engine_time_ns: int
    session: int
    due_ns: int
    ranges: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, engine_time_ns: _Optional[int] = ..., session: _Optional[int] = ..., due_ns: _Optional[int] = ..., ranges: _Optional[_Iterable[int]] = ...) -> None: ...

class ConsumerPolicy(_message.Message):
    __slots__ = ("filters", "ack_timeout_ns", "max_attempts", "backoff_initial_ns", "backoff_max_ns", "inactivity_limit_ns")
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    ACK_TIMEOUT_NS_FIELD_NUMBER: _ClassVar[int]
    MAX_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    BACKOFF_INITIAL_NS_FIELD_NUMBER: _ClassVar[int]
    BACKOFF_MAX_NS_FIELD_NUMBER: _ClassVar[int]
    INACTIVITY_LIMIT_NS_FIELD_NUMBER: _ClassVar[int]
    filters: _containers.RepeatedScalarFieldContainer[str]
    ack_timeout_ns: int
    max_attempts: int
    backoff_initial_ns: int
    backoff_max_ns: int
    inactivity_limit_ns: int
    def __init__(self, filters: _Optional[_Iterable[str]] = ..., ack_timeout_ns: _Optional[int] = ..., max_attempts: _Optional[int] = ..., backoff_initial_ns: _Optional[int] = ..., backoff_max_ns: _Optional[int] = ..., inactivity_limit_ns: _Optional[int] = ...) -> None: ...

class ConsumerCreated(_message.Message):
    __slots__ = ("engine_time_ns", "session", "policy", "position", "at_ns")
    ENGINE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    AT_NS_FIELD_NUMBER: _ClassVar[int]
    engine_time_ns: int
    session: int
    policy: ConsumerPolicy
    position: int
    at_ns: int
    def __init__(self, engine_time_ns: _Optional[int] = ..., session: _Optional[int] = ..., policy: _Optional[_Union[ConsumerPolicy, _Mapping]] = ..., position: _Optional[int] = ..., at_ns: _Optional[int] = ...) -> None: ...

class ConsumerUpdated(_message.Message):
    __slots__ = ("engine_time_ns", "session", "policy")
    ENGINE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    engine_time_ns: int
    session: int
    policy: ConsumerPolicy
    def __init__(self, engine_time_ns: _Optional[int] = ..., session: _Optional[int] = ..., policy: _Optional[_Union[ConsumerPolicy, _Mapping]] = ...) -> None: ...

class ConsumerPaused(_message.Message):
    __slots__ = ("engine_time_ns", "session")
    ENGINE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    engine_time_ns: int
    session: int
    def __init__(self, engine_time_ns: _Optional[int] = ..., session: _Optional[int] = ...) -> None: ...

class ConsumerResumed(_message.Message):
    __slots__ = ("engine_time_ns", "session")
    ENGINE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    engine_time_ns: int
    session: int
    def __init__(self, engine_time_ns: _Optional[int] = ..., session: _Optional[int] = ...) -> None: ...

class ConsumerSought(_message.Message):
    __slots__ = ("engine_time_ns", "session", "position")
    ENGINE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    engine_time_ns: int
    session: int
    position: int
    def __init__(self, engine_time_ns: _Optional[int] = ..., session: _Optional[int] = ..., position: _Optional[int] = ...) -> None: ...

class ConsumerDeleted(_message.Message):
    __slots__ = ("engine_time_ns", "session", "cause")
    ENGINE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    engine_time_ns: int
    session: int
    cause: DeleteCause
    def __init__(self, engine_time_ns: _Optional[int] = ..., session: _Optional[int] = ..., cause: _Optional[_Union[DeleteCause, str]] = ...) -> None: ...

class SessionOpened(_message.Message):
    __slots__ = ("engine_time_ns", "principal", "peer", "client_name", "client_version", "client_id")
    ENGINE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    CLIENT_NAME_FIELD_NUMBER: _ClassVar[int]
    CLIENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    engine_time_ns: int
    principal: str
    peer: str
    client_name: str
    client_version: str
    client_id: str
    def __init__(self, engine_time_ns: _Optional[int] = ..., principal: _Optional[str] = ..., peer: _Optional[str] = ..., client_name: _Optional[str] = ..., client_version: _Optional[str] = ..., client_id: _Optional[str] = ...) -> None: ...

class SessionClosed(_message.Message):
    __slots__ = ("engine_time_ns", "session", "reason")
    ENGINE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    engine_time_ns: int
    session: int
    reason: str
    def __init__(self, engine_time_ns: _Optional[int] = ..., session: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class MemberJoined(_message.Message):
    __slots__ = ("engine_time_ns", "session", "credit_messages", "credit_bytes")
    ENGINE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    CREDIT_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    CREDIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    engine_time_ns: int
    session: int
    credit_messages: int
    credit_bytes: int
    def __init__(self, engine_time_ns: _Optional[int] = ..., session: _Optional[int] = ..., credit_messages: _Optional[int] = ..., credit_bytes: _Optional[int] = ...) -> None: ...

class MemberLeft(_message.Message):
    __slots__ = ("engine_time_ns", "session", "member", "reason")
    ENGINE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    engine_time_ns: int
    session: int
    member: int
    reason: str
    def __init__(self, engine_time_ns: _Optional[int] = ..., session: _Optional[int] = ..., member: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class SubscriptionOpened(_message.Message):
    __slots__ = ("engine_time_ns", "session", "queue_groups")
    ENGINE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    QUEUE_GROUPS_FIELD_NUMBER: _ClassVar[int]
    engine_time_ns: int
    session: int
    queue_groups: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, engine_time_ns: _Optional[int] = ..., session: _Optional[int] = ..., queue_groups: _Optional[_Iterable[str]] = ...) -> None: ...

class SubscriptionClosed(_message.Message):
    __slots__ = ("engine_time_ns", "session", "subscription", "dropped")
    ENGINE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTION_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    engine_time_ns: int
    session: int
    subscription: int
    dropped: int
    def __init__(self, engine_time_ns: _Optional[int] = ..., session: _Optional[int] = ..., subscription: _Optional[int] = ..., dropped: _Optional[int] = ...) -> None: ...

class SegmentSealed(_message.Message):
    __slots__ = ("engine_time_ns", "first_lsn", "last_lsn", "records", "first_offset", "last_offset", "lowest_touched", "highest_touched", "chain")
    ENGINE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    FIRST_LSN_FIELD_NUMBER: _ClassVar[int]
    LAST_LSN_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    FIRST_OFFSET_FIELD_NUMBER: _ClassVar[int]
    LAST_OFFSET_FIELD_NUMBER: _ClassVar[int]
    LOWEST_TOUCHED_FIELD_NUMBER: _ClassVar[int]
    HIGHEST_TOUCHED_FIELD_NUMBER: _ClassVar[int]
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    engine_time_ns: int
    first_lsn: int
    last_lsn: int
    records: int
    first_offset: int
    last_offset: int
    lowest_touched: int
    highest_touched: int
    chain: bytes
    def __init__(self, engine_time_ns: _Optional[int] = ..., first_lsn: _Optional[int] = ..., last_lsn: _Optional[int] = ..., records: _Optional[int] = ..., first_offset: _Optional[int] = ..., last_offset: _Optional[int] = ..., lowest_touched: _Optional[int] = ..., highest_touched: _Optional[int] = ..., chain: _Optional[bytes] = ...) -> None: ...

class SegmentCompacted(_message.Message):
    __slots__ = ("engine_time_ns", "first_lsn", "last_lsn", "retired")
    ENGINE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    FIRST_LSN_FIELD_NUMBER: _ClassVar[int]
    LAST_LSN_FIELD_NUMBER: _ClassVar[int]
    RETIRED_FIELD_NUMBER: _ClassVar[int]
    engine_time_ns: int
    first_lsn: int
    last_lsn: int
    retired: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, engine_time_ns: _Optional[int] = ..., first_lsn: _Optional[int] = ..., last_lsn: _Optional[int] = ..., retired: _Optional[_Iterable[int]] = ...) -> None: ...

class SegmentDropped(_message.Message):
    __slots__ = ("engine_time_ns", "first_lsn", "last_lsn", "first_offset", "last_offset", "chain")
    ENGINE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    FIRST_LSN_FIELD_NUMBER: _ClassVar[int]
    LAST_LSN_FIELD_NUMBER: _ClassVar[int]
    FIRST_OFFSET_FIELD_NUMBER: _ClassVar[int]
    LAST_OFFSET_FIELD_NUMBER: _ClassVar[int]
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    engine_time_ns: int
    first_lsn: int
    last_lsn: int
    first_offset: int
    last_offset: int
    chain: bytes
    def __init__(self, engine_time_ns: _Optional[int] = ..., first_lsn: _Optional[int] = ..., last_lsn: _Optional[int] = ..., first_offset: _Optional[int] = ..., last_offset: _Optional[int] = ..., chain: _Optional[bytes] = ...) -> None: ...

class PayloadErased(_message.Message):
    __slots__ = ("engine_time_ns", "session", "published_lsn", "reason")
    ENGINE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_LSN_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    engine_time_ns: int
    session: int
    published_lsn: int
    reason: str
    def __init__(self, engine_time_ns: _Optional[int] = ..., session: _Optional[int] = ..., published_lsn: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class Lost(_message.Message):
    __slots__ = ("engine_time_ns", "first_lsn", "last_lsn", "first_offset", "next_offset", "chain")
    ENGINE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    FIRST_LSN_FIELD_NUMBER: _ClassVar[int]
    LAST_LSN_FIELD_NUMBER: _ClassVar[int]
    FIRST_OFFSET_FIELD_NUMBER: _ClassVar[int]
    NEXT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    engine_time_ns: int
    first_lsn: int
    last_lsn: int
    first_offset: int
    next_offset: int
    chain: bytes
    def __init__(self, engine_time_ns: _Optional[int] = ..., first_lsn: _Optional[int] = ..., last_lsn: _Optional[int] = ..., first_offset: _Optional[int] = ..., next_offset: _Optional[int] = ..., chain: _Optional[bytes] = ...) -> None: ...

class Checkpoint(_message.Message):
    __slots__ = ("engine_time_ns", "lsn", "chain", "at_ns", "note")
    ENGINE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    LSN_FIELD_NUMBER: _ClassVar[int]
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    AT_NS_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    engine_time_ns: int
    lsn: int
    chain: bytes
    at_ns: int
    note: str
    def __init__(self, engine_time_ns: _Optional[int] = ..., lsn: _Optional[int] = ..., chain: _Optional[bytes] = ..., at_ns: _Optional[int] = ..., note: _Optional[str] = ...) -> None: ...

class ClockStepped(_message.Message):
    __slots__ = ("engine_time_ns", "step_ns")
    ENGINE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    STEP_NS_FIELD_NUMBER: _ClassVar[int]
    engine_time_ns: int
    step_ns: int
    def __init__(self, engine_time_ns: _Optional[int] = ..., step_ns: _Optional[int] = ...) -> None: ...

class ServerStarted(_message.Message):
    __slots__ = ("engine_time_ns", "version", "host", "boot_id", "config_digest", "clean_stop", "dedup_window_ns", "dedup_ids_max")
    ENGINE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    CONFIG_DIGEST_FIELD_NUMBER: _ClassVar[int]
    CLEAN_STOP_FIELD_NUMBER: _ClassVar[int]
    DEDUP_WINDOW_NS_FIELD_NUMBER: _ClassVar[int]
    DEDUP_IDS_MAX_FIELD_NUMBER: _ClassVar[int]
    engine_time_ns: int
    version: str
    host: str
    boot_id: str
    config_digest: bytes
    clean_stop: bool
    dedup_window_ns: int
    dedup_ids_max: int
    def __init__(self, engine_time_ns: _Optional[int] = ..., version: _Optional[str] = ..., host: _Optional[str] = ..., boot_id: _Optional[str] = ..., config_digest: _Optional[bytes] = ..., clean_stop: _Optional[bool] = ..., dedup_window_ns: _Optional[int] = ..., dedup_ids_max: _Optional[int] = ...) -> None: ...

class ServerStopped(_message.Message):
    __slots__ = ("engine_time_ns", "reason")
    ENGINE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    engine_time_ns: int
    reason: str
    def __init__(self, engine_time_ns: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class Snapshot(_message.Message):
    __slots__ = ("engine_time_ns", "next_offset", "oldest_offset", "clean_stop", "dedup_window_ns", "dedup_ids_max", "ids", "producers", "consumers", "sessions", "subscriptions")
    ENGINE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    NEXT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    OLDEST_OFFSET_FIELD_NUMBER: _ClassVar[int]
    CLEAN_STOP_FIELD_NUMBER: _ClassVar[int]
    DEDUP_WINDOW_NS_FIELD_NUMBER: _ClassVar[int]
    DEDUP_IDS_MAX_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    PRODUCERS_FIELD_NUMBER: _ClassVar[int]
    CONSUMERS_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    engine_time_ns: int
    next_offset: int
    oldest_offset: int
    clean_stop: bool
    dedup_window_ns: int
    dedup_ids_max: int
    ids: _containers.RepeatedCompositeFieldContainer[SnapshotId]
    producers: _containers.RepeatedCompositeFieldContainer[SnapshotProducer]
    consumers: _containers.RepeatedCompositeFieldContainer[SnapshotConsumer]
    sessions: _containers.RepeatedCompositeFieldContainer[SnapshotSession]
    subscriptions: _containers.RepeatedCompositeFieldContainer[SnapshotSubscription]
    def __init__(self, engine_time_ns: _Optional[int] = ..., next_offset: _Optional[int] = ..., oldest_offset: _Optional[int] = ..., clean_stop: _Optional[bool] = ..., dedup_window_ns: _Optional[int] = ..., dedup_ids_max: _Optional[int] = ..., ids: _Optional[_Iterable[_Union[SnapshotId, _Mapping]]] = ..., producers: _Optional[_Iterable[_Union[SnapshotProducer, _Mapping]]] = ..., consumers: _Optional[_Iterable[_Union[SnapshotConsumer, _Mapping]]] = ..., sessions: _Optional[_Iterable[_Union[SnapshotSession, _Mapping]]] = ..., subscriptions: _Optional[_Iterable[_Union[SnapshotSubscription, _Mapping]]] = ...) -> None: ...

class SnapshotId(_message.Message):
    __slots__ = ("subject", "id", "offset", "engine_time_ns")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    ENGINE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    subject: str
    id: str
    offset: int
    engine_time_ns: int
    def __init__(self, subject: _Optional[str] = ..., id: _Optional[str] = ..., offset: _Optional[int] = ..., engine_time_ns: _Optional[int] = ...) -> None: ...

class SnapshotProducer(_message.Message):
    __slots__ = ("id", "sequences", "offsets", "counts")
    ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCES_FIELD_NUMBER: _ClassVar[int]
    OFFSETS_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    sequences: _containers.RepeatedScalarFieldContainer[int]
    offsets: _containers.RepeatedScalarFieldContainer[int]
    counts: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, id: _Optional[bytes] = ..., sequences: _Optional[_Iterable[int]] = ..., offsets: _Optional[_Iterable[int]] = ..., counts: _Optional[_Iterable[int]] = ...) -> None: ...

class SnapshotConsumer(_message.Message):
    __slots__ = ("name", "created_lsn", "created_at_ns", "policy", "position", "last_active_ns", "paused", "members", "leases", "waiting", "dead")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CREATED_LSN_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    LAST_ACTIVE_NS_FIELD_NUMBER: _ClassVar[int]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    DEAD_FIELD_NUMBER: _ClassVar[int]
    name: str
    created_lsn: int
    created_at_ns: int
    policy: ConsumerPolicy
    position: int
    last_active_ns: int
    paused: bool
    members: _containers.RepeatedCompositeFieldContainer[SnapshotMember]
    leases: _containers.RepeatedCompositeFieldContainer[SnapshotLease]
    waiting: _containers.RepeatedCompositeFieldContainer[SnapshotWaiting]
    dead: _containers.RepeatedCompositeFieldContainer[SnapshotDead]
    def __init__(self, name: _Optional[str] = ..., created_lsn: _Optional[int] = ..., created_at_ns: _Optional[int] = ..., policy: _Optional[_Union[ConsumerPolicy, _Mapping]] = ..., position: _Optional[int] = ..., last_active_ns: _Optional[int] = ..., paused: _Optional[bool] = ..., members: _Optional[_Iterable[_Union[SnapshotMember, _Mapping]]] = ..., leases: _Optional[_Iterable[_Union[SnapshotLease, _Mapping]]] = ..., waiting: _Optional[_Iterable[_Union[SnapshotWaiting, _Mapping]]] = ..., dead: _Optional[_Iterable[_Union[SnapshotDead, _Mapping]]] = ...) -> None: ...

class SnapshotMember(_message.Message):
    __slots__ = ("member", "session", "credit_messages", "credit_bytes")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    CREDIT_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    CREDIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    member: int
    session: int
    credit_messages: int
    credit_bytes: int
    def __init__(self, member: _Optional[int] = ..., session: _Optional[int] = ..., credit_messages: _Optional[int] = ..., credit_bytes: _Optional[int] = ...) -> None: ...

class SnapshotLease(_message.Message):
    __slots__ = ("first", "last", "member", "attempt", "failures", "releases", "deadline_ns", "mean_bytes")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    RELEASES_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_NS_FIELD_NUMBER: _ClassVar[int]
    MEAN_BYTES_FIELD_NUMBER: _ClassVar[int]
    first: int
    last: int
    member: int
    attempt: int
    failures: int
    releases: int
    deadline_ns: int
    mean_bytes: int
    def __init__(self, first: _Optional[int] = ..., last: _Optional[int] = ..., member: _Optional[int] = ..., attempt: _Optional[int] = ..., failures: _Optional[int] = ..., releases: _Optional[int] = ..., deadline_ns: _Optional[int] = ..., mean_bytes: _Optional[int] = ...) -> None: ...

class SnapshotWaiting(_message.Message):
    __slots__ = ("first", "last", "attempt", "failures", "releases", "due_ns")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    RELEASES_FIELD_NUMBER: _ClassVar[int]
    DUE_NS_FIELD_NUMBER: _ClassVar[int]
    first: int
    last: int
    attempt: int
    failures: int
    releases: int
    due_ns: int
    def __init__(self, first: _Optional[int] = ..., last: _Optional[int] = ..., attempt: _Optional[int] = ..., failures: _Optional[int] = ..., releases: _Optional[int] = ..., due_ns: _Optional[int] = ...) -> None: ...

class SnapshotDead(_message.Message):
    __slots__ = ("first", "last", "attempts", "failures", "cause", "reason", "at_ns", "copy_offset")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    AT_NS_FIELD_NUMBER: _ClassVar[int]
    COPY_OFFSET_FIELD_NUMBER: _ClassVar[int]
    first: int
    last: int
    attempts: int
    failures: int
    cause: DeadCause
    reason: str
    at_ns: int
    copy_offset: int
    def __init__(self, first: _Optional[int] = ..., last: _Optional[int] = ..., attempts: _Optional[int] = ..., failures: _Optional[int] = ..., cause: _Optional[_Union[DeadCause, str]] = ..., reason: _Optional[str] = ..., at_ns: _Optional[int] = ..., copy_offset: _Optional[int] = ...) -> None: ...

class SnapshotSession(_message.Message):
    __slots__ = ("session", "principal", "peer", "client_name", "client_version", "client_id")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    CLIENT_NAME_FIELD_NUMBER: _ClassVar[int]
    CLIENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    session: int
    principal: str
    peer: str
    client_name: str
    client_version: str
    client_id: str
    def __init__(self, session: _Optional[int] = ..., principal: _Optional[str] = ..., peer: _Optional[str] = ..., client_name: _Optional[str] = ..., client_version: _Optional[str] = ..., client_id: _Optional[str] = ...) -> None: ...

class SnapshotSubscription(_message.Message):
    __slots__ = ("subscription", "pattern", "queue_groups", "session")
    SUBSCRIPTION_FIELD_NUMBER: _ClassVar[int]
    PATTERN_FIELD_NUMBER: _ClassVar[int]
    QUEUE_GROUPS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    subscription: int
    pattern: str
    queue_groups: _containers.RepeatedScalarFieldContainer[str]
    session: int
    def __init__(self, subscription: _Optional[int] = ..., pattern: _Optional[str] = ..., queue_groups: _Optional[_Iterable[str]] = ..., session: _Optional[int] = ...) -> None: ...
