"""What both clients promise, shown to hold through `hermes serve`: what is not acknowledged
is told, limits are named, what is too large for one frame or batch is split, and v1
clients are no strangers.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

import hermes
from hermes import rpc
from hermes.broker.v1 import broker_pb2 as pb
from tests.e2e.rpc_calls import Durable, Peer, envelope, next_of, subscribed
from tests.support.faults.server import ServerProcess


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    async with ServerProcess(tmp_path / "store") as server:
        yield server


@contextlib.asynccontextmanager
async def peer_of(server: ServerProcess) -> AsyncIterator[Peer]:
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield Peer(channel)


async def stored(address: str, subject: str) -> list[bytes]:
    async with hermes.AsyncClient(address) as client, client.read(subject) as messages:
        return [message.payload async for message in messages]


# ------------------------------------------------------- what is not acknowledged


async def test_aclose_tells_what_was_not_acknowledged(server: ServerProcess) -> None:
    async with hermes.AsyncClient(server.address, connect_timeout=1, retry_timeout=1) as client:
        publisher = client.publisher()
        sent = [await publisher.send("a", b"%d" % n) for n in range(50)]
        await publisher.flush()
        await server.kill()
        lost = [await publisher.send("a", b"lost") for _ in range(7)]
        with pytest.raises(hermes.OperationTimeoutError):
            await publisher.flush(timeout=0.05)
        with pytest.raises(hermes.PublishError, match="7 messages were not") as caught:
            await publisher.aclose()
        assert caught.value.count == 7
        assert isinstance(caught.value.first_error, hermes.ConnectionLostError)
        assert [(await receipt).offset for receipt in sent] == list(range(50))
        for receipt in lost:
            with pytest.raises(hermes.ConnectionLostError):
                await receipt
        with pytest.raises(hermes.ClosedError):
            await publisher.send("a", b"late")
        await publisher.aclose()  # told once
    await server.start()
    assert await stored(server.address, "a") == [b"%d" % n for n in range(50)]


async def test_close_tells_what_was_not_acknowledged(server: ServerProcess) -> None:
    def begin(client: hermes.Client) -> tuple[hermes.Publisher, list[hermes.Receipt]]:
        publisher = client.publisher()
        sent = [publisher.send("a", b"%d" % n) for n in range(50)]
        publisher.flush()
        return publisher, sent

    def end(publisher: hermes.Publisher, sent: list[hermes.Receipt]) -> None:
        lost = [publisher.send("a", b"lost") for _ in range(7)]
        with pytest.raises(hermes.OperationTimeoutError):
            publisher.flush(timeout=0.05)
        with pytest.raises(hermes.PublishError, match="7 messages were not") as caught:
            publisher.close()
        assert caught.value.count == 7
        assert isinstance(caught.value.first_error, hermes.ConnectionLostError)
        assert [receipt.result().offset for receipt in sent] == list(range(50))
        for receipt in lost:
            with pytest.raises(hermes.ConnectionLostError):
                receipt.result()
        with pytest.raises(hermes.ClosedError):
            publisher.send("a", b"late")
        publisher.close()  # told once

    client = hermes.Client(server.address, connect_timeout=1, retry_timeout=1)
    with client:
        begun = await asyncio.to_thread(begin, client)
        await server.kill()
        await asyncio.to_thread(end, *begun)
    await server.start()
    assert await stored(server.address, "a") == [b"%d" % n for n in range(50)]


# -------------------------------------------------------------------- the limits


SMALL = 5_000  # max_message_bytes


@pytest.fixture
async def strict(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    environment = {"HERMES_MAX_MESSAGE_BYTES": str(SMALL)}
    async with ServerProcess(tmp_path / "strict", environment) as server:
        yield server


async def test_a_message_above_the_limit_is_refused_by_name(strict: ServerProcess) -> None:
    """Before the client knows the limit, and after; the others go on."""
    async with hermes.AsyncClient(strict.address) as client:
        for _ in range(2):
            with pytest.raises(hermes.LimitExceededError, match=r"max_message_bytes.*5,?000"):
                await client.publish("a", bytes(SMALL + 1))
        async with client.publisher() as publisher:
            await publisher.send("a", bytes(SMALL))
            with pytest.raises(hermes.LimitExceededError, match=r"max_message_bytes.*5,?000"):
                await publisher.send("a", bytes(SMALL + 1))
    assert await stored(strict.address, "a") == [bytes(SMALL)]


async def test_the_sync_client_refuses_it_by_name_too(strict: ServerProcess) -> None:
    def publish() -> None:
        with hermes.Client(strict.address) as client:
            for _ in range(2):
                with pytest.raises(hermes.LimitExceededError, match=r"max_message_bytes.*5,?000"):
                    client.publish("a", bytes(SMALL + 1))
            with client.publisher() as publisher:
                publisher.send("a", bytes(SMALL))
                with pytest.raises(hermes.LimitExceededError, match=r"max_message_bytes.*5,?000"):
                    publisher.send("a", bytes(SMALL + 1))

    await asyncio.to_thread(publish)
    assert await stored(strict.address, "a") == [bytes(SMALL)]


@pytest.mark.parametrize("message_bytes", [10, 1_600, SMALL])
async def test_what_is_too_much_for_a_batch_is_split(
    strict: ServerProcess, message_bytes: int
) -> None:
    """Sent at once: more than a batch of the broker's takes, in bytes or in number."""
    count = 20_000 if message_bytes == 10 else 3_000
    payloads = [(b"%d" % n).ljust(message_bytes, b".") for n in range(count)]

    async def by_async(subject: str) -> None:
        async with (
            hermes.AsyncClient(strict.address) as client,
            client.publisher() as publisher,
        ):
            for payload in payloads:
                await publisher.send(subject, payload)

    def by_sync(subject: str) -> None:
        with hermes.Client(strict.address) as client, client.publisher() as publisher:
            for payload in payloads:
                publisher.send(subject, payload)

    await by_async("a")
    await asyncio.to_thread(by_sync, "s")
    assert await stored(strict.address, "a") == payloads
    assert await stored(strict.address, "s") == payloads


# -------------------------------------------------------------------- v1 clients


def sync_publish(address: str, subject: str, payload: bytes, id: str, *, durable: bool) -> None:
    with hermes.Client(address) as client:
        client.publish(subject, payload, id=id, durable=durable)


async def async_publish(
    address: str, subject: str, payload: bytes, id: str, *, durable: bool
) -> None:
    async with hermes.AsyncClient(address) as client:
        await client.publish(subject, payload, id=id, durable=durable)


async def test_v1_clients_get_what_native_clients_publish(server: ServerProcess) -> None:
    address = server.address
    async with peer_of(server) as peer:
        worker = await Durable(peer).open("old", "a.*")
        listener = await subscribed(peer, b"a.*")
        await async_publish(address, "a.1", b"x", "1", durable=True)
        await asyncio.to_thread(sync_publish, address, "a.2", b"y", "2", durable=True)
        await async_publish(address, "a.3", b"z", "3", durable=False)
        await asyncio.to_thread(sync_publish, address, "a.4", b"w", "4", durable=False)
        assert [await worker.next() for _ in range(2)] == [("1", 1), ("2", 1)]
        await worker.ack("1")
        await worker.ack("2")
        heard = [await next_of(listener) for _ in range(4)]
        assert [(e.id, e.subject, e.payload) for e in heard] == [
            ("1", b"a.1", b"x"),
            ("2", b"a.2", b"y"),
            ("3", b"a.3", b"z"),
            ("4", b"a.4", b"w"),
        ]
        # The live ones were not stored: what comes next is what is published next.
        await worker.nothing_but(peer, "a.5", "5")


async def test_native_clients_get_what_v1_clients_publish(server: ServerProcess) -> None:
    is_subscribed = threading.Event()

    def listen_and_consume() -> tuple[list[bytes], list[bytes]]:
        with hermes.Client(server.address) as client:
            with client.subscribe("a.*") as live:
                is_subscribed.set()
                heard = [next(live).payload for _ in range(3)]
            with client.consume("sync", "a.*") as messages:
                got: list[bytes] = []
                for message in messages:
                    got.append(message.payload)
                    message.ack()
                    if len(got) == 2:
                        break
                messages.flush()
            return heard, got

    by_sync = asyncio.create_task(asyncio.to_thread(listen_and_consume))
    async with (
        peer_of(server) as peer,
        hermes.AsyncClient(server.address) as client,
        client.subscribe("a.*") as live,
        client.consume("async", "a.*") as messages,
    ):
        assert await asyncio.to_thread(is_subscribed.wait, 20)
        await peer.publish_v1(envelope("a.1", "1", b"x"), envelope("a.2", "2", b"y"))
        await peer.call(rpc.PUBLISH, _one(envelope("a.3", "3", b"z")))
        heard = [(await anext(live)).payload for _ in range(3)]
        got = [await anext(messages) for _ in range(2)]
        assert [(m.id, m.subject, m.payload) for m in got] == [
            ("1", "a.1", b"x"),
            ("2", "a.2", b"y"),
        ]
        for message in got:
            await message.ack(wait=True)
        assert heard == [b"x", b"y", b"z"]
        assert await asyncio.wait_for(by_sync, 20) == ([b"x", b"y", b"z"], [b"x", b"y"])


async def _one(item: pb.EventEnvelope) -> AsyncIterator[pb.EventEnvelope]:
    yield item
