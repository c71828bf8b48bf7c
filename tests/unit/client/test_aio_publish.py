"""AsyncClient against a scripted broker: its life, and publishing."""

from __future__ import annotations

import asyncio

import pytest

from hermes.broker.v1 import broker_pb2 as pb
from hermes.client.aio import AsyncClient
from hermes.client.core import outbox
from hermes.client.core.outgoing import PublishAck
from hermes.errors import (
    ClosedError,
    ConnectionLostError,
    OperationTimeoutError,
    PreconditionError,
    UnavailableError,
)
from tests.unit.client.fake_broker import (
    FakeBroker,
    open_publisher,
    publish_opened,
    published,
)


async def test_no_broker_is_told_with_a_hint(unused_tcp_port: int) -> None:
    client = AsyncClient(f"127.0.0.1:{unused_tcp_port}", connect_timeout=0.2)
    with pytest.raises(ConnectionLostError, match="is `hermes serve` running at"):
        async with client:
            raise AssertionError("entered without a broker")


async def test_without_entering_the_first_use_connects_or_says_so(unused_tcp_port: int) -> None:
    aio_client = AsyncClient(f"127.0.0.1:{unused_tcp_port}", connect_timeout=0.2)
    with pytest.raises(ConnectionLostError, match="hermes serve"):
        await aio_client.publish("a", b"x")
    with pytest.raises(ConnectionLostError, match="hermes serve"):
        async with aio_client.subscribe("a"):
            raise AssertionError("entered without a broker")
    with pytest.raises(ConnectionLostError, match="hermes serve"):
        async with aio_client.read("a"):
            raise AssertionError("entered without a broker")
    await aio_client.aclose()


async def test_a_closed_client_says_so(aio_client: AsyncClient) -> None:
    await aio_client.aclose()
    await aio_client.aclose()
    with pytest.raises(ClosedError):
        await aio_client.publish("a", b"x")
    with pytest.raises(ClosedError):
        aio_client.subscribe("a")


async def test_a_client_belongs_to_one_event_loop(aio_client: AsyncClient) -> None:
    def elsewhere() -> None:
        asyncio.run(_publish(aio_client))

    with pytest.raises(PreconditionError, match="another event loop"):
        await asyncio.to_thread(elsewhere)


async def _publish(aio_client: AsyncClient) -> None:
    await aio_client.publish("a", b"x")


async def test_publishes_of_many_tasks_share_a_batch(
    broker: FakeBroker, aio_client: AsyncClient
) -> None:
    tasks = [asyncio.create_task(aio_client.publish("a", b"x")) for _ in range(50)]
    stream = await open_publisher(broker)
    request = await stream.receive()
    assert (request.sequence, len(request.batches)) == (1, 1)
    assert len(pb.BatchContent.FromString(request.batches[0].content).payloads) == 50
    await stream.send(published(1, 1, 100))
    acks = await asyncio.gather(*tasks)
    assert [ack.offset for ack in acks] == list(range(100, 150))
    assert stream.metadata["hermes-client-version"].startswith("python/")
    assert len(stream.metadata["hermes-client-id"]) == 32


async def test_a_durable_publish_is_sent_again_over_a_new_connection(
    broker: FakeBroker, aio_client: AsyncClient
) -> None:
    task = asyncio.create_task(aio_client.publish("a", b"x", id="1"))
    first = await open_publisher(broker)
    assert (await first.receive()).sequence == 1
    first.end(UnavailableError("restarting"))
    second = await open_publisher(broker)
    assert second.metadata["hermes-client-id"] == first.metadata["hermes-client-id"]
    assert (await second.receive()).sequence == 1
    await second.send(published(1, 1, 7))
    assert await task == PublishAck(7)


async def test_a_live_publish_in_flight_is_lost_with_the_connection(
    broker: FakeBroker, aio_client: AsyncClient
) -> None:
    task = asyncio.create_task(aio_client.publish("a", b"x", durable=False))
    stream = await open_publisher(broker)
    request = await stream.receive()
    assert request.live
    stream.end(UnavailableError("restarting"))
    with pytest.raises(ConnectionLostError):
        await task


async def test_durable_and_live_do_not_share_a_stream(
    broker: FakeBroker, aio_client: AsyncClient
) -> None:
    durable = asyncio.create_task(aio_client.publish("a", b"x"))
    stream = await broker.stream("PublishBatches")
    assert (await stream.receive()).open.producer_id
    live = asyncio.create_task(aio_client.publish("a", b"x", durable=False))
    other = await broker.stream("PublishBatches")
    assert not (await other.receive()).open.producer_id
    for task in (durable, live):
        task.cancel()


async def test_a_stream_refused_for_good_fails_the_publish_and_the_next_one_tries_anew(
    broker: FakeBroker, aio_client: AsyncClient
) -> None:
    task = asyncio.create_task(aio_client.publish("a", b"x"))
    stream = await broker.stream("PublishBatches")
    stream.end(PreconditionError("no store", hint="set HERMES_STORE_PATH"))
    with pytest.raises(PreconditionError, match="no store") as caught:
        await task
    assert caught.value.hint == "set HERMES_STORE_PATH"
    task = asyncio.create_task(aio_client.publish("a", b"x"))
    stream = await open_publisher(broker)
    await stream.receive()
    await stream.send(published(1, 1, 0))
    assert await task == PublishAck(0)


async def test_a_publish_may_have_a_timeout(broker: FakeBroker, aio_client: AsyncClient) -> None:
    with pytest.raises(OperationTimeoutError, match="same id"):
        await aio_client.publish("a", b"x", timeout=0.05)
    stream = await broker.stream("PublishBatches")
    assert (await stream.receive()).open.first_sequence == 1


async def test_a_cancelled_publish_leaves_the_others_in_order(
    broker: FakeBroker, aio_client: AsyncClient
) -> None:
    tasks = [asyncio.create_task(aio_client.publish("a", bytes([n]))) for n in range(3)]
    stream = await broker.stream("PublishBatches")
    await stream.receive()
    tasks[1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[1]
    await stream.send(publish_opened())
    request = await stream.receive()
    assert (request.sequence, len(request.batches)) == (1, 1)
    assert list(pb.BatchContent.FromString(request.batches[0].content).payloads) == [b"\0", b"\2"]
    await stream.send(published(1, 1, 0))
    assert (await tasks[0]).offset == 0
    assert (await tasks[2]).offset == 1


async def test_drain_moves_to_a_new_stream(broker: FakeBroker, aio_client: AsyncClient) -> None:
    task = asyncio.create_task(aio_client.publish("a", b"1"))
    stream = await open_publisher(broker)
    await stream.receive()
    await stream.send(pb.PublishBatchesResponse(drain=pb.Drain(reason="restart", grace_ms=1)))
    await stream.send(published(1, 1, 0))
    await task
    assert await stream.receive() is None  # half-closed
    stream.end()
    task = asyncio.create_task(aio_client.publish("a", b"2"))
    stream = await open_publisher(broker, first_sequence=2)
    assert (await stream.receive()).sequence == 2
    await stream.send(published(2, 1, 1))
    assert await task == PublishAck(1)


async def test_who_is_cancelled_waiting_for_room_passes_it_on(
    broker: FakeBroker, aio_client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "QUEUE_BYTES_MAX", 100)
    tasks = [asyncio.create_task(aio_client.publish("a", b"x" * 200)) for _ in range(6)]
    stream = await open_publisher(broker)
    answered = 0
    tasks[3].cancel()
    while answered < 5:
        request = await stream.receive()
        await stream.send(published(request.sequence, len(request.batches), answered))
        answered += len(request.batches)
    async with asyncio.timeout(5):
        done = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(one, PublishAck) for one in done) == 5
    assert isinstance(done[3], asyncio.CancelledError)
