"""Open a log, fold it, and start an engine on it: one step of which all succeeds or none.

Used at start and after a failure of the log alike.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from hermes import __version__, limits
from hermes.broker import events as ev
from hermes.broker.core import Settings
from hermes.broker.recovery import Recovered, recover
from hermes.broker.retention import RetentionPolicy, StoreFull
from hermes.broker.state import State
from hermes.clock import Clock
from hermes.errors import StoreDamagedError, StoreError
from hermes.log.facts import Mark
from hermes.log.head import FILE_NAME as HEAD_NAME
from hermes.log.log import open_log
from hermes.log.null import NullLog
from hermes.log.opening import OpenReport
from hermes.log.port import Log, LogReader, Outcome
from hermes.server.collector import Collector
from hermes.server.config import ServerConfig
from hermes.server.host import Host
from hermes.server.logs import get_logger
from hermes.server.settings import NS_PER_SEC

# Committing one record on a disk that works takes milliseconds.
_FIRST_COMMIT_SECS: Final = 30.0
_BACKOFF_INITIAL_NS: Final = NS_PER_SEC
_BACKOFF_MAX_NS: Final = 300 * NS_PER_SEC
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

_log = get_logger("hermes.server")


class _Outcomes:
    """Brings outcomes from the log's thread to the host on the loop's."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.host: Host | None = None

    def __call__(self, outcome: Outcome) -> None:
        try:
            self._loop.call_soon_threadsafe(self._tell, outcome)
        except RuntimeError:
            return  # the loop is closed: nobody is left to be told

    def _tell(self, outcome: Outcome) -> None:
        if self.host is not None:
            self.host.on_outcome(outcome)


class Known(msgspec.Struct, frozen=True):
    """What this process knows of its store from before: opening it again must find that."""

    store_id: str
    committed: Mark


async def open_host(config: ServerConfig, clock: Clock, known: Known | None = None) -> Host:
    """An engine that may serve: its start is committed.

    With `known` nothing is created, and all that was committed before must be there.
    Raises StoreError and its kin; the log is closed again then.
    """
    outcomes = _Outcomes()
    started_ns = clock.monotonic_ns()
    log, recovered = await asyncio.to_thread(_open, config, outcomes, known)
    host = Host(log, recovered, settings_of(config), clock)
    outcomes.host = host
    try:
        await _start(host, config, clean_stop=recovered.state.clean_stop)
    except BaseException:
        await host.close()
        raise
    if config.store_path is not None:
        _log.info(
            "store opened",
            path=str(config.store_path),
            store_id=log.store_id,
            next_offset=recovered.state.next_offset,
            consumers=len(recovered.state.consumers),
            records_folded=recovered.records,
            milliseconds=(clock.monotonic_ns() - started_ns) // 1_000_000,
        )
    else:
        _log.info("no store: fire-and-forget only")
    return host


def _open(config: ServerConfig, outcomes: _Outcomes, known: Known | None) -> tuple[Log, Recovered]:
    if config.store_path is None:
        return NullLog(outcomes), Recovered(State(), 0, 0)
    if known is not None and not (config.store_path / HEAD_NAME).exists():
        # Not made anew: an empty store in the place of a volume that is away loses everything.
        raise StoreError(
            f"the store at {config.store_path} is not there any more",
            hint="is its volume mounted?",
        )
    # Not when it is opened again: what is lost while it serves, nobody has looked at.
    accept_loss = config.accept_loss and known is None
    log = open_log(config.store_path, outcomes, accept_loss=accept_loss)
    try:
        if log.report.created:
            _log.info("store created", path=str(config.store_path))
        for warning in log.report.warnings:
            _log.warning(warning)
        if accept_loss:
            _tell_accepted(log.report)
        with closing(log.reader()) as reader:
            if known is not None:
                _check_known(log, reader, known, config.store_path)
            return log, recover(reader)
    except BaseException:
        log.close()
        raise


def _tell_accepted(report: OpenReport) -> None:
    """What was done with the operator's word, so that it is not given again unawares."""
    lost = report.lost
    _log.warning(
        "started with --accept-loss",
        accepted=report.rule if "accepted" in report.rule else "nothing: nothing was lost",
        lost_records="none" if lost is None else f"{lost[0]}..{lost[1]}",
        remedy="start without it from now on: it would accept the next loss unseen",
    )


def _check_known(log: Log, reader: LogReader, known: Known, path: Path) -> None:
    """Raises StoreDamagedError unless it is the same store with all that was committed."""
    if log.store_id != known.store_id:
        raise StoreDamagedError(
            f"{path} holds another store than before: {log.store_id}, not {known.store_id}",
            hint="put the store back that this server was started with, then start it",
        )
    mark = known.committed
    if not mark.lsn:
        return
    records = reader.read(mark.lsn, limit=1, limit_bytes=1, payloads=False)
    if not records or (records[0].lsn, records[0].chain) != (mark.lsn, mark.chain):
        raise StoreDamagedError(
            f"{path} lacks what this server had committed, up to record {mark.lsn}",
            hint="was an older copy put in its place? restore it from a backup",
            last_lsn=mark.lsn,
        )


async def _start(host: Host, config: ServerConfig, *, clean_stop: bool) -> None:
    """Commit ServerStarted. Raises StoreError when that does not happen."""
    ready = asyncio.Event()
    host.engine.start(partial(_started, config=config, clean_stop=clean_stop), ready.set)
    waiting = asyncio.ensure_future(ready.wait())
    try:
        await asyncio.wait(
            (waiting, host.failed),
            timeout=_FIRST_COMMIT_SECS,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if host.failed.done():
            raise host.failed.result()
        if not ready.is_set():
            raise StoreError(
                f"the store at {config.store_path} did not commit within {_FIRST_COMMIT_SECS:g} s",
                hint="is its disk working?",
            )
    finally:
        waiting.cancel()


def _started(now_ns: int, *, config: ServerConfig, clean_stop: bool) -> ev.ServerStarted:
    return ev.ServerStarted(
        engine_time_ns=now_ns,
        version=__version__,
        host=socket.gethostname(),
        boot_id=_BOOT_ID.read_text().strip() if _BOOT_ID.exists() else "",
        config_digest=config.digest(),
        clean_stop=clean_stop,
        dedup_window_ns=int(config.dedup_window_secs * NS_PER_SEC),
        dedup_ids_max=config.dedup_ids_max,
    )


def make_collector(host: Host, config: ServerConfig, clock: Clock) -> Collector:
    """Garbage collection as the configuration wants it."""
    slack_bytes = 0
    if config.max_store_bytes is not None:
        slack_bytes = min(limits.STORE_SLACK_BYTES, config.max_store_bytes // 10)
    return Collector(host, retention_of(config), clock, slack_bytes=slack_bytes)


def retention_of(config: ServerConfig) -> RetentionPolicy:
    """For how long the configuration wants what kept."""
    return RetentionPolicy(
        retention_ns=int(config.retention_secs * NS_PER_SEC),
        audit_retention_ns=_ns(config.audit_retention_secs),
        dead_letter_retention_ns=_ns(config.dead_letter_retention_secs),
        max_unacked_retention_ns=_ns(config.max_unacked_retention_secs),
        store_bytes_max=config.max_store_bytes,
        store_full=StoreFull(config.store_full),
    )


def _ns(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * NS_PER_SEC)


def settings_of(config: ServerConfig) -> Settings:
    """What of the configuration the engine needs."""
    return Settings(
        default_policy=ev.Policy(
            filters=(),
            ack_timeout_ns=int(config.default_ack_timeout_secs * NS_PER_SEC),
            max_attempts=config.max_delivery_attempts,
            backoff_initial_ns=_BACKOFF_INITIAL_NS,
            backoff_max_ns=_BACKOFF_MAX_NS,
            inactivity_limit_ns=0,
        ),
        subscriber_channel_capacity=config.subscriber_channel_capacity,
        redelivery_batch_size=config.redelivery_batch_size,
        snapshot_interval_records=config.snapshot_interval_records,
        segment_bytes_max=config.segment_bytes_max,
        dedup_window_ns=int(config.dedup_window_secs * NS_PER_SEC),
        dedup_ids_max=config.dedup_ids_max,
        dead_letter_retention_ns=_ns(config.dead_letter_retention_secs),
        consumer_inactivity_ns=_ns(config.consumer_inactivity_secs) or 0,
        store_bytes_max=config.max_store_bytes,
    )
