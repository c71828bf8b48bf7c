"""The scrub in a real server: damage is told exactly, and everything else goes on."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hermes import rpc
from hermes.admin.v1 import admin_pb2
from hermes.log.record import Kind
from hermes.log.segment import file_name
from hermes.server import Server
from hermes_inspect import cli
from tests.e2e.rpc_calls import WAIT_SECS, Peer, config, server_and_peer

MIB = 1024 * 1024
FAST = {"scrub_bytes_per_sec": 1024 * MIB, "scrub_interval_secs": 0.05}
SMALL = {"segment_bytes_max": 100_000, "gc_interval_secs": 3_600}


async def until(server: Server, passes: int) -> None:
    """Until so many more passes have ended: a thread of the server's, so there is no event."""
    target = server.scrub.passes + passes
    async with asyncio.timeout(WAIT_SECS):
        while server.scrub.passes < target:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def is_scrubbing() -> bool:
    return any(thread.name == "hermes-scrub" for thread in threading.enumerate())


async def publish_much(peer: Peer, count: int = 30) -> None:
    for _ in range(count):
        await peer.publish("a", bytes(20_000))


def flip_payload(store: Path) -> int:
    """One byte of a payload in the first segment, in the file; the record's lsn."""
    path = store / file_name(1)
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        query = "SELECT lsn, payload FROM records WHERE kind = ? ORDER BY lsn LIMIT 1 OFFSET 2"
        lsn, payload = db.execute(query, (int(Kind.PUBLISHED),)).fetchone()
    db.close()
    salt = payload[:16]
    path.chmod(0o600)
    # A page of the tree may still show what was moved away from it: all of them are changed.
    path.write_bytes(path.read_bytes().replace(salt, bytes([salt[0] ^ 1]) + salt[1:]))
    path.chmod(0o400)
    found: int = lsn
    return found


def breaks_of(store: Path) -> list[dict[str, Any]]:
    result = CliRunner().invoke(cli.app, ["verify", str(store), "--json"])
    breaks: list[dict[str, Any]] = json.loads(result.stdout)["breaks"]
    return breaks


async def test_compactions_and_drops_do_no_harm(tmp_path: Path) -> None:
    """Segments are rewritten and go away while the scrub reads them, over and over."""
    kept = {"retention_secs": 1, "audit_retention_secs": 3}
    async with server_and_peer(config(tmp_path, **FAST, **SMALL, **kept)) as (server, peer):
        began = time.monotonic()
        compacted = dropped = 0
        while not (compacted and dropped):
            assert time.monotonic() - began < WAIT_SECS
            await publish_much(peer, 10)
            request = admin_pb2.RunGcRequest()
            frames = [frame async for frame in peer.call(rpc.RUN_GC, request)]
            actions = [f.segment.action for f in frames if f.HasField("segment")]
            compacted += actions.count("compact")
            dropped += actions.count("drop")
        await until(server, 2)
        scrub = server.scrub
        assert scrub.damaged == {}
        assert scrub.segments_checked > 5
        assert scrub.bytes_checked > 5 * 80_000
        assert scrub.last_pass_at_ns > 0
        assert breaks_of(tmp_path / "store") == []


async def test_a_damaged_segment_is_quarantined(tmp_path: Path) -> None:
    """In each log that is opened anew, until the file is sound again."""
    async with server_and_peer(config(tmp_path, **SMALL)) as (_, peer):
        await publish_much(peer)
    lsn = flip_payload(tmp_path / "store")
    async with server_and_peer(config(tmp_path, **FAST, **SMALL)) as (server, _):
        await until(server, 2)
        found = server.scrub.damaged[1]
        assert (found.first_lsn, found.last_lsn, found.offsets) == (lsn, lsn, (2, 2))
        log = server.host().log
        assert [(q.first_lsn, q.reason) for q in log.quarantined] == [(1, found.text)]
        await asyncio.to_thread(server.scrub.stop)
        flip_payload(tmp_path / "store")  # back
        server.scrub.start(log)
        await until(server, 2)
        assert server.scrub.damaged == {}


async def test_a_slow_scrub_ends_at_once_with_the_server(tmp_path: Path) -> None:
    slow = {"scrub_bytes_per_sec": 1, "scrub_interval_secs": 1}
    async with server_and_peer(config(tmp_path, **SMALL)) as (_, peer):
        await publish_much(peer)
    async with server_and_peer(config(tmp_path, **slow, **SMALL)) as (server, peer):
        async with asyncio.timeout(WAIT_SECS):
            while not server.scrub.bytes_checked:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert await peer.publish("a", b"x")
        assert is_scrubbing()
        await server.stop()  # in the middle of a rest that takes hours
        assert not is_scrubbing()
        assert server.scrub.segments_checked == 0


@pytest.mark.parametrize("more", [{"scrub_bytes_per_sec": 0}, {"store_path": None}])
async def test_there_is_none_when_it_is_off(tmp_path: Path, more: dict[str, Any]) -> None:
    async with server_and_peer(config(tmp_path, **(FAST | more))) as (server, _):
        assert not server.scrub.enabled
        assert not is_scrubbing()
