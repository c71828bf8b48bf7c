"""Clients over restarts of the broker: they reconnect, resume, and lose nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

import hermes
from tests.support.faults.server import ServerProcess


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    async with ServerProcess(tmp_path / "store") as server:
        yield server


async def until(reached: Callable[[], bool]) -> None:
    """Progress is made in other tasks, with nothing to await but time."""
    async with asyncio.timeout(60):
        while not reached():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_publishing_and_consuming_go_on_over_kills(server: ServerProcess) -> None:
    acknowledged: list[int] = []
    settled: dict[int, int] = {}
    count = 600

    async def publish(client: hermes.AsyncClient, lane: int) -> None:
        for n in range(count // 4):
            number = n * 4 + lane
            ack = await client.publish("job", str(number).encode(), id=str(number))
            assert ack.offset is not None
            acknowledged.append(number)
            await asyncio.sleep(0.002)

    async with (
        hermes.AsyncClient(server.address) as producer,
        hermes.AsyncClient(server.address) as worker,
    ):
        publishing = [asyncio.create_task(publish(producer, lane)) for lane in range(4)]
        async with worker.consume("c", "job") as messages:

            async def work() -> None:
                async for message in messages:
                    await message.ack(wait=True)
                    number = int(message.payload)
                    settled[number] = settled.get(number, 0) + 1

            working = [asyncio.create_task(work()) for _ in range(8)]
            for kills in range(2):
                least = (kills + 1) * 150
                await until(lambda: len(acknowledged) >= least)  # noqa: B023 -- awaited here
                await server.kill()
                await server.start()
            await asyncio.wait_for(asyncio.gather(*publishing), 60)
            await until(lambda: len(settled) == count)
            for task in working:
                task.cancel()
        async with producer.read("job") as stored:
            numbers = [int(message.payload) async for message in stored]
    assert sorted(acknowledged) == list(range(count))
    assert sorted(numbers) == list(range(count))  # each once
    assert sorted(settled) == list(range(count))


async def test_a_publish_waits_for_a_restart_and_is_stored_once(server: ServerProcess) -> None:
    async with hermes.AsyncClient(server.address) as client:
        await client.publish("a", b"0")
        await server.kill()
        waiting = [asyncio.create_task(client.publish("a", str(n).encode())) for n in (1, 2, 3)]
        await asyncio.sleep(0.2)
        assert not any(task.done() for task in waiting)
        await server.start()
        acks = await asyncio.wait_for(asyncio.gather(*waiting), 20)
        assert [ack.offset for ack in acks] == [1, 2, 3]


async def test_a_publish_gives_up_after_the_retry_timeout(server: ServerProcess) -> None:
    client = hermes.AsyncClient(server.address, connect_timeout=0.2, retry_timeout=0.5)
    async with client:
        await client.publish("a", b"0")
        await server.kill()
        with pytest.raises(hermes.ConnectionLostError, match="hermes serve"):
            await asyncio.wait_for(client.publish("a", b"1"), 5)


async def test_subscriptions_and_readings_resume(server: ServerProcess) -> None:
    async with hermes.AsyncClient(server.address) as client:
        await client.publish("a", b"0")
        async with client.subscribe("a") as live, client.read("a", follow=True) as line:
            assert (await anext(line)).payload == b"0"
            await server.kill()
            await server.start()
            await client.publish("a", b"1")
            assert (await asyncio.wait_for(anext(line), 20)).payload == b"1"

            async def until_seen() -> hermes.Message[None]:
                """What was published before the subscription was back is missed."""
                while True:
                    await client.publish("a", b"live", durable=False)
                    if got := await live.fetch(1, timeout=0.2):
                        return got[0]

            assert (await asyncio.wait_for(until_seen(), 20)).payload in (b"1", b"live")


async def test_an_ack_not_yet_confirmed_survives_a_kill(server: ServerProcess) -> None:
    async with hermes.AsyncClient(server.address) as client:
        for n in range(20):
            await client.publish("a", str(n).encode())
        async with client.consume("c", "a") as messages:
            taken = await messages.fetch(20, timeout=10)
            await server.kill()
            for message in taken:
                message.ack()
            await server.start()
            await asyncio.wait_for(messages.flush(), 20)
            assert await messages.fetch(1, timeout=0.5) == []


async def test_a_polite_stop_tells_clients_and_they_come_back(server: ServerProcess) -> None:
    async with hermes.AsyncClient(server.address) as client:
        await client.publish("a", b"0")
        async with client.consume("c", "a") as messages:
            message = await anext(messages)
            server.terminate()
            await asyncio.sleep(0.2)
            await message.ack(wait=True)  # still taken while it drains
            assert await server.wait() == 0
            await server.start()
            await asyncio.wait_for(client.publish("a", b"1"), 20)
            again = await asyncio.wait_for(anext(messages), 20)
            assert (again.payload, again.attempt) == (b"1", 1)


async def test_the_sync_client_over_a_kill(server: ServerProcess) -> None:
    def publish_some(client: hermes.Client, first: int) -> list[int | None]:
        return [client.publish("a", str(n).encode()).offset for n in range(first, first + 10)]

    def consume_all(client: hermes.Client) -> list[int | None]:
        seen: list[int | None] = []
        with client.consume("c", "a") as messages:
            while batch := messages.fetch(100, timeout=1):
                for message in batch:
                    seen.append(message.offset)
                    message.ack()
            messages.flush()
        return seen

    client = hermes.Client(server.address)
    await asyncio.to_thread(client.__enter__)
    assert await asyncio.to_thread(publish_some, client, 0) == list(range(10))
    await server.kill()
    publishing = asyncio.create_task(asyncio.to_thread(publish_some, client, 10))
    await server.start()
    assert await asyncio.wait_for(publishing, 20) == list(range(10, 20))
    assert await asyncio.to_thread(consume_all, client) == list(range(20))
    await asyncio.to_thread(client.close)
