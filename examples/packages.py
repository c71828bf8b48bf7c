"""Real messages through a broker that is killed twice.

    python examples/packages.py [--limit N] [--source PATH] [--store DIR]

Publishes every stanza of this machine's apt package index durably, each on
`packages.<section>.<name>`, while three consumers process them:

    archive    packages.>          every package, one member
    python     packages.python.*   one section, one member
    indexers   packages.>          every package again, shared by four members

Meanwhile the broker is killed with SIGKILL twice and started again on the same store;
clients find it again by themselves. At the end each consumer must have settled each
matching message, with the very bytes that were published. The exit code is 0 only then.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
import zlib
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path

from apt_index import Package, read_packages
from broker_process import BrokerProcess

import hermes
from hermes.client.admin import AdminClient

WINDOW_MAX = 1_000  # messages on their way at once, to the broker or to a member
STALL_SECONDS = 60.0  # without any progress: something is missing


@dataclass
class Consumer:
    """A durable consumer and what its members saw."""

    name: str
    filter: str
    members: int = 1
    handled: Counter[int] = field(default_factory=Counter)  # offset -> how often
    checksums: dict[int, int] = field(default_factory=dict)  # offset -> of the payload
    finished_at: float = 0.0

    def matches(self, subject: str) -> bool:
        section = subject.split(".")[1]
        return self.filter in ("packages.>", f"packages.{section}.*")


@dataclass
class Run:
    """One run: the consumers, and what the broker acknowledged to the publisher."""

    addr: str
    consumers: list[Consumer]
    window: int
    published: dict[int, tuple[str, int]] = field(default_factory=dict)  # subject, checksum
    started_at: float = field(default_factory=time.monotonic)
    published_at: float = 0.0
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    def expected(self, consumer: Consumer) -> dict[int, int]:
        """What the consumer must have seen: offset to checksum."""
        return {
            offset: checksum
            for offset, (subject, checksum) in self.published.items()
            if consumer.matches(subject)
        }


async def publish(run: Run, packages: list[Package]) -> None:
    """Publish all, a window at a time. A lost connection is the client's business."""
    async with hermes.AsyncClient(run.addr, name="publisher") as client:
        window: deque[tuple[Package, asyncio.Task[hermes.PublishAck]]] = deque()

        async def settle_oldest() -> None:
            package, task = window.popleft()
            offset = (await task).offset
            assert offset is not None, "a durable publish has an offset"
            run.published[offset] = (package.subject, zlib.crc32(package.stanza))
            run.moved.set()

        for package in packages:
            work = client.publish(package.subject, package.stanza, id=package.id)
            window.append((package, asyncio.ensure_future(work)))
            if len(window) >= run.window:
                await settle_oldest()
        while window:
            await settle_oldest()
    run.published_at = time.monotonic()


async def work(run: Run, consumer: Consumer, member: int) -> None:
    """One member of a consumer, until cancelled."""
    async with (
        hermes.AsyncClient(run.addr, name=f"{consumer.name}-{member}") as client,
        client.consume(consumer.name, consumer.filter, max_in_flight=run.window) as messages,
    ):
        async for message in messages:
            offset = message.offset
            assert offset is not None, "a consumed message has an offset"
            consumer.handled[offset] += 1
            consumer.checksums[offset] = zlib.crc32(message.payload)
            message.ack()
            run.moved.set()


async def kill_twice(run: Run, broker: BrokerProcess, total: int) -> None:
    """SIGKILL when the first consumer is through a third, and through two thirds."""
    for share in (1 / 3, 2 / 3):
        while len(run.consumers[0].handled) < total * share:
            run.moved.clear()
            await run.moved.wait()
        say(f"SIGKILL after {len(run.consumers[0].handled):,} of {total:,} messages")
        await asyncio.to_thread(broker.kill)
        await asyncio.to_thread(broker.start)
        say("the broker is back")


async def settled(run: Run) -> None:
    """Wait until every consumer has handled what it must and the broker agrees."""
    with AdminClient(run.addr, name="packages-example") as admin:
        for consumer in run.consumers:
            expected = run.expected(consumer)
            while consumer.handled.keys() < expected.keys():
                run.moved.clear()
                await run.moved.wait()
            consumer.finished_at = time.monotonic()
        for consumer in run.consumers:
            while True:
                now = (await asyncio.to_thread(admin.consumer, consumer.name)).consumer
                if not now.lag + now.in_flight + now.waiting:
                    break
                await asyncio.sleep(0.05)


async def watch_for_stall(run: Run) -> None:
    """Raise TimeoutError when nothing moves for STALL_SECONDS."""
    last, since = -1, time.monotonic()
    while True:
        await asyncio.sleep(1)
        progress = len(run.published) + sum(len(one.handled) for one in run.consumers)
        if progress != last:
            last, since = progress, time.monotonic()
        elif time.monotonic() - since > STALL_SECONDS:
            raise TimeoutError(f"nothing moved for {STALL_SECONDS:.0f} seconds")


async def drive(run: Run, broker: BrokerProcess, packages: list[Package]) -> None:
    """Publishers, members and killer together, until all is settled."""
    background = [
        asyncio.create_task(work(run, consumer, member))
        for consumer in run.consumers
        for member in range(consumer.members)
    ]
    background.append(asyncio.create_task(watch_for_stall(run)))

    async def main_line() -> None:
        await asyncio.gather(publish(run, packages), kill_twice(run, broker, len(packages)))
        await settled(run)

    foreground = asyncio.create_task(main_line())
    try:
        # None of the background ends by itself: if one does, it failed.
        await asyncio.wait([foreground, *background], return_when=asyncio.FIRST_COMPLETED)
        for task in (foreground, *background):
            if task.done():
                task.result()
    finally:
        for task in (foreground, *background):
            task.cancel()
        await asyncio.gather(foreground, *background, return_exceptions=True)


def report(run: Run) -> bool:
    """Print what each consumer settled; answers whether all is well."""
    took = run.published_at - run.started_at
    count = len(run.published)
    print(f"published {count:,} messages in {took:.1f} s, {count / took:,.0f} per second")
    print(f"{'consumer':<10}{'members':>8}{'settled':>10}{'twice':>8}{'missing':>9}", end="")
    print(f"{'wrong':>7}{'per second':>12}")
    well = True
    for consumer in run.consumers:
        expected = run.expected(consumer)
        missing = len(expected.keys() - consumer.handled.keys())
        # Also what came and should not have: published by nobody, or another's.
        wrong = sum(expected.get(offset) != crc for offset, crc in consumer.checksums.items())
        twice = sum(times > 1 for times in consumer.handled.values())
        took = (consumer.finished_at or time.monotonic()) - run.started_at
        rate = len(consumer.handled) / took
        print(f"{consumer.name:<10}{consumer.members:>8}{len(consumer.handled):>10,}", end="")
        print(f"{twice:>8,}{missing:>9,}{wrong:>7,}{rate:>12,.0f}")
        well = well and not missing and not wrong
    return well


def dead_letters(addr: str) -> int:
    with AdminClient(addr, name="packages-example") as admin:
        return sum(consumer.dead for consumer in admin.consumers())


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Real messages, and a broker killed twice.")
    parser.add_argument("--limit", type=int, help="publish only so many packages")
    parser.add_argument("--source", type=Path, help="an index file, or a folder of them")
    parser.add_argument("--store", type=Path, help="keep the broker's store here")
    options = parser.parse_args()

    packages = list(read_packages(options.source))[: options.limit]
    size_mb = sum(len(package.stanza) for package in packages) / 1e6
    say(f"read {len(packages):,} packages, {size_mb:,.1f} MB")
    with tempfile.TemporaryDirectory(prefix="hermes-packages-") as scratch:
        store = options.store or Path(scratch) / "store"
        with BrokerProcess(store, Path(scratch) / "broker.log") as broker:
            run = Run(
                broker.addr,
                [
                    Consumer("archive", "packages.>"),
                    Consumer("python", "packages.python.*"),
                    Consumer("indexers", "packages.>", members=4),
                ],
                # Small beside the whole, or a small run would be over before a kill.
                window=min(WINDOW_MAX, max(1, len(packages) // 40)),
            )
            failure: Exception | None = None
            try:
                asyncio.run(drive(run, broker, packages))
                dead = dead_letters(broker.addr)
            except (hermes.HermesError, TimeoutError, RuntimeError) as error:
                failure, dead = error, 0
            if run.published_at:
                well = report(run)
            else:
                well = False
            if failure is not None:
                say(f"failed: {failure}\n{broker.log_tail()}")
            if dead:
                say(f"{dead} messages are dead letters")
            return 0 if well and failure is None and not dead else 1


if __name__ == "__main__":
    sys.exit(main())
