"""Idle company: members of a thousand consumers, and ten thousand live subscriptions.

Nothing that is published matches any of them; what is measured is what their mere
presence costs.
"""

from __future__ import annotations

import asyncio
from typing import Final

import grpc

from hermes import rpc
from hermes.broker.v1 import broker_pb2 as pb
from hermes.client.aio_stream import EOF
from hermes.client.options import CHANNEL_OPTIONS
from hermes_bench.hermes_live import Subscriber
from hermes_bench.hermes_raw import Call, open_stream
from hermes_bench.jobs import Job
from hermes_bench.port import BaseDriver

CONSUMERS: Final = 1_000
SUBSCRIPTIONS: Final = 10_000
# Streams share connections, as they do in a client.
CONNECTIONS: Final = 10


class HermesIdle(BaseDriver):
    """Opens everything in `open` and keeps it until it is closed."""

    def __init__(self) -> None:
        self._channels: list[grpc.aio.Channel] = []
        self._members: list[Call] = []
        self._subscribers: list[Subscriber] = []

    async def open(self, job: Job) -> None:
        for place in range(CONNECTIONS):
            channel = grpc.aio.insecure_channel(job.address, options=CHANNEL_OPTIONS)
            self._channels.append(channel)
            first = place * CONSUMERS // CONNECTIONS
            await asyncio.gather(
                *(
                    self._join(channel, number)
                    for number in range(first, first + CONSUMERS // CONNECTIONS)
                )
            )
            patterns = [
                f"idle.{place}.{number}.*" for number in range(SUBSCRIPTIONS // CONNECTIONS)
            ]
            subscriber = Subscriber(job.address, patterns)
            await subscriber.open()
            self._subscribers.append(subscriber)

    async def _join(self, channel: grpc.aio.Channel, number: int) -> None:
        call = open_stream(channel, rpc.CONSUME)
        opening = pb.ConsumeOpen(consumer=f"idle-{number}", filters=[f"idle.{number}.>"])
        await call.write(pb.ConsumeRequest(open=opening))
        if await call.read() is EOF:
            raise ConnectionError(f"no member for idle-{number}")
        self._members.append(call)

    async def close(self) -> None:
        for subscriber in self._subscribers:
            await subscriber.close()
        for channel in self._channels:
            await channel.close(None)
