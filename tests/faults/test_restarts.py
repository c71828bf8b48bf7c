"""Invariant 18: restarts under load: clients resume by themselves, and how long it takes.

Half of them by SIGTERM, half by SIGKILL; the choices and moments come from a seed, which
is printed (SEED=… repeats them). A server that is gone is started again at once, so that
what is measured is what Hermes and its clients add: from the signal to the first durable
publish that is acknowledged again, as a client of its own sees it.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from pathlib import Path

import pytest

import hermes
from tests.support.faults.checker import Trail, check, copies, unsettled
from tests.support.faults.ledger import Outcome, Publication
from tests.support.faults.load import Load
from tests.support.faults.server import ServerProcess

SMALL = {
    "HERMES_SEGMENT_BYTES": str(1024 * 1024),
    "HERMES_SNAPSHOT_INTERVAL": "2000",
    "HERMES_SHUTDOWN_GRACE": "4",
}
WORKERS = (("work", "job.>"), ("work", "job.>"), ("audit", "job.a.*"))
# A publish that is under way fails with its connection; this one comes after that.
PROBE_SECONDS = 30.0


async def _probe(client: hermes.AsyncClient, load: Load) -> Publication:
    """One publish more, entered in the books as any other; waits for the server to be back."""
    entry = load.ledger.publication("probe", "job.a.probe")
    ack = await client.publish(entry.subject, entry.key)
    entry.outcome, entry.offset = Outcome.OK, ack.offset
    return entry


async def _restarts(server: ServerProcess, load: Load, count: int, seed: int) -> list[float]:
    """How long each was unavailable, in seconds."""
    rng = random.Random(seed)
    away: list[float] = []
    async with load.client("probe") as client:
        for _ in range(count):
            await asyncio.sleep(rng.uniform(0.2, 0.6))
            await _probe(client, load)
            begun = time.monotonic()
            if rng.random() < 0.5:
                await server.kill()
            else:
                server.terminate()
                assert await server.wait() == 0, server.tail()
            await server.spawn()
            async with asyncio.timeout(PROBE_SECONDS):
                await _probe(client, load)
            away.append(time.monotonic() - begun)
            await server.ready()
    return away


async def run(store: Path, count: int) -> None:
    seed = int(os.environ.get("SEED") or random.randrange(2**32))
    sys.stdout.write(f"SEED={seed}\n")
    server = ServerProcess(store, SMALL)
    load = Load(server.address, seed)
    async with server:
        publishers = [asyncio.create_task(load.publish(f"lane-{i}")) for i in range(2)]
        members = [asyncio.create_task(load.work(*w, churn=False)) for w in WORKERS]
        try:
            away = sorted(await _restarts(server, load, count, seed))
            load.stopping.set()
            async with asyncio.timeout(60):
                await asyncio.gather(*publishers)
            await load.quiet()
            for member in members:
                assert not member.done(), member.exception()
        finally:
            for task in (*publishers, *members):
                task.cancel()
            await asyncio.gather(*publishers, *members, return_exceptions=True)
        await server.kill()
        assert not server.complaints(), server.told_of_failures()
    trail = Trail(store, server.said("store opened")[0]["store_id"])
    healthy = trail.dead - load.ledger.blamed
    sys.stdout.write(
        f"{count} restarts, {load.ledger.count(Outcome.OK):,} publishes acknowledged, "
        f"{len(load.ledger.confirmed):,} acks confirmed; unavailable for p50 "
        f"{away[len(away) // 2]:.2f}, p99 {away[len(away) * 99 // 100]:.2f}, worst "
        f"{away[-1]:.2f} s; {len(healthy)} healthy messages dead\n"
    )
    assert load.ledger.count(Outcome.OK) > 20 * count
    problems = check(trail, load.ledger) + copies(trail)  # among them: healthy and dead
    for consumer, pattern in set(WORKERS):
        problems += unsettled(trail, consumer, pattern)
    assert not problems, f"SEED={seed}\n" + "\n".join(problems[:40])


async def test_4_restarts_under_load(tmp_path: Path) -> None:
    await run(tmp_path / "store", 4)


@pytest.mark.torture
async def test_100_restarts_under_load(tmp_path: Path) -> None:
    await run(tmp_path / "store", 100)
