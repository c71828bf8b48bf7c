"""Consuming by batch, both clients, against a scripted broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

import hermes
from hermes.broker.v1 import broker_pb2 as pb
from hermes.client.aio import AsyncClient
from hermes.client.aio_receivers import AsyncConsumer
from hermes.client.core.inbox import Inbox
from hermes.client.sync import Client
from hermes.errors import PreconditionError, StaleError
from tests.unit.client.fake_broker import (
    FakeBroker,
    FakeStream,
    batch_delivery,
    deliver,
    open_member,
)

TEN = [b"%d" % n for n in range(10)]


@dataclass
class Numbered:
    number: int


NumberedEvent = hermes.event("a.b")(Numbered)


@pytest.fixture
async def sync_client(broker: FakeBroker) -> AsyncIterator[Client]:
    client = Client(broker.address, connect_timeout=5, close_timeout=0.2)
    yield client
    await asyncio.to_thread(client.close)


async def settlements(stream: FakeStream) -> list[tuple[int, list[int]]]:
    request: pb.ConsumeRequest = await stream.receive()
    return [(each.verdict, list(each.ranges)) for each in request.settlements]


async def entered(broker: FakeBroker, consumer: AsyncConsumer[None]) -> FakeStream:
    entering = asyncio.create_task(consumer.__aenter__())
    stream = await open_member(broker)
    await entering
    return stream


async def test_a_batch_is_one_object_and_one_ack(
    broker: FakeBroker, aio_client: AsyncClient
) -> None:
    messages = aio_client.consume("c", "a.*")
    stream = await entered(broker, messages)
    await deliver(stream, batch_delivery(100, TEN))
    batch = await anext(messages.batches())
    assert (batch.subject, len(batch), batch.attempt) == ("a.b", 10, 1)
    assert batch.payloads == TEN
    assert batch.payloads is batch.payloads
    assert batch.offsets == range(100, 110)
    assert messages.in_hand == 10
    await batch.ack()
    assert messages.in_hand == 0
    assert await settlements(stream) == [(pb.VERDICT_ACK, [100, 109])]


async def test_neighbours_are_acked_as_one_range(
    broker: FakeBroker, aio_client: AsyncClient
) -> None:
    messages = aio_client.consume("c", "a.*")
    stream = await entered(broker, messages)
    await deliver(stream, batch_delivery(0, TEN), batch_delivery(10, TEN))
    batches = messages.batches()
    for _ in range(2):
        (await anext(batches)).ack()
    assert await settlements(stream) == [(pb.VERDICT_ACK, [0, 19])]


async def test_a_selection_has_only_what_is_meant(
    broker: FakeBroker, aio_client: AsyncClient
) -> None:
    messages = aio_client.consume("c", "a.*")
    stream = await entered(broker, messages)
    await deliver(
        stream,
        batch_delivery(0, TEN, selection=[2, 3, 7, 7]),
        batch_delivery(10, TEN, selection=[4, 6]),
    )
    batches = messages.batches()
    first, second = await anext(batches), await anext(batches)
    assert (first.offsets, first.payloads) == ([2, 3, 7], [b"2", b"3", b"7"])
    assert (second.offsets, second.payloads) == (range(14, 17), [b"4", b"5", b"6"])
    first.nack(delay=1, reason="later")
    second.ack()
    assert await settlements(stream) == [
        (pb.VERDICT_NACK, [2, 3, 7, 7]),
        (pb.VERDICT_ACK, [14, 16]),
    ]


async def test_single_messages_may_be_settled_before_the_rest(
    broker: FakeBroker, aio_client: AsyncClient
) -> None:
    messages = aio_client.consume("c", "a.*")
    stream = await entered(broker, messages)
    await deliver(stream, batch_delivery(0, TEN))
    batch = await anext(messages.batches())
    ours = batch.messages()
    assert [message.payload for message in ours] == TEN
    assert ours is batch.messages()
    ours[4].reject("odd")
    batch.ack()
    assert await settlements(stream) == [
        (pb.VERDICT_REJECT, [4, 4]),
        (pb.VERDICT_ACK, [0, 3, 5, 9]),
    ]
    again = batch.nack(wait=True)
    with pytest.raises(StaleError):
        await again


async def test_messages_taken_singly_are_not_in_the_batch(
    broker: FakeBroker, aio_client: AsyncClient
) -> None:
    messages = aio_client.consume("c", "a.*")
    stream = await entered(broker, messages)
    await deliver(stream, batch_delivery(0, TEN))
    assert (await anext(messages)).offset == 0
    assert (await anext(messages)).offset == 1
    batch = await anext(messages.batches())
    assert (batch.offsets, batch.payloads) == (range(2, 10), TEN[2:])
    batch.release()
    assert await settlements(stream) == [(pb.VERDICT_RELEASE, [2, 9])]


async def test_waiting_for_a_commit(broker: FakeBroker, aio_client: AsyncClient) -> None:
    messages = aio_client.consume("c", "a.*")
    stream = await entered(broker, messages)
    await deliver(stream, batch_delivery(0, TEN), batch_delivery(10, TEN))
    batches = messages.batches()
    acked = (await anext(batches)).ack(wait=True)
    rejected = (await anext(batches)).reject("no", wait=True)
    request = await stream.receive()
    tokens = {each.verdict: each.token for each in request.settlements}
    stale = pb.Stale(token=tokens[pb.VERDICT_REJECT], verdict=pb.VERDICT_REJECT, ranges=[12, 12])
    await stream.send(pb.ConsumeResponse(stale=[stale], confirmed=list(tokens.values())))
    await acked
    with pytest.raises(StaleError, match="12"):
        await rejected


async def test_cancelling_the_wait_for_a_batch_costs_nothing(
    broker: FakeBroker, aio_client: AsyncClient
) -> None:
    messages = aio_client.consume("c", "a.*")
    stream = await entered(broker, messages)
    batches = messages.batches()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(batches), 0.02)
    await deliver(stream, batch_delivery(0, TEN))
    assert len(await asyncio.wait_for(anext(batches), 5)) == 10
    await messages.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(batches)


async def test_typed_batches_leave_out_what_cannot_be_decoded(
    broker: FakeBroker, aio_client: AsyncClient
) -> None:
    messages = aio_client.consume("c", NumberedEvent)
    entering = asyncio.create_task(messages.__aenter__())
    stream = await open_member(broker)
    await entering
    payloads = [b'{"number": 1}', b"nonsense", b'{"number": 3}']
    await deliver(stream, batch_delivery(0, payloads))
    batch = await anext(messages.batches())
    assert batch.offsets == [0, 2]
    assert [message.event for message in batch.messages()] == [Numbered(1), Numbered(3)]
    batch.ack()
    found = await settlements(stream)
    assert [verdict for verdict, _ in found] == [pb.VERDICT_REJECT, pb.VERDICT_ACK]
    assert [ranges for _, ranges in found] == [[1, 1], [0, 0, 2, 2]]


def test_a_batch_is_taken_whole_or_what_is_left_of_it() -> None:
    class Delivery:
        size_bytes = 10

    inbox: Inbox[Delivery] = Inbox()  # type: ignore[type-var]
    inbox.put(Delivery(), range(5))
    inbox.put(Delivery(), [1, 4, 5])
    inbox.put(Delivery(), range(1))
    assert inbox.take() is not None
    taken = [inbox.take_batch() for _ in range(4)]
    assert [each and each[1] for each in taken] == [range(1, 5), [1, 4, 5], range(1), None]
    assert (inbox.buffered, inbox.buffered_bytes) == (0, 0)


async def test_live_batches_have_nothing_to_settle(
    broker: FakeBroker, aio_client: AsyncClient
) -> None:
    reading = aio_client.read("a.*")
    entering = asyncio.create_task(reading.__aenter__())
    stream = await broker.stream("Read")
    await stream.send(pb.ReadResponse(deliveries=[batch_delivery(5, TEN)], next_offset=15))
    await entering
    batch = await anext(reading.batches())
    assert (batch.offsets, batch.payloads) == (range(5, 15), TEN)
    with pytest.raises(PreconditionError, match="nothing to settle"):
        batch.ack()
    await reading.aclose()


async def test_sync_batches(broker: FakeBroker, sync_client: Client) -> None:
    def consume() -> list[bytes]:
        got: list[bytes] = []
        with sync_client.consume("c", "a.*") as messages:
            for batch in messages.batches():
                got += batch.payloads
                batch.ack()
                if len(got) == 20:
                    batch.ack(wait=True)
                    break
        return got

    consuming = asyncio.create_task(asyncio.to_thread(consume))
    stream = await open_member(broker)
    await deliver(stream, batch_delivery(0, TEN), batch_delivery(10, TEN))
    acked: set[int] = set()
    while len(acked) < 20 or not consuming.done():
        request = await stream.receive()
        if request is None:
            break
        for each in request.settlements:
            for first, last in zip(each.ranges[::2], each.ranges[1::2], strict=True):
                acked.update(range(first, last + 1))
        tokens = [each.token for each in request.settlements]
        await stream.send(pb.ConsumeResponse(confirmed=tokens))
    stream.end()
    assert await consuming == TEN + TEN
    assert acked == set(range(20))
