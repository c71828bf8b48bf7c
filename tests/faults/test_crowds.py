"""Invariant 10: thousands of connections, and more than the limits: publishing goes on."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest

import hermes
from hermes import limits
from hermes.server import descriptors
from tests.support.faults.memory import rss_bytes
from tests.support.faults.server import ServerProcess

BYTES_PER_CONNECTION_MAX = 128 * 1024


@asynccontextmanager
async def crowd(address: str, connections: int, streams: int) -> AsyncIterator[dict[str, int]]:
    """What each of its subscriptions was told, while they are there."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.support.faults.crowd", address, str(connections), str(streams)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield json.loads(await process.stdout.readline())
    finally:
        process.kill()
        await process.wait()


async def publish(client: hermes.AsyncClient, count: int) -> float:
    """One after the other; the 99th percentile in milliseconds."""
    took = []
    for _ in range(count):
        begun = time.monotonic()
        await client.publish("a", bytes(1_000))
        took.append(time.monotonic() - begun)
    return sorted(took)[count * 99 // 100] * 1e3


async def run(store: Path, connections: int, streams: int) -> dict[str, int]:
    """What the crowd was told."""
    async with ServerProcess(store) as server, hermes.AsyncClient(server.address) as client:
        alone = await publish(client, 500)
        before = rss_bytes(server.pid)
        async with crowd(server.address, connections, streams) as told:
            each = (rss_bytes(server.pid) - before) / connections
            beside = await publish(client, 500)
        assert not server.complaints(), server.told_of_failures()
    sys.stdout.write(
        f"{connections:,} connections with {streams} subscriptions each: {told}; "
        f"{each / 1024:.0f} KiB per connection; p99 of a publish {alone:.1f} ms alone, "
        f"{beside:.1f} ms beside them\n"
    )
    assert each <= BYTES_PER_CONNECTION_MAX
    return told


async def test_hundreds_of_connections(tmp_path: Path) -> None:
    assert await run(tmp_path / "store", 200, 2) == {"OPEN": 400}


@pytest.mark.torture
async def test_thousands_of_connections(tmp_path: Path) -> None:
    assert await run(tmp_path / "store", 5_000, 1) == {"OPEN": 5_000}


@pytest.mark.torture
async def test_more_streams_than_the_limit(tmp_path: Path) -> None:
    told = await run(tmp_path / "store", 3_000, 4)
    # The publisher and its session take some of the places.
    assert set(told) == {"OPEN", "RESOURCE_EXHAUSTED"}
    assert limits.STREAMS_MAX - 10 <= told["OPEN"] <= limits.STREAMS_MAX


async def test_more_connections_than_there_are_descriptors(tmp_path: Path) -> None:
    # Found by it: connections took every descriptor, the log could open no file, and the
    # broker failed stop and ended, for a peer that had done nothing but connect.
    limit = limits.DESCRIPTORS_RESERVED + 50
    store = tmp_path / "store"
    few = {"DESCRIPTORS": str(limit), "HERMES_SEGMENT_BYTES": str(256 * 1024)}
    server = ServerProcess(store, few, module="tests.support.faults.few_descriptors")
    async with server, hermes.AsyncClient(server.address) as client:
        await client.publish("a", b"first")
        host, port = server.address.split(":")
        with ExitStack() as open_sockets:
            for _ in range(2 * limit):
                peer = socket.create_connection((host, int(port)), timeout=5)
                open_sockets.enter_context(peer)
            await publish(client, 1_000)  # over several segments
        await publish(client, 10)
        assert len(list(store.glob("*.segment"))) > 2
        assert not server.complaints(), server.told_of_failures()


def test_descriptors_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now = {"soft": 1_024}

    def getrlimit(_: int) -> tuple[int, int]:
        return now["soft"], 4_096

    def setrlimit(_: int, wanted: tuple[int, int]) -> None:
        now["soft"] = wanted[0]

    monkeypatch.setattr(resource, "getrlimit", getrlimit)
    monkeypatch.setattr(resource, "setrlimit", setrlimit)
    assert descriptors.connections_max() == 1_024 - limits.DESCRIPTORS_RESERVED
    descriptors.raise_descriptors_limit()
    assert now["soft"] == 4_096
    for soft, most in (
        (64, limits.CONNECTIONS_MIN),
        (10**6, limits.CONNECTIONS_MAX),
        (resource.RLIM_INFINITY, limits.CONNECTIONS_MAX),
    ):
        now["soft"] = soft
        descriptors.raise_descriptors_limit()
        if soft != 64:
            assert now["soft"] == soft
            assert descriptors.connections_max() == most
    now["soft"] = 64
    assert descriptors.connections_max() == limits.CONNECTIONS_MIN
