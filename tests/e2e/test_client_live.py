"""Typed events, live subscriptions and readings through AsyncClient of a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import hermes
from hermes.server import Server, ServerConfig, serving


@hermes.event("orders.{region}.created")
@dataclass
class OrderCreated:
    region: str
    amount: int


@hermes.event("orders.{region}.shipped")
@dataclass
class OrderShipped:
    region: str
    parcel: str


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    config = ServerConfig(listen_addr="127.0.0.1:0", store_path=tmp_path / "store")
    async with serving(config) as server:
        yield server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[hermes.AsyncClient]:
    async with hermes.AsyncClient(server.address, name="tests") as client:
        yield client


async def test_typed_events_of_a_union(client: hermes.AsyncClient) -> None:
    await client.publish(OrderCreated("eu", 5))
    await client.publish("orders.eu.created", b"no json at all")
    await client.publish(OrderShipped("us", "P-1"), headers={"trace": "7"}, id="x")
    async with client.consume("billing", OrderCreated | OrderShipped) as messages:
        created, shipped = await messages.fetch(2, timeout=5)
        assert created.event == OrderCreated("eu", 5)
        assert shipped.event == OrderShipped("us", "P-1")
        assert (shipped.headers["trace"], shipped.id) == ("7", "x")
        created.ack()
        shipped.ack()
        await messages.flush()
    async with client.read("_dead_letter.>") as dead:
        (letter,) = [message async for message in dead]
    assert letter.payload == b"no json at all"
    assert any("OrderCreated" in value for value in letter.headers.values())


async def test_typed_live_events(client: hermes.AsyncClient) -> None:
    async with client.subscribe(OrderCreated) as messages:
        await client.publish("orders.eu.created", b"skip me", durable=False)
        await client.publish(OrderCreated("eu", 1), durable=False)
        await client.publish(OrderCreated("us", 2))
        # Order holds among live and among durable messages, not between the two.
        events = [(await anext(messages)).event for _ in range(2)]
    assert sorted(event.amount for event in events) == [1, 2]


async def test_a_subscription_sees_what_is_published_once_it_is_entered(
    client: hermes.AsyncClient,
) -> None:
    async with client.subscribe("a.>") as everything, client.subscribe("a.*") as one_level:
        for n in range(100):
            await client.publish("a.b", str(n).encode(), durable=False)
        await client.publish("a.b.c", b"deep", durable=False)
        got = [(await anext(everything)).payload for _ in range(101)]
        assert got == [*(str(n).encode() for n in range(100)), b"deep"]
        assert [(await anext(one_level)).payload for _ in range(100)] == got[:100]
    assert [message async for message in everything] == []


async def test_queue_groups_share(server: Server) -> None:
    async with (
        hermes.AsyncClient(server.address) as client,
        client.subscribe("a", queue_group="g") as first,
        client.subscribe("a", queue_group="g") as second,
        client.subscribe("a") as audit,
    ):
        for n in range(40):
            await client.publish("a", str(n).encode(), durable=False)
        assert len(await audit.fetch(40, timeout=5)) == 40
        shares = [await each.fetch(40, timeout=0.3) for each in (first, second)]
    assert all(shares)
    payloads = [int(message.payload) for share in shares for message in share]
    assert sorted(payloads) == list(range(40))


async def test_a_bad_pattern_is_refused_at_entering(client: hermes.AsyncClient) -> None:
    async with client.subscribe("ok") as fine:
        with pytest.raises(hermes.InvalidArgumentError):
            async with client.subscribe("a.>.b"):
                raise AssertionError("entered with a bad pattern")
        await client.publish("ok", b"x", durable=False)
        assert (await anext(fine)).payload == b"x"


async def test_reading_leaves_no_trace_and_ends(client: hermes.AsyncClient) -> None:
    for n in range(10):
        await client.publish("a" if n % 2 else "b", str(n).encode())
    async with client.read("a", start=3) as messages:
        assert [int(message.payload) async for message in messages] == [3, 5, 7, 9]
    async with client.read(limit=4) as messages:
        assert [message.offset async for message in messages] == [0, 1, 2, 3]
    async with client.read("nothing.here") as messages:
        assert await messages.fetch(5) == []


async def test_reading_can_follow(client: hermes.AsyncClient) -> None:
    await client.publish("a", b"0")
    async with client.read("a", follow=True) as messages:
        assert (await anext(messages)).payload == b"0"
        await client.publish("a", b"1")
        assert (await anext(messages)).payload == b"1"


async def test_a_burst_is_not_lost_by_a_user_who_keeps_taking(client: hermes.AsyncClient) -> None:
    count = 20_000
    async with client.subscribe("a") as messages:

        async def publish(share: range) -> None:
            for n in share:
                await client.publish("a", str(n).encode(), durable=False)

        publishing = [asyncio.create_task(publish(range(lane, count, 500))) for lane in range(500)]
        seen = 0
        async with asyncio.timeout(60):
            while seen + messages.dropped < count:
                seen += len(await messages.fetch(1_000, timeout=1))
        await asyncio.gather(*publishing)
        assert (seen, messages.dropped) == (count, 0)


async def test_a_user_who_takes_nothing_misses_the_oldest_and_is_told(
    client: hermes.AsyncClient,
) -> None:
    told: list[int] = []
    payload = bytes(256 * 1024)
    async with client.subscribe("a", on_lag=told.append) as messages:
        for n in range(200):
            await client.publish("a", str(n).encode() + payload, durable=False)
        await client.publish("a", b"last", durable=False)
        got: list[bytes] = []
        while not got or got[-1] != b"last":
            got.append((await anext(messages)).payload.rstrip(b"\0"))
        assert messages.dropped > 0
        assert sum(told) == messages.dropped
        numbers = [int(payload) for payload in got[:-1]]
        assert numbers == list(range(201 - len(got), 200))
