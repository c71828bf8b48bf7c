"""Publish and Subscribe of the crates 0.2-0.4: what existing clients rely on."""

from __future__ import annotations

from pathlib import Path

import pytest

from hermes import rpc
from hermes.broker.v1 import broker_pb2 as pb
from tests.e2e.rpc_calls import (
    Consuming,
    Peer,
    config,
    each,
    envelope,
    next_of,
    server_and_peer,
    subscribed,
    until,
)

# orders.42.* as the three generations of clients write it.
TEXT = b"orders.42.created"
JSON = b'["orders",42,"created"]'
BINCODE = bytes.fromhex("030006") + b"orders" + bytes.fromhex("0154") + b"\x00\x07created"


async def publish(peer: Peer, *envelopes: pb.EventEnvelope) -> int:
    ack = await peer.call(rpc.PUBLISH, each(envelopes))
    accepted: int = ack.accepted
    return accepted


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
