"""The composition root: what starts in which order, what stops in which, what fails how.

Start: take the address, open the log, fold it, start the engine, and only then serve.
So a server that cannot start touches nothing of another's.

Stop: refuse new calls, ask clients to leave, let them finish what is under way, release
their leases, record the stop, end what is left, close the log. All within the grace time.

Fail stop: when the log fails, every stream ends with UNAVAILABLE; the log is closed,
opened afresh and folded again into a new engine. While that fails for a reason that can
pass it is tried again; healing.py says what can.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeVar

import msgspec

from hermes.clock import Clock, SystemClock
from hermes.errors import HermesError, StoreError
from hermes.server.admin_service import AdminService
from hermes.server.backups import Backups
from hermes.server.broker_service import broker_handlers
from hermes.server.checkpoint_sinks import Sink
from hermes.server.checkpoints import Checkpoints, open_checkpoints
from hermes.server.collector import Collector
from hermes.server.config import ServerConfig
from hermes.server.descriptors import raise_descriptors_limit
from hermes.server.disk_watch import DiskWatch
from hermes.server.endpoint import Endpoint
from hermes.server.gc_service import GcService
from hermes.server.healing import Healing, remedy, reopening_error
from hermes.server.host import Host
from hermes.server.logs import get_logger
from hermes.server.metrics_endpoint import MetricsEndpoint
from hermes.server.metrics_reading import MetricsReader
from hermes.server.scrub import Scrub
from hermes.server.sessions import stopping_error
from hermes.server.starting import Known, make_collector, open_host
from hermes.server.upkeep import Upkeep

# Of the grace time: how much clients get to leave by themselves, and to be ended.
_LEAVE_PART: Final = 0.5
_END_PART: Final = 0.2
# Sinks get so long for the last checkpoint, whatever the grace time; most need milliseconds.
_SINKS_SECS: Final = 1.0
# An opening that is under way at the stop gets so long, whatever the grace time.
_OPENING_SECS: Final = 5.0
_T = TypeVar("_T")

_log = get_logger("hermes.server")


class Server:
    """A running server. Made by `serving`."""

    def __init__(self, config: ServerConfig, clock: Clock | None = None) -> None:
        """Takes the addresses. Raises AddressError."""
        self._config = config
        self._clock = clock or SystemClock()
        self._host: Host | None = None
        self._collector: Collector | None = None
        self._checkpoints: Checkpoints | None = None
        self._by_the_clock: list[asyncio.Task[None]] = []
        self._disk_watch: DiskWatch | None = None
        self.healing = Healing()
        self.scrub = Scrub(config, self._clock)
        self._stopping = False
        self._watcher: asyncio.Task[None] | None = None
        self._failure: asyncio.Future[None] | None = None
        handlers = (
            broker_handlers(self.host, config)
            | AdminService(self.host).handlers()
            | Backups(self.host, config, self._clock).handlers()
            | GcService(self.host, self.collector).handlers()
        )
        self._metrics: MetricsEndpoint | None = None
        if config.metrics_addr is not None:
            reader = MetricsReader(
                self.host,
                lambda: self._endpoint.serving,
                self._sinks,
                self.healing,
                self.scrub,
                self._clock,
            )
            self._metrics = MetricsEndpoint(config.metrics_addr, reader.read)
        try:
            self._endpoint = Endpoint(config, handlers)
        except BaseException:
            if self._metrics is not None:
                self._metrics.close()
            raise

    @property
    def address(self) -> str:
        """Where it listens, with the port it got: host:port."""
        return self._endpoint.address

    @property
    def metrics_address(self) -> str | None:
        """Where its metrics are, with the port they got: host:port; None: nowhere."""
        return None if self._metrics is None else self._metrics.address

    def _sinks(self) -> tuple[Sink, ...]:
        return () if self._checkpoints is None else self._checkpoints.sinks

    def host(self) -> Host:
        """The present engine's host. Raises UnavailableError while there is none."""
        if self._stopping:
            raise stopping_error()
        if self._host is None or self._host.failed.done():
            raise reopening_error(self.healing.cause)
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
        if self._metrics is not None:
            self._metrics.start()
        try:
            await self._open()
        except BaseException:
            await self._stop_endpoints(0)
            raise
        await self._endpoint.start()
        await self._endpoint.set_serving(serving=True)
        self.healing.served(self._clock.monotonic_ns())
        self._watcher = asyncio.create_task(self._watch())
        metrics = {} if self._metrics is None else {"metrics": self._metrics.address}
        _log.info("serving", address=self.address, **metrics)

    async def _open(self, known: Known | None = None) -> None:
        host = await open_host(self._config, self._clock, known)
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
        if self._config.store_path is not None:
            was_low = self._disk_watch is not None and self._disk_watch.low
            self._disk_watch = DiskWatch(host.log, self._config.store_path, was_low=was_low)
            self._by_the_clock.append(asyncio.create_task(self._disk_watch.run()))
        self.scrub.start(host.log)

    async def _close_host(self, sinks_secs: float = 0.0) -> None:
        """Close the log. With `sinks_secs` its end is signed, and sinks get so long to take it."""
        host, self._host = self._host, None
        for task in self._by_the_clock:
            task.cancel()
        self._by_the_clock.clear()
        await asyncio.to_thread(self.scrub.stop)
        if host is not None:
            await host.close()
        checkpoints, self._checkpoints = self._checkpoints, None
        if checkpoints is not None:
            await checkpoints.leave(sinks_secs, last=sinks_secs > 0)

    # -------------------------------------------------------------- fail stop

    async def _watch(self) -> None:
        """Open the log afresh after each failure; end the server when that is in vain."""
        assert self._failure is not None
        try:
            while True:
                host = self._host
                assert host is not None
                cause = await asyncio.shield(host.failed)
                _log.error(
                    "the log failed: every stream ends, and the log is opened afresh",
                    cause=str(cause),
                    works="nothing until it is open again",
                    remedy=remedy(cause),
                    # Where a bug of ours was raised; an error of the store says enough.
                    exc_info=None if isinstance(cause, StoreError) else cause,
                )
                self.healing.failed(cause, self._clock.monotonic_ns())
                await self._endpoint.set_serving(serving=False)
                await host.streams.gone(self._config.shutdown_grace_secs)
                await self._reopen(host)
                self.healing.served(self._clock.monotonic_ns())
                await self._endpoint.set_serving(serving=True)
                seconds = round(self.healing.last_outage_secs, 3)
                _log.info("serving again", address=self.address, seconds=seconds)
        except Exception as error:  # noqa: BLE001 - told to whoever waits for the server
            if not self._failure.done():
                self._failure.set_exception(error)

    async def _reopen(self, failed: Host) -> None:
        """Close the failed log and open it afresh, however long that takes.

        Raises what waiting does not help against.
        """
        known = Known(failed.log.store_id, failed.log.committed) if failed.log.durable else None
        try:
            await _to_the_end(self._close_host())
        except Exception as error:  # noqa: BLE001 - it is given up in any case
            _log.warning("the failed log could not be closed in order", cause=str(error))
        while True:
            await asyncio.sleep(self.healing.wait_secs)
            try:
                await _to_the_end(self._open(known))
            except Exception as error:  # noqa: BLE001 - `refused` raises what is final
                if self.healing.refused(error):
                    _log.warning(
                        "the log cannot be opened yet; tried again until it can",
                        cause=str(error),
                        works="nothing: every call gets UNAVAILABLE",
                        remedy=remedy(error),
                    )
            else:
                return

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
            # A log that is being opened is waited for, to be closed like any other.
            self._watcher.cancel()
            await asyncio.wait((self._watcher,), timeout=max(grace_secs, _OPENING_SECS))
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
        await self._stop_endpoints(last_secs)
        await self._close_host(max(last_secs, _SINKS_SECS))
        if self._failure is not None:
            self._failure.cancel()
        _log.info("stopped", reason=reason)

    async def _stop_endpoints(self, grace_secs: float) -> None:
        stops = [self._endpoint.stop(grace_secs)]
        if self._metrics is not None:
            stops.append(self._metrics.stop())
        await asyncio.gather(*stops)

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


async def _to_the_end(work: Coroutine[Any, Any, _T]) -> _T:
    """Do it whole, even when the caller is cancelled meanwhile: nobody else would finish it."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        if not task.cancelled():
            task.exception()  # seen: the cancellation counts more
        raise


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
    """Serve at `addr` until SIGTERM or SIGINT. The process is the server's."""
    raise_descriptors_limit()
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
