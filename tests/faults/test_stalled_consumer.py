"""Invariant 9, the others' side: consumers stop reading, and the others are as quick as before.

How quick is what a machine makes of it, so it is measured as a ratio within one run. Windows
without and with the stalled consumers take turns, each pair the other way round than the one
before, so that a machine that grows slower or quicker favours neither. The figure of a kind is
the median of its windows' p99.
"""

from __future__ import annotations

import asyncio
import shutil
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

import hermes
from tests.e2e.rpc_calls import Peer
from tests.support.faults.memory import MIB, peak_rss_bytes, reset_peak, rss_bytes
from tests.support.faults.never_reads import HELD_BYTES, REST_BYTES, open_and_never_read
from tests.support.faults.server import ServerProcess

WINDOW_SECONDS = 6.0
PAIRS = 8
RATE = 500  # messages/s
PAYLOAD = bytes(2_000)  # a window is many times what HTTP/2 takes without a reader
SUBJECT = "work"
STALLED = ("consume", "durable v1")
P99_RATIO_MAX = 1.2


class Healthy:
    """A publisher at a fixed rate, and a member of a consumer that acks what comes."""

    def __init__(self, client: hermes.AsyncClient, worker: hermes.AsyncClient) -> None:
        self._client = client
        self._worker = worker

    async def window(self, seconds: float = WINDOW_SECONDS) -> float:
        """From when a publish was due to the message in the member's hands: p99 in seconds."""
        took: list[float] = []
        async with self._worker.consume("healthy", SUBJECT) as messages:
            sending = asyncio.create_task(self._publish(seconds))
            async with asyncio.timeout(seconds + 20):
                async for message in messages:
                    took.append(time.monotonic() - float(message.headers["due"]))
                    message.ack()
                    if len(took) == round(seconds * RATE):
                        break
            await sending
            await messages.flush()
        return sorted(took)[len(took) * 99 // 100]

    async def _publish(self, seconds: float) -> None:
        begun = time.monotonic()
        async with asyncio.TaskGroup() as publishes:
            for n in range(round(seconds * RATE)):
                due = begun + n / RATE
                await asyncio.sleep(due - time.monotonic())
                publishes.create_task(
                    self._client.publish(SUBJECT, PAYLOAD, headers={"due": repr(due)})
                )


@asynccontextmanager
async def stalled(address: str, turn: int) -> AsyncIterator[None]:
    """Consumers of what the healthy one consumes, whose members never read."""
    async with grpc.aio.insecure_channel(address) as channel:
        peer = Peer(channel)
        calls = [
            await open_and_never_read(peer, kind, f"{kind} {turn}", SUBJECT) for kind in STALLED
        ]
        await asyncio.sleep(1)  # until each has of the backlog what it may have
        yield
        assert not any(call.done() for call in calls), "a stream was ended"
        for call in calls:
            call.cancel()


@pytest.mark.torture
async def test_others_are_as_quick_beside_stalled_consumers(tmp_path: Path) -> None:
    alone: list[float] = []
    beside: list[float] = []

    async with (
        ServerProcess(tmp_path / "store") as server,
        hermes.AsyncClient(server.address) as client,
        hermes.AsyncClient(server.address) as worker,
    ):
        healthy = Healthy(client, worker)
        await healthy.window()
        reset_peak(server.pid)
        before = rss_bytes(server.pid)
        for pair in range(PAIRS):
            for with_stalled in (pair % 2 == 1, pair % 2 == 0):
                if with_stalled:
                    async with stalled(server.address, pair):
                        beside.append(await healthy.window())
                else:
                    alone.append(await healthy.window())
        grown = peak_rss_bytes(server.pid) - before
        assert not server.complaints(), server.told_of_failures()
    shutil.rmtree(tmp_path / "store")
    ratio = statistics.median(beside) / statistics.median(alone)
    sys.stdout.write(
        f"p99 of the others, {RATE} messages/s: {_ms(alone)} ms alone, {_ms(beside)} ms beside "
        f"{len(STALLED)} stalled consumers; ratio of the medians {ratio:.2f}; the server grew by "
        f"{grown / MIB:.0f} MiB\n"
    )
    assert grown <= REST_BYTES + sum(HELD_BYTES[kind] for kind in STALLED)
    assert ratio <= P99_RATIO_MAX


def _ms(seconds: list[float]) -> str:
    return " ".join(f"{value * 1e3:.1f}" for value in seconds)
