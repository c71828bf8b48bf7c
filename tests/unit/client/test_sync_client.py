"""Client against a scripted broker. The broker runs on the test's loop, the client on threads."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

import pytest

from hermes.broker.v1 import broker_pb2 as pb
from hermes.client.core.outgoing import PublishAck
from hermes.client.message import Message
from hermes.client.sync import Client
from hermes.errors import (
    ClosedError,
    ConnectionLostError,
    NotFoundError,
    OperationTimeoutError,
    PreconditionError,
    StaleError,
    UnavailableError,
)
from tests.unit.client.fake_broker import (
    FakeBroker,
    batch_delivery,
    consume_opened,
    deliver,
    delivery,
    open_member,
    open_publisher,
    publish_opened,
    published,
)

T = TypeVar("T")


def on_thread(work: Callable[[], T]) -> asyncio.Task[T]:
    async def run() -> T:
        return await asyncio.to_thread(work)

    return asyncio.create_task(run())


@pytest.fixture
async def client(broker: FakeBroker) -> AsyncIterator[Client]:
    client = Client(broker.address, close_timeout=0.2)
    await on_thread(client.__enter__)
    yield client
    await on_thread(client.close)


# ------------------------------------------------------------------- lifetime


def test_no_broker_is_told_with_a_hint(unused_tcp_port: int) -> None:
    with (
        pytest.raises(ConnectionLostError, match="is `hermes serve` running at"),
        Client(f"127.0.0.1:{unused_tcp_port}", connect_timeout=0.2),
    ):
        raise AssertionError("entered without a broker")


def test_without_entering_the_first_use_connects_or_says_so(unused_tcp_port: int) -> None:
    client = Client(f"127.0.0.1:{unused_tcp_port}", connect_timeout=0.2)
    with pytest.raises(ConnectionLostError, match="hermes serve"):
        client.publish("a", b"x")
    with pytest.raises(ConnectionLostError, match="hermes serve"):
        client.subscribe("a").__enter__()
    with pytest.raises(ConnectionLostError, match="hermes serve"):
        client.read("a").__enter__()
    client.close()
    with pytest.raises(ClosedError):
        client.publish("a", b"x")


# ----------------------------------------------------------------- publishing


async def test_publish_and_publish_again_over_a_new_connection(
    broker: FakeBroker, client: Client
) -> None:
    task = on_thread(lambda: client.publish("a", b"x"))
    stream = await open_publisher(broker)
    assert (await stream.receive()).sequence == 1
    stream.end(UnavailableError("restarting"))
    stream = await open_publisher(broker)
    assert (await stream.receive()).sequence == 1
    await stream.send(published(1, 1, 7))
    assert await task == PublishAck(7)


async def test_a_live_publish_in_flight_is_lost_with_the_connection(
    broker: FakeBroker, client: Client
) -> None:
    task = on_thread(lambda: client.publish("a", b"x", durable=False))
    stream = await open_publisher(broker)
    await stream.receive()
    stream.end(UnavailableError("restarting"))
    with pytest.raises(ConnectionLostError):
        await task


async def test_publishes_of_many_threads_share_frames(broker: FakeBroker, client: Client) -> None:
    tasks = [on_thread(partial(client.publish, f"a.{n}", b"x")) for n in range(4)]
    stream = await broker.stream("PublishBatches")
    await stream.receive()
    await stream.send(publish_opened())
    answered = 0
    while answered < 4:
        request = await stream.receive()
        assert request.sequence == answered + 1
        await stream.send(published(request.sequence, len(request.batches), answered))
        answered += len(request.batches)
    assert sorted([(await task).offset for task in tasks], key=str) == [0, 1, 2, 3]


async def test_a_publish_may_have_a_timeout(broker: FakeBroker, client: Client) -> None:
    with pytest.raises(OperationTimeoutError, match="same id"):
        await on_thread(lambda: client.publish("a", b"x", timeout=0.05))
    assert (await (await broker.stream("PublishBatches")).receive()).HasField("open")


# ------------------------------------------------------------------ consuming


async def test_iterating_unentered_raises(client: Client) -> None:
    consumer = client.consume("c", ">")
    with pytest.raises(PreconditionError, match="not entered"):
        iter(consumer)
    with pytest.raises(PreconditionError, match="not entered"):
        consumer.fetch()


async def test_consume_ack_and_leave(broker: FakeBroker, client: Client) -> None:
    def work() -> list[int | None]:
        seen: list[int | None] = []
        with client.consume("c", ">") as messages:
            assert messages.info.created
            for message in messages:
                seen.append(message.offset)
                message.ack()
                if len(seen) == 3:
                    break
            messages.flush()
        return seen

    task = on_thread(work)
    stream = await open_member(broker)
    await deliver(stream, batch_delivery(0, [b"0", b"1"]), delivery(2, b"2"), delivery(3, b"3"))
    acked: set[int] = set()
    while acked != {0, 1, 2}:
        for s in (await stream.receive()).settlements:
            assert s.verdict == pb.VERDICT_ACK
            acked |= set(range(s.ranges[0], s.ranges[1] + 1))
            await stream.send(pb.ConsumeResponse(confirmed=[s.token]))
    assert await stream.receive() is None
    stream.end()
    assert await task == [0, 1, 2]


async def test_waiting_for_a_verdict_blocks_until_the_commit_or_raises_stale(
    broker: FakeBroker, client: Client
) -> None:
    consumer = client.consume("c", ">")
    entering = on_thread(consumer.__enter__)
    stream = await open_member(broker)
    await entering
    await deliver(stream, delivery(0, b""), delivery(1, b""))
    first, second = await on_thread(lambda: consumer.fetch(2))
    acking = on_thread(lambda: first.ack(wait=True))
    (ack,) = (await stream.receive()).settlements
    assert not acking.done()
    await stream.send(pb.ConsumeResponse(confirmed=[ack.token]))
    await acking
    nacking = on_thread(lambda: second.nack(wait=True))
    (nack,) = (await stream.receive()).settlements
    stale = pb.Stale(verdict=pb.VERDICT_NACK, ranges=[1, 1], token=nack.token)
    await stream.send(pb.ConsumeResponse(stale=[stale], confirmed=[nack.token]))
    with pytest.raises(StaleError):
        await nacking
    await on_thread(consumer.close)


async def test_close_from_another_thread_ends_iteration(broker: FakeBroker, client: Client) -> None:
    consumer = client.consume("c", ">")
    entering = on_thread(consumer.__enter__)
    await open_member(broker)
    await entering
    iterating = on_thread(lambda: list(consumer))
    closing = on_thread(consumer.close)
    async with asyncio.timeout(5):
        assert await iterating == []
    await closing


async def test_the_end_of_the_consumer_ends_iteration_with_its_error(
    broker: FakeBroker, client: Client
) -> None:
    consumer = client.consume("c", ">")
    entering = on_thread(consumer.__enter__)
    stream = await open_member(broker)
    await entering
    running = on_thread(lambda: consumer.run(lambda _message: None, concurrency=3))
    stream.end(NotFoundError("consumer 'c' was deleted"))
    with pytest.raises(NotFoundError, match="deleted"):
        await running
    with pytest.raises(NotFoundError, match="deleted"):
        await on_thread(lambda: next(consumer))


async def test_run_acks_and_nacks_on_threads(broker: FakeBroker, client: Client) -> None:
    consumer = client.consume("c", ">")
    entering = on_thread(consumer.__enter__)
    stream = await open_member(broker)
    await entering
    together = threading.Barrier(2, timeout=10)

    def handle(message: Message[None]) -> None:
        together.wait()  # two at once
        if message.payload == b"bad":
            raise ValueError("bad payload")

    running = on_thread(lambda: consumer.run(handle, concurrency=2))
    await deliver(stream, delivery(0, b"good"), delivery(1, b"bad"))
    verdicts: dict[int, tuple[int, str]] = {}
    while len(verdicts) < 2:
        for s in (await stream.receive()).settlements:
            verdicts[s.ranges[0]] = (s.verdict, s.reason)
    assert verdicts == {
        0: (pb.VERDICT_ACK, ""),
        1: (pb.VERDICT_NACK, "ValueError: bad payload"),
    }
    closing = on_thread(consumer.close)
    assert await stream.receive() is None
    stream.end()
    await closing
    await running


async def test_leases_are_kept_alive_and_a_lost_one_is_reported(
    broker: FakeBroker, client: Client
) -> None:
    lost: Future[int | None] = Future()
    consumer = client.consume(
        "c", ">", on_lease_lost=lambda message: lost.set_result(message.offset)
    )
    entering = on_thread(consumer.__enter__)
    stream = await broker.stream("Consume")
    await stream.receive()
    await stream.send(consume_opened(ack_timeout_ns=300_000_000))
    await entering
    await deliver(stream, delivery(5, b""))
    await on_thread(lambda: next(consumer))
    for _ in range(2):
        (settlement,) = (await stream.receive()).settlements
        assert (settlement.verdict, list(settlement.ranges)) == (pb.VERDICT_EXTEND, [5, 5])
    stale = pb.Stale(verdict=pb.VERDICT_EXTEND, ranges=[5, 5])
    await stream.send(pb.ConsumeResponse(stale=[stale]))
    assert await asyncio.wrap_future(lost) == 5
    await on_thread(consumer.close)


# -------------------------------------------------------- subscribing, reading


async def test_a_subscription_tells_of_lag(broker: FakeBroker, client: Client) -> None:
    told: Future[int] = Future()
    subscription = client.subscribe("a", on_lag=told.set_result)
    entering = on_thread(subscription.__enter__)
    stream = await broker.stream("SubscribeBatches")
    await stream.receive()
    await stream.send(pb.SubscribeBatchesResponse(opened=[1]))
    await entering
    one = pb.LiveDelivery(subscriptions=[1], batch=delivery(0, b"x").batch, base_offset=8)
    lag = pb.Lag(subscription=1, dropped=9)
    await stream.send(pb.SubscribeBatchesResponse(lags=[lag], deliveries=[one]))
    message = await on_thread(lambda: next(subscription))
    assert (message.payload, message.offset) == (b"x", 8)
    assert await asyncio.wrap_future(told) == 9
    assert subscription.dropped == 9


async def test_a_reading_continues_where_a_connection_broke(
    broker: FakeBroker, client: Client
) -> None:
    reading = client.read("a")
    entering = on_thread(reading.__enter__)
    stream = await broker.stream("Read")
    assert (await stream.receive()).start.oldest
    await entering
    await stream.send(pb.ReadResponse(deliveries=[delivery(3, b"3")]))
    assert (await on_thread(lambda: next(reading))).payload == b"3"
    stream.end(UnavailableError("restarting"))
    stream = await broker.stream("Read")
    assert (await stream.receive()).start.offset == 4
    await stream.send(pb.ReadResponse(deliveries=[delivery(6, b"6")]))
    stream.end()
    assert [message.payload for message in await on_thread(lambda: list(reading))] == [b"6"]


async def test_ctrl_c_is_seen_within_a_second(broker: FakeBroker) -> None:
    """In a process of its own: the iterator waits on the main thread."""
    code = (
        "import hermes\n"
        f"with hermes.Client({broker.address!r}, close_timeout=0.2) as client:\n"
        "    with client.consume('c', '>') as messages:\n"
        "        try:\n"
        "            print('ready', flush=True)\n"
        "            next(messages)\n"
        "        except KeyboardInterrupt:\n"
        "            print('interrupted', flush=True)\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    await open_member(broker)
    assert await process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(1):
        assert await process.stdout.readline() == b"interrupted\n"
    assert await process.wait() == 0
