"""Consuming through AsyncClient from a real broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import hermes
from hermes.server import Server, ServerConfig, serving


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    config = ServerConfig(listen_addr="127.0.0.1:0", store_path=tmp_path / "store")
    async with serving(config) as server:
        yield server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[hermes.AsyncClient]:
    async with hermes.AsyncClient(server.address, name="tests") as client:
        yield client


async def test_nack_delivers_again_after_the_delay_with_the_next_attempt(
    client: hermes.AsyncClient,
) -> None:
    await client.publish("a", b"x")
    async with client.consume("c", "a") as messages:
        first = await anext(messages)
        started = time.monotonic()
        first.nack(delay=0.3, reason="not yet")
        second = await anext(messages)
        assert time.monotonic() - started >= 0.3
        assert (second.offset, second.attempt) == (0, 2)
        with pytest.raises(hermes.StaleError):
            await first.nack(wait=True)
        second.ack()
        await messages.flush()


async def test_a_rejected_message_is_a_dead_letter(client: hermes.AsyncClient) -> None:
    await client.publish("a.b", b"poison")
    async with client.consume("c", "a.b") as messages:
        await (await anext(messages)).reject("cannot be parsed", wait=True)
        assert await messages.fetch(1, timeout=0.2) == []
    async with client.read("_dead_letter.a.b") as dead:
        (letter,) = [message async for message in dead]
    assert letter.payload == b"poison"
    assert "cannot be parsed" in letter.headers.values()


async def test_failures_up_to_max_attempts_make_a_dead_letter(client: hermes.AsyncClient) -> None:
    await client.publish("a", b"poison")
    async with client.consume("c", "a", max_attempts=3, backoff=0.01) as messages:
        for attempt in (1, 2, 3):
            message = await anext(messages)
            assert message.attempt == attempt
            await message.nack(reason="no", wait=True)
        assert await messages.fetch(1, timeout=0.2) == []
    async with client.read("_dead_letter.a") as dead:
        assert [message.payload async for message in dead] == [b"poison"]


async def test_options_belong_to_the_consumer(client: hermes.AsyncClient) -> None:
    async with client.consume("c", "a", ack_timeout=5, max_attempts=3):
        pass
    with pytest.raises(hermes.HermesError, match="ack_timeout"):
        async with client.consume("c", "a", ack_timeout=6):
            raise AssertionError("opened with other options")
    async with client.consume("c", ["a", "b"], ack_timeout=timedelta(seconds=6), update=True) as m:
        assert m.info.ack_timeout_ns == 6_000_000_000
        assert set(m.info.filters) == {"a", "b"}
        assert m.info.max_attempts == 3
    async with client.consume("c", ["b", "a"]) as messages:
        assert messages.info.ack_timeout_ns == 6_000_000_000


async def test_where_a_new_consumer_starts(client: hermes.AsyncClient) -> None:
    for n in range(3):
        await client.publish("a", str(n).encode())
    moment = datetime.now(UTC) + timedelta(milliseconds=1)
    await asyncio.sleep(0.01)  # the broker's clock must pass the moment
    await client.publish("a", b"3")
    for name, start, first in (("x", "all", 0), ("y", 2, 2), ("z", moment, 3)):
        async with client.consume(name, "a", start=start) as messages:
            assert (await anext(messages)).offset == first
    async with client.consume("new", "a", start="new") as messages:
        await client.publish("a", b"4")
        assert (await anext(messages)).offset == 4


async def test_members_of_one_consumer_share_its_messages(server: Server) -> None:
    async with (
        hermes.AsyncClient(server.address) as one,
        hermes.AsyncClient(server.address) as two,
        one.consume("c", "a", max_in_flight=10) as first,
        two.consume("c", "a", max_in_flight=10) as second,
    ):
        await asyncio.gather(*(one.publish("a", str(n).encode()) for n in range(200)))
        seen: list[bytes] = []

        async def work(messages: hermes.client.aio_receivers.AsyncConsumer[None]) -> int:
            count = 0
            while batch := await messages.fetch(10, timeout=1):
                for message in batch:
                    seen.append(message.payload)
                    message.ack()
                    count += 1
            return count

        counts = await asyncio.gather(work(first), work(second))
    assert sorted(map(int, seen)) == list(range(200))
    assert all(counts)


async def test_a_lease_is_kept_alive_while_its_handler_runs(client: hermes.AsyncClient) -> None:
    await client.publish("a", b"slow")
    done = asyncio.Event()

    async def handle(message: hermes.Message[None]) -> None:
        await asyncio.sleep(1.2)  # three times the ack timeout
        assert message.attempt == 1
        done.set()

    async with client.consume("c", "a", ack_timeout=0.4) as messages:
        running = asyncio.create_task(messages.run(handle))
        await asyncio.wait_for(done.wait(), 10)
        await asyncio.sleep(0)
        await messages.flush()
        running.cancel()
    async with client.consume("c", "a") as messages:
        assert await messages.fetch(1, timeout=0.2) == []


async def test_a_lease_runs_out_after_max_lease_and_is_reported(
    client: hermes.AsyncClient,
) -> None:
    lost: asyncio.Queue[int | None] = asyncio.Queue()
    await client.publish("a", b"x")
    async with client.consume(
        "c", "a", ack_timeout=0.3, max_lease=0.4, on_lease_lost=lambda m: lost.put_nowait(m.offset)
    ) as messages:
        message = await anext(messages)
        assert await asyncio.wait_for(lost.get(), 5) == 0
        again = await anext(messages)
        assert again.attempt == 2
        with pytest.raises(hermes.StaleError):
            await message.nack(wait=True)
        await message.ack(wait=True)  # a late ack counts from whoever held the message


async def test_leaving_releases_what_is_unsettled_at_once_and_for_free(
    client: hermes.AsyncClient,
) -> None:
    for _ in range(5):
        await client.publish("a", b"x")
    taken: list[hermes.Message[None]] = []
    for attempt in (1, 2, 3):
        async with client.consume("c", "a", max_attempts=2) as messages:
            taken = await messages.fetch(5, timeout=5)
            assert [message.attempt for message in taken] == [attempt] * 5
    with pytest.raises(hermes.ClosedError):
        taken[0].ack()


async def test_cancelling_fetches_and_iterations_costs_no_message(
    client: hermes.AsyncClient,
) -> None:
    async with client.consume("c", "a") as messages:
        publishing = asyncio.create_task(_publish_slowly(client, 100))
        seen: list[int] = []
        while len(seen) < 100:
            try:
                async with asyncio.timeout(0.003):
                    message = await anext(messages)
            except TimeoutError:
                continue
            seen.append(int(message.payload))
            message.ack()
        await publishing
        assert seen == list(range(100))
        await messages.flush()


async def _publish_slowly(client: hermes.AsyncClient, count: int) -> None:
    for n in range(count):
        await client.publish("a", str(n).encode())


async def test_run_handles_with_bounded_concurrency(client: hermes.AsyncClient) -> None:
    running = most = 0
    handled: list[int] = []
    everything = asyncio.Event()

    async def handle(message: hermes.Message[None]) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.005)
        running -= 1
        if int(message.payload) == 7 and message.attempt == 1:
            raise ValueError("first time fails")
        handled.append(int(message.payload))
        if len(handled) == 50:
            everything.set()

    await asyncio.gather(*(client.publish("a", str(n).encode()) for n in range(50)))
    async with client.consume("c", "a", backoff=0.01) as messages:
        working = asyncio.create_task(messages.run(handle, concurrency=4))
        await asyncio.wait_for(everything.wait(), 20)
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
    assert sorted(handled) == list(range(50))
    assert most == 4


async def test_run_ends_when_the_consumer_is_left(client: hermes.AsyncClient) -> None:
    messages = client.consume("c", "a")
    async with messages:
        working = asyncio.create_task(messages.run(lambda _message: None))
        await asyncio.sleep(0)
    await asyncio.wait_for(working, 5)


async def test_a_user_who_comes_back_after_max_lease_gets_messages_again(
    client: hermes.AsyncClient,
) -> None:
    for n in range(3):
        await client.publish("a", str(n).encode())
    async with client.consume(
        "c", "a", ack_timeout=0.2, max_lease=0.3, max_in_flight=2, max_attempts=0, backoff=0
    ) as messages:
        await asyncio.sleep(1)  # the user is away: leases in the buffer run out
        seen: set[bytes] = set()
        async with asyncio.timeout(10):
            while len(seen) < 3:
                message = await anext(messages)
                seen.add(message.payload)
                message.ack()
        await messages.flush()


async def test_a_consumer_that_exists_can_be_joined_by_its_name_alone(
    client: hermes.AsyncClient,
) -> None:
    with pytest.raises(hermes.InvalidArgumentError, match="no filter"):
        async with client.consume("c"):
            pass
    async with client.consume("c", "a"):
        await client.publish("a", b"x")
    async with client.consume("c") as messages:
        message = await anext(messages)
        assert (message.subject, message.payload) == ("a", b"x")
