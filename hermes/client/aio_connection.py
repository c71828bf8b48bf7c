"""What an `AsyncClient` holds: one channel and the streams on it.

A stream for durable publishes, one for live ones, one for all live subscriptions, one
per consumer, one call per reading. Each is opened at first use and reconnects by itself.
A connection belongs to the event loop it was first used on, and to its process.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol, Self

import grpc

from hermes.client.aio_stream import AioStream
from hermes.client.core.outgoing import PublishAck
from hermes.client.core.publishing import PublishCore
from hermes.client.core.stream import StreamCore
from hermes.client.core.subscribing import SubscribeCore
from hermes.client.fork import (
    ForkGuard,
    asyncio_poller_survives_forks,
    check_asyncio_allowed,
    note_grpc_used,
)
from hermes.client.options import CHANNEL_OPTIONS, ClientOptions, Outgoing, producer_id
from hermes.clock import SystemClock
from hermes.errors import ClosedError, HermesError, PreconditionError
from hermes.rpc import PUBLISH_BATCHES, SUBSCRIBE_BATCHES, Method


class Receiver(Protocol):
    """What is left before the connection closes."""

    async def aclose(self) -> None: ...


class AsyncConnection:
    """The channel and streams of one client. Raises `ForkedProcessError` after a fork."""

    def __init__(self, options: ClientOptions) -> None:
        check_asyncio_allowed()
        self.options = options
        self.guard = ForkGuard()
        self.receivers: set[Receiver] = set()
        self.clock = SystemClock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._channel: grpc.aio.Channel | None = None
        self._publishers: dict[bool, tuple[PublishCore, AioStream]] = {}
        self._subscriber: tuple[SubscribeCore, AioStream] | None = None
        self._closed = False

    def check(self) -> Self:
        """Raise if it may not be used here, or not any more."""
        self.guard.check()
        if self._closed:
            raise ClosedError("the client is closed")
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise PreconditionError(
                "this client belongs to another event loop", hint="make one client per loop"
            )
        return self

    async def connect(self) -> None:
        """Raise `ConnectionLostError`, and close, unless the broker answers in time."""
        try:
            ready = self.channel().channel_ready()
            await asyncio.wait_for(ready, self.options.connect_timeout_ns / 1e9)
        except TimeoutError:
            await self.aclose()
            raise self.options.unreachable() from None
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Leave every receiver, finish what is being published, disconnect. Idempotent."""
        if self._closed or self.guard.forked:
            return
        self._closed = True
        timeout_s = self.options.close_timeout_ns / 1e9
        try:
            await asyncio.gather(*(receiver.aclose() for receiver in list(self.receivers)))
            streams: list[tuple[PublishCore | SubscribeCore, AioStream]]
            streams = list(self._publishers.values())
            if self._subscriber is not None:
                streams.append(self._subscriber)
            for core, _ in streams:
                core.close()
            await asyncio.gather(*(stream.aclose(timeout_s) for _, stream in streams))
        finally:
            if self._channel is not None:
                await self._channel.close(None)

    def channel(self) -> grpc.aio.Channel:
        self.check()
        if self._channel is None:
            note_grpc_used()
            with asyncio_poller_survives_forks():
                self._channel = grpc.aio.insecure_channel(
                    self.options.addr, options=CHANNEL_OPTIONS
                )
        return self._channel

    def stream(self, method: Method[Any, Any], core: StreamCore[Any, Any]) -> AioStream:
        """Open a stream for a core and keep it open."""
        return AioStream(self.channel(), method, core, self.options.metadata, self.clock)

    async def publish(self, message: Outgoing, *, live: bool) -> PublishAck:
        """Hand a message to its stream and wait for the answer."""
        core = self.publishing(live=live)
        while core.is_full:
            await self.room(core)
        answer: asyncio.Future[PublishAck] = asyncio.get_running_loop().create_future()
        core.submit(*message, now_ns=self.clock.monotonic_ns(), waiter=answer)
        return await answer

    async def room(self, core: PublishCore) -> None:
        """Wait until something more may be submitted."""
        room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        core.wait_for_room(room)
        try:
            await room
        except asyncio.CancelledError:
            core.offer_room()
            raise

    def subscribing(self) -> SubscribeCore:
        """The core of the stream that holds every live subscription."""
        self.check()
        if self._subscriber is None or not self._subscriber[1].is_running:
            core = SubscribeCore()
            self._subscriber = (core, self.stream(SUBSCRIBE_BATCHES, core))
        return self._subscriber[0]

    async def wait_opened(self, opened: asyncio.Future[None], core: HasLastError) -> None:
        """Wait for the broker to register something, at most the connect timeout."""
        try:
            await asyncio.wait_for(opened, self.options.connect_timeout_ns / 1e9)
        except TimeoutError:
            raise self.options.unreachable(core.last_error) from None

    def publishing(self, *, live: bool) -> PublishCore:
        """The core of the stream for durable or live publishes."""
        self.check()
        known = self._publishers.get(live)
        if known is not None and known[1].is_running:
            return known[0]
        core = PublishCore(
            live=live,
            producer_ids=producer_id,
            connect_timeout_ns=self.options.connect_timeout_ns,
            retry_timeout_ns=self.options.retry_timeout_ns,
            unreachable=self.options.unreachable,
        )
        self._publishers[live] = (core, self.stream(PUBLISH_BATCHES, core))
        return core


class HasLastError(Protocol):
    """A core that remembers why it is not connected."""

    @property
    def last_error(self) -> HermesError | None: ...
