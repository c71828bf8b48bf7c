"""Clients that open a stream and never read it: the others go on, and memory is bounded.

How quick the others are beside them is measured in test_stalled_consumer.py.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from pathlib import Path

import grpc
import pytest

import hermes
from tests.e2e.rpc_calls import Peer
from tests.support.faults.flooding import flood
from tests.support.faults.memory import MIB, peak_rss_bytes, reset_peak, rss_bytes
from tests.support.faults.never_reads import HELD_BYTES, REST_BYTES, open_and_never_read
from tests.support.faults.server import ServerProcess

PUBLISHERS = 2
PATTERN = "flood.>"


async def publish_and_consume(address: str, message_bytes: int, messages: int) -> float:
    """How many seconds the others take, who publish and consume all of it."""

    async def consume() -> None:
        left = PUBLISHERS * messages
        async with (
            hermes.AsyncClient(address) as client,
            client.consume("healthy", PATTERN, max_in_flight=10_000) as received,
        ):
            async for batch in received.batches():
                batch.ack()
                left -= len(batch)
                if left <= 0:
                    break
            await received.flush()
        assert left == 0

    started = time.monotonic()
    consuming = asyncio.create_task(consume())
    await flood(address, PUBLISHERS, message_bytes, str(messages))
    await consuming
    return time.monotonic() - started


async def run(store: Path, kinds: dict[str, int], message_bytes: int, messages: int) -> None:
    """`kinds`: how many clients of each. Each publisher sends `messages`, twice."""
    async with (
        ServerProcess(store) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        alone = await publish_and_consume(server.address, message_bytes, messages)
        before = rss_bytes(server.pid)
        reset_peak(server.pid)
        peer = Peer(channel)
        calls = [
            await open_and_never_read(peer, kind, f"{kind} {n}", PATTERN)
            for kind, count in kinds.items()
            for n in range(count)
        ]
        beside = await publish_and_consume(server.address, message_bytes, messages)
        grown = peak_rss_bytes(server.pid) - before
        assert not any(call.done() for call in calls), "a stream was ended"
        for call in calls:
            call.cancel()
        server.terminate()
        assert await server.wait() == 0
        assert not server.complaints(), server.told_of_failures()
    shutil.rmtree(store)
    sys.stdout.write(
        f"{kinds}: the server grew by {grown // MIB} MiB; the others took "
        f"{alone:.1f} s alone, {beside:.1f} s beside them\n"
    )
    assert grown <= REST_BYTES + sum(HELD_BYTES[kind] * n for kind, n in kinds.items())


async def test_one_of_each_kind_never_reads(tmp_path: Path) -> None:
    await run(tmp_path / "store", dict.fromkeys(HELD_BYTES, 1), 8_000, 12_500)


@pytest.mark.torture
@pytest.mark.parametrize("kind", HELD_BYTES)
@pytest.mark.parametrize("message_bytes", [100, 1_000, 100_000])
async def test_many_of_a_kind_never_read(tmp_path: Path, kind: str, message_bytes: int) -> None:
    """A thousand MiB pass by each of them."""
    messages = 500 * MIB // message_bytes
    await run(tmp_path / "store", {kind: 3}, message_bytes, messages)
