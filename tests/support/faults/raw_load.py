"""Recording clients that speak the wire themselves: batches of many messages, and v1.

What the Python client does by itself (numbering, sending again) is done here by the
book, docs/protocol.md; so the two do not hide each other's faults.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import grpc
import msgspec

from hermes import rpc
from hermes.broker.v1 import broker_pb2 as pb
from tests.support.faults.ledger import Ledger, Outcome, Publication, Receipt, key_of

EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]
_OPTIONS = (("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 500))


def _is_loss(error: grpc.aio.AioRpcError) -> bool:
    """The connection broke. A write that finds it broken makes grpc say INTERNAL."""
    made_here = error.code() is grpc.StatusCode.INTERNAL and "from Core" in str(error.details())
    return made_here or error.code() is grpc.StatusCode.UNAVAILABLE


class _Sent(msgspec.Struct):
    sequence: int
    batch: pb.Batch
    entries: list[Publication]


class BatchProducer:
    """One producer id over as many streams as it takes; batches of 1..400 messages."""

    def __init__(self, address: str, ledger: Ledger, lane: str, seed: int) -> None:
        self._address = address
        self._ledger = ledger
        self._lane = lane
        self._random = random.Random(seed)
        self._producer_id = secrets.token_bytes(16)
        self._next_sequence = 1
        self._unanswered: deque[_Sent] = deque()

    async def run(self, stopping: asyncio.Event) -> None:
        """Publish until told to stop, and until everything is answered."""
        async with grpc.aio.insecure_channel(self._address, options=_OPTIONS) as channel:
            while self._unanswered or not stopping.is_set():
                try:
                    await self._connect(channel, stopping)
                except grpc.aio.AioRpcError as error:
                    if not _is_loss(error):
                        self._ledger.surprises.append(f"{self._lane}: {error.code()} {error}")
                    await asyncio.sleep(0.05)

    async def _connect(self, channel: grpc.aio.Channel, stopping: asyncio.Event) -> None:
        stub: Any = channel.stream_stream(
            rpc.PUBLISH_BATCHES.path,
            request_serializer=pb.PublishBatchesRequest.SerializeToString,
            response_deserializer=pb.PublishBatchesResponse.FromString,
        )
        call = stub(wait_for_ready=True)
        writing = asyncio.create_task(self._write(call, stopping))
        try:
            while (response := await call.read()) is not EOF:
                for result in response.results:
                    self._settle(result)
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            call.cancel()

    async def _write(self, call: Any, stopping: asyncio.Event) -> None:
        again = list(self._unanswered)
        first = again[0].sequence if again else self._next_sequence
        await call.write(
            pb.PublishBatchesRequest(
                open=pb.PublishOpen(producer_id=self._producer_id, first_sequence=first),
                sequence=first,
                batches=[sent.batch for sent in again],
            )
        )
        while not stopping.is_set():
            fresh = [self._make() for _ in range(self._random.randrange(1, 4))]
            self._unanswered.extend(fresh)
            await call.write(
                pb.PublishBatchesRequest(
                    sequence=fresh[0].sequence, batches=[sent.batch for sent in fresh]
                )
            )
            await asyncio.sleep(self._random.random() * 0.04)
            while len(self._unanswered) > 500:  # noqa: ASYNC110 - a crude brake is enough
                await asyncio.sleep(0.01)
        await call.done_writing()

    def _make(self) -> _Sent:
        subject = f"job.{self._random.choice('abc')}.batch"
        entries = [
            self._ledger.publication(self._lane, subject)
            for _ in range(self._random.choices((1, 2, 40, 400), (5, 5, 5, 1))[0])
        ]
        content = pb.BatchContent(payloads=[entry.key for entry in entries])
        batch = pb.Batch(
            subject=subject,
            head=pb.BatchHead(count=len(entries)).SerializeToString(),
            content=content.SerializeToString(),
        )
        sent = _Sent(self._next_sequence, batch, entries)
        self._next_sequence += 1
        return sent

    def _settle(self, result: pb.PublishResult) -> None:
        offset = result.base_offset
        for i in range(max(1, result.batches)):
            sent = self._unanswered.popleft()
            if sent.sequence != result.sequence + i:
                self._ledger.surprises.append(
                    f"{self._lane}: result {result.sequence} + {i} answers {sent.sequence}"
                )
            for entry in sent.entries:
                if result.HasField("refusal"):
                    entry.outcome, entry.error = Outcome.FAILED, result.refusal.message
                    continue
                entry.outcome, entry.offset = Outcome.OK, offset
                entry.duplicate = result.duplicate
                offset += 1


async def publish_v1(address: str, ledger: Ledger, lane: str, stopping: asyncio.Event) -> None:
    """PublishDurable streams of a few envelopes; a broken one leaves them unknown."""
    rng = random.Random(lane)
    async with grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
        stub: Any = channel.stream_unary(
            rpc.PUBLISH_DURABLE.path,
            request_serializer=pb.EventEnvelope.SerializeToString,
            response_deserializer=pb.PublishDurableAck.FromString,
        )
        while not stopping.is_set():
            entries = [ledger.publication(lane, "job.a.v1") for _ in range(rng.randrange(1, 10))]
            for entry in entries:
                entry.id = f"v1-{entry.key.decode()}"
            try:
                ack = await stub(_envelopes(entries), wait_for_ready=True)
            except grpc.aio.AioRpcError as error:
                if not _is_loss(error):
                    ledger.surprises.append(f"{lane}: {error.code()} {error.details()}")
                await asyncio.sleep(0.05)
                continue
            if not ack.accepted == ack.persisted == len(entries):
                ledger.surprises.append(f"{lane}: {len(entries)} sent, the ack says {ack}")
            for entry in entries:
                entry.outcome = Outcome.OK
            await asyncio.sleep(rng.random() * 0.05)


async def _envelopes(entries: list[Publication]) -> AsyncIterator[pb.EventEnvelope]:
    for entry in entries:
        yield pb.EventEnvelope(id=entry.id, subject=entry.subject.encode(), payload=entry.key)


async def work_v1(address: str, ledger: Ledger, consumer: str, pattern: str) -> None:
    """A SubscribeDurable member that acks what it gets. Cancel it to end it.

    Its acks are never confirmed; its attempts are recorded with offset -1, for v1 tells none.
    """
    async with grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
        stub: Any = channel.stream_stream(
            rpc.SUBSCRIBE_DURABLE.path,
            request_serializer=pb.DurableClientMessage.SerializeToString,
            response_deserializer=pb.DurableServerMessage.FromString,
        )
        while True:
            call = stub(wait_for_ready=True)
            subscribe = pb.DurableSubscribeRequest(
                subject=pattern.encode(), consumer_name=consumer, max_in_flight=50
            )
            try:
                await call.write(pb.DurableClientMessage(subscribe=subscribe))
                while (message := await call.read()) is not EOF:
                    first = message.WhichOneof("msg") == "envelope"
                    envelope = message.envelope if first else message.redelivery.envelope
                    attempt = 1 if first else message.redelivery.attempt
                    ledger.receipts.append(Receipt(consumer, -1, attempt, key_of(envelope.payload)))
                    ack = pb.Ack(message_id=envelope.id)
                    await call.write(pb.DurableClientMessage(ack=ack))
            except grpc.aio.AioRpcError as error:
                if not _is_loss(error):
                    ledger.surprises.append(f"{consumer}: {error.code()} {error.details()}")
                await asyncio.sleep(0.05)
            except asyncio.InvalidStateError:
                pass  # the write found the call done; the next one connects again
            finally:
                call.cancel()
