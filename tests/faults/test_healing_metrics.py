"""What the metrics say of a disk that is full, or whose syncs fail, and when it is well again."""

from __future__ import annotations

from pathlib import Path

import hermes
from hermes.limits import LOW_SPACE_BYTES, MIB
from tests.support.faults.server import ServerProcess
from tests.support.faults.small_disk import DecreedDisk
from tests.support.scraping import scrape, scraped_until

METRICS = {"HERMES_METRICS_ADDR": "127.0.0.1:0"}


def metrics_of(server: ServerProcess) -> str:
    address: str = server.said("serving")[-1]["metrics"]
    return address


async def test_low_space_is_seen_and_passes(tmp_path: Path) -> None:
    disk = DecreedDisk(tmp_path / "disk")
    async with ServerProcess(
        disk.store, {**disk.environment, **METRICS}, module=disk.module
    ) as server:
        address = metrics_of(server)
        before = await scrape(address)
        assert before["log_low_space"] == 0
        assert before["log_free_bytes"] > LOW_SPACE_BYTES
        disk.fill(leave_bytes=8 * MIB)
        low = await scraped_until(address, lambda s: s["log_low_space"] == 1)
        assert low["log_free_bytes"] < LOW_SPACE_BYTES
        assert (low["serving"], low["log_failures_total"]) == (1, 0)
        disk.empty()
        await scraped_until(address, lambda s: s["log_low_space"] == 0)


async def test_an_outage_of_the_log_is_seen_and_counted(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    syncs = disk.with_suffix(".syncs")
    async with (
        ServerProcess(
            disk / "store",
            {"BAD_DISK": str(disk), **METRICS},
            module="tests.support.faults.bad_disk",
        ) as server,
        hermes.AsyncClient(server.address, retry_timeout=60) as client,
    ):
        address = metrics_of(server)
        await client.publish("a", b"x")
        syncs.write_text(str(10**9))
        # Whoever waits for a commit makes the log look at its disk.
        async with client.publisher() as publisher:
            await publisher.send("a", b"y")
            away = await scraped_until(address, lambda s: s["log_open_refusals_total"] >= 2)
            assert (away["serving"], away["log_failures_total"]) == (0, 1)
            assert away["log_reopenings_total"] == 0
            assert not away.of("log_low_space"), "nobody knows"
            syncs.unlink()
            well = await scraped_until(address, lambda s: s["serving"] == 1)
        assert (well["log_failures_total"], well["log_reopenings_total"]) == (1, 1)
        assert well["log_open_refusals_total"] >= away["log_open_refusals_total"]
        (again,) = server.said("serving again")
        assert round(well["log_last_outage_seconds"], 3) == again["seconds"]
        assert (await scrape(address))["log_next_offset"] >= 2
        assert metrics_of(server) == address
