"""The three receivers of the sync client: consumer, subscription, reading.

Callbacks of users (`on_lag`, `on_lease_lost`) run on a thread of the client and must
not wait for it.
"""

from __future__ import annotations

import concurrent.futures
import logging
import random
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import grpc

from hermes.client.core.backoff import Backoff
from hermes.client.core.codes import is_retryable
from hermes.client.core.consuming import ConsumeCore, ConsumerInfo
from hermes.client.core.inbox import Inbox
from hermes.client.core.leases import Leased
from hermes.client.core.reading import ReadCore
from hermes.client.core.settlements import Terms
from hermes.client.core.stream import fail, resolve
from hermes.client.core.subscribing import SubscribeCore, SubscriptionState
from hermes.client.errors import error_from_rpc
from hermes.client.message import SENT, Message, Settled
from hermes.client.sync_connection import SyncConnection
from hermes.client.sync_messages import Messages, OnDecodeError
from hermes.client.sync_stream import WAIT_SLICE_S, SyncStream
from hermes.errors import DecodeError, HermesError
from hermes.rpc import CONSUME, READ

EventT = TypeVar("EventT")

_log = logging.getLogger("hermes.client")


class Consumer(Messages[EventT]):
    """A member of a durable consumer; each message is leased to it until it is settled.

    `on_lease_lost(message)` is called for a message in the user's hands whose lease
    is gone: it will be, or was, delivered again.
    """

    def __init__(
        self,
        connection: SyncConnection,
        core: ConsumeCore,
        *,
        kinds: Any,
        on_decode_error: OnDecodeError,
        on_lease_lost: Callable[[Message[EventT]], object] | None,
    ) -> None:
        super().__init__(connection, kinds, on_decode_error)
        self.on_lease_lost = on_lease_lost
        self._core = core
        self._lock = threading.RLock()
        self._stream: SyncStream | None = None
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

    def flush(self) -> None:
        """Return once every verdict given so far is committed."""
        self._entered()
        waiter: concurrent.futures.Future[None] = concurrent.futures.Future()
        with self._lock:
            self._core.wait_confirmed(waiter)
        self._connection.wait(waiter, self._guard.check)

    def _open(self) -> tuple[Inbox[Any], threading.RLock]:
        opened: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._core.wait_opened(opened)
        self._stream = self._connection.stream(CONSUME, self._core, self._lock)
        self._connection.wait_opened(opened, lambda: self._core.last_error)
        return self._core.inbox, self._lock

    def _close(self) -> None:
        with self._lock:
            self._core.close()
        if self._stream is not None:
            self._stream.close(self._connection.options.close_timeout_ns / 1e9)

    def _ask(self) -> None:
        self._core.ask()

    def _is_all(self, inbox: Inbox[Any]) -> bool:
        held = self._core.in_hand + inbox.buffered
        return super()._is_all(inbox) or held >= self._core.max_in_flight

    # ----------------------------------------------------------------- verdicts

    def settle(self, leased: Leased, index: int, terms: Terms, wait: bool) -> Settled:
        self._check_fork()
        if not wait:
            with self._lock:
                self._core.settle(leased, index, terms)
            return SENT
        return self._settle(partial(self._core.settle, leased, index, terms))

    def settle_all(
        self, leased: Leased, indexes: range | list[int], terms: Terms, wait: bool
    ) -> Settled:
        self._guard.check()
        if not wait:
            with self._lock:
                self._core.settle_all(leased, indexes, terms)
            return SENT
        return self._settle(partial(self._core.settle_all, leased, indexes, terms))

    def _settle(self, verdict: Callable[[concurrent.futures.Future[None]], None]) -> Settled:
        """Give a verdict and wait for its commit."""
        future: concurrent.futures.Future[None] = concurrent.futures.Future()
        with self._lock:
            verdict(future)
        self._connection.wait(future, self._guard.check)
        return Settled(future)

    def is_settled(self, leased: Leased, index: int) -> bool:
        return self._core.is_settled(leased, index)

    def _on_undecodable(self, message: Message[EventT], error: DecodeError) -> None:
        _log.warning("rejected %s at offset %s: %s", message.subject, message.offset, error)
        message.reject(str(error))

    def _on_lease_lost(self, leased: Leased, indexes: list[int]) -> None:
        for index in indexes:
            message: Message[EventT] = Message(leased, index, self)
            _log.warning("lost the lease of %s at offset %s", message.subject, message.offset)
            if self.on_lease_lost is not None and self._stream is not None:
                self._stream.deferred.append(partial(self.on_lease_lost, message))


class Subscription(Messages[EventT]):
    """Live messages. `dropped` counts missed ones; `on_lag(count)` is called for each loss."""

    def __init__(
        self,
        connection: SyncConnection,
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
        self._stream: SyncStream | None = None
        self._patterns = patterns
        self._groups = groups
        self._states: list[SubscriptionState] = []

    @property
    def dropped(self) -> int:
        """Messages missed so far because they came faster than they were taken."""
        return sum(state.dropped for state in self._states)

    def _open(self) -> tuple[Inbox[Any], threading.RLock]:
        core, stream = self._connection.subscribing()
        self._core, self._stream = core, stream
        inbox: Inbox[Any] = Inbox()
        for pattern in self._patterns:
            opened: concurrent.futures.Future[None] = concurrent.futures.Future()
            with stream.lock:
                state = core.open(pattern, self._groups, opened, inbox)
                state.lagged = self._on_lag
                self._states.append(state)
            self._connection.wait_opened(opened, lambda: core.last_error)
        return inbox, stream.lock

    def _close(self) -> None:
        if self._core is not None and self._stream is not None:
            with self._stream.lock:
                for state in self._states:
                    self._core.close_subscription(state)

    def _on_lag(self, dropped: int) -> None:
        _log.warning("a subscription to %s missed %d messages", self._patterns, dropped)
        if self.on_lag is not None and self._stream is not None:
            self._stream.deferred.append(partial(self.on_lag, dropped))


class Reading(Messages[EventT]):
    """Messages read from the line, without a consumer. Ends at the end of the line."""

    def __init__(
        self,
        connection: SyncConnection,
        core: ReadCore,
        *,
        kinds: Any,
        on_decode_error: OnDecodeError,
    ) -> None:
        super().__init__(connection, kinds, on_decode_error)
        self._core = core
        self._lock = threading.RLock()
        self._taken = threading.Condition(self._lock)
        core.inbox.released = self._taken.notify_all
        self._stop = threading.Event()
        self._call: Any = None
        self._thread: threading.Thread | None = None

    def _open(self) -> tuple[Inbox[Any], threading.RLock]:
        factory: Any = self._connection.channel().unary_stream(
            READ.path,
            request_serializer=READ.request_class.SerializeToString,
            response_deserializer=READ.response_class.FromString,
        )
        opened: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(
            target=self._run, args=(factory, opened), name="hermes Read", daemon=True
        )
        self._thread.start()
        self._connection.wait_opened(opened, lambda: self._core.last_error)
        return self._core.inbox, self._lock

    def _close(self) -> None:
        self._stop.set()
        with self._lock:
            call = self._call
            self._taken.notify_all()
        if call is not None:
            call.cancel()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(self._connection.options.close_timeout_ns / 1e9)
        with self._lock:
            self._core.inbox.clear()
            self._core.inbox.end()

    def _ask(self) -> None:
        self._taken.notify_all()

    def _is_all(self, inbox: Inbox[Any]) -> bool:
        return super()._is_all(inbox) or self._core.is_ahead

    def _run(self, factory: Any, opened: concurrent.futures.Future[None]) -> None:
        core, backoff = self._core, Backoff()
        while not self._stop.is_set():
            error = self._call_once(factory, opened, backoff)
            with self._lock:
                core.last_error = error
                if error is None or core.is_complete:
                    core.inbox.end()
                    return
                if not is_retryable(error):
                    core.inbox.end(error)
                    fail(opened, error)
                    return
            _log.info("read: %s; reconnecting", error)
            self._stop.wait(backoff.next_delay_s(random.random()))

    def _call_once(
        self, factory: Any, opened: concurrent.futures.Future[None], backoff: Backoff
    ) -> HermesError | None:
        call = factory(
            self._core.request(), metadata=self._connection.options.metadata, wait_for_ready=True
        )
        with self._lock:
            self._call = call
        try:
            if self._stop.is_set():
                return None
            call.initial_metadata()
            if call.is_active():
                resolve(opened, None)
            for response in call:
                backoff.reset()
                with self._lock:
                    self._core.on_response(response)
                    while self._core.is_ahead and not self._stop.is_set():
                        self._taken.wait(WAIT_SLICE_S)
            resolve(opened, None)
            return None
        except grpc.RpcError as error:
            return error_from_rpc(error)
        except Exception as error:  # noqa: BLE001 -- a bug must end the reading, not hang it
            _log.exception("Read: a response could not be handled")
            return HermesError(f"the client failed on a response: {error!r}")
        finally:
            call.cancel()
