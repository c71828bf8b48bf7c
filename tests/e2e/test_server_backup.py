"""The RPC Backup: where it may write, one at a time, and what ends it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from hermes import limits, rpc
from hermes.admin.v1 import admin_pb2 as admin
from hermes.errors import UnavailableError
from hermes.log.backup import Progress
from hermes.log.backup_folder import read_manifest
from hermes.server import backups
from tests.e2e.rpc_calls import (
    Peer,
    config,
    envelope,
    error_of,
    next_of,
    rest_of,
    server_and_peer,
    until,
)


def asked(peer: Peer, directory: str, **fields: Any) -> Any:
    return peer.call(rpc.BACKUP, admin.BackupRequest(directory=directory, **fields))


async def test_the_last_frame_says_what_there_is(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path, backup_dir=tmp_path / "b")) as (server, peer):
        await peer.publish_v1(envelope("a", "1", b"payload"))
        committed = server.host().log.committed
        *progress, last = await rest_of(asked(peer, "x/y"))
        assert not any(frame.HasField("done") for frame in progress)
        assert last.done.path == str((tmp_path / "b" / "x" / "y").resolve())
        assert last.done.last_lsn >= committed.lsn
        assert last.done.store_id == server.host().log.store_id
        assert last.done.copied_bytes == last.done.bytes - sum(
            file.bytes for file in manifest_of(tmp_path / "b" / "x" / "y").carried
        )


def manifest_of(folder: Path) -> Any:
    manifest = read_manifest(folder)
    assert manifest is not None
    return manifest


async def test_a_large_active_segment_is_sealed_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then what it held is copied once and for all, and no transaction holds the WAL up."""
    monkeypatch.setattr(limits, "BACKUP_ROLL_BYTES", 1_000_000)
    async with server_and_peer(config(tmp_path, backup_dir=tmp_path / "b")) as (_, peer):
        await peer.publish_v1(*(envelope("a", f"{n}", b"x" * 500_000) for n in range(3)))
        await rest_of(asked(peer, "daily"))
        first = manifest_of(tmp_path / "b" / "daily")
        assert len(first.segments) == 2
        assert first.segments[0].source_mtime_ns is not None
        await peer.publish_v1(envelope("a", "3", b"x"))
        *_, last = await rest_of(asked(peer, "daily"))
        assert (last.done.segments, last.done.copied_segments) == (2, 1)
        assert last.done.copied_bytes < 1_000_000


@pytest.mark.parametrize(
    ("directory", "code", "words"),
    [
        ("", grpc.StatusCode.INVALID_ARGUMENT, "directory is empty"),
        ("a\0b", grpc.StatusCode.INVALID_ARGUMENT, "no path"),
        ("../store", grpc.StatusCode.PERMISSION_DENIED, "is not below"),
        ("/tmp", grpc.StatusCode.PERMISSION_DENIED, "is not below"),
        ("link/x", grpc.StatusCode.PERMISSION_DENIED, "is not below"),
    ],
)
async def test_no_path_leads_out(
    tmp_path: Path, directory: str, code: grpc.StatusCode, words: str
) -> None:
    root = tmp_path / "b"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    async with server_and_peer(config(tmp_path, backup_dir=root)) as (_, peer):
        error = await error_of(asked(peer, directory))
        assert (error.code(), words in error.details()) == (code, True)
    assert [path.name for path in root.iterdir()] == ["link"]


async def test_nothing_is_written_on_request_unless_the_operator_says_where(
    tmp_path: Path,
) -> None:
    async with server_and_peer(config(tmp_path)) as (_, peer):
        error = await error_of(asked(peer, str(tmp_path / "b")))
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "no folder is set aside" in error.details()
    assert not (tmp_path / "b").exists()
    async with server_and_peer(config(None, backup_dir=tmp_path / "b")) as (_, peer):
        error = await error_of(asked(peer, "x"))
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "needs a store" in error.details()


async def test_a_key_that_is_not_there(tmp_path: Path) -> None:
    settings = config(tmp_path, backup_dir=tmp_path / "b", checkpoint_interval_secs=0)
    async with server_and_peer(settings) as (_, peer):
        error = await error_of(asked(peer, "x", with_key=True))
        assert "has no checkpoint.key" in error.details()


def endless(ended: threading.Event) -> Callable[..., Any]:
    """A backup that copies until it is stopped."""

    def take(
        _store: Path,
        _folder: Path,
        *,
        told: Callable[[Progress], None],
        stopped: Callable[[], bool],
        **_: Any,
    ) -> None:
        pause = threading.Event()
        while not stopped():
            told(Progress(1, 2, 0))
            pause.wait(0.005)
        ended.set()
        raise UnavailableError("the backup was stopped")

    return take


async def test_one_at_a_time_and_no_longer_than_the_client_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    async with server_and_peer(config(tmp_path, backup_dir=tmp_path / "b")) as (_, peer):
        with monkeypatch.context() as patched:
            patched.setattr(backups, "take_backup", endless(ended))
            first = asked(peer, "x")
            assert (await next_of(first)).total_bytes == 2
            error = await error_of(asked(peer, "y"))
            assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert "another backup" in error.details()
            first.cancel()
            await until(ended.is_set)
        async with asyncio.timeout(20):
            while not (await rest_of(asked(peer, "x"))):  # the first one is just being ended
                pass
        assert manifest_of(tmp_path / "b" / "x").last_lsn > 0


@pytest.mark.parametrize("how", ["stop", "failure"])
async def test_it_ends_with_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """A transaction left open would keep the log from being opened afresh."""
    ended = threading.Event()
    monkeypatch.setattr(backups, "take_backup", endless(ended))
    async with server_and_peer(config(tmp_path, backup_dir=tmp_path / "b")) as (server, peer):
        call = asked(peer, "x")
        await next_of(call)
        stopping = asyncio.create_task(server.stop()) if how == "stop" else None
        if stopping is None:
            server.host().fail(OSError("on purpose"))
        error = await error_of(call)
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        await until(ended.is_set)
        if stopping is None:
            await until(lambda: is_serving(server))
        else:
            await stopping


def is_serving(server: Any) -> bool:
    try:
        return bool(server.host())
    except UnavailableError:
        return False
