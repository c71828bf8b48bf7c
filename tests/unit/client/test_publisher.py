"""Publishers of both clients against a scripted broker."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import pytest

from hermes.broker.v1 import broker_pb2 as pb
from hermes.client.aio import AsyncClient
from hermes.client.core import outbox
from hermes.client.core.outgoing import MERGED_MESSAGES_MAX, PublishAck
from hermes.client.sync import Client
from hermes.errors import (
    ClosedError,
    InvalidArgumentError,
    OperationTimeoutError,
    PreconditionError,
    PublishError,
    UnavailableError,
)
from tests.unit.client.fake_broker import FakeBroker, FakeStream, open_publisher

T = TypeVar("T")


@pytest.fixture
async def sync_client(broker: FakeBroker) -> AsyncIterator[Client]:
    client = Client(broker.address, connect_timeout=5, close_timeout=0.2)
    yield client
    await asyncio.to_thread(client.close)


def messages(request: pb.PublishBatchesRequest) -> int:
    return sum(pb.BatchHead.FromString(batch.head).count for batch in request.batches)


async def answer(stream: FakeStream, total: int, *, first_offset: int = 0) -> list[int]:
    """Acknowledge frames until so many messages came; the batches' sizes."""
    offset, sizes = first_offset, list[int]()
    while offset < first_offset + total:
        request = await stream.receive()
        sizes += [pb.BatchHead.FromString(batch.head).count for batch in request.batches]
        count = messages(request)
        result = pb.PublishResult(
            sequence=request.sequence,
            batches=len(request.batches),
            count=count,
            base_offset=offset,
        )
        await stream.send(pb.PublishBatchesResponse(results=[result]))
        offset += count
    return sizes


async def refuse(stream: FakeStream, request: pb.PublishBatchesRequest, *bad: int) -> None:
    """Answer batch by batch: those at `bad` are refused."""
    results = []
    for index in range(len(request.batches)):
        result = pb.PublishResult(sequence=request.sequence + index, batches=1)
        if index in bad:
            result.refusal.code, result.refusal.message = "INVALID_ARGUMENT", f"bad {index}"
        else:
            result.count, result.base_offset = 1, index
        results.append(result)
    await stream.send(pb.PublishBatchesResponse(results=results))


async def test_what_is_sent_leaves_in_batches_and_each_has_its_ack(
    broker: FakeBroker, aio_client: AsyncClient
) -> None:
    count = 2 * MERGED_MESSAGES_MAX + 10
    async with aio_client.publisher() as publisher:
        opening = asyncio.create_task(open_publisher(broker))
        receipts = [await publisher.send("a", b"%d" % n) for n in range(count)]
        stream = await opening
        assert not receipts[0].done
        answering = asyncio.create_task(answer(stream, count))
        acks = [await receipt for receipt in receipts]
        sizes = await answering
    assert [ack.offset for ack in acks] == list(range(count))
    assert max(sizes) == MERGED_MESSAGES_MAX
    assert len(sizes) < 10
    assert receipts[0].done


async def test_the_short_way_and_the_long_way_keep_order(
    broker: FakeBroker, aio_client: AsyncClient
) -> None:
    publisher = aio_client.publisher()
    warm = await publisher.send("a", b"0")
    stream = await open_publisher(broker)
    await answer(stream, 1)
    assert await warm == PublishAck(0)
    await publisher.send("a", b"1")  # now connected
    await publisher.send("a", b"2")
    await publisher.send("a", "3", headers={"k": "v"})
    await publisher.send("a", b"4")
    await publisher.send("a", b"5", id="five")
    await publisher.send("b", b"6")
    await publisher.send("a", b"7")
    request = await stream.receive()
    found = [
        (batch.subject, list(pb.BatchContent.FromString(batch.content).payloads))
        for batch in request.batches
    ]
    assert found == [("a", [b"1", b"2", b"3", b"4", b"5"]), ("b", [b"6"]), ("a", [b"7"])]
    assert list(pb.BatchHead.FromString(request.batches[0].head).ids) == ["", "", "", "", "five"]


async def test_flush_waits_for_everything_and_may_have_a_timeout(
    broker: FakeBroker, aio_client: AsyncClient
) -> None:
    publisher = aio_client.publisher()
    await publisher.flush()  # nothing to wait for
    await publisher.send("a", b"x")
    await publisher.send("b", b"y")
    with pytest.raises(OperationTimeoutError):
        await publisher.flush(timeout=0.05)
    stream = await open_publisher(broker)
    flushing = asyncio.create_task(publisher.flush())
    await answer(stream, 2)
    await asyncio.wait_for(flushing, 5)


async def test_a_full_queue_makes_send_wait(
    broker: FakeBroker, aio_client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "QUEUE_BYTES_MAX", 50_000)
    publisher = aio_client.publisher()
    sent = 0

    async def send_all() -> None:
        nonlocal sent
        for n in range(40):
            await publisher.send(f"a.{n}", b"x" * 10_000)
            sent += 1

    sending = asyncio.create_task(send_all())
    stream = await broker.stream("PublishBatches")
    await stream.receive()
    await asyncio.sleep(0.05)
    assert 5 <= sent < 10  # nobody took anything yet
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    await aio_client.aclose()
    with pytest.raises(ClosedError):
        await publisher.send("a", b"x")


async def test_what_was_not_acknowledged_is_told_once(
    broker: FakeBroker, aio_client: AsyncClient
) -> None:
    publisher = aio_client.publisher()
    receipts = [await publisher.send(f"a.{n}", b"x") for n in range(4)]
    stream = await open_publisher(broker)
    await refuse(stream, await stream.receive(), 1, 3)
    with pytest.raises(PublishError, match=r"2 messages were not acknowledged.*bad 1") as caught:
        await publisher.flush()
    assert caught.value.count == 2
    assert isinstance(caught.value.first_error, InvalidArgumentError)
    assert caught.value.__cause__ is caught.value.first_error
    assert (await receipts[2]).offset == 2
    with pytest.raises(InvalidArgumentError, match="bad 3"):
        await receipts[3]
    await publisher.aclose()
    with pytest.raises(ClosedError):
        await publisher.send("a", b"x")


async def test_leaving_raises_for_what_failed_but_hides_no_error(
    broker: FakeBroker, aio_client: AsyncClient
) -> None:
    async def fail_two(*, with_own: bool) -> None:
        async with aio_client.publisher() as publisher:
            await publisher.send("a", b"x")
            if with_own:
                raise ZeroDivisionError

    for with_own, kind in ((False, PublishError), (True, ZeroDivisionError)):
        leaving = asyncio.create_task(fail_two(with_own=with_own))
        stream = await broker.stream("PublishBatches")
        stream.end(PreconditionError("no store"))
        with pytest.raises(kind):
            await asyncio.wait_for(leaving, 5)


async def test_after_a_fatal_error_sending_goes_on_over_a_new_stream(
    broker: FakeBroker, aio_client: AsyncClient
) -> None:
    publisher = aio_client.publisher()
    lost = await publisher.send("a", b"x")
    (await broker.stream("PublishBatches")).end(PreconditionError("no store"))
    with pytest.raises(PreconditionError):
        await lost
    receipt = await publisher.send("a", b"y")
    await answer(await open_publisher(broker), 1)
    assert await receipt == PublishAck(0)
    with pytest.raises(PublishError, match="1 message was not"):
        await publisher.aclose()


async def test_a_lost_connection_is_nothing_a_caller_sees(
    broker: FakeBroker, aio_client: AsyncClient
) -> None:
    async with aio_client.publisher() as publisher:
        receipts = [await publisher.send("a", b"%d" % n) for n in range(10)]
        first = await open_publisher(broker)
        was = (await first.receive()).batches
        first.end(UnavailableError("restarting"))
        second = await open_publisher(broker)
        request = await second.receive()
        assert (request.sequence, list(request.batches)) == (1, list(was))
        result = pb.PublishResult(sequence=1, batches=1, count=10, base_offset=0, duplicate=True)
        await second.send(pb.PublishBatchesResponse(results=[result]))
        assert [(await receipt).offset for receipt in receipts] == list(range(10))


async def test_cancelling_one_who_waits_disturbs_nobody(
    broker: FakeBroker, aio_client: AsyncClient
) -> None:
    publisher = aio_client.publisher()
    receipt = await publisher.send("a", b"x")

    async def wait() -> PublishAck:
        return await receipt

    waiting = [asyncio.create_task(wait()) for _ in range(2)]
    stream = await open_publisher(broker)
    waiting[0].cancel()
    await answer(stream, 1)
    assert await waiting[1] == PublishAck(0)
    assert await receipt == PublishAck(0)


async def test_live_messages_go_on_their_own_stream(
    broker: FakeBroker, aio_client: AsyncClient
) -> None:
    publisher = aio_client.publisher()
    receipt = await publisher.send("a", b"x", durable=False)
    stream = await open_publisher(broker)
    request = await stream.receive()
    assert request.live
    result = pb.PublishResult(sequence=1, batches=1, count=1)
    await stream.send(pb.PublishBatchesResponse(results=[result]))
    assert await receipt == PublishAck(None)
    await publisher.aclose()


# ------------------------------------------------------------------------- sync


def on_thread(call: Callable[[], T]) -> asyncio.Task[T]:
    return asyncio.create_task(asyncio.to_thread(call))


async def test_sync_pipelines_do_the_same(broker: FakeBroker, sync_client: Client) -> None:
    count = MERGED_MESSAGES_MAX + 10

    def send_all() -> list[PublishAck]:
        with sync_client.publisher() as publisher:
            receipts = [publisher.send("a", b"%d" % n) for n in range(count)]
            first = receipts[0].result(timeout=10)
            return [first, *(receipt.result() for receipt in receipts[1:])]

    sending = on_thread(send_all)
    await answer(await open_publisher(broker), count)
    assert [ack.offset for ack in await sending] == list(range(count))


async def test_sync_failures_are_told(broker: FakeBroker, sync_client: Client) -> None:
    patient = threading.Event()

    def send_all() -> Any:
        publisher = sync_client.publisher()
        receipts = [publisher.send(f"a.{n}", b"x") for n in range(3)]
        with pytest.raises(OperationTimeoutError):
            receipts[0].result(timeout=0.01)
        with pytest.raises(OperationTimeoutError):
            publisher.flush(timeout=0.01)
        patient.set()
        with pytest.raises(PublishError, match="1 message was") as caught:
            publisher.close()
        with pytest.raises(ClosedError):
            publisher.send("a", b"x")
        return caught.value.count, receipts[2].result()

    sending = on_thread(send_all)
    stream = await open_publisher(broker)
    requests = [await stream.receive()]
    while sum(len(request.batches) for request in requests) < 3:
        requests.append(await stream.receive())
    await asyncio.to_thread(patient.wait, 10)
    for request in requests:
        last = request.sequence + len(request.batches) - 1
        bad = [index for index in range(len(request.batches)) if request.sequence + index == 2]
        assert last <= 3
        await refuse(stream, request, *bad)
    assert (await sending)[0] == 1


async def test_sync_threads_share_a_publisher(broker: FakeBroker, sync_client: Client) -> None:
    publisher = sync_client.publisher()

    def send_some(lane: int) -> list[PublishAck]:
        receipts = [publisher.send("a", b"%d" % lane) for _ in range(200)]
        return [receipt.result() for receipt in receipts]

    sending = [on_thread(lambda lane=lane: send_some(lane)) for lane in range(4)]  # type: ignore[misc]
    await answer(await open_publisher(broker), 800)
    lanes = await asyncio.gather(*sending)
    offsets = [[ack.offset for ack in acks] for acks in lanes]
    assert sorted(offset for lane in offsets for offset in lane) == list(range(800))  # type: ignore[type-var]
    assert all(lane == sorted(lane) for lane in offsets)  # type: ignore[type-var]
