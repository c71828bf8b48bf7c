"""Client (threads) against a real broker in a process of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import hermes
from hermes.server import ServerConfig, serving


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A broker on a loop in another thread."""
    config = ServerConfig(listen_addr="127.0.0.1:0", store_path=tmp_path / "store")
    ready = threading.Event()
    told: list[str] = []
    stops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def run() -> None:
        stop = asyncio.Event()
        async with serving(config) as server:
            told.append(server.address)
            stops.append((asyncio.get_running_loop(), stop))
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    assert ready.wait(20)
    yield told[0]
    loop, stop = stops[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(20)
    assert not thread.is_alive()


def test_publish_consume_settle(address: str) -> None:
    with hermes.Client(address, name="sync") as client:
        offsets = [client.publish("a.b", str(n).encode(), headers={"n": str(n)}) for n in range(5)]
        assert [ack.offset for ack in offsets] == [0, 1, 2, 3, 4]
        assert client.publish("a.b", b"5", id="x").duplicate is False
        assert client.publish("a.b", b"5", id="x").duplicate is True
        with client.consume("c", "a.>", backoff=0.01) as messages:
            for message in messages:
                assert message.headers.get("n", "5") == message.payload.decode()
                if message.payload == b"2" and message.attempt == 1:
                    message.nack(reason="again")
                    continue
                with message:
                    pass
                if messages.in_hand == 0 and message.payload == b"2":
                    break
            messages.flush()
        with client.consume("c", "a.>") as messages:
            assert messages.fetch(1, timeout=0.2) == []


def test_threads_share_a_client(address: str) -> None:
    with hermes.Client(address) as client, ThreadPoolExecutor(8) as pool:
        acks = list(pool.map(lambda n: client.publish("a", str(n).encode()), range(200)))
        assert sorted(ack.offset for ack in acks if ack.offset is not None) == list(range(200))
        handled: list[int] = []
        with client.consume("c", "a") as messages:

            def handle(message: hermes.Message[None]) -> None:
                handled.append(int(message.payload))
                if len(handled) == 200:
                    threading.Thread(target=messages.close).start()

            messages.run(handle, concurrency=4)
        assert sorted(handled) == list(range(200))


def test_verdicts_that_wait(address: str) -> None:
    with hermes.Client(address) as client:
        client.publish("a", b"x")
        with client.consume("c", "a") as messages:
            message = next(messages)
            message.nack(delay=0, wait=True)
            again = next(messages)
            assert again.attempt == 2
            with pytest.raises(hermes.StaleError):
                message.reject(wait=True)
            again.ack(wait=True)


def test_live_subscription_and_lag_free_order(address: str) -> None:
    with hermes.Client(address) as client, client.subscribe("a") as messages:
        for n in range(50):
            assert client.publish("a", str(n).encode(), durable=False).offset is None
        assert [int(next(messages).payload) for _ in range(50)] == list(range(50))
        assert messages.dropped == 0


def test_reading(address: str) -> None:
    with hermes.Client(address) as client:
        for n in range(10):
            client.publish("a", str(n).encode())
        with client.read("a", start=5) as messages:
            assert [int(message.payload) for message in messages] == [5, 6, 7, 8, 9]
        with client.read("a", limit=3) as messages:
            assert [message.offset for message in messages] == [0, 1, 2]


def test_close_from_another_thread_ends_iteration(address: str) -> None:
    with hermes.Client(address) as client, client.subscribe("a") as messages:
        threading.Timer(0.2, messages.close).start()
        assert list(messages) == []


def test_refusals(address: str) -> None:
    with hermes.Client(address) as client:
        with pytest.raises(hermes.InvalidArgumentError):
            client.publish("a..b", b"x")
        with (
            pytest.raises(hermes.InvalidArgumentError),
            client.subscribe("a..b"),
        ):
            raise AssertionError("entered with a bad pattern")
        with (
            pytest.raises(hermes.InvalidArgumentError),
            client.consume("", "a"),
        ):
            raise AssertionError("entered without a name")
