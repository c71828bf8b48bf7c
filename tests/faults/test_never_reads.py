"""Clients that open a stream and never read it: the others go on, and memory is bounded.

Each kind is held up somewhere else: a durable member by its credit, a live subscription
by its buffer, which loses the oldest, a reading by the frame that nobody takes.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import pytest

import hermes
from hermes import rpc
from hermes.broker.v1 import broker_pb2 as pb
from hermes.limits import CREDIT_BYTES_DEFAULT, LIVE_BUFFER_BYTES_MAX
from tests.e2e.rpc_calls import Peer
from tests.support.faults.flooding import flood
from tests.support.faults.memory import MIB, peak_rss_bytes, reset_peak, rss_bytes
from tests.support.faults.server import ServerProcess

PUBLISHERS = 2
PATTERN = "flood.>"
# What each kind may hold for one client.
HELD_BYTES = {
    "consume": CREDIT_BYTES_DEFAULT,
    "durable v1": CREDIT_BYTES_DEFAULT,
    "subscribe": LIVE_BUFFER_BYTES_MAX,
    "subscribe v1": LIVE_BUFFER_BYTES_MAX,
    "read": 16 * MIB,
}
# By how much a server that has seen this load before may still grow.
REST_BYTES = 64 * MIB


async def open_and_never_read(peer: Peer, kind: str, name: str) -> Any:
    """The call, registered with the broker."""
    match kind:
        case "consume":
            call = peer.call(rpc.CONSUME)
            credit = pb.Credit(messages=1_000_000)
            opening = pb.ConsumeOpen(consumer=name, filters=[PATTERN], credit=credit)
            await call.write(pb.ConsumeRequest(open=opening))
        case "durable v1":
            call = peer.call(rpc.SUBSCRIBE_DURABLE)
            wanted = pb.DurableSubscribeRequest(
                subject=PATTERN.encode(), consumer_name=name, max_in_flight=1_000_000
            )
            await call.write(pb.DurableClientMessage(subscribe=wanted))
        case "subscribe":
            call = peer.call(rpc.SUBSCRIBE_BATCHES)
            subscription = pb.SubscriptionOpen(number=1, pattern=PATTERN)
            await call.write(pb.SubscribeBatchesRequest(open=[subscription]))
        case "subscribe v1":
            call = peer.call(rpc.SUBSCRIBE, pb.SubscribeRequest(subject=PATTERN.encode()))
        case _:
            call = peer.call(rpc.READ, pb.ReadRequest(filters=[PATTERN], follow=True))
    await asyncio.wait_for(call.initial_metadata(), 20)
    return call


async def publish_and_consume(address: str, message_bytes: int, messages: int) -> float:
    """How many seconds the others take, who publish and consume all of it."""

    async def consume() -> None:
        left = PUBLISHERS * messages
        async with (
            hermes.AsyncClient(address) as client,
            client.consume("healthy", PATTERN, max_in_flight=10_000) as received,
        ):
            async for batch in received.batches():
                batch.ack()
                left -= len(batch)
                if left <= 0:
                    break
            await received.flush()
        assert left == 0

    started = time.monotonic()
    consuming = asyncio.create_task(consume())
    await flood(address, PUBLISHERS, message_bytes, str(messages))
    await consuming
    return time.monotonic() - started


async def run(store: Path, kinds: dict[str, int], message_bytes: int, messages: int) -> None:
    """`kinds`: how many clients of each. Each publisher sends `messages`, twice."""
    async with (
        ServerProcess(store) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        alone = await publish_and_consume(server.address, message_bytes, messages)
        before = rss_bytes(server.pid)
        reset_peak(server.pid)
        peer = Peer(channel)
        calls = [
            await open_and_never_read(peer, kind, f"{kind} {n}")
            for kind, count in kinds.items()
            for n in range(count)
        ]
        beside = await publish_and_consume(server.address, message_bytes, messages)
        grown = peak_rss_bytes(server.pid) - before
        assert not any(call.done() for call in calls), "a stream was ended"
        for call in calls:
            call.cancel()
        assert not server.complaints()
    shutil.rmtree(store)
    sys.stdout.write(
        f"{kinds}: the server grew by {grown // MIB} MiB; the others took "
        f"{alone:.1f} s alone, {beside:.1f} s beside them\n"
    )
    assert grown <= REST_BYTES + sum(HELD_BYTES[kind] * n for kind, n in kinds.items())


async def test_one_of_each_kind_never_reads(tmp_path: Path) -> None:
    await run(tmp_path / "store", dict.fromkeys(HELD_BYTES, 1), 8_000, 12_500)


@pytest.mark.torture
@pytest.mark.parametrize("kind", HELD_BYTES)
@pytest.mark.parametrize("message_bytes", [100, 1_000, 100_000])
async def test_many_of_a_kind_never_read(tmp_path: Path, kind: str, message_bytes: int) -> None:
    """A thousand MiB pass by each of them."""
    messages = 500 * MIB // message_bytes
    await run(tmp_path / "store", {kind: 3}, message_bytes, messages)
