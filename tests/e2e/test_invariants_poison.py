"""Invariant 13: a poison message is dead after its failures, and nobody else pays for it.

And its other side: no restart, of whatever side, ever makes a healthy message dead.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import hermes
from hermes.broker import events as ev
from hermes.broker.event_codec import decode
from hermes.log.reader import open_reader
from tests.support.faults.server import ServerProcess
from tests.support.faults.workers import WorkerProcess

LIMIT = 3
SETTINGS = {"HERMES_MAX_DELIVERY_ATTEMPTS": str(LIMIT)}


async def _publish(client: hermes.AsyncClient, *payloads: bytes) -> list[int]:
    acks = [await client.publish("job", payload) for payload in payloads]
    return [ack.offset for ack in acks if ack.offset is not None]


def _events(store: Path, consumer: str) -> list[ev.Event]:
    events = (decode(record) for record in open_reader(store).of_key(consumer, limit=10_000))
    return [event for event in events if event is not None]


def _dead(store: Path, consumer: str) -> dict[int, ev.DeadLettered]:
    return {
        offset: event
        for event in _events(store, consumer)
        if isinstance(event, ev.DeadLettered)
        for first, last in event.ranges
        for offset in range(first, last + 1)
    }


def _failures(store: Path, consumer: str) -> dict[int, int]:
    """Offset -> how many events counted against it."""
    failures: dict[int, int] = {}
    for event in _events(store, consumer):
        failed = isinstance(event, ev.Nacked | ev.Expired) or (
            isinstance(event, ev.Released) and event.failure
        )
        if failed:
            assert isinstance(event, ev.RangesEvent)
            for first, last in event.ranges:
                for offset in range(first, last + 1):
                    failures[offset] = failures.get(offset, 0) + 1
    return failures


def _acked(store: Path, consumer: str) -> set[int]:
    return {
        offset
        for event in _events(store, consumer)
        if isinstance(event, ev.Acked)
        for first, last in event.ranges
        for offset in range(first, last + 1)
    }


async def test_nacked_until_dead(tmp_path: Path) -> None:
    async with ServerProcess(tmp_path / "s", SETTINGS) as server:
        async with hermes.AsyncClient(server.address) as client:
            (poison,) = await _publish(client, b"poison")
            healthy = await _publish(client, *[b"ok"] * 20)
            acked: list[int | None] = []
            async with client.consume("c", "job", backoff=0.01) as messages:
                async with client.consume("watch", "_dead_letter.job") as watched:

                    async def work() -> None:
                        async for message in messages:
                            if message.payload == b"poison":
                                message.nack()
                            else:
                                message.ack()
                                acked.append(message.offset)

                    working = asyncio.create_task(work())
                    async with asyncio.timeout(20):
                        letter = await anext(watched)
                    working.cancel()
                    await asyncio.gather(working, return_exceptions=True)
                    assert letter.headers["hermes-failures"] == str(LIMIT)
                await messages.flush()
        assert set(acked) == set(healthy)
        assert _failures(server.store, "c") == {poison: LIMIT}
        assert set(_dead(server.store, "c")) == {poison}


async def test_timing_out_until_dead(tmp_path: Path) -> None:
    async with ServerProcess(tmp_path / "s", SETTINGS) as server:
        async with hermes.AsyncClient(server.address) as client:
            (poison,) = await _publish(client, b"poison")
            healthy = await _publish(client, *[b"ok"] * 20)
            acked: list[int | None] = []
            async with (
                client.consume(
                    "c", "job", ack_timeout=0.3, max_lease=0.1, backoff=0.01
                ) as messages,
                client.consume("watch", "_dead_letter.job") as watched,
            ):

                async def work() -> None:
                    async for message in messages:
                        if message.payload != b"poison":
                            message.ack()
                            acked.append(message.offset)

                working = asyncio.create_task(work())
                async with asyncio.timeout(20):
                    letter = await anext(watched)
                working.cancel()
                await asyncio.gather(working, return_exceptions=True)
                assert letter.headers["hermes-failures"] == str(LIMIT)
                await messages.flush()
        assert set(acked) == set(healthy)
        assert _failures(server.store, "c") == {poison: LIMIT}
        assert set(_dead(server.store, "c")) == {poison}


async def _supervise(address: str) -> int:
    """Start a worker as often as it dies, until one ends by itself; how many died."""
    deaths = 0
    while True:
        async with WorkerProcess(address, "c", "job", 8) as worker:
            if await worker.ended() == 0:
                return deaths
        deaths += 1
        assert deaths <= 10 * LIMIT, f"the poison is never dead; the last said {worker.lines}"


async def test_killing_its_worker_until_dead(tmp_path: Path) -> None:
    async with ServerProcess(tmp_path / "s", SETTINGS) as server:
        async with hermes.AsyncClient(server.address) as client:
            healthy = await _publish(client, *[b"ok"] * 5)
            (poison,) = await _publish(client, b"die")
            healthy += await _publish(client, *[b"ok"] * 10)
            supervisor = asyncio.create_task(_supervise(server.address))
            async with client.consume("watch", "_dead_letter.job") as watched, asyncio.timeout(90):
                letter = asyncio.ensure_future(anext(watched))
                await asyncio.wait((letter, supervisor), return_when=asyncio.FIRST_COMPLETED)
                assert letter.done(), supervisor.result()
            healthy += await _publish(client, b"end")
            async with asyncio.timeout(30):
                deaths = await supervisor
        assert set(_dead(server.store, "c")) == {poison}
        assert _failures(server.store, "c") == {poison: LIMIT}
        assert _acked(server.store, "c") == set(healthy)
        # Three times in company, for free; then alone, each a failure.
        assert deaths <= 3 + LIMIT


async def test_restarts_of_the_server_never_dead_letter(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "s", SETTINGS | {"HERMES_SHUTDOWN_GRACE": "1"})
    async with server:
        async with hermes.AsyncClient(server.address) as client:
            offsets = await _publish(client, *[b"slow"] * 3)
            async with client.consume("c", "job", max_in_flight=1) as messages:
                for round_ in range(2 * LIMIT):
                    async with asyncio.timeout(20):
                        assert (await anext(messages)).payload == b"slow"
                    if round_ % 2:
                        server.terminate()
                        await server.wait()
                    else:
                        await server.kill()
                    await server.start()
                got: set[int | None] = set()
                async with asyncio.timeout(20):
                    while got != set(offsets):
                        message = await anext(messages)
                        await message.ack(wait=True)
                        got.add(message.offset)
        assert not _dead(server.store, "c")
        assert not _failures(server.store, "c")


async def test_workers_that_leave_in_order_never_dead_letter(tmp_path: Path) -> None:
    async with ServerProcess(tmp_path / "s", SETTINGS) as server:
        async with hermes.AsyncClient(server.address) as client:
            (offset,) = await _publish(client, b"slow")
            for _ in range(3 * LIMIT):
                async with client.consume("c", "job") as messages, asyncio.timeout(10):
                    assert (await anext(messages)).offset == offset
            async with client.consume("c", "job") as messages, asyncio.timeout(10):
                last = await anext(messages)
                assert last.attempt == 3 * LIMIT + 1
                await last.ack(wait=True)
        assert not _failures(server.store, "c")
