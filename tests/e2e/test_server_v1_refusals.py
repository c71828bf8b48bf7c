"""Bad input to the v1 RPCs: a clear status, and nothing left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest

from hermes import rpc
from hermes.broker.v1 import broker_pb2 as pb
from tests.e2e.rpc_calls import (
    Durable,
    config,
    each,
    envelope,
    error_of,
    server_and_peer,
)


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
