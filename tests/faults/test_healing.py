"""Invariants 3 and 4: a disk that is full, or whose syncs fail, under a server with clients.

The disk by decree needs no rights; the tmpfs is a real file system that is really full.
HEALING_ROUNDS is how often the disk is filled and emptied again.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

import hermes
from hermes import rpc
from hermes.broker.v1 import broker_pb2 as pb
from hermes.errors import HermesError, LimitExceededError
from hermes.limits import MIB
from tests.e2e.rpc_calls import Peer, error_of
from tests.support.faults.checker import Trail, check
from tests.support.faults.health import NOT_SERVING, SERVING, HealthWatch
from tests.support.faults.ledger import Ledger, Outcome
from tests.support.faults.load import Load
from tests.support.faults.server import ServerProcess
from tests.support.faults.small_disk import DecreedDisk, SmallDisk, mounted

ROUNDS = int(os.environ.get("HEALING_ROUNDS", "2"))
RESUME_SECS_MAX = 5.0
ROUND_SECS_MAX = 60.0  # below pytest's limit, so that the traceback names what was waited for
LOW = "the disk is nearly full: publishing is refused"
ROOM = "the disk has room again: publishing goes on"
FAILED = "the log failed: every stream ends, and the log is opened afresh"
WAITING = "the log cannot be opened yet; tried again until it can"
AGAIN = "serving again"


def tell(text: str) -> None:
    sys.stdout.write(text + "\n")


@pytest.fixture(params=["by decree", "tmpfs"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallDisk]:
    if request.param == "by decree":
        yield DecreedDisk(tmp_path / "disk")
        return
    with mounted(tmp_path / "disk") as real:
        if real is None:
            pytest.skip("this user may not mount a tmpfs")
        yield real


@asynccontextmanager
async def loaded(server: ServerProcess, *, publishers: int = 2) -> AsyncIterator[Load]:
    """Clients at work; when they have ended, what they were told is held against the log."""
    load = Load(server.address, seed=1)
    publishing = [asyncio.create_task(load.publish(f"lane{n}")) for n in range(publishers)]
    working = [
        asyncio.create_task(load.work("work", "job.>")),
        asyncio.create_task(load.work("audit", "job.a.*")),
    ]
    try:
        yield load
        load.stopping.set()
        async with asyncio.timeout(60):
            await asyncio.gather(*publishing)
        await load.quiet()
        assert not [task.exception() for task in working if task.done()]
    finally:
        for task in (*publishing, *working):
            task.cancel()
        await asyncio.gather(*publishing, *working, return_exceptions=True)
    assert server.running, server.tail()
    await server.kill()
    trail = Trail(server.store, server.said("store opened")[0]["store_id"])
    books = load.ledger
    tell(
        f"{books.count(Outcome.OK)} acknowledged, {books.count(Outcome.FAILED)} refused, "
        f"{books.count(Outcome.UNKNOWN)} unknown, {len(books.confirmed)} acks confirmed, 0 lost"
    )
    # To the checker a refusal is a surprise. Here it is none, but nothing of it may be kept,
    # unless the same message was sent twice and taken once.
    problems = [problem for problem in check(trail, books) if " was refused (" not in problem]
    assert not problems, "\n".join(problems[:20])
    taken = {entry.key for entry in books.publications if entry.outcome is not Outcome.FAILED}
    assert trail.offsets.keys() <= taken


async def probe(client: hermes.AsyncClient, books: Ledger, subject: str = "probe") -> str:
    """Publish a message; returns why it was refused, empty when it was not."""
    entry = books.publication(f"probe {len(books.publications)}", subject)
    try:
        entry.offset = (await client.publish(subject, entry.key)).offset
    except LimitExceededError as error:
        entry.outcome, entry.error = Outcome.FAILED, str(error)
    except HermesError as error:
        entry.error = str(error)
    else:
        entry.outcome = Outcome.OK
    return entry.error


async def accepted(client: hermes.AsyncClient, books: Ledger) -> float:
    """Publish until one is accepted; returns how many seconds that took."""
    begun = time.monotonic()
    while await probe(client, books):  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    return time.monotonic() - begun


async def refused(client: hermes.AsyncClient, books: Ledger) -> str:
    """Publish until one is refused; returns why."""
    async with asyncio.timeout(20):
        while not (error := await probe(client, books)):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return error


async def test_a_full_disk_refuses_publishes_and_nothing_else(disk: SmallDisk) -> None:
    server = ServerProcess(disk.store, disk.environment, module=disk.module)
    seconds = []
    async with (
        server,
        HealthWatch(server.address) as health,
        hermes.AsyncClient(server.address, connect_timeout=30) as client,
    ):
        async with (
            loaded(server) as load,
            client.consume("held", "held", max_in_flight=ROUNDS) as held,
        ):
            books = load.ledger
            for number in range(ROUNDS):
                async with asyncio.timeout(ROUND_SECS_MAX):
                    assert not await probe(client, books, "held")
                    message = await anext(held)
                    disk.fill(leave_bytes=8 * MIB)
                    assert "acks and reads go on" in await refused(client, books)
                    before = len(books.receipts)
                    await asyncio.wait_for(message.ack(wait=True), 10)
                    async with client.read("held") as line:
                        assert len([m async for m in line]) == number + 1
                    # The server looks four times a second. A want that is over sooner is not
                    # told, and its end neither, for which this test once waited for ever.
                    while len(server.said(LOW)) <= number:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                    disk.empty()
                    seconds.append(await accepted(client, books))
                    while len(books.receipts) == before:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                    while len(server.said(ROOM)) <= number:  # noqa: ASYNC110 - a moment behind
                        await asyncio.sleep(0.01)
        assert health.seen == [SERVING], "acks and reads went on: that is serving"
    tell(f"{disk.module}: publishing resumed after {', '.join(f'{s:.2f}' for s in seconds)} s")
    assert max(seconds) <= RESUME_SECS_MAX
    assert len(server.said(LOW)) == len(server.said(ROOM)) == ROUNDS
    assert not server.complaints()


async def test_a_disk_so_full_that_commits_fail_heals_by_itself(disk: SmallDisk) -> None:
    server = ServerProcess(disk.store, disk.environment, module=disk.module)
    seconds = []
    async with (
        server,
        HealthWatch(server.address) as health,
        HealthWatch(server.address, rpc.PUBLISH_BATCHES.service) as of_service,
        hermes.AsyncClient(server.address, connect_timeout=30, retry_timeout=60) as client,
        grpc.aio.insecure_channel(server.address) as channel,
        loaded(server) as load,
    ):
        books = load.ledger
        for round_ in range(1, ROUNDS + 1):
            assert not await probe(client, books, "work")
            had, acked = books.count(Outcome.OK), len(books.confirmed)
            while books.count(Outcome.OK) < had + 100 or len(books.confirmed) < acked + 100:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            filling = asyncio.create_task(_keep_full(disk))
            acking = asyncio.create_task(_nack_without_end(client))
            try:
                async with asyncio.timeout(20):
                    while len(server.said(WAITING)) < round_:
                        async with server._said:
                            await server._said.wait()
                await health.says(NOT_SERVING)
                await of_service.says(NOT_SERVING)
                call = Peer(channel).call(rpc.SUBSCRIBE, pb.SubscribeRequest(subject=b"a"))
                error = await error_of(call)
                assert error.code() is grpc.StatusCode.UNAVAILABLE
                assert "its disk is full" in str(error.details())
            finally:
                filling.cancel()
                acking.cancel()
                await asyncio.gather(filling, acking, return_exceptions=True)
            disk.empty()
            seconds.append(await accepted(client, books))
            await health.says(SERVING)
            await of_service.says(SERVING)
    assert server.starts == 1
    assert max(seconds) <= RESUME_SECS_MAX
    assert len(server.said(AGAIN)) == len(server.said(FAILED))
    assert not [line for line in server.complaints() if line.get("event") != FAILED]
    tell(f"{disk.module}: served again after {', '.join(f'{s:.2f}' for s in seconds)} s")


async def _keep_full(disk: SmallDisk) -> None:
    while True:
        disk.fill()
        await asyncio.sleep(0.005)


async def _nack_without_end(client: hermes.AsyncClient) -> None:
    """Commits that the full disk lets in until nothing is left of the reserve."""
    async with client.consume("worker", "work", backoff=(0.001, 0.001), max_attempts=0) as work:
        async for message in work:
            message.nack(reason="x" * 1_000)


@pytest.mark.parametrize("times", [1, 10**9], ids=["once", "for ever"])
async def test_a_failed_sync_is_answered_by_nobody(tmp_path: Path, times: int) -> None:
    disk = tmp_path / "disk"
    syncs = disk.with_suffix(".syncs")
    server = ServerProcess(
        disk / "store", {"BAD_DISK": str(disk)}, module="tests.support.faults.bad_disk"
    )
    async with server, HealthWatch(server.address) as health, loaded(server) as load:
        books = load.ledger
        for round_ in range(1, ROUNDS + 1):
            had = books.count(Outcome.OK)
            while books.count(Outcome.OK) < had + 100:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            syncs.write_text(str(times))
            if times > 1:
                await health.says(NOT_SERVING)
                await asyncio.sleep(0.2)  # what was sent before arrives
                told = books.count(Outcome.OK), len(books.confirmed)
                await asyncio.sleep(1)
                assert (books.count(Outcome.OK), len(books.confirmed)) == told
                assert health.seen[-1] == NOT_SERVING
                syncs.unlink()
            async with asyncio.timeout(30):
                while len(server.said(AGAIN)) < round_:
                    async with server._said:
                        await server._said.wait()
            await health.says(SERVING)
    outages = [line["seconds"] for line in server.said(AGAIN)]
    tell(f"syncs failed {'once' if times == 1 else 'for ever'}: away for {outages} s")
    assert server.starts == 1
    assert len(server.said(FAILED)) == len(outages)
    assert NOT_SERVING in health.seen
    assert not [line for line in server.complaints() if line.get("event") != FAILED]
