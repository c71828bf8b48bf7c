from hermes.broker.v1 import broker_pb2 as _broker_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetServerRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ServerInfo(_message.Message):
    __slots__ = ("version", "store_id", "next_lsn", "oldest_offset", "next_offset", "started_at_ns", "consumers", "subscriptions", "segments", "store_bytes", "quarantined", "quarantined_segments", "quarantined_records")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    NEXT_LSN_FIELD_NUMBER: _ClassVar[int]
    OLDEST_OFFSET_FIELD_NUMBER: _ClassVar[int]
    NEXT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    CONSUMERS_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    STORE_BYTES_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_RECORDS_FIELD_NUMBER: _ClassVar[int]
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
    quarantined: _containers.RepeatedCompositeFieldContainer[QuarantinedSegment]
    quarantined_segments: int
    quarantined_records: int
    def __init__(self, version: _Optional[str] = ..., store_id: _Optional[str] = ..., next_lsn: _Optional[int] = ..., oldest_offset: _Optional[int] = ..., next_offset: _Optional[int] = ..., started_at_ns: _Optional[int] = ..., consumers: _Optional[int] = ..., subscriptions: _Optional[int] = ..., segments: _Optional[int] = ..., store_bytes: _Optional[int] = ..., quarantined: _Optional[_Iterable[_Union[QuarantinedSegment, _Mapping]]] = ..., quarantined_segments: _Optional[int] = ..., quarantined_records: _Optional[int] = ...) -> None: ...

class QuarantinedSegment(_message.Message):
    __slots__ = ("first_lsn", "last_lsn", "first_offset", "last_offset", "reason", "path", "pinned_consumers", "pinned", "unsettled_consumers", "unsettled")
    FIRST_LSN_FIELD_NUMBER: _ClassVar[int]
    LAST_LSN_FIELD_NUMBER: _ClassVar[int]
    FIRST_OFFSET_FIELD_NUMBER: _ClassVar[int]
    LAST_OFFSET_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    PINNED_CONSUMERS_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    UNSETTLED_CONSUMERS_FIELD_NUMBER: _ClassVar[int]
    UNSETTLED_FIELD_NUMBER: _ClassVar[int]
    first_lsn: int
    last_lsn: int
    first_offset: int
    last_offset: int
    reason: str
    path: str
    pinned_consumers: int
    pinned: _containers.RepeatedScalarFieldContainer[str]
    unsettled_consumers: int
    unsettled: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, first_lsn: _Optional[int] = ..., last_lsn: _Optional[int] = ..., first_offset: _Optional[int] = ..., last_offset: _Optional[int] = ..., reason: _Optional[str] = ..., path: _Optional[str] = ..., pinned_consumers: _Optional[int] = ..., pinned: _Optional[_Iterable[str]] = ..., unsettled_consumers: _Optional[int] = ..., unsettled: _Optional[_Iterable[str]] = ...) -> None: ...

class ListConsumersRequest(_message.Message):
    __slots__ = ("after", "page_size")
    AFTER_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    after: str
    page_size: int
    def __init__(self, after: _Optional[str] = ..., page_size: _Optional[int] = ...) -> None: ...

class ListConsumersResponse(_message.Message):
    __slots__ = ("consumers", "next")
    CONSUMERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    consumers: _containers.RepeatedCompositeFieldContainer[Consumer]
    next: str
    def __init__(self, consumers: _Optional[_Iterable[_Union[Consumer, _Mapping]]] = ..., next: _Optional[str] = ...) -> None: ...

class Consumer(_message.Message):
    __slots__ = ("name", "filters", "position", "lag", "in_flight", "waiting", "dead", "members", "created_at_ns", "ack_timeout_ns", "max_attempts", "backoff", "oldest_unacked_offset", "inactivity_limit_ns", "withheld", "pin")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    LAG_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    DEAD_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    ACK_TIMEOUT_NS_FIELD_NUMBER: _ClassVar[int]
    MAX_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    BACKOFF_FIELD_NUMBER: _ClassVar[int]
    OLDEST_UNACKED_OFFSET_FIELD_NUMBER: _ClassVar[int]
    INACTIVITY_LIMIT_NS_FIELD_NUMBER: _ClassVar[int]
    WITHHELD_FIELD_NUMBER: _ClassVar[int]
    PIN_FIELD_NUMBER: _ClassVar[int]
    name: str
    filters: _containers.RepeatedScalarFieldContainer[str]
    position: int
    lag: int
    in_flight: int
    waiting: int
    dead: int
    members: int
    created_at_ns: int
    ack_timeout_ns: int
    max_attempts: int
    backoff: _broker_pb2.Backoff
    oldest_unacked_offset: int
    inactivity_limit_ns: int
    withheld: _containers.RepeatedCompositeFieldContainer[Withheld]
    pin: GcPin
    def __init__(self, name: _Optional[str] = ..., filters: _Optional[_Iterable[str]] = ..., position: _Optional[int] = ..., lag: _Optional[int] = ..., in_flight: _Optional[int] = ..., waiting: _Optional[int] = ..., dead: _Optional[int] = ..., members: _Optional[int] = ..., created_at_ns: _Optional[int] = ..., ack_timeout_ns: _Optional[int] = ..., max_attempts: _Optional[int] = ..., backoff: _Optional[_Union[_broker_pb2.Backoff, _Mapping]] = ..., oldest_unacked_offset: _Optional[int] = ..., inactivity_limit_ns: _Optional[int] = ..., withheld: _Optional[_Iterable[_Union[Withheld, _Mapping]]] = ..., pin: _Optional[_Union[GcPin, _Mapping]] = ...) -> None: ...

class Withheld(_message.Message):
    __slots__ = ("first_lsn", "first_offset", "last_offset", "unread", "unsettled")
    FIRST_LSN_FIELD_NUMBER: _ClassVar[int]
    FIRST_OFFSET_FIELD_NUMBER: _ClassVar[int]
    LAST_OFFSET_FIELD_NUMBER: _ClassVar[int]
    UNREAD_FIELD_NUMBER: _ClassVar[int]
    UNSETTLED_FIELD_NUMBER: _ClassVar[int]
    first_lsn: int
    first_offset: int
    last_offset: int
    unread: int
    unsettled: int
    def __init__(self, first_lsn: _Optional[int] = ..., first_offset: _Optional[int] = ..., last_offset: _Optional[int] = ..., unread: _Optional[int] = ..., unsettled: _Optional[int] = ...) -> None: ...

class Member(_message.Message):
    __slots__ = ("member", "peer", "client_name", "client_version", "in_flight", "credit")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    CLIENT_NAME_FIELD_NUMBER: _ClassVar[int]
    CLIENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    member: int
    peer: str
    client_name: str
    client_version: str
    in_flight: int
    credit: _broker_pb2.Credit
    def __init__(self, member: _Optional[int] = ..., peer: _Optional[str] = ..., client_name: _Optional[str] = ..., client_version: _Optional[str] = ..., in_flight: _Optional[int] = ..., credit: _Optional[_Union[_broker_pb2.Credit, _Mapping]] = ...) -> None: ...

class GetConsumerRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ConsumerDetail(_message.Message):
    __slots__ = ("consumer", "members")
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    consumer: Consumer
    members: _containers.RepeatedCompositeFieldContainer[Member]
    def __init__(self, consumer: _Optional[_Union[Consumer, _Mapping]] = ..., members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ...) -> None: ...

class DeleteConsumerRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DeleteConsumerResponse(_message.Message):
    __slots__ = ("unsettled",)
    UNSETTLED_FIELD_NUMBER: _ClassVar[int]
    unsettled: int
    def __init__(self, unsettled: _Optional[int] = ...) -> None: ...

class ListDeadLettersRequest(_message.Message):
    __slots__ = ("consumer", "filter", "page_token", "page_size")
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    consumer: str
    filter: str
    page_token: str
    page_size: int
    def __init__(self, consumer: _Optional[str] = ..., filter: _Optional[str] = ..., page_token: _Optional[str] = ..., page_size: _Optional[int] = ...) -> None: ...

class ListDeadLettersResponse(_message.Message):
    __slots__ = ("dead_letters", "next_page_token")
    DEAD_LETTERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    dead_letters: _containers.RepeatedCompositeFieldContainer[DeadLetter]
    next_page_token: str
    def __init__(self, dead_letters: _Optional[_Iterable[_Union[DeadLetter, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeadLetter(_message.Message):
    __slots__ = ("consumer", "offset", "subject", "message_id", "attempts", "failures", "reason", "dead_at_ns", "copy_offset")
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DEAD_AT_NS_FIELD_NUMBER: _ClassVar[int]
    COPY_OFFSET_FIELD_NUMBER: _ClassVar[int]
    consumer: str
    offset: int
    subject: str
    message_id: str
    attempts: int
    failures: int
    reason: str
    dead_at_ns: int
    copy_offset: int
    def __init__(self, consumer: _Optional[str] = ..., offset: _Optional[int] = ..., subject: _Optional[str] = ..., message_id: _Optional[str] = ..., attempts: _Optional[int] = ..., failures: _Optional[int] = ..., reason: _Optional[str] = ..., dead_at_ns: _Optional[int] = ..., copy_offset: _Optional[int] = ...) -> None: ...

class GetDeadLetterRequest(_message.Message):
    __slots__ = ("consumer", "offset")
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    consumer: str
    offset: int
    def __init__(self, consumer: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...

class DeadLetterDetail(_message.Message):
    __slots__ = ("dead_letter", "message", "attempts")
    DEAD_LETTER_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    dead_letter: DeadLetter
    message: _broker_pb2.Delivery
    attempts: _containers.RepeatedCompositeFieldContainer[Attempt]
    def __init__(self, dead_letter: _Optional[_Union[DeadLetter, _Mapping]] = ..., message: _Optional[_Union[_broker_pb2.Delivery, _Mapping]] = ..., attempts: _Optional[_Iterable[_Union[Attempt, _Mapping]]] = ...) -> None: ...

class Attempt(_message.Message):
    __slots__ = ("lsn", "at_ns", "kind", "attempt", "member", "peer", "client_name", "reason")
    LSN_FIELD_NUMBER: _ClassVar[int]
    AT_NS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    CLIENT_NAME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    lsn: int
    at_ns: int
    kind: str
    attempt: int
    member: int
    peer: str
    client_name: str
    reason: str
    def __init__(self, lsn: _Optional[int] = ..., at_ns: _Optional[int] = ..., kind: _Optional[str] = ..., attempt: _Optional[int] = ..., member: _Optional[int] = ..., peer: _Optional[str] = ..., client_name: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class SelectDeadLetters(_message.Message):
    __slots__ = ("consumer", "offsets", "filter", "dry_run", "messages_per_second")
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    OFFSETS_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    consumer: str
    offsets: _containers.RepeatedScalarFieldContainer[int]
    filter: str
    dry_run: bool
    messages_per_second: int
    def __init__(self, consumer: _Optional[str] = ..., offsets: _Optional[_Iterable[int]] = ..., filter: _Optional[str] = ..., dry_run: _Optional[bool] = ..., messages_per_second: _Optional[int] = ...) -> None: ...

class DeadLetterOutcome(_message.Message):
    __slots__ = ("matched", "changed", "offsets")
    MATCHED_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    OFFSETS_FIELD_NUMBER: _ClassVar[int]
    matched: int
    changed: int
    offsets: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, matched: _Optional[int] = ..., changed: _Optional[int] = ..., offsets: _Optional[_Iterable[int]] = ...) -> None: ...

class BackupRequest(_message.Message):
    __slots__ = ("directory", "link", "with_key")
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    LINK_FIELD_NUMBER: _ClassVar[int]
    WITH_KEY_FIELD_NUMBER: _ClassVar[int]
    directory: str
    link: bool
    with_key: bool
    def __init__(self, directory: _Optional[str] = ..., link: _Optional[bool] = ..., with_key: _Optional[bool] = ...) -> None: ...

class BackupProgress(_message.Message):
    __slots__ = ("copied_bytes", "total_bytes", "segments", "done")
    COPIED_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    copied_bytes: int
    total_bytes: int
    segments: int
    done: BackupDone
    def __init__(self, copied_bytes: _Optional[int] = ..., total_bytes: _Optional[int] = ..., segments: _Optional[int] = ..., done: _Optional[_Union[BackupDone, _Mapping]] = ...) -> None: ...

class BackupDone(_message.Message):
    __slots__ = ("path", "store_id", "first_lsn", "last_lsn", "next_offset", "chain", "segments", "bytes", "copied_segments", "copied_bytes")
    PATH_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    FIRST_LSN_FIELD_NUMBER: _ClassVar[int]
    LAST_LSN_FIELD_NUMBER: _ClassVar[int]
    NEXT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    COPIED_SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    COPIED_BYTES_FIELD_NUMBER: _ClassVar[int]
    path: str
    store_id: str
    first_lsn: int
    last_lsn: int
    next_offset: int
    chain: bytes
    segments: int
    bytes: int
    copied_segments: int
    copied_bytes: int
    def __init__(self, path: _Optional[str] = ..., store_id: _Optional[str] = ..., first_lsn: _Optional[int] = ..., last_lsn: _Optional[int] = ..., next_offset: _Optional[int] = ..., chain: _Optional[bytes] = ..., segments: _Optional[int] = ..., bytes: _Optional[int] = ..., copied_segments: _Optional[int] = ..., copied_bytes: _Optional[int] = ...) -> None: ...

class PlanGcRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RunGcRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GcProgress(_message.Message):
    __slots__ = ("segment", "done")
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    segment: GcSegment
    done: GcDone
    def __init__(self, segment: _Optional[_Union[GcSegment, _Mapping]] = ..., done: _Optional[_Union[GcDone, _Mapping]] = ...) -> None: ...

class GcSegment(_message.Message):
    __slots__ = ("first_lsn", "last_lsn", "bytes", "payload_bytes", "first_offset", "last_offset", "first_at_ns", "last_at_ns", "action", "reason", "freed_bytes", "retired_messages", "kept_messages", "pins", "lost", "retired", "problem")
    FIRST_LSN_FIELD_NUMBER: _ClassVar[int]
    LAST_LSN_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    FIRST_OFFSET_FIELD_NUMBER: _ClassVar[int]
    LAST_OFFSET_FIELD_NUMBER: _ClassVar[int]
    FIRST_AT_NS_FIELD_NUMBER: _ClassVar[int]
    LAST_AT_NS_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FREED_BYTES_FIELD_NUMBER: _ClassVar[int]
    RETIRED_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    KEPT_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    PINS_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    RETIRED_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    first_lsn: int
    last_lsn: int
    bytes: int
    payload_bytes: int
    first_offset: int
    last_offset: int
    first_at_ns: int
    last_at_ns: int
    action: str
    reason: str
    freed_bytes: int
    retired_messages: int
    kept_messages: int
    pins: _containers.RepeatedCompositeFieldContainer[GcPin]
    lost: _containers.RepeatedCompositeFieldContainer[GcLoss]
    retired: _containers.RepeatedCompositeFieldContainer[GcRange]
    problem: str
    def __init__(self, first_lsn: _Optional[int] = ..., last_lsn: _Optional[int] = ..., bytes: _Optional[int] = ..., payload_bytes: _Optional[int] = ..., first_offset: _Optional[int] = ..., last_offset: _Optional[int] = ..., first_at_ns: _Optional[int] = ..., last_at_ns: _Optional[int] = ..., action: _Optional[str] = ..., reason: _Optional[str] = ..., freed_bytes: _Optional[int] = ..., retired_messages: _Optional[int] = ..., kept_messages: _Optional[int] = ..., pins: _Optional[_Iterable[_Union[GcPin, _Mapping]]] = ..., lost: _Optional[_Iterable[_Union[GcLoss, _Mapping]]] = ..., retired: _Optional[_Iterable[_Union[GcRange, _Mapping]]] = ..., problem: _Optional[str] = ...) -> None: ...

class GcPin(_message.Message):
    __slots__ = ("consumer", "offset", "what")
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    WHAT_FIELD_NUMBER: _ClassVar[int]
    consumer: str
    offset: int
    what: str
    def __init__(self, consumer: _Optional[str] = ..., offset: _Optional[int] = ..., what: _Optional[str] = ...) -> None: ...

class GcLoss(_message.Message):
    __slots__ = ("consumer", "messages")
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    consumer: str
    messages: int
    def __init__(self, consumer: _Optional[str] = ..., messages: _Optional[int] = ...) -> None: ...

class GcRange(_message.Message):
    __slots__ = ("first", "last")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    first: int
    last: int
    def __init__(self, first: _Optional[int] = ..., last: _Optional[int] = ...) -> None: ...

class GcDone(_message.Message):
    __slots__ = ("store_bytes", "store_bytes_max", "refusing", "consumers")
    STORE_BYTES_FIELD_NUMBER: _ClassVar[int]
    STORE_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    REFUSING_FIELD_NUMBER: _ClassVar[int]
    CONSUMERS_FIELD_NUMBER: _ClassVar[int]
    store_bytes: int
    store_bytes_max: int
    refusing: bool
    consumers: _containers.RepeatedCompositeFieldContainer[GcConsumer]
    def __init__(self, store_bytes: _Optional[int] = ..., store_bytes_max: _Optional[int] = ..., refusing: _Optional[bool] = ..., consumers: _Optional[_Iterable[_Union[GcConsumer, _Mapping]]] = ...) -> None: ...

class GcConsumer(_message.Message):
    __slots__ = ("name", "members", "lag", "idle_ns", "segments", "bytes", "inactivity_limit_ns", "abandoned")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    LAG_FIELD_NUMBER: _ClassVar[int]
    IDLE_NS_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    INACTIVITY_LIMIT_NS_FIELD_NUMBER: _ClassVar[int]
    ABANDONED_FIELD_NUMBER: _ClassVar[int]
    name: str
    members: int
    lag: int
    idle_ns: int
    segments: int
    bytes: int
    inactivity_limit_ns: int
    abandoned: bool
    def __init__(self, name: _Optional[str] = ..., members: _Optional[int] = ..., lag: _Optional[int] = ..., idle_ns: _Optional[int] = ..., segments: _Optional[int] = ..., bytes: _Optional[int] = ..., inactivity_limit_ns: _Optional[int] = ..., abandoned: _Optional[bool] = ...) -> None: ...
