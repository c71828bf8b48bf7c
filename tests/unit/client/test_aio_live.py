"""AsyncClient against a scripted broker: live subscriptions and readings."""

from __future__ import annotations

import asyncio

import pytest

from hermes.broker.v1 import broker_pb2 as pb
from hermes.client.aio import AsyncClient
from hermes.errors import (
    PreconditionError,
    UnavailableError,
)
from tests.unit.client.fake_broker import (
    FakeBroker,
    delivery,
)


async def test_subscriptions_share_a_stream_and_resume(
    broker: FakeBroker, aio_client: AsyncClient
) -> None:
    first, second = aio_client.subscribe("a"), aio_client.subscribe("b", queue_group="g")
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


async def test_lag_is_told(broker: FakeBroker, aio_client: AsyncClient) -> None:
    told: asyncio.Queue[int] = asyncio.Queue()
    subscription = aio_client.subscribe("a", on_lag=told.put_nowait)
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
    broker: FakeBroker, aio_client: AsyncClient
) -> None:
    reading = aio_client.read("a", start=3, limit=10)
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
