"""Backups of a real server: under full load, through kills, restored and served again.

The rest of invariant 20 for backups is in tests/faults/test_backup_faults.py.
"""

from __future__ import annotations

import asyncio
import random
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import hermes
from hermes.client.admin import AdminClient
from hermes.client.admin_types import BackupInfo, BackupProgress
from hermes.errors import HermesError
from hermes.log.backup_folder import read_manifest
from hermes.log.restore import restore_backup
from tests.e2e.cli_running import started
from tests.e2e.inspecting import inspect
from tests.support.backups import holds_only_what_it_names, records_of
from tests.support.faults.checker import Trail
from tests.support.faults.ledger import Ledger, Outcome
from tests.support.faults.load import Load
from tests.support.faults.server import ServerProcess

# Small, so that segments are rolled and sealed while they are copied.
SMALL = {"HERMES_SEGMENT_BYTES": str(128 * 1024), "HERMES_SNAPSHOT_INTERVAL": "500"}
WAIT_SECONDS = 60.0


def settings(tmp_path: Path) -> dict[str, str]:
    return SMALL | {"HERMES_BACKUP_DIR": str(tmp_path / "backups")}


def make(
    address: str, told: Callable[[BackupProgress], None] = lambda _: None, name: str = "daily"
) -> BackupInfo:
    with AdminClient(address) as admin:
        return admin.backup(name, told=told)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():  # noqa: ASYNC110 - what clients write into the ledger
            await asyncio.sleep(0.02)


def more_than(ledger: Ledger, receipts: int, acks: int) -> Callable[[], bool]:
    """Whether the load has gone on since."""
    return lambda: len(ledger.receipts) > receipts + 600 and len(ledger.confirmed) > acks + 100


@pytest.mark.timeout(300)
async def test_a_backup_under_load_is_a_prefix_that_serves(tmp_path: Path) -> None:
    store, folder, again = tmp_path / "store", tmp_path / "backups" / "daily", tmp_path / "again"
    server = ServerProcess(store, settings(tmp_path))
    load = Load(server.address, random.randrange(2**32))
    ledger = load.ledger
    done: list[BackupInfo] = []
    async with server:
        publishers = [
            asyncio.create_task(load.publish("client")),
            asyncio.create_task(load.publish_batches("batches")),
        ]
        workers = [asyncio.create_task(load.work("work", "job.>")) for _ in range(2)]
        try:
            for _ in range(3):
                await until(more_than(ledger, len(ledger.receipts), len(ledger.confirmed)))
                promised = [p.offset for p in ledger.publications if p.outcome is Outcome.OK]
                done.append(await asyncio.to_thread(make, server.address))
                assert done[-1].next_offset > max(o for o in promised if o is not None)
            for task in (*publishers, *workers):
                assert not task.done(), task.exception()
        finally:
            load.stopping.set()
            for task in (*publishers, *workers):
                task.cancel()
            await asyncio.gather(*publishers, *workers, return_exceptions=True)
        await server.kill()
    assert not server.complaints()
    first, *_, last = done
    assert (last.first_lsn, last.store_id) == (1, server.said("store opened")[0]["store_id"])
    assert last.segments > first.segments, "nothing was rolled: the load told nothing"
    assert last.copied_segments < last.segments
    assert holds_only_what_it_names(folder)

    report = restore_backup(folder, again)
    assert report.manifest.last_lsn == last.last_lsn
    verified = inspect("verify", again)
    assert verified.code == 0, verified.out + verified.err
    assert records_of(again) == records_of(store, last.last_lsn)
    assert not Trail(again, last.store_id).problems
    sys.stdout.write(
        f"{last.last_lsn} records in {last.segments} segments, "
        f"{len(ledger.receipts)} received, {len(ledger.confirmed)} acks confirmed\n"
    )
    await goes_on(again, last)


async def goes_on(store: Path, backup: BackupInfo) -> None:
    """A restored store is served: the next numbers, the same consumers."""
    async with ServerProcess(store) as server, hermes.AsyncClient(server.address) as client:
        assert server.said("store opened")[0]["store_id"] == backup.store_id
        published = await client.publish("job.a.1", b"after the restore")
        assert published.offset == backup.next_offset
        async with (
            asyncio.timeout(WAIT_SECONDS),
            client.consume("work", ack_timeout=20) as messages,
        ):
            async for message in messages:
                await message.ack(wait=True)
                if message.payload == b"after the restore":
                    break
        assert not server.complaints()
    records = records_of(store)
    assert records[backup.last_lsn].lsn == backup.last_lsn + 1
    assert [record.lsn for record in records] == list(range(1, len(records) + 1))


async def fill(address: str, mebibytes: int) -> None:
    async with hermes.AsyncClient(address) as client, client.publisher() as publisher:
        for _ in range(mebibytes * 16):
            await publisher.send("big", random.randbytes(64 * 1024))


async def test_a_kill_of_the_server_leaves_a_whole_backup(tmp_path: Path) -> None:
    folder = tmp_path / "backups" / "daily"
    copying = threading.Event()
    big = settings(tmp_path) | {"HERMES_SEGMENT_BYTES": str(8 * 1024 * 1024)}
    async with ServerProcess(tmp_path / "store", big) as server:
        await fill(server.address, 1)
        old = await asyncio.to_thread(make, server.address)
        await fill(server.address, 48)
        task = asyncio.create_task(asyncio.to_thread(make, server.address, lambda _: copying.set()))
        await asyncio.to_thread(copying.wait, WAIT_SECONDS)
        await server.kill()
        try:
            newest = (await task).last_lsn
        except HermesError:
            newest = None
        manifest = read_manifest(folder)
        assert manifest is not None
        assert manifest.last_lsn >= (newest or old.last_lsn)
        restore_backup(folder, tmp_path / "again")
        assert inspect("verify", tmp_path / "again").code == 0
        await server.start()
        done = await asyncio.to_thread(make, server.address)
        assert done.last_lsn > manifest.last_lsn
    assert holds_only_what_it_names(folder)


async def test_a_kill_of_the_command_leaves_a_whole_backup(tmp_path: Path) -> None:
    folder = tmp_path / "backups" / "daily"
    big = settings(tmp_path) | {"HERMES_SEGMENT_BYTES": str(8 * 1024 * 1024)}
    async with ServerProcess(tmp_path / "store", big) as server:
        await fill(server.address, 48)
        with started(server.address, "backup", "daily") as command:
            await until(folder.exists)
            command.process.kill()
        done: list[BackupInfo] = []

        async def again() -> bool:
            try:
                done.append(await asyncio.to_thread(make, server.address))
            except hermes.PreconditionError:  # the server is just giving the other one up
                await asyncio.sleep(0.05)
            return bool(done)

        async with asyncio.timeout(WAIT_SECONDS):
            while not await again():
                pass
        assert not server.complaints()
    assert holds_only_what_it_names(folder)
    restore_backup(folder, tmp_path / "again")
    assert inspect("verify", tmp_path / "again").code == 0
