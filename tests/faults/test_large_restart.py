"""A large store is served again within a second, and owes its clients nothing.

The store is filled through the server; consumers of several filters and starts have left
amid their work: acked messages with gaps, and some that wait after a nack. Then the server
is ended while others publish and consume, and started again: by SIGTERM and SIGKILL, with
the store in the page cache and dropped from it. Settings are the defaults, so snapshots are
as far apart as on a user's machine. `make torture` asserts the figure; MESSAGES sets the
size there.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from pathlib import Path

import msgspec
import pytest

import hermes
from hermes.client.aio_receivers import AsyncConsumer
from tests.support.faults.server import ServerProcess

SERVING_SECONDS_MAX = 1.0
SUBJECTS = 100
PAYLOAD = b"." * 100
PUBLISHERS = 32  # tasks of the client that publishes one message after the other
COMPILED = {"PYTHONDONTWRITEBYTECODE": ""}  # as an installed package is
BUSY = 5  # members at work when the server ends
BEHIND = 11  # a consumer of everything, which nobody else works for: who measures does


class Size(msgspec.Struct, frozen=True):
    messages: int
    consumers: int
    taken: int  # by each consumer, before it leaves
    load_secs: float
    rounds: tuple[str, ...]


class Books:
    """What clients were told."""

    def __init__(self) -> None:
        self.published: list[int] = []  # offsets, in the order of their confirmation
        self.acked: set[tuple[int, int]] = set()  # (consumer, offset): confirmed
        self.again: list[tuple[int, int]] = []  # of those, what was delivered again


def _client(server: ServerProcess) -> hermes.AsyncClient:
    return hermes.AsyncClient(server.address, connect_timeout=30, close_timeout=1)


def _consume(client: hermes.AsyncClient, n: int) -> AsyncConsumer[None]:
    """Everything, or what is published beside it under load, or one subject and another."""
    pattern = (">", ["bulk.*", "load"], [f"bulk.{n}", "load"])[n % 3 if n != BEHIND else 0]
    start = "new" if n % 4 == 0 else "all"
    return client.consume(
        f"c{n:03d}", pattern, start=start, max_in_flight=1_000, backoff=(1.0, 5.0)
    )


async def _fill(server: ServerProcess, count: int) -> None:
    async with _client(server) as client, client.publisher() as publisher:
        for n in range(count):
            await publisher.send(f"bulk.{n // 1_000 % SUBJECTS}", PAYLOAD)


async def _leave_amid_work(client: hermes.AsyncClient, books: Books, n: int, taken: int) -> None:
    """Takes some messages, acks most, nacks a few, and holds others when it leaves."""
    rng = random.Random(n)
    async with _consume(client, n) as messages:
        if n % 4 == 0:
            return  # it waits for new ones
        async for message in messages:
            assert message.offset is not None
            chance = rng.random()
            if chance < 0.8:
                message.ack()
                books.acked.add((n, message.offset))
            elif chance < 0.83:
                message.nack(reason="on purpose")
            taken -= 1
            if not taken:
                break
        await messages.flush()  # until all of it is confirmed


async def _publish(client: hermes.AsyncClient, books: Books) -> None:
    while True:
        ack = await client.publish("load", PAYLOAD)
        assert ack.offset is not None
        books.published.append(ack.offset)


async def _work(server: ServerProcess, books: Books, n: int) -> None:
    """A member that is at work when the server ends."""
    async with _client(server) as client, _consume(client, n) as messages:
        async for message in messages:
            assert message.offset is not None
            if (n, message.offset) in books.acked:
                books.again.append((n, message.offset))
            await message.ack(wait=True)
            books.acked.add((n, message.offset))


async def _first_delivery(server: ServerProcess) -> float:
    """When a consumer far behind gets its next message."""
    async with _client(server) as client, _consume(client, BEHIND) as messages:
        async for _ in messages:
            break
        return time.monotonic()


async def _load(server: ServerProcess, books: Books) -> None:
    """Publishers and members, until cancelled."""
    async with _client(server) as client:
        await asyncio.gather(
            *(_publish(client, books) for _ in range(PUBLISHERS)),
            *(_work(server, books, n) for n in range(1, 1 + BUSY)),
        )


def _forget_cached(store: Path) -> None:
    """Drop the store from the page cache, as after a restart of the machine."""
    for path in store.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


async def _end_under_load(server: ServerProcess, books: Books, kind: str, seconds: float) -> None:
    load = asyncio.create_task(_load(server, books))
    told = len(books.published)
    await asyncio.wait({load}, timeout=seconds)
    assert not load.done(), load.exception()
    assert len(books.published) > told
    if "kill" in kind:
        await server.kill()
    else:
        server.terminate()
        assert await server.wait() == 0, server.tail()
    load.cancel()
    await asyncio.gather(load, return_exceptions=True)


async def _check_published(client: hermes.AsyncClient, offsets: set[int]) -> None:
    async with client.read("load", start=min(offsets)) as messages:
        found = {message.offset async for message in messages}
    assert offsets <= found, f"lost {sorted(offsets - found)[:20]}"


async def _restart(server: ServerProcess, books: Books, size: Size, kind: str) -> float:
    """End it, start it, check what was published. Seconds until it served."""
    books.published.clear()
    await _end_under_load(server, books, kind, size.load_secs)
    if "cold" in kind:
        _forget_cached(server.store)
    begun = time.monotonic()
    await server.spawn()
    delivering = asyncio.create_task(_first_delivery(server))
    await server.ready()
    serving = time.monotonic() - begun
    async with asyncio.timeout(30):
        delivery = await delivering - begun
    async with _client(server) as client:
        await client.publish("load", PAYLOAD)
        await _check_published(client, set(books.published))
    assert not books.again
    sys.stdout.write(
        f"{kind}: serving after {serving:.2f} s, a first delivery after {delivery:.2f} s; "
        f"{len(books.published):,} publishes and {len(books.acked):,} acks confirmed: 0 lost\n"
    )
    return serving


async def run(store: Path, size: Size) -> float:
    """Seconds that the slowest start took to serve."""
    books = Books()
    async with ServerProcess(store, COMPILED) as server:
        await _fill(server, size.messages)
        async with _client(server) as client:
            for n in range(size.consumers):
                await _leave_amid_work(client, books, n, size.taken)
        slowest = max([await _restart(server, books, size, kind) for kind in size.rounds])
        assert not server.complaints(), server.told_of_failures()
    return slowest


async def test_a_store_amid_work_is_served_again(tmp_path: Path) -> None:
    await run(tmp_path / "store", Size(20_000, 12, 50, 0.5, ("stop", "kill")))


@pytest.mark.torture
async def test_10_million_messages_are_served_again_within_a_second(tmp_path: Path) -> None:
    kinds = ("stop", "kill", "stop, cold", "kill, cold")
    messages = int(os.environ.get("MESSAGES") or 10_000_000)
    slowest = await run(tmp_path / "store", Size(messages, 100, 800, 4.0, kinds * 3))
    assert slowest < SERVING_SECONDS_MAX
