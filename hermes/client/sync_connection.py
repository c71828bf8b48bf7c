"""What a `Client` holds: one channel and the streams on it. The sync twin of aio_connection.

Safe to use from many threads. Each stream has its own lock.
"""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable
from typing import Any, Protocol, Self, TypeVar

import grpc

from hermes.client.core.outgoing import PublishAck
from hermes.client.core.publishing import PublishCore
from hermes.client.core.stream import StreamCore
from hermes.client.core.subscribing import SubscribeCore
from hermes.client.fork import ForkGuard, note_grpc_used
from hermes.client.options import CHANNEL_OPTIONS, ClientOptions, Outgoing, producer_id
from hermes.client.sync_stream import WAIT_SLICE_S, SyncStream
from hermes.clock import SystemClock
from hermes.errors import ClosedError, HermesError, OperationTimeoutError
from hermes.rpc import PUBLISH_BATCHES, SUBSCRIBE_BATCHES, Method

ResultT = TypeVar("ResultT")


class Receiver(Protocol):
    """What is left before the connection closes."""

    def close(self) -> None: ...


class SyncConnection:
    """The channel and streams of one client. Raises `ForkedProcessError` after a fork."""

    def __init__(self, options: ClientOptions) -> None:
        self.options = options
        self.guard = ForkGuard()
        self.clock = SystemClock()
        self.receivers: set[Receiver] = set()
        self._lock = threading.RLock()
        self._channel: grpc.Channel | None = None
        self._publishers: dict[bool, tuple[PublishCore, SyncStream]] = {}
        self._subscriber: tuple[SubscribeCore, SyncStream] | None = None
        self._closed = False

    def check(self) -> Self:
        """Raise if it may not be used here, or not any more."""
        self.guard.check()
        if self._closed:
            raise ClosedError("the client is closed")
        return self

    def connect(self) -> None:
        """Raise `ConnectionLostError`, and close, unless the broker answers in time."""
        ready = grpc.channel_ready_future(self.channel())
        try:
            ready.result(self.options.connect_timeout_ns / 1e9)
        except grpc.FutureTimeoutError:
            self.close()
            raise self.options.unreachable() from None
        except BaseException:
            self.close()
            raise
        finally:
            ready.cancel()

    def close(self) -> None:
        """Leave every receiver, finish what is being published, disconnect. Idempotent."""
        if self._closed or self.guard.forked:
            return
        with self._lock:
            self._closed = True
            streams: list[tuple[PublishCore | SubscribeCore, SyncStream]]
            streams = list(self._publishers.values())
            if self._subscriber is not None:
                streams.append(self._subscriber)
            receivers = list(self.receivers)
        for receiver in receivers:
            receiver.close()
        for core, stream in streams:
            with stream.lock:
                core.close()
        for _, stream in streams:
            stream.close(self.options.close_timeout_ns / 1e9)
        if self._channel is not None:
            self._channel.close()

    def channel(self) -> grpc.Channel:
        self.check()
        with self._lock:
            if self._channel is None:
                note_grpc_used()
                self._channel = grpc.insecure_channel(self.options.addr, options=CHANNEL_OPTIONS)
            return self._channel

    def stream(
        self, method: Method[Any, Any], core: StreamCore[Any, Any], lock: threading.RLock
    ) -> SyncStream:
        """Open a stream for a core and keep it open."""
        return SyncStream(self.channel(), method, core, self.options.metadata, self.clock, lock)

    def publish(self, message: Outgoing, *, live: bool, timeout_ns: int | None) -> PublishAck:
        """Hand a message to its stream and wait for the answer."""
        core, stream = self.publishing(live=live)
        now_ns = self.clock.monotonic_ns()
        deadline_ns = None if timeout_ns is None else now_ns + timeout_ns
        while core.is_full:
            self.room(core, stream, deadline_ns)
        answer: concurrent.futures.Future[PublishAck] = concurrent.futures.Future()
        with stream.lock:
            core.submit(*message, now_ns=now_ns, waiter=answer)
        try:
            return self.wait(answer, stream.tick, deadline_ns)
        finally:
            answer.cancel()

    def room(self, core: PublishCore, stream: SyncStream, deadline_ns: int | None = None) -> None:
        """Wait until something more may be submitted."""
        room: concurrent.futures.Future[None] = concurrent.futures.Future()
        with stream.lock:
            core.wait_for_room(room)
        try:
            self.wait(room, stream.tick, deadline_ns)
        except BaseException:
            room.cancel()
            with stream.lock:
                core.offer_room()
            raise

    def subscribing(self) -> tuple[SubscribeCore, SyncStream]:
        """The core of the stream that holds every live subscription."""
        self.check()
        with self._lock:
            if self._subscriber is None or not self._subscriber[1].is_running:
                core = SubscribeCore()
                stream = self.stream(SUBSCRIBE_BATCHES, core, threading.RLock())
                self._subscriber = (core, stream)
            return self._subscriber

    def wait_opened(
        self, opened: concurrent.futures.Future[None], last_error: Callable[[], HermesError | None]
    ) -> None:
        """Wait for the broker to register something, at most the connect timeout."""
        deadline_ns = self.clock.monotonic_ns() + self.options.connect_timeout_ns
        try:
            self.wait(opened, self.check, deadline_ns)
        except OperationTimeoutError:
            raise self.options.unreachable(last_error()) from None

    def wait(
        self,
        future: concurrent.futures.Future[ResultT],
        tick: Callable[[], object],
        deadline_ns: int | None = None,
    ) -> ResultT:
        """The result of a future, looking up often enough for Ctrl-C; `tick` is called then.

        Raises `OperationTimeoutError` at the deadline.
        """
        while True:
            left_s = WAIT_SLICE_S
            if deadline_ns is not None:
                left_s = min(left_s, (deadline_ns - self.clock.monotonic_ns()) / 1e9)
            try:
                return future.result(max(0.0, left_s))
            except concurrent.futures.TimeoutError:
                if deadline_ns is not None and self.clock.monotonic_ns() >= deadline_ns:
                    raise OperationTimeoutError("no answer in time") from None
                tick()

    def publishing(self, *, live: bool) -> tuple[PublishCore, SyncStream]:
        """The stream for durable or live publishes, and its core."""
        self.check()
        with self._lock:
            known = self._publishers.get(live)
            if known is not None and known[1].is_running:
                return known
            core = PublishCore(
                live=live,
                producer_ids=producer_id,
                connect_timeout_ns=self.options.connect_timeout_ns,
                retry_timeout_ns=self.options.retry_timeout_ns,
                unreachable=self.options.unreachable,
            )
            stream = self.stream(PUBLISH_BATCHES, core, threading.RLock())
            self._publishers[live] = (core, stream)
            return core, stream
