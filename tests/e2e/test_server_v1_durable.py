"""PublishDurable and SubscribeDurable of the crates 0.2-0.4: what existing clients rely on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc

from hermes import rpc
from hermes.broker.v1 import broker_pb2 as pb
from hermes.server import Server
from tests.e2e.rpc_calls import (
    EOF,
    Consuming,
    Durable,
    config,
    envelope,
    error_of,
    next_of,
    server_and_peer,
    subscribed,
    until,
)


def unsettled(server: Server, name: str) -> int:
    return server.host().engine.state.consumers[name].unsettled


async def test_publish_before_subscribe_then_catch_up(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (_, peer):
        ack = await peer.publish_v1(*(envelope("orders.1", f"{i}") for i in range(100)))
        assert (ack.accepted, ack.persisted) == (100, 100)
        durable = await Durable(peer).open("billing", "orders.*", max_in_flight=200)
        assert [await durable.next() for _ in range(100)] == [(f"{i}", 1) for i in range(100)]


async def test_no_redelivery_after_ack(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (server, peer):
        await peer.publish_v1(envelope("a", "1"), envelope("a", "2"))
        durable = await Durable(peer).open("c", "a", ack_timeout_seconds=1)
        for message_id in ("1", "2"):
            assert await durable.next() == (message_id, 1)
            await durable.ack(message_id)
        await until(lambda: unsettled(server, "c") == 0)
        await asyncio.sleep(1.2)
        await durable.nothing_but(peer, "a", "3")
        durable.call.cancel()
        again = await Durable(peer).open("c", "a", ack_timeout_seconds=1)
        await again.nothing_but(peer, "a", "4")


async def test_nack_and_requeue_comes_again_at_once(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (_, peer):
        await peer.publish_v1(envelope("a", "1"))
        durable = await Durable(peer).open("c", "a")
        for attempt in range(1, 5):
            assert await durable.next() == ("1", attempt)
            await durable.nack("1", requeue=True)
        assert await durable.next() == ("1", 5)


async def test_nack_without_requeue_is_a_dead_letter(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (_, peer):
        dead = await subscribed(peer, b"_dead_letter.>")
        await peer.publish_v1(envelope("a.b", "1", b"payload", headers={"k": "v"}))
        durable = await Durable(peer).open("c", "a.b")
        await durable.next()
        await durable.nack("1", requeue=False)
        letter = await next_of(dead)
        assert (letter.subject, letter.payload) == (b"_dead_letter.a.b", b"payload")
        assert letter.headers["k"] == "v"
        assert letter.headers["hermes-original-id"] == "1"
        assert letter.headers["hermes-consumer"] == "c"
        await durable.nothing_but(peer, "a.b", "2")


async def test_a_timeout_redelivers_until_it_is_dead(tmp_path: Path) -> None:
    settings = config(tmp_path, max_delivery_attempts=3, default_ack_timeout_secs=0.05)
    async with server_and_peer(settings) as (_, peer):
        dead = await subscribed(peer, b"_dead_letter.a")
        await peer.publish_v1(envelope("a", "1"))
        durable = await Durable(peer).open("c", "a")
        assert [await durable.next() for _ in range(3)] == [("1", 1), ("1", 2), ("1", 3)]
        letter = await next_of(dead)
        assert letter.headers["hermes-attempts"] == "3"


async def test_max_in_flight_holds_and_an_ack_makes_room(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path, default_max_in_flight=2)) as (server, peer):
        await peer.publish_v1(*(envelope("a", f"{i}") for i in range(5)))
        durable = await Durable(peer).open("c", "a")
        assert [await durable.next() for _ in range(2)] == [("0", 1), ("1", 1)]
        consumer = server.host().engine.state.consumers["c"]
        assert consumer.leases.count == 2
        await durable.ack("1")
        assert await durable.next() == ("2", 1)
        assert consumer.leases.count == 2


async def test_streams_of_one_name_share(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (_, peer):
        one = await Durable(peer).open("c", "a", max_in_flight=5)
        two = await Durable(peer).open("c", "a", max_in_flight=5)
        await peer.publish_v1(*(envelope("a", f"{i}") for i in range(10)))
        got = [[(await durable.next())[0] for _ in range(5)] for durable in (one, two)]
        assert sorted(int(text) for ids in got for text in ids) == list(range(10))


async def test_a_durable_queue_group_is_one_consumer(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (server, peer):
        one = await Durable(peer).open("x", "a", queue_groups=["g"], max_in_flight=5)
        two = await Durable(peer).open("y", "a", queue_groups=["g"], max_in_flight=5)
        await peer.publish_v1(*(envelope("a", f"{i}") for i in range(10)))
        got = [[(await durable.next())[0] for _ in range(5)] for durable in (one, two)]
        assert sorted(int(text) for ids in got for text in ids) == list(range(10))
        assert list(server.host().engine.state.consumers) == ["_group.g"]


async def test_an_ack_counts_on_another_stream_and_after_a_restart(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (_, peer):
        await peer.publish_v1(*(envelope("a", f"{i}") for i in range(3)))
        await peer.publish("a", b"without an id")
        durable = await Durable(peer).open("c", "a")
        for expected in ("0", "1", "2", "@3"):
            assert (await durable.next())[0] == expected
    async with server_and_peer(config(tmp_path)) as (server, peer):
        again = await Durable(peer).open("c", "a", max_in_flight=1)
        for message_id in ("2", "@3"):
            await again.ack(message_id)
        await until(lambda: unsettled(server, "c") == 2)
        assert await again.next() == ("0", 2)
        await again.ack("0")
        assert await again.next() == ("1", 2)


async def test_restart_on_the_same_store(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (_, peer):
        await peer.publish_v1(*(envelope("a", f"{i}") for i in range(4)))
        durable = await Durable(peer).open("c", "a", max_in_flight=2)
        assert [await durable.next() for _ in range(2)] == [("0", 1), ("1", 1)]
        await durable.ack("0")
        assert await durable.next() == ("2", 1)
    async with server_and_peer(config(tmp_path)) as (_, peer):
        durable = await Durable(peer).open("c", "a")
        # Redeliveries and first attempts are read side by side: either may come first.
        got = {await durable.next() for _ in range(3)}
        assert got == {("1", 2), ("2", 2), ("3", 1)}


async def test_half_closing_ends_the_stream_well(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (server, peer):
        await peer.publish_v1(envelope("a", "1"))
        durable = await Durable(peer).open("c", "a")
        await durable.next()
        await durable.ack("1")
        await durable.call.done_writing()
        assert await asyncio.wait_for(durable.call.read(), 10) is EOF
        assert await durable.call.code() is grpc.StatusCode.OK
        assert unsettled(server, "c") == 0


async def test_the_settings_of_a_consumer_change_while_it_is_idle(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (server, peer):
        first = await Durable(peer).open("c", "a", ack_timeout_seconds=5)
        second = Durable(peer)
        await second.open("c", "a", ack_timeout_seconds=6)
        error = await error_of(second.call)
        assert error.code() is grpc.StatusCode.ALREADY_EXISTS
        assert "ack_timeout" in str(error.details())
        first.call.cancel()
        consumer = server.host().engine.state.consumers["c"]
        await until(lambda: not consumer.members)
        await Durable(peer).open("c", "a", ack_timeout_seconds=6)
        assert consumer.policy.ack_timeout_ns == 6 * 10**9


async def test_a_native_consumer_keeps_its_backoff(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (server, peer):
        member = Consuming(peer.call(rpc.CONSUME))
        await member.open("c", "a", backoff=pb.Backoff(initial_ns=5, max_ns=9))
        member.call.cancel()
        consumer = server.host().engine.state.consumers["c"]
        await until(lambda: not consumer.members)
        await Durable(peer).open("c", "a")
        assert (consumer.policy.backoff_initial_ns, consumer.policy.backoff_max_ns) == (5, 9)
