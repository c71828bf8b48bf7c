"""Pipelined publishing to a real broker, also while it is killed."""

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


async def stored(client: hermes.AsyncClient, subject: str) -> list[bytes]:
    async with client.read(subject) as messages:
        return [message.payload async for message in messages]


async def test_what_is_sent_is_stored_in_order(client: hermes.AsyncClient) -> None:
    async with client.publisher() as publisher:
        receipts = [await publisher.send("a", b"%d" % n) for n in range(5_000)]
    acks = [await receipt for receipt in receipts]
    assert acks == [hermes.PublishAck(n) for n in range(5_000)]
    assert await stored(client, "a") == [b"%d" % n for n in range(5_000)]


async def test_subjects_headers_and_ids_arrive_as_they_were_sent(
    client: hermes.AsyncClient,
) -> None:
    async with client.publisher() as publisher:
        for n in range(60):
            headers = {"n": f"{n}"} if n % 3 == 0 else None
            await publisher.send(
                f"s.{n // 20}", b"%d" % n, headers=headers, id=f"id-{n}" if n % 2 else None
            )
    async with client.read("s.>") as messages:
        found = [(m.subject, m.payload, m.headers, m.id) async for m in messages]
    assert found == [
        (
            f"s.{n // 20}",
            b"%d" % n,
            {"n": f"{n}"} if n % 3 == 0 else {},
            f"id-{n}" if n % 2 else None,
        )
        for n in range(60)
    ]


async def test_duplicates_within_a_batch_and_across_are_found(client: hermes.AsyncClient) -> None:
    first = await client.publish("a", b"x", id="1")
    async with client.publisher() as publisher:
        receipts = [await publisher.send("a", b"x", id=id) for id in ("0", "1", "2", "2", "3")]
    acks = [await receipt for receipt in receipts]
    assert first == hermes.PublishAck(0)
    assert [(ack.offset, ack.duplicate) for ack in acks] == [
        (1, False),
        (0, True),
        (2, False),
        (2, True),
        (3, False),
    ]


async def test_a_refused_message_takes_no_other_with_it(client: hermes.AsyncClient) -> None:
    bad = {2, 5}
    waiting = [
        client.publish("a", b"%d" % n, id="@no" if n in bad else f"id-{n}") for n in range(8)
    ]
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert {n for n, r in enumerate(results) if isinstance(r, BaseException)} == bad
    assert all(isinstance(results[n], hermes.InvalidArgumentError) for n in bad)
    assert await stored(client, "a") == [b"%d" % n for n in range(8) if n not in bad]
    publisher = client.publisher()
    for n in range(8):
        await publisher.send("b", b"%d" % n, headers={"h": "x" * 20_000} if n in bad else None)
    with pytest.raises(hermes.PublishError, match=r"2 messages were not acknowledged.*headers"):
        await publisher.aclose()
    assert await stored(client, "b") == [b"%d" % n for n in range(8) if n not in bad]


async def test_live_messages_can_be_pipelined(client: hermes.AsyncClient) -> None:
    async with client.subscribe("a") as messages:
        async with client.publisher() as publisher:
            for n in range(300):
                await publisher.send("a", b"%d" % n, durable=False)
        found = await messages.fetch(300, timeout=10)
    assert [message.payload for message in found] == [b"%d" % n for n in range(300)]
    assert await stored(client, "a") == []


async def test_the_sync_pipeline(server: Server) -> None:
    def send_all() -> list[int | None]:
        with hermes.Client(server.address) as client:
            with client.publisher() as publisher:
                receipts = [publisher.send("a", b"%d" % n) for n in range(3_000)]
            offsets = [receipt.result().offset for receipt in receipts]
            with client.read("a") as messages:
                assert [message.payload for message in messages] == [
                    b"%d" % n for n in range(3_000)
                ]
            return offsets

    assert await asyncio.to_thread(send_all) == list(range(3_000))


async def test_killing_the_broker_in_the_middle_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Two producers, three kills, while batches of both are under way."""
    acknowledged: dict[bytes, int] = {}
    stop = asyncio.Event()

    async def produce(client: hermes.AsyncClient, lane: int) -> int:
        """Send until told; every receipt is awaited, and its offset noted."""

        async def note(payload: bytes, receipt: hermes.AsyncReceipt) -> None:
            ack = await receipt
            assert ack.offset is not None
            acknowledged[payload] = ack.offset

        number = 0
        async with asyncio.TaskGroup() as notes, client.publisher() as publisher:
            while not stop.is_set():
                for _ in range(50):
                    payload = b"%d:%d" % (lane, number)
                    receipt = await publisher.send(f"lane.{lane}", payload)
                    notes.create_task(note(payload, receipt))
                    number += 1
                await asyncio.sleep(0.001)
        return number

    async def until(count: int) -> None:
        async with asyncio.timeout(60):
            while len(acknowledged) < count:  # noqa: ASYNC110 -- progress of other tasks
                await asyncio.sleep(0.005)

    async with (
        ServerProcess(tmp_path / "store") as server,
        hermes.AsyncClient(server.address) as one,
        hermes.AsyncClient(server.address) as two,
    ):
        producing = [
            asyncio.create_task(produce(client, lane)) for lane, client in enumerate((one, two))
        ]
        for _ in range(3):
            await until(len(acknowledged) + 1_000)
            await server.kill()
            await server.start()
        await until(len(acknowledged) + 500)
        stop.set()
        counts = await asyncio.wait_for(asyncio.gather(*producing), 60)
        async with one.read("lane.>") as messages:
            line = {message.offset: message.payload async for message in messages}
    for lane, count in enumerate(counts):
        # Each once, in the order sent: nothing is missing, twice, or out of its place.
        of_lane = [payload for payload in line.values() if payload.startswith(b"%d:" % lane)]
        assert of_lane == [b"%d:%d" % (lane, n) for n in range(count)]
    assert len(acknowledged) == sum(counts)
    assert all(line[offset] == payload for payload, offset in acknowledged.items())
