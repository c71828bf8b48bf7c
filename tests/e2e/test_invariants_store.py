"""Invariant 19: a second server on the same store, or address, goes away and harms nothing."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from pathlib import Path

import hermes
from tests.support.faults.server import ServerProcess


def _content(store: Path) -> dict[str, tuple[int, int, str]]:
    """Name -> size, time of change, digest."""
    return {
        path.name: (
            path.stat().st_size,
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in store.iterdir()
        if not path.name.endswith("-shm")
    }


async def _serve(listen: str, store: Path) -> tuple[int, str]:
    """Exit code and stderr of a server that should not start."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "hermes",
        "serve",
        env=os.environ | {"HERMES_LISTEN_ADDR": listen, "HERMES_STORE_PATH": str(store)},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(30):
            _, stderr = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode is not None
    return process.returncode, stderr.decode()


async def test_a_second_server_on_the_store_goes_away(tmp_path: Path) -> None:
    store = tmp_path / "store"
    async with ServerProcess(store) as first, hermes.AsyncClient(first.address) as client:
        await client.publish("a", b"1")
        before = _content(store)
        for _ in range(3):
            code, said = await _serve("127.0.0.1:0", store)
            assert code == 1, said
            last = said.strip().splitlines()[-1]
            assert f"in use by another server, process {first.pid}" in last
            assert "Traceback" not in said
        assert _content(store) == before
        assert (await client.publish("a", b"2")).offset == 1
        async with client.read("a") as messages:
            assert [message.payload async for message in messages] == [b"1", b"2"]
        assert not first.complaints()


async def test_a_second_server_on_the_address_touches_no_store(tmp_path: Path) -> None:
    async with ServerProcess(tmp_path / "store") as first:
        code, said = await _serve(first.address, tmp_path / "other")
        assert code == 1, said
        assert f"cannot listen on {first.address}" in said.strip().splitlines()[-1]
        assert "Traceback" not in said
        assert not (tmp_path / "other").exists()


async def test_the_store_is_free_again_after_a_kill(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "store")
    async with server:
        await server.kill()
        await server.start()
        assert len(server.said("store opened")) == 2
