"""Publishers faster than the disk: they are slowed down, and nobody's memory grows.

What is on its way is bounded at each station: the queue of a publisher's client, the
batches in flight on its stream, the log's queue. Beyond that gRPC's flow control holds
the publisher back.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

import hermes
from hermes import rpc
from hermes.broker.v1 import broker_pb2 as pb
from hermes.client.core.outbox import QUEUE_BYTES_MAX
from hermes.client.core.publishing import IN_FLIGHT_BYTES_MAX
from hermes.limits import QUEUE_PUBLISH_BYTES_MAX, RING_BYTES_MAX
from tests.e2e.rpc_calls import Peer
from tests.support.faults.flooding import flood
from tests.support.faults.memory import MIB, peak_rss_bytes, rss_bytes
from tests.support.faults.server import ServerProcess

MESSAGE_BYTES = 1_000
# Beside what is queued and remembered: the transaction, the snapshot, what malloc keeps.
SERVER_REST_BYTES = 96 * MIB
SERVER_GROWTH_MAX = QUEUE_PUBLISH_BYTES_MAX + RING_BYTES_MAX + SERVER_REST_BYTES
# A frame that waits for its turn, parsed, and those that grpc has in its buffers.
SERVER_STREAM_BYTES = 12 * MIB
# A batch is there as payloads and, once in flight, as the bytes of its frame.
CLIENT_GROWTH_MAX = QUEUE_BYTES_MAX + 2 * IN_FLIGHT_BYTES_MAX + 24 * MIB


async def stored_counts(client: hermes.AsyncClient, publishers: int) -> list[int]:
    """Messages of each publisher; each must be there once and in order."""
    counts = [0] * publishers
    async with client.read("flood.>") as messages:
        async for batch in messages.batches():
            publisher = int(batch.subject.removeprefix("flood."))
            first = counts[publisher]
            counts[publisher] += len(batch)
            numbers = [int(payload.rstrip(b".")) for payload in batch.payloads]
            assert numbers == list(range(first, counts[publisher]))
    return counts


def slow_server(store: Path, bytes_per_second: int) -> ServerProcess:
    slow = {"SLOW_DISK_BYTES_PER_SECOND": str(bytes_per_second)}
    return ServerProcess(store, slow, module="tests.support.faults.slow_disk")


async def run(
    store: Path, publishers: int, amount: str, kind: str, *, bytes_per_second: int
) -> None:
    async with slow_server(store, bytes_per_second) as server:
        before = rss_bytes(server.pid)
        told = await flood(server.address, publishers, MESSAGE_BYTES, amount, kind)
        grown = peak_rss_bytes(server.pid) - before
        async with hermes.AsyncClient(server.address) as client:
            assert await stored_counts(client, publishers) == told.sent
        assert not server.complaints()
    shutil.rmtree(store)
    sent_bytes = sum(told.sent) * MESSAGE_BYTES
    sys.stdout.write(
        f"{kind}: {publishers} publishers sent {sent_bytes // MIB} MiB; the server grew by "
        f"{grown // MIB} MiB, the clients by {told.grown_bytes // MIB} MiB\n"
    )
    assert min(told.sent) > 0, "a publisher's turn never came"
    assert grown <= SERVER_GROWTH_MAX + publishers * SERVER_STREAM_BYTES
    assert told.grown_bytes <= publishers * CLIENT_GROWTH_MAX


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_publishers_faster_than_the_disk(tmp_path: Path, kind: str) -> None:
    await run(tmp_path / "store", 4, "1s", kind, bytes_per_second=24 * MIB)


@pytest.mark.torture
@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_many_publishers_against_a_slow_disk_for_long(tmp_path: Path, kind: str) -> None:
    await run(tmp_path / "store", 24, "60s", kind, bytes_per_second=8 * MIB)


@pytest.mark.torture
async def test_small_messages_against_a_slow_disk(tmp_path: Path) -> None:
    """Their objects are what takes memory: a queue that counted payloads alone let in
    half a million messages of 100 bytes, which took 800 MB."""
    count, publishers = 150_000, 3

    async def envelopes(publisher: int) -> AsyncIterator[pb.EventEnvelope]:
        for n in range(count):
            id = f"{publisher}-{n}"
            yield pb.EventEnvelope(id=id, subject=b"a", payload=b"." * 100)

    async with (
        slow_server(tmp_path / "store", 4 * MIB) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        before = rss_bytes(server.pid)
        peer = Peer(channel)
        calls = [peer.call(rpc.PUBLISH_DURABLE, envelopes(n)) for n in range(publishers)]
        acks = [await call for call in calls]
        grown = peak_rss_bytes(server.pid) - before
    assert [ack.persisted for ack in acks] == [count] * publishers
    sys.stdout.write(f"small messages: the server grew by {grown // MIB} MiB\n")
    assert grown <= SERVER_GROWTH_MAX
