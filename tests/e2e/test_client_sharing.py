"""How clients share what is expensive, read from the log of a real broker.

A commit is shared by all who publish meanwhile, a record by all messages of a batch or
of a range of acks; and who sends or takes much does not keep others waiting.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

import hermes
from hermes.broker import events as ev
from hermes.broker.event_codec import decode
from hermes.client.core.publishing import IN_FLIGHT_BYTES_MAX
from hermes.log.reader import open_reader
from tests.support.faults.server import ServerProcess

FAST = "fast"
SLOW = "slow"
FAST_BYTES = 1_000
SLOW_MESSAGES = 20


def events(store: Path) -> list[ev.Event]:
    """Every event of a store nobody writes to any more."""
    found: list[ev.Event] = []
    with closing(open_reader(store)) as reader:
        lsn = 1
        while records := reader.read(lsn, limit=2_000, limit_bytes=32 << 20):
            found += [event for event in map(decode, records) if event is not None]
            lsn = records[-1].lsn + 1
    return found


def of_kind(store: Path, kind: type[ev.Event]) -> int:
    return sum(isinstance(event, kind) for event in events(store))


async def fill(address: str, subject: str, count: int, size_bytes: int = 10) -> None:
    async with hermes.AsyncClient(address) as client, client.publisher() as publisher:
        for _ in range(count):
            await publisher.send(subject, bytes(size_bytes))


# ----------------------------------------------------------------- shared records


async def test_acks_given_one_by_one_are_few_records(tmp_path: Path) -> None:
    count = 5_000
    async with ServerProcess(tmp_path / "store") as server:
        await fill(server.address, "a", count)
        async with (
            hermes.AsyncClient(server.address) as client,
            client.consume("c", "a") as messages,
        ):
            for _ in range(count):
                (await anext(messages)).ack()
            await messages.flush()
    found = [event for event in events(tmp_path / "store") if isinstance(event, ev.Acked)]
    assert sum(last - first + 1 for event in found for first, last in event.ranges) == count
    assert len(found) <= count // 50


async def test_acks_of_a_sync_client_are_few_records(tmp_path: Path) -> None:
    count = 5_000

    def consume(address: str) -> None:
        with hermes.Client(address) as client, client.consume("c", "a") as messages:
            for _ in range(count):
                next(messages).ack()
            messages.flush()

    async with ServerProcess(tmp_path / "store") as server:
        await fill(server.address, "a", count)
        await asyncio.to_thread(consume, server.address)
    found = [event for event in events(tmp_path / "store") if isinstance(event, ev.Acked)]
    assert sum(last - first + 1 for event in found for first, last in event.ranges) == count
    assert len(found) <= count // 50


async def test_many_tasks_that_publish_share_records(tmp_path: Path) -> None:
    """What comes while a commit is under way leaves as one batch: one record, one commit."""
    tasks, each = 64, 50

    async def publish(client: hermes.AsyncClient) -> None:
        for _ in range(each):
            await client.publish("a", b"x")

    async with (
        ServerProcess(tmp_path / "store") as server,
        hermes.AsyncClient(server.address) as client,
    ):
        await asyncio.gather(*(publish(client) for _ in range(tasks)))
    assert of_kind(tmp_path / "store", ev.Published) <= tasks * each // 8


async def test_many_threads_that_publish_share_records(tmp_path: Path) -> None:
    threads, each = 32, 20

    def publish_all(address: str) -> None:
        with hermes.Client(address) as client, ThreadPoolExecutor(threads) as pool:
            together = threading.Barrier(threads)

            def publish(_: int) -> None:
                for _ in range(each):
                    together.wait()  # else a busy machine runs them one after the other
                    client.publish("a", b"x")

            list(pool.map(publish, range(threads)))

    async with ServerProcess(tmp_path / "store") as server:
        await asyncio.to_thread(publish_all, server.address)
    assert of_kind(tmp_path / "store", ev.Published) <= threads * each // 2


# ----------------------------------------------------------------------- fairness


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_hot_publisher_does_not_keep_others_waiting(tmp_path: Path, kind: str) -> None:
    """Between two publishes of the slow one, each awaited, the hot one gets through what
    was under way before, and at most as much again while the ack is on its way."""
    done = asyncio.Event()

    async def flood(address: str) -> int:
        sent = 0
        async with hermes.AsyncClient(address) as client, client.publisher() as publisher:
            while not done.is_set():
                await publisher.send(FAST, bytes(FAST_BYTES))
                sent += 1
        return sent

    async def publish_async(address: str) -> None:
        async with hermes.AsyncClient(address) as client:
            for _ in range(SLOW_MESSAGES):
                await client.publish(SLOW, b"x")

    def publish_sync(address: str) -> None:
        with hermes.Client(address) as client:
            for _ in range(SLOW_MESSAGES):
                client.publish(SLOW, b"x")

    async with ServerProcess(tmp_path / "store") as server:
        flooding = asyncio.create_task(flood(server.address))
        if kind == "async":
            await publish_async(server.address)
        else:
            await asyncio.to_thread(publish_sync, server.address)
        done.set()
        sent = await flooding
    published = [event for event in events(tmp_path / "store") if isinstance(event, ev.Published)]
    offsets = [event.first for event in published if event.subject == SLOW]
    between = [b - a - 1 for a, b in pairwise(offsets)]
    assert len(offsets) == SLOW_MESSAGES
    assert sent > sum(between) > SLOW_MESSAGES * 10, "the hot publisher was not hot"
    assert max(between) <= 2 * IN_FLIGHT_BYTES_MAX // FAST_BYTES


async def test_a_hot_consumer_does_not_keep_others_waiting(tmp_path: Path) -> None:
    """A message for the slow consumer is delivered before the hot one got its credit anew."""
    credit = 5_000
    backlog = 300_000
    async with ServerProcess(tmp_path / "store") as server:
        await fill(server.address, FAST, backlog, 100)
        async with (
            hermes.AsyncClient(server.address) as one,
            hermes.AsyncClient(server.address) as two,
            one.consume("hot", FAST, max_in_flight=credit) as hot,
            two.consume("slow", SLOW) as slow,
        ):

            async def take_all() -> int:
                taken = 0
                async for batch in hot.batches():
                    batch.ack()
                    taken += len(batch)
                    if taken >= backlog:
                        break
                return taken

            taking = asyncio.create_task(take_all())
            beside = 0
            while not taking.done():
                await two.publish(SLOW, b"x")
                (await anext(slow)).ack()
                beside += not taking.done()
            await taking
    assert beside >= 3, "the hot consumer was through before the slow one began"
    published: dict[int, int] = {}  # offset of a slow message -> delivered to hot by then
    delivered_hot, between = 0, []
    for event in events(tmp_path / "store"):
        match event:
            case ev.Published() if event.subject == SLOW:
                published[event.first] = delivered_hot
            case ev.Delivered() if event.consumer == "hot":
                delivered_hot += sum(last - first + 1 for first, last in event.ranges)
            case ev.Delivered():
                between += [delivered_hot - published[first] for first, _ in event.ranges]
            case _:
                pass
    assert delivered_hot == backlog
    assert max(between) <= credit
