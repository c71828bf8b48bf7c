"""The RPCs of the crates 0.2-0.4, over real gRPC: what existing clients rely on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from hermes import rpc
from hermes.broker.v1 import broker_pb2 as pb
from hermes.server import Server
from tests.e2e.rpc_calls import (
    EOF,
    Consuming,
    Peer,
    config,
    each,
    envelope,
    error_of,
    next_of,
    server_and_peer,
    until,
)

# orders.42.* as the three generations of clients write it.
TEXT = b"orders.42.created"
JSON = b'["orders",42,"created"]'
BINCODE = bytes.fromhex("030006") + b"orders" + bytes.fromhex("0154") + b"\x00\x07created"


async def subscribed(peer: Peer, subject: bytes, *groups: str) -> Any:
    """A live subscription that is registered."""
    call = peer.call(rpc.SUBSCRIBE, pb.SubscribeRequest(subject=subject, queue_groups=groups))
    await asyncio.wait_for(call.initial_metadata(), 10)
    return call


async def publish(peer: Peer, *envelopes: pb.EventEnvelope) -> int:
    ack = await peer.call(rpc.PUBLISH, each(envelopes))
    accepted: int = ack.accepted
    return accepted


class Durable:
    """A SubscribeDurable stream."""

    def __init__(self, peer: Peer) -> None:
        self.call = peer.call(rpc.SUBSCRIBE_DURABLE)

    async def open(self, name: str, subject: str, **fields: Any) -> Durable:
        request = pb.DurableSubscribeRequest(subject=subject.encode(), consumer_name=name, **fields)
        await self.call.write(pb.DurableClientMessage(subscribe=request))
        await asyncio.wait_for(self.call.initial_metadata(), 10)
        return self

    async def next(self) -> tuple[str, int]:
        """(id, attempt) of the next message."""
        message = await next_of(self.call)
        if message.WhichOneof("msg") == "envelope":
            return message.envelope.id, 1
        assert message.redelivery.attempt > 1
        return message.redelivery.envelope.id, message.redelivery.attempt

    async def ack(self, message_id: str) -> None:
        await self.call.write(pb.DurableClientMessage(ack=pb.Ack(message_id=message_id)))

    async def nack(self, message_id: str, *, requeue: bool) -> None:
        nack = pb.Nack(message_id=message_id, requeue=requeue)
        await self.call.write(pb.DurableClientMessage(nack=nack))

    async def nothing_but(self, peer: Peer, subject: str, marker: str) -> None:
        """Nothing else comes before a message that is published now."""
        await peer.publish_v1(envelope(subject, marker))
        assert await self.next() == (marker, 1)
        await self.ack(marker)


def unsettled(server: Server, name: str) -> int:
    return server.host().engine.state.consumers[name].unsettled


# ----------------------------------------------------------------------- live


async def test_fan_out_to_many() -> None:
    async with server_and_peer(config(None)) as (_, peer):
        calls = [await subscribed(peer, b"orders.>") for _ in range(10)]
        sent = envelope(
            "orders.42.created", "e1", b"\x00\xff", headers={"k": "v"}, timestamp_nanos=7
        )
        assert await publish(peer, sent, envelope("others", "e2"), envelope("orders", "e3")) == 3
        for call in calls:
            assert await next_of(call) == sent
            assert (await next_of(call)).id == "e3"


async def test_a_queue_group_gets_each_message_exactly_once() -> None:
    async with server_and_peer(config(None)) as (_, peer):
        calls = [await subscribed(peer, b"job.*", "workers") for _ in range(3)]
        alone = await subscribed(peer, b"job.*", "others")
        await publish(peer, *(envelope("job.x", f"{i}") for i in range(30)))
        everything = [(await next_of(alone)).id for _ in range(30)]
        assert everything == [f"{i}" for i in range(30)]
        got = [[(await next_of(call)).id for _ in range(10)] for call in calls]
        assert sorted(int(text) for ids in got for text in ids) == list(range(30))


async def test_a_member_of_several_groups_gets_one_copy_per_group() -> None:
    async with server_and_peer(config(None)) as (_, peer):
        call = await subscribed(peer, b"a", "one", "two")
        await publish(peer, envelope("a", "1"), envelope("a", "2"))
        assert [(await next_of(call)).id for _ in range(4)] == ["1", "1", "2", "2"]


@pytest.mark.parametrize("encoding", [TEXT, JSON, BINCODE])
async def test_each_gets_subjects_as_it_writes_them(encoding: bytes) -> None:
    async with server_and_peer(config(None)) as (_, peer):
        call = await subscribed(peer, encoding)
        for i, written in enumerate((TEXT, JSON, BINCODE)):
            await publish(peer, pb.EventEnvelope(id=f"{i}", subject=written, payload=b"x"))
            assert (await next_of(call)).subject == encoding


async def test_leaving_ends_the_subscription() -> None:
    async with server_and_peer(config(None)) as (server, peer):
        call = await subscribed(peer, b"a")
        call.cancel()
        await until(lambda: not server.host().engine.fanout.buffers)
        assert await publish(peer, envelope("a", "1")) == 1


async def test_both_families_see_each_others_messages(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (_, peer):
        call = await subscribed(peer, b"a.>")
        await peer.publish("a.native", b"1", b"2")
        got = [await next_of(call), await next_of(call)]
        assert [(e.id, e.subject, e.payload) for e in got] == [
            ("@0", b"a.native", b"1"),
            ("@1", b"a.native", b"2"),
        ]
        assert got[0].timestamp_nanos > 0
        await peer.publish_v1(envelope("a.v1", "id", b"3"))
        member = Consuming(peer.call(rpc.CONSUME))
        await member.open("c", "a.v1")
        delivery = await member.delivery()
        assert list(pb.BatchHead.FromString(delivery.batch.head).ids) == ["id"]
        member.call.cancel()


async def test_a_lagging_subscriber_is_told_in_a_header() -> None:
    settings = config(None, subscriber_channel_capacity=4, grpc_output_buffer=1)
    async with server_and_peer(settings) as (_, peer):
        call = await subscribed(peer, b"a")
        sent = 300
        for i in range(sent):
            await publish(peer, envelope("a", f"{i}", b"x" * 100_000))
        received = dropped = 0
        while received + dropped < sent:
            got = await next_of(call)
            received += 1
            dropped += int(got.headers.get("hermes-dropped", "0"))
        assert received + dropped == sent and dropped > 0


# -------------------------------------------------------------------- durable


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
        got = [await durable.next() for _ in range(3)]
        assert got == [("1", 2), ("2", 2), ("3", 1)]


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


# ------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (pb.EventEnvelope(id="", subject=b"a"), "INVALID_ARGUMENT"),
        (pb.EventEnvelope(id="1", subject=b""), "INVALID_ARGUMENT"),
        (pb.EventEnvelope(id="1", subject=b"\x00"), "INVALID_ARGUMENT"),
        (pb.EventEnvelope(id="1", subject=b"a..b"), "INVALID_ARGUMENT"),
        (pb.EventEnvelope(id="1", subject=b"a.*"), "INVALID_ARGUMENT"),
        (pb.EventEnvelope(id="1", subject=b"a.>"), "INVALID_ARGUMENT"),
        (pb.EventEnvelope(id="1", subject=b"\xff"), "INVALID_ARGUMENT"),
        (pb.EventEnvelope(id="1", subject=b'["a",1.5]'), "INVALID_ARGUMENT"),
        (pb.EventEnvelope(id="1", subject=b"\x01\x00\x09a"), "INVALID_ARGUMENT"),
        (pb.EventEnvelope(id="1", subject=b"_dead_letter.a"), "INVALID_ARGUMENT"),
        (pb.EventEnvelope(id="1", subject=b"a", payload=b"x" * 1_001), "RESOURCE_EXHAUSTED"),
        (pb.EventEnvelope(id="1", subject=b"a", headers={"k": "v" * 20_000}), "RESOURCE_EXHAUSTED"),
    ],
)
@pytest.mark.parametrize("method", [rpc.PUBLISH, rpc.PUBLISH_DURABLE])
async def test_a_bad_envelope_ends_the_stream_and_tells_how_many_came_before(
    tmp_path: Path, bad: pb.EventEnvelope, code: str, method: Any
) -> None:
    async with server_and_peer(config(tmp_path, max_message_bytes=1_000)) as (server, peer):
        sent = [envelope("a", "1"), envelope("a", "2"), bad, envelope("a", "3")]
        error = await error_of(peer.call(method, each(sent)))
        assert error.code().name == code
        assert "2 envelopes before it were accepted" in str(error.details())
        stored = server.host().engine.state.next_offset
        assert stored == (2 if method is rpc.PUBLISH_DURABLE else 0)


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [pb.DurableClientMessage()],
        [pb.DurableClientMessage(ack=pb.Ack(message_id="1"))],
        [pb.DurableClientMessage(subscribe=pb.DurableSubscribeRequest(subject=b"a"))],
        [pb.DurableClientMessage(subscribe=pb.DurableSubscribeRequest(consumer_name="c"))],
        [
            pb.DurableClientMessage(
                subscribe=pb.DurableSubscribeRequest(
                    subject=b"a", consumer_name="c", queue_groups=["one", "two"]
                )
            )
        ],
    ],
)
async def test_durable_openings_that_are_refused(
    tmp_path: Path, messages: list[pb.DurableClientMessage]
) -> None:
    async with server_and_peer(config(tmp_path)) as (server, peer):
        error = await error_of(peer.call(rpc.SUBSCRIBE_DURABLE, each(messages)))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert server.host().engine.state.consumers == {}


async def test_an_id_that_was_never_received_ends_the_stream(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (_, peer):
        await peer.publish_v1(envelope("a", "1"), envelope("b", "on another subject"))
        for message_id in ("unknown", "@7", "@x", "", "on another subject"):
            durable = await Durable(peer).open("c", "a")
            await durable.ack(message_id)
            error = await error_of(durable.call)
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "never delivered" in str(error.details())


async def test_a_stale_nack_is_ignored(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (_, peer):
        await peer.publish_v1(envelope("a", "1"))
        durable = await Durable(peer).open("c", "a")
        await durable.next()
        await durable.ack("1")
        await durable.nack("1", requeue=True)
        await durable.nothing_but(peer, "a", "2")


async def test_bad_live_subscriptions(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (server, peer):
        for request in (
            pb.SubscribeRequest(),
            pb.SubscribeRequest(subject=b"a.>.b"),
            pb.SubscribeRequest(subject=b"a", queue_groups=[""]),
            pb.SubscribeRequest(subject=b"a", queue_groups=[f"{i}" for i in range(17)]),
        ):
            error = await error_of(peer.call(rpc.SUBSCRIBE, request))
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert server.host().engine.fanout.buffers == {}


async def test_same_id_within_the_window_is_stored_once(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (server, peer):
        ack = await peer.publish_v1(envelope("a", "1"), envelope("a", "1"), envelope("b", "1"))
        assert (ack.accepted, ack.persisted) == (3, 3)
        assert server.host().engine.state.next_offset == 2
