"""A small store with everything in it that an inspector should tell, made by a real broker.

Offsets: 0 and 1 `orders.eu.created`, 2 `orders.us.created`, 3..7 one batch of
`metrics.cpu`, from 8 on copies of dead letters. Consumers:

- `billing` (orders.>) acks 0; nacks 1 until it is dead, replays it, acks it; rejects 2;
- `audit` (>) acks everything there is;
- `sleepy` (orders.eu.>) lets its lease of 0 expire, and acks it the second time;
- `slow` (orders.>) has a member that holds 0 until it leaves, and acks nothing.

Live: `news.a` with the ids live-0..live-2, seen by `watcher` and by one of the group `desk`.
"""

from __future__ import annotations

from contextlib import ExitStack

import hermes
from hermes.client.admin import AdminClient

ORDER = b'{"order": 7, "lines": [{"sku": "a-1", "count": 2}]}'
BINARY = bytes(range(0, 250, 50))
WAIT_SECS = 20.0


def fill(address: str) -> None:
    """Let clients act against an empty broker until the scene is complete."""
    with hermes.Client(address, name="shop") as shop:
        shop.publish("orders.eu.created", ORDER, id="order-1", headers={"region": "eu"})
        shop.publish("orders.eu.created", b"not json \x1b[31mred", id="order-2")
        shop.publish("orders.us.created", b"{}", id="order-3")
        with shop.publisher() as publisher:
            for byte in BINARY:
                publisher.send("metrics.cpu", bytes([byte, 0xFF]))
        _live(address, shop)
    _billing(address)
    _others(address)
    _sleepy(address)


def _live(address: str, shop: hermes.Client) -> None:
    with ExitStack() as stack:
        watcher = stack.enter_context(hermes.Client(address, name="watcher"))
        desks = [stack.enter_context(hermes.Client(address, name=f"desk-{i}")) for i in (1, 2)]
        seen = stack.enter_context(watcher.subscribe("news.>"))
        for desk in desks:
            stack.enter_context(desk.subscribe("news.*", queue_group="desk"))
        for i in range(3):
            shop.publish("news.a", f"live {i}".encode(), id=f"live-{i}", durable=False)
        assert len(seen.fetch(3, timeout=WAIT_SECS)) == 3


def _billing(address: str) -> None:
    with (
        hermes.Client(address, name="billing-worker") as client,
        client.consume("billing", "orders.>", max_attempts=2, backoff=0.01) as member,
    ):
        verdicts = 0
        while verdicts < 4:
            for message in member.fetch(1, timeout=WAIT_SECS):
                verdicts += 1
                if message.offset == 0:
                    message.ack(wait=True).result(WAIT_SECS)
                elif message.offset == 2:
                    message.reject("no such customer", wait=True).result(WAIT_SECS)
                else:
                    message.nack(reason="cannot be parsed", wait=True).result(WAIT_SECS)
        with AdminClient(address, name="operator") as admin:
            assert admin.replay_dead_letters("billing", offsets=[1]).changed == 1
        (again,) = member.fetch(1, timeout=WAIT_SECS)
        assert again.offset == 1
        again.ack(wait=True).result(WAIT_SECS)


def _others(address: str) -> None:
    with hermes.Client(address, name="auditor") as client:
        with client.consume("audit", ">") as member:
            for message in member.fetch(8, timeout=WAIT_SECS):
                message.ack(wait=True).result(WAIT_SECS)
        with client.consume("slow", "orders.>", max_in_flight=1) as member:
            assert len(member.fetch(1, timeout=WAIT_SECS)) == 1


def _sleepy(address: str) -> None:
    """An expired lease holds its member's credit, so another member gets the message."""
    with (
        hermes.Client(address, name="napper") as napper,
        hermes.Client(address, name="waker") as waker,
        napper.consume(
            "sleepy", "orders.eu.>", ack_timeout=0.2, backoff=0.01, max_in_flight=1, max_lease=0
        ) as asleep,
    ):
        assert [message.offset for message in asleep.fetch(1, timeout=WAIT_SECS)] == [0]
        with waker.consume("sleepy", max_in_flight=10) as awake:
            taken = awake.fetch(2, timeout=WAIT_SECS)
            assert [(message.offset, message.attempt) for message in taken] == [(1, 1), (0, 2)]
            for message in taken:
                message.ack(wait=True).result(WAIT_SECS)
