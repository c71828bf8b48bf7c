"""Recording clients: they publish and consume without pause, and write down what they hear."""

from __future__ import annotations

import asyncio
import random

import hermes
from hermes.errors import (
    ClosedError,
    ConnectionLostError,
    HermesError,
    StaleError,
    UnavailableError,
)
from tests.support.faults.ledger import Ledger, Outcome, Publication, Receipt, key_of
from tests.support.faults.raw_load import BatchProducer, publish_v1, work_v1

# What a lost connection may say. Anything else told to a client is a surprise.
_LOST = (ConnectionLostError, UnavailableError, ClosedError)


class Load:
    """Publishers and members against one address, until told to stop publishing."""

    def __init__(self, address: str, seed: int) -> None:
        self.address = address
        self.ledger = Ledger()
        self.stopping = asyncio.Event()
        self._random = random.Random(seed)
        self._confirming: set[asyncio.Task[None]] = set()

    def client(self, name: str) -> hermes.AsyncClient:
        return hermes.AsyncClient(
            self.address, name=name, connect_timeout=30, retry_timeout=60, close_timeout=10
        )

    async def quiet(self) -> None:
        """Until nobody has received anything for a while: all is settled, or stuck."""
        async with asyncio.timeout(60):
            rounds, seen = 0, -1
            while rounds < 15:
                rounds = rounds + 1 if len(self.ledger.receipts) == seen else 0
                seen = len(self.ledger.receipts)
                await asyncio.sleep(0.1)

    # --------------------------------------------------------------- publishing

    async def publish(self, lane: str, tasks: int = 4) -> None:
        """One client, many tasks; some messages have an id, some of those are sent twice."""
        async with self.client(lane) as client:
            await asyncio.gather(*(self._publish(client, lane) for _ in range(tasks)))

    async def _publish(self, client: hermes.AsyncClient, lane: str) -> None:
        rng = random.Random(self._random.random())
        while not self.stopping.is_set():
            subject = f"job.{rng.choice('abc')}.{rng.randrange(20)}"
            entry = self.ledger.publication(lane, subject)
            if rng.random() < 0.3:
                entry.id = f"id-{entry.key.decode()}"
            size = rng.choice((0, 0, 100, 1_000, 20_000 if rng.random() < 0.05 else 10))
            sending = [self._send(client, entry, size)]
            if entry.id and rng.random() < 0.5:
                sending.append(self._send(client, self.ledger.twin(entry, f"{lane}-twins"), size))
            await asyncio.gather(*sending)
            if rng.random() < 0.2:
                await asyncio.sleep(rng.random() * 0.02)

    async def _send(self, client: hermes.AsyncClient, entry: Publication, size: int) -> None:
        try:
            ack = await client.publish(entry.subject, entry.key + b"." * size, id=entry.id or None)
        except _LOST as error:
            entry.error = str(error)
        except HermesError as error:
            entry.outcome, entry.error = Outcome.FAILED, f"{type(error).__name__}: {error}"
        else:
            entry.outcome, entry.offset = Outcome.OK, ack.offset
            entry.duplicate = ack.duplicate

    async def publish_batches(self, lane: str) -> None:
        """Batches of many messages, over the wire."""
        seed = self._random.randrange(2**32)
        await BatchProducer(self.address, self.ledger, lane, seed).run(self.stopping)

    async def publish_v1(self, lane: str) -> None:
        await publish_v1(self.address, self.ledger, lane, self.stopping)

    # ---------------------------------------------------------------- receiving

    async def follow(self, pattern: str) -> None:
        """Read the line from its start, and what comes. Cancel it to end it."""
        async with (
            self.client("reader") as client,
            client.read(pattern, follow=True) as messages,
        ):
            async for message in messages:
                assert message.offset is not None
                self.ledger.read.append((message.offset, key_of(message.payload)))

    async def listen(self, pattern: str) -> None:
        """A live subscription. Cancel it to end it."""
        async with self.client("listener") as client, client.subscribe(pattern) as messages:
            async for message in messages:
                assert message.offset is not None
                self.ledger.heard.append(message.offset)

    async def work_v1(self, consumer: str, pattern: str) -> None:
        """A SubscribeDurable member. Cancel it to end it."""
        await work_v1(self.address, self.ledger, consumer, pattern)

    async def work(self, consumer: str, pattern: str, *, churn: bool = True) -> None:
        """One member that comes and goes, and judges as it likes. Cancel it to end it."""
        rng = random.Random(self._random.random())
        async with self.client(consumer) as client:
            while True:
                await self._session(client, consumer, pattern, rng, churn=churn)

    async def _session(
        self,
        client: hermes.AsyncClient,
        consumer: str,
        pattern: str,
        rng: random.Random,
        *,
        churn: bool,
    ) -> None:
        left = rng.randrange(50, 1_000)
        try:
            async with client.consume(
                consumer, pattern, max_in_flight=100, ack_timeout=20, backoff=(0.02, 0.2)
            ) as messages:
                async for message in messages:
                    self._judge(consumer, message, rng)
                    left -= 1
                    if churn and left <= 0:
                        return
                    if rng.random() < 0.02:
                        await asyncio.sleep(rng.random() * 0.05)
        except _LOST:
            await asyncio.sleep(0.05)

    def _judge(self, consumer: str, message: hermes.Message[None], rng: random.Random) -> None:
        assert message.offset is not None
        at = (consumer, message.offset)
        self.ledger.receipts.append(
            Receipt(consumer, message.offset, message.attempt, key_of(message.payload))
        )
        chance = rng.random()
        if chance < 0.90:
            task = asyncio.create_task(self._confirm(at, message))
            self._confirming.add(task)
            task.add_done_callback(self._confirming.discard)
        elif chance < 0.95:
            message.ack()
        elif chance < 0.97:
            message.release()
        elif chance < 0.99:
            self.ledger.blamed.add(at)
            message.nack(reason="on purpose")
        else:
            self.ledger.blamed.add(at)
            message.reject("on purpose")

    async def _confirm(self, at: tuple[str, int], message: hermes.Message[None]) -> None:
        try:
            await message.ack(wait=True)
        except (StaleError, *_LOST):
            return
        except HermesError as error:
            self.ledger.surprises.append(f"ack of {at}: {type(error).__name__}: {error}")
        else:
            self.ledger.confirmed.add(at)
