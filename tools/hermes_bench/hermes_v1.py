"""Hermes by the v1 RPCs: one message per frame, acks by message id."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import grpc

from hermes import rpc
from hermes.broker.v1 import broker_pb2 as pb
from hermes.client.aio_stream import EOF
from hermes.client.options import CHANNEL_OPTIONS
from hermes.clock import SystemClock
from hermes_bench.hermes_raw import ALL, Call, open_stream
from hermes_bench.jobs import Job, Outcome
from hermes_bench.payloads import RING, check_order
from hermes_bench.port import BaseDriver

MAX_IN_FLIGHT: Final = 4_000

_CLOCK: Final = SystemClock()


class HermesV1(BaseDriver):
    """One channel to the broker."""

    def __init__(self) -> None:
        self._channel: grpc.aio.Channel | None = None
        self._call: Call = None

    async def open(self, job: Job) -> None:
        self._channel = grpc.aio.insecure_channel(job.address, options=CHANNEL_OPTIONS)
        await self._channel.channel_ready()
        if job.role == "consume":
            self._call = open_stream(self._channel, rpc.SUBSCRIBE_DURABLE)
            subscribe = pb.DurableSubscribeRequest(
                subject=ALL.encode(), consumer_name=job.consumer, max_in_flight=MAX_IN_FLIGHT
            )
            await self._call.write(pb.DurableClientMessage(subscribe=subscribe))
            await self._call.initial_metadata()
        else:
            method = rpc.PUBLISH_DURABLE
            factory: Any = self._channel.stream_unary(
                method.path,
                request_serializer=method.request_class.SerializeToString,
                response_deserializer=method.response_class.FromString,
            )
            self._call = factory()

    async def publish_all(self, job: Job, payloads: list[bytes], outcome: Outcome) -> None:
        outcome.started_ns = _CLOCK.monotonic_ns()
        for number in range(job.messages):
            envelope = pb.EventEnvelope(
                id=f"m{number}", subject=b"bench.a", payload=payloads[number % RING]
            )
            await self._call.write(envelope)
        await self._call.done_writing()
        ack = await self._call
        outcome.ended_ns = _CLOCK.monotonic_ns()
        outcome.messages = ack.persisted

    async def consume_all(self, job: Job, outcome: Outcome) -> None:
        ids: asyncio.Queue[str | None] = asyncio.Queue()

        async def ack() -> None:
            while (name := await ids.get()) is not None:
                await self._call.write(pb.DurableClientMessage(ack=pb.Ack(message_id=name)))

        acking = asyncio.create_task(ack())
        for number in range(job.messages):
            answer = await self._call.read()
            if answer is EOF:
                raise ConnectionError("the broker ended the stream")
            envelope = answer.envelope
            check_order(envelope.payload, number)
            outcome.bytes += len(envelope.payload)
            ids.put_nowait(envelope.id)
        ids.put_nowait(None)
        await acking
        # There is no confirmation in v1; the broker ends the stream after the last ack.
        await self._call.done_writing()
        while await self._call.read() is not EOF:
            pass
        outcome.ended_ns = _CLOCK.monotonic_ns()
        outcome.messages = job.messages

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close(None)
