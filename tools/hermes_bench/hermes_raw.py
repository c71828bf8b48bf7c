"""Hermes by its native RPCs alone: no client library, whole batches, natural merging.

What the wire and the broker allow from Python. The producer keeps a window of
unanswered batches and puts everything that has room into one frame; the consumer decodes
every payload, and acks what a frame brought as one settlement. It is a yardstick for the
client library, and no example for users: it neither reconnects nor extends leases.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Any, Final

import grpc

from hermes import rpc
from hermes.broker.v1 import broker_pb2 as pb
from hermes.client.aio_stream import EOF
from hermes.client.options import CHANNEL_OPTIONS
from hermes.clock import SystemClock
from hermes_bench.jobs import Job, Outcome, extend_ranges
from hermes_bench.payloads import RING, check_order
from hermes_bench.port import BaseDriver

FRAME_BYTES: Final = 512 << 10
WINDOW_BYTES: Final = 8 << 20
# The broker remembers so many sequences of a producer.
WINDOW_BATCHES: Final = 1_024
CREDIT_BYTES: Final = 64 << 20
CREDIT_MESSAGES: Final = 500_000
ALL: Final = "bench.>"
_TOKEN: Final = 1

_CLOCK: Final = SystemClock()

Call = Any  # grpc.aio.StreamStreamCall of two message classes


def make_batch(subject: str, payloads: Sequence[bytes]) -> pb.Batch:
    """A batch without ids, keys and headers."""
    return pb.Batch(
        subject=subject,
        head=pb.BatchHead(count=len(payloads)).SerializeToString(),
        content=pb.BatchContent(payloads=payloads).SerializeToString(),
    )


def open_stream(channel: grpc.aio.Channel, method: rpc.Method[Any, Any]) -> Call:
    """A bidirectional call of one of the native RPCs."""
    factory: Any = channel.stream_stream(
        method.path,
        request_serializer=method.request_class.SerializeToString,
        response_deserializer=method.response_class.FromString,
    )
    return factory()


class Producer:
    """One PublishBatches stream with a window. `ranges` are the offsets it was told."""

    def __init__(self, channel: grpc.aio.Channel, *, live: bool) -> None:
        self.call = open_stream(channel, rpc.PUBLISH_BATCHES)
        self.answered = 0  # batches
        self.messages = 0
        self.ranges: list[tuple[int, int]] = []
        self._live = live
        self._sent = 0
        self._progress = asyncio.Event()
        self._waiters: dict[int, asyncio.Future[None]] = {}
        self._gathered: list[tuple[pb.Batch, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[None] | None = None

    async def open(self) -> None:
        producer = b"" if self._live else secrets.token_bytes(16)
        opening = pb.PublishOpen(producer_id=producer, first_sequence=1)
        await self.call.write(pb.PublishBatchesRequest(open=opening))
        await self.call.read()
        self._reader = asyncio.create_task(self._read())

    async def send(self, batches: list[pb.Batch]) -> None:
        """One frame."""
        request = pb.PublishBatchesRequest(
            sequence=self._sent + 1, batches=batches, live=self._live
        )
        self._sent += len(batches)
        await self.call.write(request)

    async def send_and_wait(self, batch: pb.Batch) -> None:
        """Returns when it is answered. What gathers while a frame is written shares the next."""
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._gathered.append((batch, answered))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        await answered

    async def _write(self) -> None:
        while self._gathered:
            gathered, self._gathered = self._gathered, []
            for sequence, (_, answered) in enumerate(gathered, self._sent + 1):
                self._waiters[sequence] = answered
            await self.send([batch for batch, _ in gathered])

    async def room(self, window: int) -> int:
        """Wait until at least a quarter of the window is free; how much is."""
        while (room := window - (self._sent - self.answered)) < max(1, window // 4):
            await self._wait()
        return room

    async def all_answered(self) -> None:
        while self.answered < self._sent:
            await self._wait()

    async def _wait(self) -> None:
        assert self._reader is not None
        if self._reader.done():
            self._reader.result()
            raise ConnectionError("the broker ended the stream")
        self._progress.clear()
        await self._progress.wait()

    async def _read(self) -> None:
        try:
            while (response := await self.call.read()) is not EOF:
                for result in response.results:
                    self._settle(result)
                self._progress.set()
        finally:
            for waiter in self._waiters.values():
                waiter.cancel()
            self._progress.set()

    def _settle(self, result: pb.PublishResult) -> None:
        if result.HasField("refusal"):
            raise RuntimeError(f"refused: {result.refusal.message}")
        self.answered += result.batches
        self.messages += result.count
        if not self._live:
            extend_ranges(self.ranges, result.base_offset, result.base_offset + result.count - 1)
        if self._waiters:
            for sequence in range(result.sequence, result.sequence + result.batches):
                waiter = self._waiters.pop(sequence, None)
                if waiter is not None and not waiter.done():
                    waiter.set_result(None)


class HermesRaw(BaseDriver):
    """One channel to the broker, driven frame by frame."""

    def __init__(self) -> None:
        self._channel: grpc.aio.Channel | None = None
        self._producer: Producer | None = None
        self._consume: Call = None

    async def open(self, job: Job) -> None:
        self._channel = grpc.aio.insecure_channel(job.address, options=CHANNEL_OPTIONS)
        await self._channel.channel_ready()
        if job.role == "consume":
            self._consume = open_stream(self._channel, rpc.CONSUME)
            opening = pb.ConsumeOpen(
                consumer=job.consumer,
                filters=[ALL],
                credit=pb.Credit(messages=CREDIT_MESSAGES, bytes=CREDIT_BYTES),
            )
            await self._consume.write(pb.ConsumeRequest(open=opening))
            await self._consume.initial_metadata()
        else:
            self._producer = Producer(self._channel, live=job.role == "publish-live")
            await self._producer.open()

    async def publish_all(self, job: Job, payloads: list[bytes], outcome: Outcome) -> None:
        producer = self._producer
        assert producer is not None
        batch_bytes = job.batch * job.size_bytes
        window = max(2, min(WINDOW_BATCHES, WINDOW_BYTES // batch_bytes))
        frame = max(1, FRAME_BYTES // batch_bytes)
        sent = 0
        outcome.started_ns = _CLOCK.monotonic_ns()
        while sent < job.messages:
            take = min(frame, await producer.room(window))
            batches: list[pb.Batch] = []
            while len(batches) < take and sent < job.messages:
                count = min(job.batch, job.messages - sent)
                place = sent % RING
                subject = f"bench.s.{sent % job.subjects}" if job.subjects > 1 else "bench.a"
                batches.append(make_batch(subject, payloads[place : place + count]))
                sent += count
            await producer.send(batches)
        await producer.all_answered()
        outcome.ended_ns = _CLOCK.monotonic_ns()
        outcome.messages = producer.messages
        outcome.ranges = producer.ranges

    async def publish_live(self, job: Job, payloads: list[bytes], outcome: Outcome) -> None:
        await self.publish_all(job, payloads, outcome)

    async def publish_batch(self, subject: str, payloads: list[bytes]) -> None:
        assert self._producer is not None
        await self._producer.send_and_wait(make_batch(subject, payloads))

    async def publish_one(self, subject: str, payload: bytes) -> None:
        await self.publish_batch(subject, [payload])

    async def consume_all(self, job: Job, outcome: Outcome) -> None:
        acks = _Acks(self._consume)
        messages = size = 0
        while messages < job.messages:
            response = await self._consume.read()
            if response is EOF:
                raise ConnectionError("the broker ended the stream")
            for delivery in response.deliveries:
                payloads: Sequence[bytes] = pb.BatchContent.FromString(
                    delivery.batch.content
                ).payloads
                if delivery.selection:
                    first, last = delivery.selection
                    payloads = payloads[first : last + 1]
                check_order(payloads[0], messages)
                first_offset = delivery.base_offset + (
                    delivery.selection[0] if delivery.selection else 0
                )
                messages += len(payloads)
                size += sum(map(len, payloads))
                acks.add(first_offset, first_offset + len(payloads) - 1)
        await acks.confirmed()
        outcome.ended_ns = _CLOCK.monotonic_ns()
        outcome.messages, outcome.bytes = messages, size

    async def close(self) -> None:
        if self._producer is not None:
            await self._producer.call.done_writing()
        if self._consume is not None:
            await self._consume.done_writing()
            while await self._consume.read() is not EOF:
                pass
        if self._channel is not None:
            await self._channel.close(None)


class _Acks:
    """Acks on their way: what gathers while a frame is written goes into the next."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._ranges: list[tuple[int, int]] = []
        self._last = 0
        self._writing: asyncio.Task[None] | None = None

    def add(self, first: int, last: int) -> None:
        self._last = last
        extend_ranges(self._ranges, first, last)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        while self._ranges:
            await self._call.write(self._request(0))

    def _request(self, token: int) -> pb.ConsumeRequest:
        flat = [bound for both in self._ranges for bound in both]
        self._ranges = []
        ack = pb.Settlement(verdict=pb.VERDICT_ACK, ranges=flat, token=token)
        return pb.ConsumeRequest(settlements=[ack])

    async def confirmed(self) -> None:
        """Return once every ack is committed. The last one carries a token."""
        if self._writing is not None:
            await self._writing
        # Repeating an ack is harmless; a settlement needs a range to carry a token.
        self._ranges = self._ranges or [(self._last, self._last)]
        await self._call.write(self._request(_TOKEN))
        while _TOKEN not in (response := await self._call.read()).confirmed:
            if response is EOF:
                raise ConnectionError("the broker ended the stream")
