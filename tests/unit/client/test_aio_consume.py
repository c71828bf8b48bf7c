"""AsyncClient against a scripted broker: consuming."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass

import pytest

from hermes.broker.v1 import broker_pb2 as pb
from hermes.client.aio import AsyncClient
from hermes.client.message import Message
from hermes.client.typed import event
from hermes.errors import (
    ClosedError,
    DecodeError,
    InvalidArgumentError,
    NotFoundError,
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
)


@event("orders.created")
@dataclass
class Created:
    amount: int


async def test_entering_waits_for_registration_and_raises_a_refusal(
    broker: FakeBroker, aio_client: AsyncClient
) -> None:
    async def enter() -> None:
        async with aio_client.consume("c", "a..b"):
            raise AssertionError("entered a refused consumer")

    task = asyncio.create_task(enter())
    stream = await broker.stream("Consume")
    stream.end(InvalidArgumentError("empty token"))
    with pytest.raises(InvalidArgumentError, match="empty token"):
        await task


async def test_iterating_unentered_raises(aio_client: AsyncClient) -> None:
    consumer = aio_client.consume("c", ">")
    with pytest.raises(PreconditionError, match="not entered"):
        async for _ in consumer:
            pass
    with pytest.raises(PreconditionError, match="not entered"):
        await consumer.fetch()


async def test_acks_take_effect_when_called_and_need_no_await(
    broker: FakeBroker, aio_client: AsyncClient
) -> None:
    consumer = aio_client.consume("c", ">")
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
    broker: FakeBroker, aio_client: AsyncClient
) -> None:
    consumer = aio_client.consume("c", ">")
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


async def test_verdicts_from_worker_threads(broker: FakeBroker, aio_client: AsyncClient) -> None:
    consumer = aio_client.consume("c", ">")
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


async def test_a_message_as_context_manager(broker: FakeBroker, aio_client: AsyncClient) -> None:
    consumer = aio_client.consume("c", ">")
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
    broker: FakeBroker, aio_client: AsyncClient
) -> None:
    consumer = aio_client.consume("c", ">")
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
    broker: FakeBroker, aio_client: AsyncClient
) -> None:
    consumer = aio_client.consume("c", ">")
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
    broker: FakeBroker, aio_client: AsyncClient
) -> None:
    consumer = aio_client.consume("c", ">")
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
    broker: FakeBroker, aio_client: AsyncClient
) -> None:
    lost: list[int | None] = []
    reported = asyncio.Event()

    def on_lost(message: Message[None]) -> None:
        lost.append(message.offset)
        reported.set()

    consumer = aio_client.consume("c", ">", on_lease_lost=on_lost)
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


async def test_leaving_flushes_and_half_closes(broker: FakeBroker, aio_client: AsyncClient) -> None:
    consumer = aio_client.consume("c", ">")
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
    broker: FakeBroker, aio_client: AsyncClient
) -> None:
    consumer = aio_client.consume("c", ">", ack_timeout=0.3)
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
    broker: FakeBroker, aio_client: AsyncClient
) -> None:
    consumer = aio_client.consume("c", Created)
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


async def test_or_it_raises_when_asked_to(broker: FakeBroker, aio_client: AsyncClient) -> None:
    consumer = aio_client.consume("c", Created, on_decode_error="raise")
    entering = asyncio.create_task(consumer.__aenter__())
    stream = await open_member(broker)
    await entering
    await deliver(stream, delivery(0, b"not json", subject="orders.created"))
    message = await anext(consumer)
    with pytest.raises(DecodeError):
        _ = message.event
    assert message.payload == b"not json"
    await consumer.aclose()


async def test_a_cancellation_is_not_replaced_by_the_end_of_the_stream(
    broker: FakeBroker, aio_client: AsyncClient
) -> None:
    consumer = aio_client.consume("c", ">")
    entering = asyncio.create_task(consumer.__aenter__())
    stream = await open_member(broker)
    await entering
    await deliver(stream, delivery(0, b""))
    message = await anext(consumer)
    stream.end(NotFoundError("deleted"))
    with pytest.raises(NotFoundError):
        await anext(consumer)
    with pytest.raises(asyncio.CancelledError):
        async with message:
            raise asyncio.CancelledError
    with pytest.raises(NotFoundError):
        async with message:
            pass
