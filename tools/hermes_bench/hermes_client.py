"""Hermes by its Python client, `hermes.AsyncClient`, as its users write it.

Pipelining is `client.publisher()`; consuming by batch is `messages.batches()`.
"""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import AsyncExitStack
from typing import Final

from hermes import AsyncClient
from hermes.clock import SystemClock
from hermes_bench.hermes_raw import ALL
from hermes_bench.jobs import Job, Outcome
from hermes_bench.payloads import RING, check_order
from hermes_bench.port import BaseDriver

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
        await self._publish(job, payloads, outcome, durable=True)

    async def publish_live(self, job: Job, payloads: list[bytes], outcome: Outcome) -> None:
        await self._publish(job, payloads, outcome, durable=False)

    async def _publish(
        self, job: Job, payloads: list[bytes], outcome: Outcome, *, durable: bool
    ) -> None:
        outcome.started_ns = _CLOCK.monotonic_ns()
        async with self._client.publisher() as publisher:  # raises if one is not acknowledged
            for number in range(job.messages):
                subject = f"bench.s.{number % job.subjects}" if job.subjects > 1 else "bench.a"
                await publisher.send(subject, payloads[number % RING], durable=durable)
        outcome.ended_ns = _CLOCK.monotonic_ns()
        outcome.messages = job.messages

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
            async for batch in self._messages.batches():
                check_order(batch.payloads[0], messages)
                size += sum(map(len, batch.payloads))
                batch.ack()
                messages += len(batch)
                if messages >= job.messages:
                    break
        await self._messages.flush()
        outcome.ended_ns = _CLOCK.monotonic_ns()
        outcome.messages, outcome.bytes = messages, size

    async def receive_live(self, job: Job, outcome: Outcome) -> None:
        async def receive(index: int) -> None:
            messages = 0
            batches = self._subscriptions[index].batches()
            with contextlib.suppress(TimeoutError):
                while messages < job.messages:
                    async with asyncio.timeout(_SILENCE_SECONDS):
                        batch = await anext(batches)
                    messages += len(batch)
                    outcome.messages += len(batch)
                    outcome.bytes += sum(map(len, batch.payloads))
                    outcome.ended_ns = _CLOCK.monotonic_ns()

        await asyncio.gather(*map(receive, range(job.concurrency)))

    async def close(self) -> None:
        await self._stack.aclose()
