"""The thread driver: keeps one bidirectional stream of a core open on grpc's sync stack.

One thread runs the connections and reads; grpc's own thread pulls requests from a
generator, one whenever the last is written, so that what became ready meanwhile shares
a frame. Both touch the core under `lock`. Callbacks of users never run under it: they
are put into `deferred` and called by whichever thread leaves the lock next.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from hermes.client.core.backoff import Backoff
from hermes.client.core.codes import is_retryable
from hermes.client.core.stream import StreamCore
from hermes.client.errors import error_from_rpc
from hermes.clock import Clock
from hermes.errors import ClosedError, ConnectionLostError, HermesError
from hermes.rpc import Method

_log = logging.getLogger("hermes.client")

# The longest a thread sleeps without looking up: Ctrl-C and a fork are seen within it.
WAIT_SLICE_S = 0.25
# How long reading gives way to users who are taking, before it looks again.
_YIELD_S = 0.002


class SyncStream:
    """Drives a core over as many connections as it takes, on threads of its own."""

    def __init__(
        self,
        channel: grpc.Channel,
        method: Method[Any, Any],
        core: StreamCore[Any, Any],
        metadata: tuple[tuple[str, str], ...],
        clock: Clock,
        lock: threading.RLock,
    ) -> None:
        self.lock = lock
        self.deferred: deque[Callable[[], object]] = deque()
        self._method = method
        self._call_factory: Any = channel.stream_stream(
            method.path,
            request_serializer=method.request_class.SerializeToString,
            response_deserializer=method.response_class.FromString,
        )
        self._core = core
        self._metadata = metadata
        self._clock = clock
        self._wake = threading.Condition(lock)
        self._stop = threading.Event()
        self._closing = False
        self._connection = 0
        self._call: Any = None
        core.wake = self._wake.notify_all
        self._thread = threading.Thread(target=self._run, name=f"hermes {method.name}", daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """False once the stream has failed for good or was closed."""
        return self._thread.is_alive()

    def tick(self) -> None:
        """Let timers run while there is no connection. Called by whoever waits."""
        with self.lock:
            self._core.on_timer(self._clock.monotonic_ns())
        self._run_deferred()

    def close(self, timeout_s: float) -> None:
        """Let the core finish for at most `timeout_s`, then cancel. Idempotent."""
        with self.lock:
            self._closing = True
            self._wake.notify_all()
            is_open = self._core.is_open
        if is_open and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
        self._stop.set()
        with self.lock:
            call = self._call
        if call is not None:
            call.cancel()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
        with self.lock:
            self._core.on_failed(ClosedError("closed before the broker had answered"))

    # ------------------------------------------------------------------ the loop

    def _run(self) -> None:
        backoff = Backoff()
        while not self._stop.is_set():
            error = self._connect_once()
            with self.lock:
                if self._closing and self._core.is_finished:
                    return
                if error is not None and not is_retryable(error):
                    self._core.on_failed(error)
                    return
                lost = error or ConnectionLostError("the broker ended the stream")
                if self._core.is_open:
                    backoff.reset()
                    _log.info("%s: %s; reconnecting", self._method.name, lost)
                self._core.on_lost(lost, self._clock.monotonic_ns())
                if self._closing:
                    return
            self._run_deferred()
            self._stop.wait(backoff.next_delay_s(random.random()))

    def _connect_once(self) -> HermesError | None:
        """One connection from open to end; the error it ended with, None for a clean end."""
        with self.lock:
            self._connection += 1
            requests = self._requests(self._connection)
            call = self._call_factory(requests, metadata=self._metadata, wait_for_ready=True)
            self._call = call
        if self._stop.is_set():
            call.cancel()
        try:
            for response in call:
                with self.lock:
                    self._core.on_response(response, self._clock.monotonic_ns())
                    while self._core.is_ahead:
                        self._wake.wait(_YIELD_S)
                self._run_deferred()
            return None
        except grpc.RpcError as error:
            return error_from_rpc(error)
        except HermesError as error:
            return error
        except Exception as error:  # noqa: BLE001 -- a bug must fail the waiters, not hang them
            _log.exception("%s: a response could not be handled", self._method.name)
            return HermesError(f"the client failed on a response: {error!r}")
        finally:
            with self.lock:
                self._connection += 1
                self._wake.notify_all()
            call.cancel()

    def _requests(self, connection: int) -> Iterator[Any]:
        """What grpc's thread sends on one connection; its end half-closes the stream."""
        with self.lock:
            opening = self._core.opening()
        yield opening
        while self._connection == connection:
            with self.lock:
                request = self._core.next_request()
                if request is None:
                    if self._core.is_finished:
                        return
                    self._wait()
            self._run_deferred()
            if request is not None:
                yield request

    def _wait(self) -> None:
        """Sleep, under the lock, until something is to be sent or a timer is due."""
        now_ns = self._clock.monotonic_ns()
        due_ns = self._core.next_timer_ns()
        if due_ns is None:
            self._wake.wait(WAIT_SLICE_S)
        elif due_ns > now_ns:
            self._wake.wait(min((due_ns - now_ns) / 1e9, WAIT_SLICE_S))
        else:
            self._core.on_timer(now_ns)

    def _run_deferred(self) -> None:
        while self.deferred:
            with contextlib.suppress(IndexError):
                callback = self.deferred.popleft()
                try:
                    callback()
                except Exception:  # noqa: BLE001 -- a callback's failure is its own
                    _log.exception("a callback failed")
