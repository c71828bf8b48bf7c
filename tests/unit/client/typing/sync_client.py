"""Checked by mypy --strict, never run: what types the blocking client gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_type

import msgspec
import pydantic

import hermes


@hermes.event("orders.{region}.created")
@dataclass
class OrderCreated:
    region: str
    amount: int


@hermes.event("orders.shipped", name="shipped")
class OrderShipped(msgspec.Struct):
    order: int


@hermes.event("orders.cancelled")
class OrderCancelled(pydantic.BaseModel):
    order: int


AnyOrder = OrderCreated | OrderShipped | OrderCancelled


def decorated_classes_keep_their_types() -> None:
    assert_type(OrderCreated("eu", 1), OrderCreated)
    assert_type(OrderShipped(1), OrderShipped)
    assert_type(OrderCancelled(order=1), OrderCancelled)
    OrderCreated("eu", "1")  # type: ignore[arg-type]
    OrderShipped()  # type: ignore[call-arg]


def publishing(client: hermes.Client) -> None:
    assert_type(client.publish("orders.created", b"{}"), hermes.PublishAck)
    ack = client.publish(OrderCreated("eu", 1), id="1", headers={"k": "v"})
    assert_type(ack.offset, int | None)
    assert_type(ack.duplicate, bool)
    ack.offset = 1  # type: ignore[misc]
    client.publish("orders.created", 5)  # type: ignore[call-overload]


def one_event_type(client: hermes.Client) -> None:
    with client.consume("billing", OrderCreated) as messages:
        for message in messages:
            assert_type(message, hermes.Message[OrderCreated])
            assert_type(message.event, OrderCreated)
            assert_type(message.event.amount, int)


def a_union_of_event_types(client: hermes.Client) -> None:
    with client.consume("billing", OrderCreated | OrderShipped) as messages:
        for message in messages:
            assert_type(message, hermes.Message[OrderCreated | OrderShipped])
            match message.event:
                case OrderCreated(amount=amount):
                    assert_type(amount, int)
                case OrderShipped() as shipped:
                    assert_type(shipped.order, int)
        assert_type(
            messages.fetch(10, timeout=1), list[hermes.Message[OrderCreated | OrderShipped]]
        )


def an_alias_of_a_union(client: hermes.Client) -> None:
    with client.subscribe(AnyOrder, queue_group="g") as live:
        for message in live:
            assert_type(message.event, OrderCreated | OrderShipped | OrderCancelled)
    with client.read(AnyOrder) as line:
        for message in line:
            assert_type(message.event, OrderCreated | OrderShipped | OrderCancelled)


def patterns_have_no_event(client: hermes.Client) -> None:
    with client.consume("billing", "orders.>") as messages:
        for message in messages:
            assert_type(message, hermes.Message[None])
            assert_type(message.payload, bytes)
    with client.subscribe("orders.>") as live:
        for message in live:
            assert_type(message, hermes.Message[None])


def handlers_get_the_type(client: hermes.Client) -> None:
    def bill(message: hermes.Message[OrderCreated]) -> None:
        assert_type(message.event.region, str)

    def ship(message: hermes.Message[OrderShipped]) -> None:
        assert_type(message.event.order, int)

    with client.consume("billing", OrderCreated) as messages:
        messages.run(bill, concurrency=4)
        messages.run(ship)  # type: ignore[arg-type]
