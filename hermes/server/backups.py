"""The RPC Backup: a copy of the store while it runs, one at a time.

The copying is `hermes.log.backup`, on a reader's thread; it holds no commit up. Here is what
only the server can do: say where backups may go, begin a new segment first, so that what is
copied is mostly sealed (copied once, and no WAL waits for it), and end the copying when the
client goes, the log fails or the server stops.

There is no authentication yet, and a path comes from whoever reaches the port: so backups
by request go below one folder that the operator names, or nowhere.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from hermes import limits, rpc
from hermes.admin.v1 import admin_pb2
from hermes.clock import Clock
from hermes.errors import (
    HermesError,
    InvalidArgumentError,
    PermissionDeniedError,
    PreconditionError,
)
from hermes.log.backup import SEAL_WAIT_SECS, BackupReport, Progress, take_backup
from hermes.server.broker_service import GetHost
from hermes.server.checkpoint_key import files_to_carry
from hermes.server.config import ServerConfig
from hermes.server.endpoint import AnyMethod, Behaviour
from hermes.server.host import Host
from hermes.server.logs import get_logger
from hermes.server.sessions import Context, Stream

_log = get_logger("hermes.server")


class Backups:
    """The handler of Backup."""

    def __init__(self, get_host: GetHost, config: ServerConfig, clock: Clock) -> None:
        self._get_host = get_host
        self._config = config
        self._clock = clock
        self._is_running = False

    def handlers(self) -> dict[AnyMethod, Behaviour]:
        """Method -> behaviour."""
        return {rpc.BACKUP: self.backup}

    async def backup(self, request: admin_pb2.BackupRequest, context: Context) -> None:
        host = self._get_host()
        host.require_store("a backup")
        assert self._config.store_path is not None
        folder = backup_folder(request.directory, self._config.backup_dir)
        carry = files_to_carry(self._config.store_path, with_key=request.with_key)
        if self._is_running:
            raise PreconditionError(
                "this server is making another backup", hint="try again when it is done"
            )
        take = partial(
            take_backup,
            self._config.store_path,
            folder,
            taken_at_ns=self._clock.wall_ns(),
            link=request.link,
            carry=carry,
            seal_wait_secs=SEAL_WAIT_SECS,
            bytes_per_sec=self._config.backup_bytes_per_sec,
        )
        self._is_running = True
        try:
            async with host.streams.opened(context, told_of_drain=False) as stream:
                await _roll_if_large(host)
                report = await _run(host, stream, take)
                _log.info(
                    "backup made",
                    path=str(folder),
                    last_lsn=report.manifest.last_lsn,
                    bytes=report.manifest.bytes,
                    copied_bytes=report.copied_bytes,
                )
                await stream.write(admin_pb2.BackupProgress(done=_done(folder, report)))
        except HermesError as error:
            _log.warning("backup failed", path=str(folder), error=str(error))
            raise
        finally:
            self._is_running = False


def backup_folder(directory: str, root: Path | None) -> Path:
    """Where a backup goes that a client asks for: below `root`, links resolved.

    Raises PreconditionError, InvalidArgumentError, PermissionDeniedError.
    """
    if root is None:
        raise PreconditionError(
            "this server makes no backups on request: no folder is set aside for them",
            hint="start it with --backup-dir DIR (HERMES_BACKUP_DIR), "
            "or run `hermes backup DIR --store PATH` on its machine",
        )
    if not directory or "\0" in directory:
        raise InvalidArgumentError("directory is empty or no path", hint="name a folder")
    root = root.resolve()
    folder = (root / directory).resolve()
    if not folder.is_relative_to(root):
        raise PermissionDeniedError(
            f"{directory} is not below {root}, where this server keeps backups",
            hint="name a folder below it; the path is on the server's machine",
        )
    return folder


async def _roll_if_large(host: Host) -> None:
    """What the active segment holds becomes a sealed one, if it is much."""
    active = (await host.read(lambda _: host.log.segments(subjects=False)))[-1]
    if active.bytes >= limits.BACKUP_ROLL_BYTES and not host.log.low_space:
        host.roll()
        await host.committed()


async def _run(host: Host, stream: Stream, take: Callable[..., BackupReport]) -> BackupReport:
    """Copy on a thread and tell how far it is; when the stream ends early, so does the copying."""
    loop = asyncio.get_running_loop()
    stop = threading.Event()
    newest: list[Progress] = []

    def told(progress: Progress) -> None:
        newest[:] = [progress]
        loop.call_soon_threadsafe(stream.wake)

    work = asyncio.ensure_future(host.read(lambda _: take(told=told, stopped=stop.is_set)))
    work.add_done_callback(lambda _: stream.wake())
    work.add_done_callback(_seen)
    try:
        while not work.done():
            await stream.wait()
            if newest:
                await stream.write(_frame(newest.pop()))
        return work.result()
    finally:
        stop.set()
        if not work.done():
            await asyncio.wait((work,))


def _seen(work: asyncio.Future[Any]) -> None:
    """Whoever ended the stream early has no use for the outcome."""
    if not work.cancelled():
        work.exception()


def _frame(progress: Progress) -> admin_pb2.BackupProgress:
    return admin_pb2.BackupProgress(
        copied_bytes=progress.copied_bytes,
        total_bytes=progress.total_bytes,
        segments=progress.segments,
    )


def _done(folder: Path, report: BackupReport) -> admin_pb2.BackupDone:
    manifest = report.manifest
    return admin_pb2.BackupDone(
        path=str(folder),
        store_id=manifest.store_id,
        first_lsn=manifest.first_lsn,
        last_lsn=manifest.last_lsn,
        next_offset=manifest.next_offset,
        chain=manifest.end.chain,
        segments=len(manifest.segments),
        bytes=manifest.bytes,
        copied_segments=report.copied_segments,
        copied_bytes=report.copied_bytes,
    )
