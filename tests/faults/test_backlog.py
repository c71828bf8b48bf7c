"""A backlog: what nobody has consumed yet costs the disk, not the memory."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Awaitable
from pathlib import Path

import pytest

import hermes
from tests.support.faults.memory import MIB, peak_rss_bytes
from tests.support.faults.server import ServerProcess

RSS_MAX = 300_000_000
PAYLOAD = b"." * 100


async def fill(address: str, subjects: int, count: int) -> None:
    async with hermes.AsyncClient(address) as client:
        # It is a consumer's backlog: to be kept, and to be looked at for each message.
        async with client.consume("c", "backlog.>", max_in_flight=10_000):
            pass
        names = [f"backlog.{n}" for n in range(subjects)]
        async with client.publisher() as publisher:
            for n in range(count):
                await publisher.send(names[n % subjects], PAYLOAD)


async def catch_up(address: str, count: int) -> None:
    """Consume and ack all of it; each message must come once, in order."""
    expected = 0
    async with (
        hermes.AsyncClient(address) as client,
        client.consume("c", max_in_flight=10_000) as messages,
    ):
        async for batch in messages.batches():
            offsets = batch.offsets
            assert isinstance(offsets, range) and offsets.start == expected
            assert batch.attempt == 1
            expected = offsets.stop
            batch.ack()
            if expected >= count:
                break
        await messages.flush()
        assert expected == count


async def run(store: Path, subjects: int, count: int) -> None:
    peaks: list[int] = []
    seconds: list[float] = []
    async with ServerProcess(store) as server:

        async def watched(work: Awaitable[None]) -> None:
            started = time.monotonic()
            await work
            seconds.append(time.monotonic() - started)
            peaks.append(peak_rss_bytes(server.pid))

        await watched(fill(server.address, subjects, count))
        await server.kill()
        await watched(server.start())
        await watched(catch_up(server.address, count))
        assert not server.complaints()
    shutil.rmtree(store)
    sys.stdout.write(
        f"{count:,} messages on {subjects} subjects, filled, restarted, caught up: "
        f"peaks of {[peak // MIB for peak in peaks]} MiB, {[f'{s:.1f}' for s in seconds]} s\n"
    )
    assert max(peaks) < RSS_MAX


async def test_a_backlog_in_batches(tmp_path: Path) -> None:
    await run(tmp_path / "store", 1, 300_000)


async def test_a_backlog_of_batches_of_one(tmp_path: Path) -> None:
    await run(tmp_path / "store", 100, 20_000)


@pytest.mark.torture
async def test_ten_million_in_batches(tmp_path: Path) -> None:
    await run(tmp_path / "store", 1, 10_000_000)


@pytest.mark.torture
async def test_a_million_batches_of_one(tmp_path: Path) -> None:
    await run(tmp_path / "store", 100, 1_000_000)
