"""Consuming by batch from a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import hermes
from hermes.server import Server, ServerConfig, serving
from tests.support.faults.server import ServerProcess


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    config = ServerConfig(listen_addr="127.0.0.1:0", store_path=tmp_path / "store")
    async with serving(config) as server:
        yield server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[hermes.AsyncClient]:
    async with hermes.AsyncClient(server.address, name="tests") as client:
        yield client


async def fill(client: hermes.AsyncClient, count: int) -> None:
    async with client.publisher() as publisher:
        for n in range(count):
            await publisher.send("a", b"%d" % n)


async def test_everything_is_delivered_once_by_batch(client: hermes.AsyncClient) -> None:
    count = 3_000
    await fill(client, count)
    found: list[bytes] = []
    async with client.consume("c", "a") as messages:
        async for batch in messages.batches():
            assert batch.offsets is not None
            assert [b"%d" % offset for offset in batch.offsets] == batch.payloads
            found += batch.payloads
            batch.ack()
            if len(found) >= count:
                break
        await messages.flush()
    assert found == [b"%d" % n for n in range(count)]
    async with client.consume("c", "a") as messages:
        assert messages.info.position == count
        assert await messages.fetch(1, timeout=0.1) == []


async def test_members_share_batches_and_settle_what_they_got(client: hermes.AsyncClient) -> None:
    count = 3_000
    settled: list[int] = []
    done = asyncio.Event()

    async def work() -> None:
        async with client.consume("c", "a", max_in_flight=100) as messages:
            async for batch in messages.batches():
                assert len(batch) <= 100
                assert batch.offsets is not None
                await batch.ack(wait=True)
                settled.extend(batch.offsets)
                if len(settled) >= count:
                    done.set()

    working = [asyncio.create_task(work()) for _ in range(3)]
    await fill(client, count)
    await asyncio.wait_for(done.wait(), 30)
    for task in working:
        task.cancel()
    await asyncio.gather(*working, return_exceptions=True)
    assert sorted(settled) == list(range(count))


async def test_a_nacked_batch_comes_again_and_a_rejected_one_is_dead(
    client: hermes.AsyncClient,
) -> None:
    await fill(client, 10)
    async with client.consume("c", "a") as messages:
        batches = messages.batches()
        batch = await anext(batches)
        batch.messages()[0].ack()
        batch.nack(delay=0, reason="again")
        found: list[tuple[int, int]] = []
        while len(found) < 9:
            batch = await anext(batches)
            assert batch.offsets is not None
            found += [(offset, batch.attempt) for offset in batch.offsets]
            batch.reject("enough")
        await messages.flush()
    assert found == [(offset, 2) for offset in range(1, 10)]
    async with client.read("_dead_letter.a") as dead:
        assert sorted([message.payload async for message in dead]) == [
            b"%d" % n for n in range(1, 10)
        ]


async def test_acks_of_batches_survive_a_kill(tmp_path: Path) -> None:
    async with (
        ServerProcess(tmp_path / "store") as server,
        hermes.AsyncClient(server.address) as client,
    ):
        await fill(client, 1_000)
        async with client.consume("c", "a", max_in_flight=1_000) as messages:
            batches = messages.batches()
            taken = 0
            held: list[hermes.MessageBatch[None]] = []
            while taken < 1_000:
                held.append(await asyncio.wait_for(anext(batches), 10))
                taken += len(held[-1])
            await server.kill()
            for batch in held:
                batch.ack()
            await server.start()
            await asyncio.wait_for(messages.flush(), 20)
            assert await messages.fetch(1, timeout=0.5) == []


async def test_the_sync_client_by_batch(server: Server) -> None:
    def consume() -> list[bytes]:
        found: list[bytes] = []
        with hermes.Client(server.address) as client:
            with client.publisher() as publisher:
                for n in range(2_000):
                    publisher.send("a", b"%d" % n)
            with client.consume("c", "a") as messages:
                for batch in messages.batches():
                    found += batch.payloads
                    batch.ack()
                    if len(found) >= 2_000:
                        break
                messages.flush()
                assert messages.fetch(1, timeout=0.1) == []
        return found

    assert await asyncio.to_thread(consume) == [b"%d" % n for n in range(2_000)]


async def test_a_large_fetch_of_a_reading_gives_what_it_reads_ahead(server: Server) -> None:
    """It waited for its timeout: reading ahead stops before so many are there."""
    count = 5_000
    patience = 600  # seconds; the test's own timeout is shorter

    def read_all() -> list[bytes]:
        found: list[bytes] = []
        with hermes.Client(server.address) as client, client.read("a", limit=count) as messages:
            while len(found) < count:
                found += [message.payload for message in messages.fetch(count, timeout=patience)]
        return found

    async with hermes.AsyncClient(server.address) as client:
        await fill(client, count)
        found: list[bytes] = []
        async with client.read("a", limit=count) as messages:
            while len(found) < count:
                fetched = await messages.fetch(count, timeout=patience)
                found += [message.payload for message in fetched]
    assert found == [b"%d" % n for n in range(count)]
    assert await asyncio.to_thread(read_all) == found
