"""The three receivers of the asyncio client: consumer, subscription, reading."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import random
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import grpc

from hermes.client.aio_connection import AsyncConnection
from hermes.client.aio_messages import AsyncMessages, OnDecodeError
from hermes.client.aio_stream import EOF, AioStream, is_own_cancellation
from hermes.client.core.backoff import Backoff
from hermes.client.core.codes import is_retryable
from hermes.client.core.consuming import ConsumeCore, ConsumerInfo
from hermes.client.core.inbox import Inbox
from hermes.client.core.leases import Leased
from hermes.client.core.reading import ReadCore
from hermes.client.core.settlements import Terms
from hermes.client.core.stream import fail
from hermes.client.core.subscribing import SubscribeCore, SubscriptionState
from hermes.client.errors import error_from_rpc
from hermes.client.message import SENT, Message, Settled
from hermes.errors import ClosedError, ConnectionLostError, DecodeError, HermesError
from hermes.rpc import CONSUME, READ

EventT = TypeVar("EventT")
Verdict = Callable[[concurrent.futures.Future[None] | None], None]

_log = logging.getLogger("hermes.client")


class AsyncConsumer(AsyncMessages[EventT]):
    """A member of a durable consumer; each message is leased to it until it is settled.

    `on_lease_lost(message)` is called for a message in the user's hands whose lease
    is gone: it will be, or was, delivered again.
    """

    def __init__(
        self,
        connection: AsyncConnection,
        core: ConsumeCore,
        *,
        kinds: Any,
        on_decode_error: OnDecodeError,
        on_lease_lost: Callable[[Message[EventT]], object] | None,
    ) -> None:
        super().__init__(connection, kinds, on_decode_error)
        self.on_lease_lost = on_lease_lost
        self._core = core
        self._stream: AioStream | None = None
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        core.lease_lost = self._on_lease_lost

    @property
    def info(self) -> ConsumerInfo:
        """The consumer as the broker told it at entering."""
        self._entered()
        assert self._core.info is not None
        return self._core.info

    @property
    def in_hand(self) -> int:
        """Messages handed out and not settled."""
        return self._core.in_hand

    async def flush(self) -> None:
        """Return once every verdict given so far is committed."""
        self._entered()
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._core.wait_confirmed(waiter)
        await waiter

    async def _open(self) -> Inbox[Any]:
        self._stream = self._connection.stream(CONSUME, self._core)
        opened: asyncio.Future[None] = self._loop.create_future()
        self._core.wait_opened(opened)
        await self._connection.wait_opened(opened, self._core)
        return self._core.inbox

    async def _close(self) -> None:
        self._core.close()
        if self._stream is not None:
            await self._stream.aclose(self._connection.options.close_timeout_ns / 1e9)

    def _ask(self) -> None:
        self._core.ask()

    def _is_all(self, inbox: Inbox[Any]) -> bool:
        held = self._core.in_hand + inbox.buffered
        return super()._is_all(inbox) or held >= self._core.max_in_flight

    # ----------------------------------------------------------------- verdicts

    def settle(self, leased: Leased, index: int, terms: Terms, wait: bool) -> Settled:
        self._guard.check()
        if not wait and threading.get_ident() == self._thread:
            self._core.settle(leased, index, terms)
            return SENT
        return self._settle(partial(self._core.settle, leased, index, terms), wait)

    def settle_all(
        self, leased: Leased, indexes: range | list[int], terms: Terms, wait: bool
    ) -> Settled:
        self._guard.check()
        if not wait and threading.get_ident() == self._thread:
            self._core.settle_all(leased, indexes, terms)
            return SENT
        return self._settle(partial(self._core.settle_all, leased, indexes, terms), wait)

    def _settle(self, verdict: Verdict, wait: bool) -> Settled:
        future: concurrent.futures.Future[None] | None = None
        if wait:
            future = concurrent.futures.Future()
        if threading.get_ident() == self._thread:
            verdict(future)
        else:
            try:
                self._loop.call_soon_threadsafe(self._settle_later, verdict, future)
            except RuntimeError as error:
                raise ClosedError("the event loop of the consumer has ended") from error
        return SENT if future is None else Settled(future)

    def _settle_later(
        self, verdict: Verdict, future: concurrent.futures.Future[None] | None
    ) -> None:
        try:
            verdict(future)
        except HermesError as error:
            fail(future, error)
            if future is None:
                _log.warning("a verdict from another thread came too late: %s", error)

    def is_settled(self, leased: Leased, index: int) -> bool:
        return self._core.is_settled(leased, index)

    def _on_undecodable(self, message: Message[EventT], error: DecodeError) -> None:
        _log.warning("rejected %s at offset %s: %s", message.subject, message.offset, error)
        message.reject(str(error))

    def _on_lease_lost(self, leased: Leased, indexes: list[int]) -> None:
        for index in indexes:
            message: Message[EventT] = Message(leased, index, self)
            _log.warning("lost the lease of %s at offset %s", message.subject, message.offset)
            if self.on_lease_lost is not None:
                self._loop.call_soon(self.on_lease_lost, message)


class AsyncSubscription(AsyncMessages[EventT]):
    """Live messages. `dropped` counts missed ones; `on_lag(count)` is called for each loss."""

    def __init__(
        self,
        connection: AsyncConnection,
        patterns: tuple[str, ...],
        groups: tuple[str, ...],
        *,
        kinds: Any,
        on_decode_error: OnDecodeError,
        on_lag: Callable[[int], object] | None,
    ) -> None:
        super().__init__(connection, kinds, on_decode_error)
        self.on_lag = on_lag
        self._core: SubscribeCore | None = None
        self._patterns = patterns
        self._groups = groups
        self._states: list[SubscriptionState] = []

    @property
    def dropped(self) -> int:
        """Messages missed so far because they came faster than they were taken."""
        return sum(state.dropped for state in self._states)

    async def _open(self) -> Inbox[Any]:
        core = self._core = self._connection.subscribing()
        loop = asyncio.get_running_loop()
        inbox: Inbox[Any] | None = None
        for pattern in self._patterns:
            opened: asyncio.Future[None] = loop.create_future()
            state = core.open(pattern, self._groups, opened, inbox)
            inbox = state.inbox
            state.lagged = self._on_lag
            self._states.append(state)
            await self._connection.wait_opened(opened, core)
        assert inbox is not None
        return inbox

    async def _close(self) -> None:
        for state in self._states:
            assert self._core is not None
            self._core.close_subscription(state)

    def _on_lag(self, dropped: int) -> None:
        _log.warning("a subscription to %s missed %d messages", self._patterns, dropped)
        if self.on_lag is not None:
            asyncio.get_running_loop().call_soon(self.on_lag, dropped)


class AsyncReading(AsyncMessages[EventT]):
    """Messages read from the line, without a consumer. Ends at the end of the line."""

    def __init__(
        self,
        connection: AsyncConnection,
        core: ReadCore,
        *,
        kinds: Any,
        on_decode_error: OnDecodeError,
    ) -> None:
        super().__init__(connection, kinds, on_decode_error)
        self._core = core
        self._taken = asyncio.Event()
        core.inbox.released = self._taken.set
        self._task: asyncio.Task[None] | None = None

    async def _open(self) -> Inbox[Any]:
        factory: Any = self._connection.channel().unary_stream(
            READ.path,
            request_serializer=READ.request_class.SerializeToString,
            response_deserializer=READ.response_class.FromString,
        )
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = loop.create_future()
        self._task = loop.create_task(self._run(factory, opened), name="hermes Read")
        await self._connection.wait_opened(opened, self._core)
        return self._core.inbox

    async def _close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        self._core.inbox.clear()
        self._core.inbox.end()

    def _ask(self) -> None:
        self._taken.set()

    def _is_all(self, inbox: Inbox[Any]) -> bool:
        return super()._is_all(inbox) or self._core.is_ahead

    async def _run(self, factory: Any, opened: asyncio.Future[None]) -> None:
        core, backoff = self._core, Backoff()
        while True:
            error = await self._call_once(factory, opened, backoff)
            if error is None or core.is_complete:
                core.inbox.end()
                return
            core.last_error = error
            if not is_retryable(error):
                core.inbox.end(error)
                fail(opened, error)
                return
            _log.info("read: %s; reconnecting", error)
            await asyncio.sleep(backoff.next_delay_s(random.random()))

    async def _call_once(
        self, factory: Any, opened: asyncio.Future[None], backoff: Backoff
    ) -> HermesError | None:
        call = factory(
            self._core.request(), metadata=self._connection.options.metadata, wait_for_ready=True
        )
        try:
            await call.initial_metadata()
            if not opened.done() and not call.done():
                opened.set_result(None)
            while (response := await call.read()) is not EOF:
                backoff.reset()
                self._core.on_response(response)
                while self._core.is_ahead:
                    self._taken.clear()
                    await self._taken.wait()
            if not opened.done():
                opened.set_result(None)
            return None
        except grpc.RpcError as error:
            return error_from_rpc(error)
        except asyncio.CancelledError:
            if is_own_cancellation():
                raise
            return ConnectionLostError("connection lost: the read was cancelled")
        except Exception as error:  # noqa: BLE001 -- a bug must end the reading, not hang it
            _log.exception("Read: a response could not be handled")
            return HermesError(f"the client failed on a response: {error!r}")
        finally:
            call.cancel()
