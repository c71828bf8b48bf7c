"""Kills in the middle of pipelined publishing, by both clients and many publishers.

What was acknowledged is in the log, everything that was sent is there once, and in the
order of its publisher. The seed is printed; SEED=… repeats the moments of the kills.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import threading
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

import hermes
from tests.support.faults.checker import Trail
from tests.support.faults.server import ServerProcess

SMALL = {"HERMES_SEGMENT_BYTES": str(512 * 1024), "HERMES_SNAPSHOT_INTERVAL": "500"}
SUBJECTS = 3
PAUSE_SECONDS = 0.01
PATIENCE_SECONDS = 60


class Lane(msgspec.Struct):
    """One publisher: the receipts of what it sent, in order."""

    name: str
    receipts: list[hermes.AsyncReceipt | hermes.Receipt] = msgspec.field(default_factory=list)

    def message(self, number: int) -> tuple[str, bytes]:
        """Runs of one subject become batches; the subject's end shows where they change."""
        return f"lane.{self.name}.{number // 40 % SUBJECTS}", self.key(number)

    def key(self, number: int) -> bytes:
        """What the checker tells messages apart by."""
        return f"{self.name}:{number}".encode().ljust(24)


async def publish_async(address: str, lanes: list[Lane], stop: threading.Event) -> None:
    """One client with a publisher per lane. Returns once all is acknowledged."""

    async def publish(client: hermes.AsyncClient, lane: Lane) -> None:
        async with client.publisher() as publisher:
            while not stop.is_set():
                for _ in range(50):
                    number = len(lane.receipts)
                    lane.receipts.append(await publisher.send(*lane.message(number)))
                await asyncio.sleep(PAUSE_SECONDS)

    async with hermes.AsyncClient(address, retry_timeout=PATIENCE_SECONDS) as client:
        await asyncio.gather(*(publish(client, lane) for lane in lanes))


def publish_sync(address: str, lane: Lane, stop: threading.Event) -> None:
    """The same on a thread, one lane per client."""
    with (
        hermes.Client(address, retry_timeout=PATIENCE_SECONDS) as client,
        client.publisher() as publisher,
    ):
        while not stop.wait(PAUSE_SECONDS):
            for _ in range(50):
                number = len(lane.receipts)
                lane.receipts.append(publisher.send(*lane.message(number)))


async def kill_often(server: ServerProcess, lanes: list[Lane], kills: int, seed: int) -> int:
    """Kill while batches are under way, or while it starts. How often some were."""
    rng = random.Random(seed)
    in_the_middle = 0
    for _ in range(kills):
        if rng.random() < 0.2:
            await asyncio.sleep(rng.uniform(0.05, 0.5))
        else:
            await server.ready()
            await asyncio.sleep(rng.uniform(0.01, 0.5))
        await server.kill()
        in_the_middle += any(not lane.receipts[-1].done for lane in lanes if lane.receipts)
        await server.spawn()
    await server.ready()
    return in_the_middle


def check_lane(trail: Trail, lane: Lane) -> list[str]:
    """Each message once, where its receipt says, in the order in which it was sent."""
    problems: list[str] = []
    offsets: list[int] = []
    for number, receipt in enumerate(lane.receipts):
        found = trail.offsets.pop(lane.key(number), [])
        told = receipt.batch.ack(receipt.index).offset
        if found != [told]:
            problems.append(f"{lane.name} {number}: acknowledged at {told}, the log has {found}")
        offsets += found
    problems += [f"{lane.name}: {b} follows {a}" for a, b in pairwise(offsets) if b <= a]
    return problems


async def run(store: Path, kills: int, seed: int) -> list[str]:
    shared = [Lane("shared-0"), Lane("shared-1")]
    alone = [Lane("alone")]
    threads = [Lane("thread-0"), Lane("thread-1")]
    lanes = shared + alone + threads
    stop = threading.Event()
    server = ServerProcess(store, SMALL)
    async with server:
        publishing = [
            asyncio.create_task(publish_async(server.address, shared, stop)),
            asyncio.create_task(publish_async(server.address, alone, stop)),
            *(
                asyncio.create_task(asyncio.to_thread(publish_sync, server.address, lane, stop))
                for lane in threads
            ),
        ]
        try:
            in_the_middle = await kill_often(server, lanes, kills, seed)
            await asyncio.sleep(0.2)
        finally:
            stop.set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.gather(*publishing)
        assert not server.complaints()
    trail = Trail(store, server.said("store opened")[0]["store_id"])
    counts = {lane.name: len(lane.receipts) for lane in lanes}
    sys.stdout.write(f"SEED={seed}: {kills} kills, {in_the_middle} in the middle; {counts}\n")
    assert in_the_middle >= kills // 3, "too few kills met a batch under way"
    problems = list(trail.problems)
    for lane in lanes:
        problems += check_lane(trail, lane)
    return problems + [f"{key!r} was sent by nobody" for key in trail.offsets]


def _seed() -> int:
    return int(os.environ.get("SEED") or random.randrange(2**32))


async def test_6_kills_in_the_middle_of_pipelines(tmp_path: Path) -> None:
    assert await run(tmp_path / "store", 6, _seed()) == []


@pytest.mark.torture
async def test_50_kills_in_the_middle_of_pipelines(tmp_path: Path) -> None:
    assert await run(tmp_path / "store", 50, _seed()) == []
