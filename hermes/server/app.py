"""The composition root: what starts in which order, what stops in which, what fails how.

Start: take the address, open the log, fold it, start the engine, and only then serve.
So a server that cannot start touches nothing of another's.

Stop: refuse new calls, ask clients to leave, let them finish what is under way, release
their leases, record the stop, end what is left, close the log. All within the grace time.

Fail stop: when the log fails, every stream ends with UNAVAILABLE; the log is closed,
opened afresh and folded again into a new engine. If that fails the server ends.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import msgspec

from hermes.clock import Clock, SystemClock
from hermes.errors import HermesError, StoreError
from hermes.server.admin_service import AdminService
from hermes.server.backups import Backups
from hermes.server.broker_service import broker_handlers
from hermes.server.checkpoints import Checkpoints, open_checkpoints
from hermes.server.collector import Collector
from hermes.server.config import ServerConfig
from hermes.server.endpoint import Endpoint
from hermes.server.gc_service import GcService
from hermes.server.host import Host, reopening_error
from hermes.server.logs import get_logger
from hermes.server.sessions import stopping_error
from hermes.server.starting import make_collector, open_host
from hermes.server.upkeep import Upkeep

# Of the grace time: how much clients get to leave by themselves, and to be ended.
_LEAVE_PART: Final = 0.5
_END_PART: Final = 0.2
# Sinks get so long for the last checkpoint, whatever the grace time; most need milliseconds.
_SINKS_SECS: Final = 1.0
# Two failures within this time are one that does not go away.
_FAILURES_APART_NS: Final = 1_000_000_000

_log = get_logger("hermes.server")


class Server:
    """A running server. Made by `serving`."""

    def __init__(self, config: ServerConfig, clock: Clock | None = None) -> None:
        """Takes the address. Raises AddressError."""
        self._config = config
        self._clock = clock or SystemClock()
        self._host: Host | None = None
        self._collector: Collector | None = None
        self._checkpoints: Checkpoints | None = None
        self._by_the_clock: list[asyncio.Task[None]] = []
        self._stopping = False
        self._watcher: asyncio.Task[None] | None = None
        self._failure: asyncio.Future[None] | None = None
        handlers = (
            broker_handlers(self.host, config)
            | AdminService(self.host).handlers()
            | Backups(self.host, config, self._clock).handlers()
            | GcService(self.host, self.collector).handlers()
        )
        self._endpoint = Endpoint(config, handlers)

    @property
    def address(self) -> str:
        """Where it listens, with the port it got: host:port."""
        return self._endpoint.address

    def host(self) -> Host:
        """The present engine's host. Raises UnavailableError while there is none."""
        if self._stopping:
            raise stopping_error()
        if self._host is None or self._host.failed.done():
            raise reopening_error()
        return self._host

    def collector(self) -> Collector:
        """The present engine's garbage collection. Raises UnavailableError while there is none."""
        self.host()
        assert self._collector is not None
        return self._collector

    # ------------------------------------------------------------------ start

    async def start(self) -> None:
        """Open the store and serve. Raises StoreError and its kin; nothing runs then."""
        self._failure = asyncio.get_running_loop().create_future()
        try:
            await self._open()
        except BaseException:
            await self._endpoint.stop(0)
            raise
        await self._endpoint.start()
        await self._endpoint.set_serving(serving=True)
        self._watcher = asyncio.create_task(self._watch())
        _log.info("serving", address=self.address)

    async def _open(self) -> None:
        host = await open_host(self._config, self._clock)
        self._host = host
        try:
            self._checkpoints = await open_checkpoints(host, self._config, self._clock)
        except BaseException:
            await self._close_host()
            raise
        self._collector = make_collector(host, self._config, self._clock)
        upkeep = Upkeep(host, self._config, self._clock, self._collector)
        self._by_the_clock.append(asyncio.create_task(upkeep.run()))
        if self._checkpoints is not None:
            self._by_the_clock.append(asyncio.create_task(self._checkpoints.run()))

    async def _close_host(self, sinks_secs: float = 0.0) -> None:
        """Close the log. With `sinks_secs` its end is signed, and sinks get so long to take it."""
        host, self._host = self._host, None
        for task in self._by_the_clock:
            task.cancel()
        self._by_the_clock.clear()
        if host is not None:
            await host.close()
        checkpoints, self._checkpoints = self._checkpoints, None
        if checkpoints is not None:
            await checkpoints.leave(sinks_secs, last=sinks_secs > 0)

    # -------------------------------------------------------------- fail stop

    async def _watch(self) -> None:
        """Open the log afresh after each failure; end the server when that fails."""
        assert self._failure is not None
        last_failure_ns = -_FAILURES_APART_NS
        try:
            while True:
                assert self._host is not None
                cause = await asyncio.shield(self._host.failed)
                now_ns = self._clock.monotonic_ns()
                if now_ns - last_failure_ns < _FAILURES_APART_NS:
                    raise StoreError(f"the log failed again at once: {cause.message}")
                last_failure_ns = now_ns
                await self._endpoint.set_serving(serving=False)
                await self._host.streams.gone(self._config.shutdown_grace_secs)
                await self._close_host()
                await self._open()
                await self._endpoint.set_serving(serving=True)
                _log.info("serving again", address=self.address)
        except Exception as error:  # noqa: BLE001 - told to whoever waits for the server
            if not self._failure.done():
                self._failure.set_exception(error)

    async def ended(self, shutdown: Awaitable[object]) -> None:
        """Until `shutdown` is done. Raises what ended the server before."""
        assert self._failure is not None
        waiting = asyncio.ensure_future(shutdown)
        try:
            await asyncio.wait((waiting, self._failure), return_when=asyncio.FIRST_COMPLETED)
            if self._failure.done():
                self._failure.result()
            waiting.result()
        finally:
            waiting.cancel()

    # ------------------------------------------------------------------- stop

    async def stop(self, reason: str = "stopped") -> None:
        """Drain and end, within the grace time. Idempotent."""
        if self._stopping:
            return
        self._stopping = True
        grace_secs = self._config.shutdown_grace_secs
        if self._watcher is not None:
            self._watcher.cancel()
        await self._endpoint.set_serving(serving=False)
        host = self._host
        if host is not None and not host.failed.done():
            _log.info("draining", streams=len(host.streams), grace_secs=grace_secs)
            host.streams.drain(reason, int(grace_secs * 1000))
            await host.streams.gone(grace_secs * _LEAVE_PART)
            await self._record_stop(host, reason, grace_secs * _END_PART)
            host.streams.end(stopping_error())
            await host.streams.gone(grace_secs * _END_PART)
        last_secs = grace_secs * (1 - _LEAVE_PART - 2 * _END_PART)
        await self._endpoint.stop(last_secs)
        await self._close_host(max(last_secs, _SINKS_SECS))
        if self._failure is not None:
            self._failure.cancel()
        _log.info("stopped", reason=reason)

    async def _record_stop(self, host: Host, reason: str, timeout_secs: float) -> None:
        """Leases go back, ServerStopped is committed."""
        stopped = asyncio.Event()
        try:
            host.engine.stop(reason, stopped.set)
            host.engine.turn()
            async with asyncio.timeout(max(timeout_secs, 1.0)):
                await stopped.wait()
        except (TimeoutError, HermesError) as error:
            # Everything that was acknowledged is committed; the next start sees no
            # clean stop, and that is the truth.
            _log.warning("the stop could not be recorded", error=str(error))


# --------------------------------------------------------------------- running


@asynccontextmanager
async def serving(config: ServerConfig) -> AsyncIterator[Server]:
    """A server for as long as the block runs, for tests and embedding.

    Raises AddressError, StoreError and its kin when it cannot start.
    """
    server = Server(config)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def run(addr: str) -> None:
    """Serve at `addr` with the settings of the environment, until SIGTERM or SIGINT."""
    await run_with_config(addr, ServerConfig.from_env())


async def run_with_config(addr: str, config: ServerConfig) -> None:
    """Serve at `addr` until SIGTERM or SIGINT."""
    with signalled() as shutdown:
        await run_with_shutdown(addr, config, shutdown)


async def run_with_shutdown(addr: str, config: ServerConfig, shutdown: Awaitable[object]) -> None:
    """Serve at `addr` until `shutdown` is done. Its result, if a text, is the reason.

    Raises what the server could not start or go on with.
    """
    server = Server(msgspec.structs.replace(config, listen_addr=addr))
    await server.start()
    reason = "failed"
    try:
        await server.ended(shutdown)
        reason = "asked to stop"
    finally:
        await server.stop(reason)


@contextmanager
def signalled() -> Iterator[asyncio.Future[str]]:
    """A future that the first SIGTERM or SIGINT completes; a second exits at once."""
    loop = asyncio.get_running_loop()
    received: asyncio.Future[str] = loop.create_future()

    def on_signal(number: signal.Signals) -> None:
        if received.done():
            _log.warning("second signal: exiting at once", signal=number.name)
            exit_now(128 + number)
        received.set_result(number.name)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield received
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def exit_now(code: int) -> None:
    """End the process without any clean-up: what is committed is committed."""
    os._exit(code)
