"""Hermes by its Python client, `hermes.AsyncClient`, as its users write it.

Pipelining is many tasks that await `publish()`; consuming by batch is `fetch()`.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from itertools import count
from typing import Final

from hermes import AsyncClient
from hermes.clock import SystemClock
from hermes_bench.hermes_raw import ALL
from hermes_bench.jobs import Job, Outcome, union
from hermes_bench.port import BaseDriver

PUBLISHING_TASKS: Final = 1_000
MAX_IN_FLIGHT: Final = 20_000
# A receiver that hears nothing for so long has lost something.
_SILENCE_SECONDS: Final = 3.0

_CLOCK: Final = SystemClock()


class HermesClient(BaseDriver):
    """One client; for live subscribers, one client each."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._client: AsyncClient
        self._subscribers: list[AsyncClient] = []

    async def open(self, job: Job) -> None:
        self._client = await self._stack.enter_async_context(AsyncClient(job.address))
        if job.role == "consume":
            self._messages = await self._stack.enter_async_context(
                self._client.consume(job.consumer, ALL, max_in_flight=MAX_IN_FLIGHT)
            )
        elif job.role == "subscribe":
            self._subscriptions = []
            for _ in range(job.concurrency):
                client = await self._stack.enter_async_context(AsyncClient(job.address))
                self._subscriptions.append(
                    await self._stack.enter_async_context(client.subscribe(ALL))
                )

    async def publish_all(self, job: Job, payloads: list[bytes], outcome: Outcome) -> None:
        offsets = await self._publish(job, payloads, outcome, durable=True)
        outcome.ranges = union([(offset, offset) for offset in offsets if offset is not None])

    async def publish_live(self, job: Job, payloads: list[bytes], outcome: Outcome) -> None:
        await self._publish(job, payloads, outcome, durable=False)

    async def _publish(
        self, job: Job, payloads: list[bytes], outcome: Outcome, *, durable: bool
    ) -> list[int | None]:
        numbers = count()
        offsets: list[int | None] = []
        ring = len(payloads)

        async def work() -> None:
            while (number := next(numbers)) < job.messages:
                subject = f"bench.s.{number}" if job.subjects > 1 else "bench.a"
                payload = payloads[number % ring]
                ack = await self._client.publish(subject, payload, durable=durable)
                offsets.append(ack.offset)

        outcome.started_ns = _CLOCK.monotonic_ns()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(PUBLISHING_TASKS):
                tasks.create_task(work())
        outcome.ended_ns = _CLOCK.monotonic_ns()
        outcome.messages = len(offsets)
        return offsets

    async def publish_one(self, subject: str, payload: bytes) -> None:
        await self._client.publish(subject, payload)

    async def consume_all(self, job: Job, outcome: Outcome) -> None:
        messages = size = 0
        if job.by_message:
            async for message in self._messages:
                size += len(message.payload)
                message.ack()
                messages += 1
                if messages == job.messages:
                    break
        else:
            while messages < job.messages:
                fetched = await self._messages.fetch(max=job.batch, timeout=0.005)
                for message in fetched:
                    size += len(message.payload)
                    message.ack()
                messages += len(fetched)
        await self._messages.flush()
        outcome.ended_ns = _CLOCK.monotonic_ns()
        outcome.messages, outcome.bytes = messages, size

    async def receive_live(self, job: Job, outcome: Outcome) -> None:
        async def receive(index: int) -> None:
            messages = 0
            subscription = self._subscriptions[index]
            while messages < job.messages:
                fetched = await subscription.fetch(max=job.batch, timeout=_SILENCE_SECONDS)
                if not fetched:
                    return
                messages += len(fetched)
                outcome.messages += len(fetched)
                outcome.bytes += sum(len(message.payload) for message in fetched)
                outcome.ended_ns = _CLOCK.monotonic_ns()

        await asyncio.gather(*map(receive, range(job.concurrency)))

    async def close(self) -> None:
        await self._stack.aclose()
