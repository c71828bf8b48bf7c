"""The asyncio driver: keeps one bidirectional stream of a core open on grpc.aio.

Per connection there is a reader (this task) and a writer task. The writer asks the
core for the next frame whenever the last one is written: what became ready meanwhile
shares a frame. The driver knows no message; every decision is the core's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from typing import Any

import grpc

from hermes.client.core.backoff import Backoff
from hermes.client.core.codes import is_retryable
from hermes.client.core.stream import StreamCore
from hermes.client.errors import error_from_rpc
from hermes.clock import Clock
from hermes.errors import ClosedError, ConnectionLostError, HermesError
from hermes.rpc import Method

EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined] # the stubs lack it
_log = logging.getLogger("hermes.client")


class AioStream:
    """Drives a core over as many connections as it takes. Lives on one event loop."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        method: Method[Any, Any],
        core: StreamCore[Any, Any],
        metadata: tuple[tuple[str, str], ...],
        clock: Clock,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._method = method
        self._call_factory: Any = channel.stream_stream(
            method.path,
            request_serializer=method.request_class.SerializeToString,
            response_deserializer=method.response_class.FromString,
        )
        self._core = core
        self._metadata = metadata
        self._clock = clock
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False
        core.wake = self._on_wake
        self._task = self._loop.create_task(self._run(), name=f"hermes {method.name}")

    @property
    def is_running(self) -> bool:
        """False once the stream has failed for good or was closed."""
        return not self._task.done()

    async def aclose(self, timeout_s: float) -> None:
        """Let the core finish for at most `timeout_s`, then cancel. Idempotent."""
        self._closing = True
        self._wake.set()
        try:
            if self._core.is_open:
                await asyncio.wait({self._task}, timeout=timeout_s)
        finally:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._stop_timer()
            self._core.on_failed(ClosedError("closed before the broker had answered"))

    # ------------------------------------------------------------------ the loop

    async def _run(self) -> None:
        backoff = Backoff()
        while True:
            error = await self._connect_once()
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
            self._arm_timer()
            if self._closing:
                return
            await asyncio.sleep(backoff.next_delay_s(random.random()))

    async def _connect_once(self) -> HermesError | None:
        """One connection from open to end; the error it ended with, None for a clean end."""
        call: Any = self._call_factory(metadata=self._metadata, wait_for_ready=True)
        writer = self._loop.create_task(self._write(call))
        try:
            while (response := await call.read()) is not EOF:
                self._core.on_response(response, self._clock.monotonic_ns())
                if self._timer is None:
                    self._arm_timer()
                while self._core.is_ahead:  # noqa: ASYNC110 -- one turn of the loop at a time
                    await asyncio.sleep(0)
            return None
        except grpc.RpcError as error:
            return error_from_rpc(error)
        except HermesError as error:
            return error
        except asyncio.CancelledError:
            if is_own_cancellation():
                raise
            return ConnectionLostError("connection lost: the stream was cancelled")
        except Exception as error:  # noqa: BLE001 -- a bug must fail the waiters, not hang them
            _log.exception("%s: a response could not be handled", self._method.name)
            return HermesError(f"the client failed on a response: {error!r}")
        finally:
            writer.cancel()
            call.cancel()

    async def _write(self, call: Any) -> None:
        core, wake = self._core, self._wake
        # A write that fails ends the stream: the reader learns the status.
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
            await call.write(core.opening())
            while True:
                wake.clear()
                request = core.next_request()
                if request is not None:
                    await call.write(request)
                elif core.is_finished:
                    await call.done_writing()
                    return
                else:
                    await wake.wait()

    # -------------------------------------------------------------------- timers

    def _on_wake(self) -> None:
        self._wake.set()
        if self._timer is None:
            self._arm_timer()

    def _arm_timer(self) -> None:
        self._stop_timer()
        due_ns = self._core.next_timer_ns()
        if due_ns is not None and not self._task.done():
            delay_s = max(0, due_ns - self._clock.monotonic_ns()) / 1e9
            self._timer = self._loop.call_later(delay_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._core.on_timer(self._clock.monotonic_ns())
        self._on_wake()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def is_own_cancellation() -> bool:
    """Is it this task that is being cancelled?

    grpc.aio raises CancelledError for a CANCELLED status, too: that one is the call's.
    """
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
