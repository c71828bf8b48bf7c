"""AsyncClient against a scripted broker: promises a real one cannot be made to test."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from hermes.broker.v1 import broker_pb2 as pb
from hermes.client.aio import AsyncClient
from hermes.client.core.publishing import PublishAck
from hermes.client.message import Message
from hermes.client.typed import event
from hermes.errors import (
    ClosedError,
    ConnectionLostError,
    DecodeError,
    InvalidArgumentError,
    NotFoundError,
    OperationTimeoutError,
    PreconditionError,
    StaleError,
    UnavailableError,
)
from tests.unit.client.fake_broker import (
    FakeBroker,
    FakeStream,
    batch_delivery,
    consume_opened,
    delivery,
    fake_broker,
    publish_opened,
)


@event("orders.created")
@dataclass
class Created:
    amount: int


@pytest.fixture
async def broker() -> AsyncIterator[FakeBroker]:
    async with fake_broker() as broker:
        yield broker


@pytest.fixture
async def client(broker: FakeBroker) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(broker.address, connect_timeout=5, close_timeout=0.2) as client:
        yield client


async def open_publisher(broker: FakeBroker, first_sequence: int = 1) -> FakeStream:
    stream = await broker.stream("PublishBatches")
    request = await stream.receive()
    assert request.open.first_sequence == first_sequence
    await stream.send(publish_opened())
    return stream


async def open_member(broker: FakeBroker) -> FakeStream:
    stream = await broker.stream("Consume")
    assert (await stream.receive()).open.consumer == "c"
    await stream.send(consume_opened())
    return stream


async def deliver(stream: FakeStream, *deliveries: pb.Delivery) -> None:
    await stream.send(pb.ConsumeResponse(deliveries=deliveries))


def published(sequence: int, batches: int, base_offset: int) -> pb.PublishBatchesResponse:
    result = pb.PublishResult(
        sequence=sequence, batches=batches, count=batches, base_offset=base_offset
    )
    return pb.PublishBatchesResponse(results=[result])


# ------------------------------------------------------------------- lifetime


async def test_no_broker_is_told_with_a_hint(unused_tcp_port: int) -> None:
    client = AsyncClient(f"127.0.0.1:{unused_tcp_port}", connect_timeout=0.2)
    with pytest.raises(ConnectionLostError, match="is `hermes serve` running at"):
        async with client:
            raise AssertionError("entered without a broker")


async def test_without_entering_the_first_use_connects_or_says_so(unused_tcp_port: int) -> None:
    client = AsyncClient(f"127.0.0.1:{unused_tcp_port}", connect_timeout=0.2)
    with pytest.raises(ConnectionLostError, match="hermes serve"):
        await client.publish("a", b"x")
    with pytest.raises(ConnectionLostError, match="hermes serve"):
        async with client.subscribe("a"):
            raise AssertionError("entered without a broker")
    with pytest.raises(ConnectionLostError, match="hermes serve"):
        async with client.read("a"):
            raise AssertionError("entered without a broker")
    await client.aclose()


async def test_a_closed_client_says_so(client: AsyncClient) -> None:
    await client.aclose()
    await client.aclose()
    with pytest.raises(ClosedError):
        await client.publish("a", b"x")
    with pytest.raises(ClosedError):
        client.subscribe("a")


async def test_a_client_belongs_to_one_event_loop(client: AsyncClient) -> None:
    def elsewhere() -> None:
        asyncio.run(_publish(client))

    with pytest.raises(PreconditionError, match="another event loop"):
        await asyncio.to_thread(elsewhere)


async def _publish(client: AsyncClient) -> None:
    await client.publish("a", b"x")


# ----------------------------------------------------------------- publishing


async def test_publishes_of_many_tasks_share_a_frame(
    broker: FakeBroker, client: AsyncClient
) -> None:
    tasks = [asyncio.create_task(client.publish("a", b"x")) for _ in range(50)]
    stream = await open_publisher(broker)
    request = await stream.receive()
    assert (request.sequence, len(request.batches)) == (1, 50)
    await stream.send(published(1, 50, 100))
    acks = await asyncio.gather(*tasks)
    assert [ack.offset for ack in acks] == list(range(100, 150))
    assert stream.metadata["hermes-client-version"].startswith("python/")
    assert len(stream.metadata["hermes-client-id"]) == 32


async def test_a_durable_publish_is_sent_again_over_a_new_connection(
    broker: FakeBroker, client: AsyncClient
) -> None:
    task = asyncio.create_task(client.publish("a", b"x", id="1"))
    first = await open_publisher(broker)
    assert (await first.receive()).sequence == 1
    first.end(UnavailableError("restarting"))
    second = await open_publisher(broker)
    assert second.metadata["hermes-client-id"] == first.metadata["hermes-client-id"]
    assert (await second.receive()).sequence == 1
    await second.send(published(1, 1, 7))
    assert await task == PublishAck(7)


async def test_a_live_publish_in_flight_is_lost_with_the_connection(
    broker: FakeBroker, client: AsyncClient
) -> None:
    task = asyncio.create_task(client.publish("a", b"x", durable=False))
    stream = await open_publisher(broker)
    request = await stream.receive()
    assert request.live
    stream.end(UnavailableError("restarting"))
    with pytest.raises(ConnectionLostError):
        await task


async def test_durable_and_live_do_not_share_a_stream(
    broker: FakeBroker, client: AsyncClient
) -> None:
    durable = asyncio.create_task(client.publish("a", b"x"))
    stream = await broker.stream("PublishBatches")
    assert (await stream.receive()).open.producer_id
    live = asyncio.create_task(client.publish("a", b"x", durable=False))
    other = await broker.stream("PublishBatches")
    assert not (await other.receive()).open.producer_id
    for task in (durable, live):
        task.cancel()


async def test_a_stream_refused_for_good_fails_the_publish_and_the_next_one_tries_anew(
    broker: FakeBroker, client: AsyncClient
) -> None:
    task = asyncio.create_task(client.publish("a", b"x"))
    stream = await broker.stream("PublishBatches")
    stream.end(PreconditionError("no store", hint="set HERMES_STORE_PATH"))
    with pytest.raises(PreconditionError, match="no store") as caught:
        await task
    assert caught.value.hint == "set HERMES_STORE_PATH"
    task = asyncio.create_task(client.publish("a", b"x"))
    stream = await open_publisher(broker)
    await stream.receive()
    await stream.send(published(1, 1, 0))
    assert await task == PublishAck(0)


async def test_a_publish_may_have_a_timeout(broker: FakeBroker, client: AsyncClient) -> None:
    with pytest.raises(OperationTimeoutError, match="same id"):
        await client.publish("a", b"x", timeout=0.05)
    stream = await broker.stream("PublishBatches")
    assert (await stream.receive()).open.first_sequence == 1


async def test_a_cancelled_publish_leaves_the_others_in_order(
    broker: FakeBroker, client: AsyncClient
) -> None:
    tasks = [asyncio.create_task(client.publish("a", bytes([n]))) for n in range(3)]
    stream = await broker.stream("PublishBatches")
    await stream.receive()
    tasks[1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[1]
    await stream.send(publish_opened())
    request = await stream.receive()
    assert (request.sequence, len(request.batches)) == (1, 2)
    await stream.send(published(1, 2, 0))
    assert (await tasks[0]).offset == 0
    assert (await tasks[2]).offset == 1


async def test_drain_moves_to_a_new_stream(broker: FakeBroker, client: AsyncClient) -> None:
    task = asyncio.create_task(client.publish("a", b"1"))
    stream = await open_publisher(broker)
    await stream.receive()
    await stream.send(pb.PublishBatchesResponse(drain=pb.Drain(reason="restart", grace_ms=1)))
    await stream.send(published(1, 1, 0))
    await task
    assert await stream.receive() is None  # half-closed
    stream.end()
    task = asyncio.create_task(client.publish("a", b"2"))
    stream = await open_publisher(broker, first_sequence=2)
    assert (await stream.receive()).sequence == 2
    await stream.send(published(2, 1, 1))
    assert await task == PublishAck(1)


# ------------------------------------------------------------------ consuming


async def test_entering_waits_for_registration_and_raises_a_refusal(
    broker: FakeBroker, client: AsyncClient
) -> None:
    async def enter() -> None:
        async with client.consume("c", "a..b"):
            raise AssertionError("entered a refused consumer")

    task = asyncio.create_task(enter())
    stream = await broker.stream("Consume")
    stream.end(InvalidArgumentError("empty token"))
    with pytest.raises(InvalidArgumentError, match="empty token"):
        await task


async def test_iterating_unentered_raises(client: AsyncClient) -> None:
    consumer = client.consume("c", ">")
    with pytest.raises(PreconditionError, match="not entered"):
        async for _ in consumer:
            pass
    with pytest.raises(PreconditionError, match="not entered"):
        await consumer.fetch()


async def test_acks_take_effect_when_called_and_need_no_await(
    broker: FakeBroker, client: AsyncClient
) -> None:
    consumer = client.consume("c", ">")
    entering = asyncio.create_task(consumer.__aenter__())
    stream = await open_member(broker)
    await entering
    await deliver(stream, batch_delivery(0, [b"0", b"1", b"2"]))
    for message in await consumer.fetch(3):
        message.ack()
    request = await stream.receive()
    assert [list(s.ranges) for s in request.settlements] == [[0, 2]]
    await stream.send(pb.ConsumeResponse(confirmed=[request.settlements[0].token]))
    await consumer.flush()
    await consumer.aclose()


async def test_waiting_for_an_ack_tells_of_commit_and_stale(
    broker: FakeBroker, client: AsyncClient
) -> None:
    consumer = client.consume("c", ">")
    entering = asyncio.create_task(consumer.__aenter__())
    stream = await open_member(broker)
    await entering
    await deliver(stream, delivery(0, b""), delivery(1, b""))
    first, second = await consumer.fetch(2)
    acked, nacked = first.ack(wait=True), second.nack(reason="no", delay=1, wait=True)
    request = await stream.receive()
    ack, nack = request.settlements
    assert (nack.delay_ns, nack.reason, nack.attempt) == (1_000_000_000, "no", 1)
    stale = pb.Stale(verdict=pb.VERDICT_NACK, ranges=[1, 1], token=nack.token)
    await stream.send(pb.ConsumeResponse(stale=[stale], confirmed=[ack.token, nack.token]))
    await acked
    with pytest.raises(StaleError):
        await nacked
    await consumer.aclose()


async def test_verdicts_from_worker_threads(broker: FakeBroker, client: AsyncClient) -> None:
    consumer = client.consume("c", ">")
    entering = asyncio.create_task(consumer.__aenter__())
    stream = await open_member(broker)
    await entering
    await deliver(stream, delivery(0, b""))
    (message,) = await consumer.fetch(1)

    def work() -> str:
        message.ack(wait=True).result(10)
        return threading.current_thread().name

    worker = asyncio.create_task(asyncio.to_thread(work))
    request = await stream.receive()
    await stream.send(pb.ConsumeResponse(confirmed=[request.settlements[0].token]))
    assert await worker != threading.current_thread().name
    await consumer.aclose()


async def test_a_message_as_context_manager(broker: FakeBroker, client: AsyncClient) -> None:
    consumer = client.consume("c", ">")
    entering = asyncio.create_task(consumer.__aenter__())
    stream = await open_member(broker)
    await entering
    await deliver(stream, *(delivery(offset, b"") for offset in range(4)))
    done, failed, rejected, cancelled = await consumer.fetch(4)
    async with done:
        pass
    with pytest.raises(ValueError, match="broken"):
        async with failed:
            raise ValueError("broken")
    async with rejected:
        rejected.reject("never")
    with pytest.raises(asyncio.CancelledError):
        async with cancelled:
            raise asyncio.CancelledError
    request = await stream.receive()
    assert [(s.verdict, list(s.ranges), s.reason) for s in request.settlements] == [
        (pb.VERDICT_ACK, [0, 0], ""),
        (pb.VERDICT_NACK, [1, 1], "ValueError: broken"),
        (pb.VERDICT_REJECT, [2, 2], "never"),
        (pb.VERDICT_RELEASE, [3, 3], ""),
    ]
    await consumer.aclose()


async def test_cancelling_a_waiting_task_costs_no_message(
    broker: FakeBroker, client: AsyncClient
) -> None:
    consumer = client.consume("c", ">")
    entering = asyncio.create_task(consumer.__aenter__())
    stream = await open_member(broker)
    await entering
    for offset in range(30):
        waiting: asyncio.Task[object]
        if offset % 2:
            waiting = asyncio.create_task(consumer.__anext__())
        else:
            waiting = asyncio.create_task(consumer.fetch(1, timeout=5))
        await asyncio.sleep(0)
        await deliver(stream, delivery(offset, b""))
        # Cancel at different moments of the message's arrival.
        for _ in range(offset % 5):
            await asyncio.sleep(0)
        if waiting.done():
            got = waiting.result()
            message = got[0] if isinstance(got, list) else got
        else:
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            message = await anext(consumer)
        assert isinstance(message, Message)
        assert message.offset == offset
    await consumer.aclose()


async def test_run_acks_nacks_and_releases_on_cancel(
    broker: FakeBroker, client: AsyncClient
) -> None:
    consumer = client.consume("c", ">")
    entering = asyncio.create_task(consumer.__aenter__())
    stream = await open_member(broker)
    await entering
    started = asyncio.Event()

    async def handle(message: Message[None]) -> None:
        if message.payload == b"bad":
            raise ValueError("bad payload")
        if message.payload == b"slow":
            started.set()
            await asyncio.Event().wait()

    running = asyncio.create_task(consumer.run(handle, concurrency=2))
    await deliver(stream, delivery(0, b"good"), delivery(1, b"bad"), delivery(2, b"slow"))
    await started.wait()
    verdicts: dict[int, tuple[int, str]] = {}
    while len(verdicts) < 2:
        for s in (await stream.receive()).settlements:
            verdicts[s.ranges[0]] = (s.verdict, s.reason)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    request = await stream.receive()
    verdicts[request.settlements[0].ranges[0]] = (request.settlements[0].verdict, "")
    assert verdicts == {
        0: (pb.VERDICT_ACK, ""),
        1: (pb.VERDICT_NACK, "ValueError: bad payload"),
        2: (pb.VERDICT_RELEASE, ""),
    }
    await consumer.aclose()


async def test_the_end_of_the_consumer_ends_iteration_with_its_error(
    broker: FakeBroker, client: AsyncClient
) -> None:
    consumer = client.consume("c", ">")
    entering = asyncio.create_task(consumer.__aenter__())
    stream = await open_member(broker)
    await entering
    stream.end(NotFoundError("consumer 'c' was deleted"))
    with pytest.raises(NotFoundError, match="deleted"):
        await anext(consumer)
    with pytest.raises(NotFoundError, match="deleted"):
        await consumer.fetch(1)
    with pytest.raises(NotFoundError, match="deleted"):
        await consumer.run(lambda _message: None)


async def test_after_a_lost_connection_acks_go_over_the_next_one(
    broker: FakeBroker, client: AsyncClient
) -> None:
    lost: list[int | None] = []
    reported = asyncio.Event()

    def on_lost(message: Message[None]) -> None:
        lost.append(message.offset)
        reported.set()

    consumer = client.consume("c", ">", on_lease_lost=on_lost)
    entering = asyncio.create_task(consumer.__aenter__())
    stream = await open_member(broker)
    await entering
    await deliver(stream, delivery(0, b""), delivery(1, b""))
    in_hand = await anext(consumer)
    stream.end(UnavailableError("restarting"))
    again = await open_member(broker)
    await deliver(again, delivery(1, b"", attempt=2))
    await reported.wait()
    assert lost == [0]
    in_hand.ack()
    assert [list(s.ranges) for s in (await again.receive()).settlements] == [[0, 0]]
    message = await anext(consumer)
    assert (message.offset, message.attempt) == (1, 2)
    await consumer.aclose()


async def test_leaving_flushes_and_half_closes(broker: FakeBroker, client: AsyncClient) -> None:
    consumer = client.consume("c", ">")
    entering = asyncio.create_task(consumer.__aenter__())
    stream = await open_member(broker)
    await entering
    await deliver(stream, delivery(0, b""), delivery(1, b""), delivery(2, b""))
    taken = await consumer.fetch(2, timeout=1)
    taken[0].ack()
    leaving = asyncio.create_task(consumer.aclose())
    verdicts: list[tuple[int, list[int]]] = []
    while (request := await stream.receive()) is not None:  # None: half-closed
        verdicts += [(s.verdict, list(s.ranges)) for s in request.settlements]
    assert verdicts == [(pb.VERDICT_ACK, [0, 0])]
    stream.end()
    await leaving
    with pytest.raises(ClosedError):
        taken[1].ack()
    with pytest.raises(PreconditionError, match="entered before"):
        await consumer.__aenter__()


async def test_leases_are_kept_alive_while_a_message_waits(
    broker: FakeBroker, client: AsyncClient
) -> None:
    consumer = client.consume("c", ">", ack_timeout=0.3)
    entering = asyncio.create_task(consumer.__aenter__())
    stream = await broker.stream("Consume")
    await stream.receive()
    await stream.send(consume_opened(ack_timeout_ns=300_000_000))
    await entering
    await deliver(stream, delivery(0, b""), delivery(1, b""))
    await anext(consumer)
    for _ in range(3):
        (settlement,) = (await stream.receive()).settlements
        assert settlement.verdict == pb.VERDICT_EXTEND
        assert list(settlement.ranges) == [0, 1]
    await consumer.aclose()


async def test_what_cannot_be_decoded_is_rejected_with_the_reason(
    broker: FakeBroker, client: AsyncClient
) -> None:
    consumer = client.consume("c", Created)
    entering = asyncio.create_task(consumer.__aenter__())
    stream = await open_member(broker)
    await entering
    await deliver(
        stream,
        delivery(0, b"not json", subject="orders.created"),
        delivery(1, b'{"amount": 5}', subject="orders.created"),
    )
    message = await anext(consumer)
    assert (message.offset, message.event) == (1, Created(5))
    (settlement,) = (await stream.receive()).settlements
    assert (settlement.verdict, list(settlement.ranges)) == (pb.VERDICT_REJECT, [0, 0])
    assert "Created" in settlement.reason
    await consumer.aclose()


async def test_or_it_raises_when_asked_to(broker: FakeBroker, client: AsyncClient) -> None:
    consumer = client.consume("c", Created, on_decode_error="raise")
    entering = asyncio.create_task(consumer.__aenter__())
    stream = await open_member(broker)
    await entering
    await deliver(stream, delivery(0, b"not json", subject="orders.created"))
    message = await anext(consumer)
    with pytest.raises(DecodeError):
        _ = message.event
    assert message.payload == b"not json"
    await consumer.aclose()


# -------------------------------------------------------- subscribing, reading


async def test_subscriptions_share_a_stream_and_resume(
    broker: FakeBroker, client: AsyncClient
) -> None:
    first, second = client.subscribe("a"), client.subscribe("b", queue_group="g")
    entering = asyncio.create_task(first.__aenter__())
    stream = await broker.stream("SubscribeBatches")
    assert (await stream.receive()).open[0].pattern == "a"
    await stream.send(pb.SubscribeBatchesResponse(opened=[1]))
    await entering
    entering = asyncio.create_task(second.__aenter__())
    (asked,) = (await stream.receive()).open
    assert (asked.pattern, list(asked.queue_groups)) == ("b", ["g"])
    await stream.send(pb.SubscribeBatchesResponse(opened=[2]))
    await entering
    stream.end(UnavailableError("restarting"))
    stream = await broker.stream("SubscribeBatches")
    assert [one.number for one in (await stream.receive()).open] == [1, 2]
    one = pb.LiveDelivery(subscriptions=[2], batch=delivery(0, b"hello").batch)
    lag = pb.Lag(subscription=2, dropped=4)
    await stream.send(pb.SubscribeBatchesResponse(opened=[1, 2], deliveries=[one], lags=[lag]))
    message = await anext(second)
    assert (message.payload, message.offset, message.attempt) == (b"hello", None, 0)
    assert (first.dropped, second.dropped) == (0, 4)
    with pytest.raises(PreconditionError, match="nothing to settle"):
        message.ack()
    async with message:
        pass  # nothing to settle, nothing to fail
    await first.aclose()
    assert list((await stream.receive()).close) == [1]


async def test_lag_is_told(broker: FakeBroker, client: AsyncClient) -> None:
    told: asyncio.Queue[int] = asyncio.Queue()
    subscription = client.subscribe("a", on_lag=told.put_nowait)
    entering = asyncio.create_task(subscription.__aenter__())
    stream = await broker.stream("SubscribeBatches")
    lag = pb.Lag(subscription=1, dropped=9)
    await stream.send(pb.SubscribeBatchesResponse(opened=[1]))
    await entering
    one = pb.LiveDelivery(subscriptions=[1], batch=delivery(0, b"").batch)
    await stream.send(pb.SubscribeBatchesResponse(lags=[lag], deliveries=[one]))
    assert await told.get() == 9
    await anext(subscription)
    assert subscription.dropped == 9


async def test_a_reading_continues_where_a_connection_broke(
    broker: FakeBroker, client: AsyncClient
) -> None:
    reading = client.read("a", start=3, limit=10)
    entering = asyncio.create_task(reading.__aenter__())
    stream = await broker.stream("Read")
    request = await stream.receive()
    assert (request.start.offset, request.limit, list(request.filters)) == (3, 10, ["a"])
    await entering
    await stream.send(pb.ReadResponse(deliveries=[delivery(3, b"3"), delivery(4, b"4")]))
    assert [(await anext(reading)).payload, (await anext(reading)).payload] == [b"3", b"4"]
    stream.end(UnavailableError("restarting"))
    stream = await broker.stream("Read")
    request = await stream.receive()
    assert (request.start.offset, request.limit) == (5, 8)
    await stream.send(pb.ReadResponse(deliveries=[delivery(6, b"6")], next_offset=7))
    stream.end()
    assert [message.payload async for message in reading] == [b"6"]
    assert await reading.fetch(1) == []
    await reading.aclose()
