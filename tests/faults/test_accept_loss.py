"""Committed records that are gone for good: refused with their exact range, until a person
says that the loss is accepted. Then the log goes on behind HEAD's numbers."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import hermes
from hermes.log.catalog import list_segments
from hermes.log.head import read_head
from tests.support.faults.server import ServerProcess


async def publish(address: str, count: int) -> list[int | None]:
    async with hermes.AsyncClient(address) as client:
        return [(await client.publish("job.a", b"x")).offset for _ in range(count)]


async def test_a_loss_is_refused_then_accepted_once(tmp_path: Path) -> None:
    store = tmp_path / "store"
    async with ServerProcess(store) as server:
        assert await publish(server.address, 5) == list(range(5))
        server.terminate()
        assert await server.wait() == 0
        await server.start()
        assert await publish(server.address, 5) == list(range(5, 10))
        await server.kill()
        # All since the clean stop is in the WAL, and in HEAD's word.
        active = list_segments(store)[-1][1]
        active.with_name(active.name + "-wal").unlink()
        head = read_head(store / "HEAD")
        assert head is not None

        await server.spawn()
        assert await server.wait() == 1
        refused = next(line["text"] for line in server.lines if "are lost" in str(line))
        assert f"..{head.mark.lsn} were committed and are lost" in refused
        assert "--accept-loss" in refused

    async with ServerProcess(store, {"HERMES_ACCEPT_LOSS": "true"}) as server:
        (told,) = server.said("started with --accept-loss")
        assert told["level"] == "warning"
        assert told["accepted"] == "shorter than HEAD, accepted"
        assert told["lost_records"].endswith(f"..{head.mark.lsn}")
        assert await publish(server.address, 1) == [10], "no number is used twice"

    async with ServerProcess(store) as server:
        assert not server.said("started with --accept-loss"), "nobody remembers it"
        assert await publish(server.address, 1) == [11]
        server.terminate()
        assert await server.wait() == 0
    verify = (sys.executable, "-m", "hermes_inspect", "verify", str(store))
    answer = await asyncio.to_thread(subprocess.run, verify, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "lost" in answer.stdout.casefold()
