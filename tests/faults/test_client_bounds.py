"""What a client holds in memory is bounded, whatever the broker or its user does.

A pipeline without a broker takes what its queue holds, and then makes its caller wait;
a consumer whose user takes nothing holds its credit, and no more.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import hermes
from hermes.client.admin import AdminClient
from hermes.client.core.outbox import QUEUE_BYTES_MAX
from hermes.client.core.outgoing import MERGED_BYTES_MAX
from hermes.client.core.publishing import IN_FLIGHT_BYTES_MAX
from tests.support.faults.memory import MIB, peak_rss_bytes, reset_peak, rss_bytes
from tests.support.faults.server import ServerProcess

MESSAGE_BYTES = 10_000
SUBJECTS = 7  # more than one, so that batches do not grow for ever
QUEUED_MAX = (QUEUE_BYTES_MAX + MERGED_BYTES_MAX) // MESSAGE_BYTES
# What is in flight is there as payloads, as a batch's bytes, and in grpc's buffers.
GROWTH_MAX = QUEUE_BYTES_MAX + 3 * IN_FLIGHT_BYTES_MAX + 24 * MIB
CONNECT_SECONDS = 60
BACKLOG = 24_000
CREDIT = 500
CONSUMER_GROWTH_MAX = 2 * CREDIT * MESSAGE_BYTES + 32 * MIB


class Progress:
    """How far a pipeline in a task or thread has come."""

    def __init__(self) -> None:
        self.connected = threading.Event()
        self.may_send = threading.Event()
        self.sent = 0
        self.stopping = False

    def next(self) -> tuple[str, bytes]:
        return f"a.{self.sent % SUBJECTS}", (b"%d" % self.sent).ljust(MESSAGE_BYTES, b".")

    async def stands_still(self) -> None:
        """Until nothing was sent for half a second."""
        seen = -1
        while seen != self.sent:
            seen = self.sent
            await asyncio.sleep(0.5)

    async def reaches(self, sent: int) -> None:
        async with asyncio.timeout(60):
            while self.sent < sent:  # noqa: ASYNC110 -- made elsewhere
                await asyncio.sleep(0.005)


async def send_async(address: str, progress: Progress) -> None:
    """Returns once everything is acknowledged."""
    async with (
        hermes.AsyncClient(address, connect_timeout=CONNECT_SECONDS) as client,
        client.publisher() as publisher,
    ):
        progress.connected.set()
        await asyncio.to_thread(progress.may_send.wait, 30)
        while not progress.stopping:
            await publisher.send(*progress.next())
            progress.sent += 1


def send_sync(address: str, progress: Progress) -> None:
    """The same on a thread."""
    with (
        hermes.Client(address, connect_timeout=CONNECT_SECONDS) as client,
        client.publisher() as publisher,
    ):
        progress.connected.set()
        progress.may_send.wait(30)
        while not progress.stopping:
            publisher.send(*progress.next())
            progress.sent += 1


@contextmanager
def bounded_growth(most_bytes: int) -> Iterator[None]:
    """This process must not grow by more."""
    reset_peak(os.getpid())
    before = rss_bytes(os.getpid())
    yield
    grown = peak_rss_bytes(os.getpid()) - before
    assert grown <= most_bytes, f"grew by {grown // MIB} MiB"


async def pipeline_without_a_broker(server: ServerProcess, kind: str) -> None:
    progress = Progress()
    if kind == "async":
        sending = asyncio.create_task(send_async(server.address, progress))
    else:
        sending = asyncio.create_task(asyncio.to_thread(send_sync, server.address, progress))
    await asyncio.to_thread(progress.connected.wait, 30)
    await server.kill()
    progress.may_send.set()
    await progress.stands_still()
    assert 0 < progress.sent <= QUEUED_MAX
    await server.start()
    await progress.reaches(5_000)
    await server.kill()  # now with batches in flight
    await progress.stands_still()
    await server.start()
    await progress.reaches(progress.sent + 5_000)
    progress.stopping = True
    await asyncio.wait_for(sending, 60)
    async with hermes.AsyncClient(server.address) as client, client.read("a.*") as messages:
        stored = [int(m.payload.rstrip(b".")) async for m in messages]
    assert stored == list(range(progress.sent))


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_pipeline_without_a_broker_waits(tmp_path: Path, kind: str) -> None:
    with bounded_growth(GROWTH_MAX):
        async with ServerProcess(tmp_path / "store") as server:
            await pipeline_without_a_broker(server, kind)


async def fill(client: hermes.AsyncClient, count: int) -> None:
    async with client.publisher() as publisher:
        for _ in range(count):
            await publisher.send("a", bytes(MESSAGE_BYTES))


async def in_flight(address: str, consumer: str) -> int:
    """What the broker has in flight, once it is most of the credit and stays so."""

    def ask() -> int:
        with AdminClient(address) as admin:
            return admin.consumer(consumer).consumer.in_flight

    before, found = -1, 0
    async with asyncio.timeout(20):
        while found < CREDIT // 2 or found != before:
            await asyncio.sleep(0.1)
            before, found = found, await asyncio.to_thread(ask)
    return found


async def test_an_async_consumer_holds_its_credit(tmp_path: Path) -> None:
    """240 MB wait for a user who takes nothing, and then a little without settling it."""
    async with (
        ServerProcess(tmp_path / "store") as server,
        hermes.AsyncClient(server.address) as client,
    ):
        await fill(client, BACKLOG)
        with bounded_growth(CONSUMER_GROWTH_MAX):
            async with client.consume("c", "a", max_in_flight=CREDIT) as messages:
                held = await in_flight(server.address, "c")
                assert held <= CREDIT
                assert len(await messages.fetch(BACKLOG, timeout=0.5)) == held
                assert await in_flight(server.address, "c") == held


async def test_a_sync_consumer_holds_its_credit(tmp_path: Path) -> None:
    def take(address: str, started: threading.Event, go: threading.Event) -> int:
        with (
            hermes.Client(address) as client,
            client.consume("c", "a", max_in_flight=CREDIT) as messages,
        ):
            started.set()
            go.wait()
            return len(messages.fetch(BACKLOG, timeout=0.5))

    async with (
        ServerProcess(tmp_path / "store") as server,
        hermes.AsyncClient(server.address) as client,
    ):
        await fill(client, BACKLOG)
        with bounded_growth(CONSUMER_GROWTH_MAX):
            started, go = threading.Event(), threading.Event()
            taking = asyncio.create_task(asyncio.to_thread(take, server.address, started, go))
            await asyncio.to_thread(started.wait)
            try:
                held = await in_flight(server.address, "c")
            finally:
                go.set()
            assert held <= CREDIT
            assert await taking == held
