"""Administration over gRPC: consumers, dead letters, backups, one blocking call each.

Results are plain frozen structs; no protobuf and no grpc type leaves this module.
Lists are fetched page by page while they are iterated. Errors are those of
`hermes.errors`, as everywhere in the client. Retrying is left to the caller: every
call here is a person's or a script's single wish.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import grpc
from google.protobuf.message import Message

from hermes import __version__, rpc
from hermes.admin.v1 import admin_pb2 as pb
from hermes.client.admin_types import (
    AttemptInfo,
    BackupInfo,
    BackupProgress,
    ConsumerDetail,
    ConsumerInfo,
    DeadLetter,
    DeadLetterDetail,
    DeadLetterOutcome,
    GcReport,
    GcSegment,
    ServerInfo,
    backup_info,
    consumer_info,
    copied,
    dead_letter,
    dead_message,
    gc_report,
    gc_segment,
    member_info,
    server_info,
)
from hermes.client.errors import error_from_rpc
from hermes.client.fork import ForkGuard, note_grpc_used
from hermes.client.options import CHANNEL_OPTIONS, DEFAULT_ADDR, Seconds, client_options
from hermes.errors import ClosedError, ConnectionLostError, HermesError

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)

TIMEOUT_SECONDS_DEFAULT: Final = 10.0


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

    def backup(
        self,
        directory: str,
        *,
        link: bool = False,
        with_key: bool = False,
        told: Callable[[BackupProgress], None] = lambda _: None,
    ) -> BackupInfo:
        """Make or renew a backup in a folder of the server's machine; waits for its end.

        `told` is called as it goes on. Left early (an exception in `told`, Ctrl-C), the
        server stops copying; the backup that was there stays whole. Raises
        PermissionDeniedError, PreconditionError, StoreError and its kin.
        """
        request = pb.BackupRequest(directory=directory, link=link, with_key=with_key)
        call = self._open(rpc.BACKUP, request)
        try:
            for progress in call:
                if progress.HasField("done"):
                    return backup_info(progress.done)
                told(copied(progress, BackupProgress))
        except grpc.RpcError as error:
            raise self._failure(error) from None
        finally:
            call.cancel()
        raise ConnectionLostError("the server ended the backup without a result")

    # ------------------------------------------------------ garbage collection

    def plan_gc(self) -> GcReport:
        """What garbage collection would do now, segment by segment. Raises PreconditionError."""
        return self._gc(rpc.PLAN_GC, pb.PlanGcRequest(), lambda _: None)

    def run_gc(self, *, told: Callable[[GcSegment], None] = lambda _: None) -> GcReport:
        """A round of it; waits for its end. `segments` has what was done, and what was kept;
        `told` is called for each as it is known.

        Raises PreconditionError without a store.
        """
        return self._gc(rpc.RUN_GC, pb.RunGcRequest(), told)

    def _gc(
        self,
        method: rpc.Method[RequestT, pb.GcProgress],
        request: RequestT,
        told: Callable[[GcSegment], None],
    ) -> GcReport:
        call = self._open(method, request)
        segments: list[GcSegment] = []
        try:
            for progress in call:
                if progress.HasField("done"):
                    return gc_report(segments, progress.done)
                segments.append(gc_segment(progress.segment))
                told(segments[-1])
        except grpc.RpcError as error:
            raise self._failure(error) from None
        finally:
            call.cancel()
        raise ConnectionLostError("the server ended garbage collection without a result")

    # --------------------------------------------------------------- consumers

    def server(self) -> ServerInfo:
        """What the broker says of itself."""
        return server_info(self._call(rpc.GET_SERVER, pb.GetServerRequest()))

    def consumers(self) -> Iterator[ConsumerInfo]:
        """All consumers, by name."""
        request = pb.ListConsumersRequest()
        while True:
            page = self._call(rpc.LIST_CONSUMERS, request)
            yield from map(consumer_info, page.consumers)
            if not page.next:
                return
            request.after = page.next

    def consumer(self, name: str) -> ConsumerDetail:
        """One consumer and its members. Raises NotFoundError."""
        found = self._call(rpc.GET_CONSUMER, pb.GetConsumerRequest(name=name))
        return ConsumerDetail(consumer_info(found.consumer), tuple(map(member_info, found.members)))

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
            yield from map(dead_letter, page.dead_letters)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def dead_letter(self, consumer: str, offset: int) -> DeadLetterDetail:
        """One dead letter, its message and every attempt. Raises NotFoundError."""
        request = pb.GetDeadLetterRequest(consumer=consumer, offset=offset)
        found = self._call(rpc.GET_DEAD_LETTER, request)
        message = dead_message(found.message, offset) if found.HasField("message") else None
        attempts = tuple(copied(attempt, AttemptInfo) for attempt in found.attempts)
        return DeadLetterDetail(dead_letter(found.dead_letter), message, attempts)

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

    def _open(self, method: rpc.Method[RequestT, ResponseT], request: RequestT) -> Any:
        """A stream of responses, without a deadline."""
        self._check()
        call = self._channel.unary_stream(
            method.path,
            request_serializer=method.request_class.SerializeToString,
            response_deserializer=method.response_class.FromString,
        )
        return call(request, metadata=self._options.metadata)

    def _call(self, method: rpc.Method[RequestT, ResponseT], request: RequestT) -> ResponseT:
        self._check()
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
            raise self._failure(error) from None

    def _check(self) -> None:
        self._fork_guard.check()
        if self._closed:
            raise ClosedError("this AdminClient is closed")

    def _failure(self, error: grpc.RpcError) -> HermesError:
        failure = error_from_rpc(error)
        if isinstance(failure, ConnectionLostError):
            return self._options.unreachable(failure)
        return failure
