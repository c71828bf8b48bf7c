"""Invariant 1: SIGKILL at random points of publish, deliver and ack loses nothing promised.

The seed is printed; SEED=… repeats the choices of the clients and the moments of the
kills (not the machine's scheduling).
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path

import pytest

from tests.support.faults.checker import Trail, check, copies, unread, unsettled
from tests.support.faults.ledger import Outcome
from tests.support.faults.load import Load
from tests.support.faults.server import ServerProcess

# Small, so that rolls, seals and snapshots are under way when the kill comes.
SMALL = {"HERMES_SEGMENT_BYTES": str(256 * 1024), "HERMES_SNAPSHOT_INTERVAL": "500"}
WORKERS = (("work", "job.>"), ("work", "job.>"), ("work", "job.>"), ("audit", "job.a.*"))
OLD_WORKER = ("old", "job.*.v1")
SETTLE_SECONDS = 60.0


def _seed() -> int:
    return int(os.environ.get("SEED") or random.randrange(2**32))


def _tell(text: str) -> None:
    """For whoever reads the output of a failed test, or runs pytest with -s."""
    sys.stdout.write(text + "\n")


async def _kills(server: ServerProcess, count: int, rng: random.Random) -> None:
    """Kill it `count` times: mostly while it serves, sometimes while it starts or stops."""
    for _ in range(count):
        if rng.random() < 0.15:
            await asyncio.sleep(rng.uniform(0.2, 1.2))
        else:
            await server.ready()
            await asyncio.sleep(rng.uniform(0.02, 0.9))
            if rng.random() < 0.15:
                server.terminate()
                await asyncio.sleep(rng.uniform(0.0, 0.6))
        await server.kill()
        await server.spawn()
    await server.ready()


async def _run(store: Path, kills: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    server = ServerProcess(store, SMALL)
    load = Load(server.address, rng.randrange(2**32))
    async with server:
        publishers = [
            asyncio.create_task(load.publish("client")),
            asyncio.create_task(load.publish_batches("batches")),
            asyncio.create_task(load.publish_v1("v1")),
        ]
        workers = [asyncio.create_task(load.work(*worker)) for worker in WORKERS]
        workers += [
            asyncio.create_task(load.work_v1(*OLD_WORKER)),
            asyncio.create_task(load.follow("job.>")),
            asyncio.create_task(load.listen("job.>")),
        ]
        try:
            await _kills(server, kills, rng)
            load.stopping.set()
            async with asyncio.timeout(SETTLE_SECONDS):
                await asyncio.gather(*publishers)
            await load.quiet()
            for worker in workers:
                assert not worker.done(), worker.exception()
        finally:
            for task in (*publishers, *workers):
                task.cancel()
            await asyncio.gather(*publishers, *workers, return_exceptions=True)
        await server.kill()
    store_id = server.said("store opened")[0]["store_id"]
    trail = Trail(store, store_id)
    ledger = load.ledger
    _tell(
        f"seed {seed}: {kills} kills, {len(ledger.publications)} published "
        f"({ledger.count(Outcome.OK)} ok, {ledger.count(Outcome.UNKNOWN)} unknown), "
        f"{len(ledger.receipts)} received, {len(ledger.confirmed)} acks confirmed, "
        f"{len(trail.dead)} dead, {len(ledger.read)} read, {len(ledger.heard)} heard; "
        f"log: {dict(trail.kinds)}"
    )
    assert ledger.count(Outcome.OK) > 20 * kills, "the load was too small to tell anything"
    assert len(ledger.confirmed) > 20 * kills, "too few acks were confirmed to tell anything"
    problems = check(trail, ledger) + copies(trail) + unread(trail, ledger, "job.>")
    for consumer, pattern in {*WORKERS, OLD_WORKER}:
        problems += unsettled(trail, consumer, pattern)
    return problems + [f"the server said {line}" for line in server.complaints()]


# A busy machine starts servers slowly.
@pytest.mark.timeout(400)
async def test_25_kills_lose_nothing(tmp_path: Path) -> None:
    seed = _seed()
    _tell(f"SEED={seed}")
    problems = await _run(tmp_path / "store", 25, seed)
    assert not problems, f"SEED={seed}\n" + "\n".join(problems[:40])


@pytest.mark.torture
async def test_200_kills_lose_nothing(tmp_path: Path) -> None:
    seed = _seed()
    _tell(f"SEED={seed}")
    for round_ in range(8):
        problems = await _run(tmp_path / f"store-{round_}", 25, seed + round_)
        assert not problems, f"SEED={seed + round_}\n" + "\n".join(problems[:40])
