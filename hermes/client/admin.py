"""Administration over gRPC: consumers and dead letters, one blocking call each.

Results are plain frozen structs; no protobuf and no grpc type leaves this module.
Lists are fetched page by page while they are iterated. Errors are those of
`hermes.errors`, as everywhere in the client. Retrying is left to the caller: every
call here is a person's or a script's single wish.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Final, Self, TypeVar

import grpc
import msgspec
from google.protobuf.message import Message

from hermes import __version__, rpc
from hermes.admin.v1 import admin_pb2 as pb
from hermes.broker.v1 import broker_pb2
from hermes.client.errors import error_from_rpc
from hermes.client.fork import ForkGuard, note_grpc_used
from hermes.client.options import CHANNEL_OPTIONS, DEFAULT_ADDR, Seconds, client_options
from hermes.errors import ClosedError, ConnectionLostError

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)

TIMEOUT_SECONDS_DEFAULT: Final = 10.0


class ServerInfo(msgspec.Struct, frozen=True, gc=False):
    """The broker as a whole. `store_id` is empty without a store."""

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


class ConsumerInfo(msgspec.Struct, frozen=True):
    """A consumer now. Unsettled is `lag + in_flight + waiting + dead`."""

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


class AdminClient:
    """Blocking, thread-safe. Raises errors of `hermes.errors`; ClosedError after close().

    `addr` is HOST:PORT; `timeout` (seconds or timedelta) bounds each call.
    """

    def __init__(
        self,
        addr: str = DEFAULT_ADDR,
        *,
        name: str | None = None,
        timeout: Seconds = TIMEOUT_SECONDS_DEFAULT,
    ) -> None:
        self._options = client_options(addr, name, __version__, timeout, timeout, timeout)
        self._fork_guard = ForkGuard()
        note_grpc_used()
        self._channel = grpc.insecure_channel(addr, options=CHANNEL_OPTIONS)
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back. May be called more than once."""
        self._closed = True
        if not self._fork_guard.forked:
            self._channel.close()

    # --------------------------------------------------------------- consumers

    def server(self) -> ServerInfo:
        """What the broker says of itself."""
        return _copy(self._call(rpc.GET_SERVER, pb.GetServerRequest()), ServerInfo)

    def consumers(self) -> Iterator[ConsumerInfo]:
        """All consumers, by name."""
        request = pb.ListConsumersRequest()
        while True:
            page = self._call(rpc.LIST_CONSUMERS, request)
            yield from map(_consumer, page.consumers)
            if not page.next:
                return
            request.after = page.next

    def consumer(self, name: str) -> ConsumerDetail:
        """One consumer and its members. Raises NotFoundError."""
        found = self._call(rpc.GET_CONSUMER, pb.GetConsumerRequest(name=name))
        return ConsumerDetail(_consumer(found.consumer), tuple(map(_member, found.members)))

    def delete_consumer(self, name: str) -> int:
        """Forget the consumer; answers how many messages it had not settled.

        Its members' streams end. Raises NotFoundError.
        """
        done = self._call(rpc.DELETE_CONSUMER, pb.DeleteConsumerRequest(name=name))
        return done.unsettled

    # ------------------------------------------------------------ dead letters

    def dead_letters(self, consumer: str = "", *, filter: str = "") -> Iterator[DeadLetter]:  # noqa: A002
        """Dead letters of one consumer or, with "", of all; `filter` is a subject pattern."""
        request = pb.ListDeadLettersRequest(consumer=consumer, filter=filter)
        while True:
            page = self._call(rpc.LIST_DEAD_LETTERS, request)
            yield from map(_dead_letter, page.dead_letters)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def dead_letter(self, consumer: str, offset: int) -> DeadLetterDetail:
        """One dead letter, its message and every attempt. Raises NotFoundError."""
        request = pb.GetDeadLetterRequest(consumer=consumer, offset=offset)
        found = self._call(rpc.GET_DEAD_LETTER, request)
        message = _dead_message(found.message, offset) if found.HasField("message") else None
        attempts = tuple(_copy(attempt, AttemptInfo) for attempt in found.attempts)
        return DeadLetterDetail(_dead_letter(found.dead_letter), message, attempts)

    def replay_dead_letters(
        self,
        consumer: str,
        *,
        offsets: Iterable[int] | None = None,
        filter: str = "",  # noqa: A002
        dry_run: bool = False,
        messages_per_second: int = 0,
    ) -> DeadLetterOutcome:
        """Back to the consumer, with counters at 0. Idempotent.

        `offsets` None: all that match `filter`. `messages_per_second` 0: at once.
        """
        return self._settle(
            rpc.REPLAY_DEAD_LETTERS, consumer, offsets, filter, dry_run, messages_per_second
        )

    def discard_dead_letters(
        self,
        consumer: str,
        *,
        offsets: Iterable[int] | None = None,
        filter: str = "",  # noqa: A002
        dry_run: bool = False,
    ) -> DeadLetterOutcome:
        """Given up for good. `offsets` None: all that match `filter`."""
        return self._settle(rpc.DISCARD_DEAD_LETTERS, consumer, offsets, filter, dry_run, 0)

    def _settle(
        self,
        method: rpc.Method[pb.SelectDeadLetters, pb.DeadLetterOutcome],
        consumer: str,
        offsets: Iterable[int] | None,
        subject_filter: str,
        dry_run: bool,
        messages_per_second: int,
    ) -> DeadLetterOutcome:
        chosen = None if offsets is None else list(offsets)
        if chosen == []:
            return DeadLetterOutcome(0, 0, ())  # on the wire, no offsets would mean all
        request = pb.SelectDeadLetters(
            consumer=consumer,
            offsets=chosen or (),
            filter=subject_filter,
            dry_run=dry_run,
            messages_per_second=messages_per_second,
        )
        done = self._call(method, request)
        return DeadLetterOutcome(done.matched, done.changed, tuple(done.offsets))

    def _call(self, method: rpc.Method[RequestT, ResponseT], request: RequestT) -> ResponseT:
        self._fork_guard.check()
        if self._closed:
            raise ClosedError("this AdminClient is closed")
        call: Callable[..., ResponseT] = self._channel.unary_unary(
            method.path,
            request_serializer=method.request_class.SerializeToString,
            response_deserializer=method.response_class.FromString,
        )
        try:
            return call(
                request,
                timeout=self._options.connect_timeout_ns / 1e9,
                metadata=self._options.metadata,
            )
        except grpc.RpcError as error:
            failure = error_from_rpc(error)
            if isinstance(failure, ConnectionLostError):
                raise self._options.unreachable(failure) from None
            raise failure from None


# ------------------------------------------------------------------- conversions


StructT = TypeVar("StructT", bound=msgspec.Struct)


def _copy(message: Message, kind: type[StructT]) -> StructT:
    """A struct whose fields have the names of the message's."""
    return kind(*(getattr(message, field) for field in kind.__struct_fields__))


def _consumer(found: pb.Consumer) -> ConsumerInfo:
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
    )


def _member(found: pb.Member) -> MemberInfo:
    return MemberInfo(
        found.member,
        found.peer,
        found.client_name,
        found.client_version,
        found.in_flight,
        found.credit.messages,
        found.credit.bytes,
    )


def _dead_letter(found: pb.DeadLetter) -> DeadLetter:
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


def _dead_message(delivery: broker_pb2.Delivery, offset: int) -> DeadMessage | None:
    content = broker_pb2.BatchContent.FromString(delivery.batch.content)
    index = offset - delivery.base_offset
    if not 0 <= index < len(content.payloads):
        return None
    headers = dict(content.headers[index].entries) if content.headers else {}
    return DeadMessage(
        delivery.batch.subject, content.payloads[index], headers, delivery.published_at_ns
    )
