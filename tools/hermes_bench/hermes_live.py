"""Live subscriptions by SubscribeBatches alone: one connection per subscriber."""

from __future__ import annotations

import asyncio
from typing import Final

import grpc

from hermes import rpc
from hermes.broker.v1 import broker_pb2 as pb
from hermes.client.aio_stream import EOF
from hermes.client.options import CHANNEL_OPTIONS
from hermes.clock import SystemClock
from hermes_bench.hermes_raw import ALL, Call, HermesRaw, open_stream
from hermes_bench.jobs import Job, Outcome

# A receiver that hears nothing for so long has lost something.
SILENCE_SECONDS: Final = 3.0

_CLOCK: Final = SystemClock()


class Subscriber:
    """One connection with one live subscription."""

    def __init__(self, address: str, patterns: list[str]) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._patterns = patterns
        self.call: Call = None
        self.messages = 0
        self.bytes = 0
        self.last_ns = 0

    async def open(self) -> None:
        """Return when every pattern is registered."""
        self.call = open_stream(self._channel, rpc.SUBSCRIBE_BATCHES)
        opens = [
            pb.SubscriptionOpen(number=number, pattern=pattern)
            for number, pattern in enumerate(self._patterns, 1)
        ]
        await self.call.write(pb.SubscribeBatchesRequest(open=opens))
        opened = 0
        while opened < len(opens):
            response = await self.call.read()
            if response is EOF:
                raise ConnectionError("the broker ended the stream")
            if response.closed:
                raise RuntimeError(f"refused: {response.closed[0].refusal.message}")
            opened += len(response.opened)

    async def receive(self, messages: int) -> None:
        """Receive so many, or until nothing comes for a while."""
        try:
            while self.messages < messages:
                async with asyncio.timeout(SILENCE_SECONDS):
                    response = await self.call.read()
                for delivery in response.deliveries:
                    payloads = pb.BatchContent.FromString(delivery.batch.content).payloads
                    self.messages += len(payloads)
                    self.bytes += sum(map(len, payloads))
                self.last_ns = _CLOCK.monotonic_ns()
        except TimeoutError:
            pass

    async def close(self) -> None:
        await self._channel.close(None)


class HermesLive(HermesRaw):
    """The raw driver with live subscribers."""

    def __init__(self) -> None:
        super().__init__()
        self._subscribers: list[Subscriber] = []

    async def open(self, job: Job) -> None:
        if job.role != "subscribe":
            await super().open(job)
            return
        self._subscribers = [Subscriber(job.address, [ALL]) for _ in range(job.concurrency)]
        await asyncio.gather(*(subscriber.open() for subscriber in self._subscribers))

    async def receive_live(self, job: Job, outcome: Outcome) -> None:
        await asyncio.gather(*(each.receive(job.messages) for each in self._subscribers))
        outcome.messages = sum(each.messages for each in self._subscribers)
        outcome.bytes = sum(each.bytes for each in self._subscribers)
        outcome.ended_ns = max(each.last_ns for each in self._subscribers)

    async def close(self) -> None:
        for subscriber in self._subscribers:
            await subscriber.close()
        await super().close()
