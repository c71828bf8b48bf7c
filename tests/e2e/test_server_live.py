"""SubscribeBatches and Read over real gRPC, and what holds for every stream."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc

from hermes import limits, rpc
from hermes.broker.v1 import broker_pb2 as pb
from hermes.server import Server
from tests.e2e.rpc_calls import (
    Peer,
    batch,
    config,
    each,
    error_of,
    next_of,
    opening,
    request,
    results_of,
    server_and_peer,
)


async def live(peer: Peer, *batches: pb.Batch) -> None:
    requests = [opening(), request(1, *batches, live=True)]
    results = await results_of(peer, *requests)
    assert not any(r.refusal.code for r in results)


async def test_one_stream_of_many_subscriptions(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (_, peer):
        call = peer.call(rpc.SUBSCRIBE_BATCHES)
        asked = [
            pb.SubscriptionOpen(number=1, pattern="a.>"),
            pb.SubscriptionOpen(number=2, pattern="a.b"),
            pb.SubscriptionOpen(number=3, pattern="a..b"),
        ]
        await call.write(pb.SubscribeBatchesRequest(open=asked, heartbeat=9))
        answer = await next_of(call)
        assert list(answer.opened) == [1, 2] and answer.heartbeat == 9
        assert [(c.number, c.refusal.code) for c in answer.closed] == [(3, "INVALID_ARGUMENT")]
        await live(peer, batch("a.b", b"1"), batch("a.c", b"2"))
        await peer.publish("a.b", b"3")
        got: list[pb.LiveDelivery] = []
        while len(got) < 3:
            got += (await next_of(call)).deliveries
        assert [(list(d.subscriptions), d.batch.subject) for d in got] == [
            ([1, 2], "a.b"),
            ([1], "a.c"),
            ([1, 2], "a.b"),
        ]
        assert [d.HasField("base_offset") for d in got] == [False, False, True]
        await call.write(pb.SubscribeBatchesRequest(close=[1]))
        assert [c.number for c in (await next_of(call)).closed] == [1]
        await live(peer, batch("a.c", b"4"), batch("a.b", b"5"))
        (delivery,) = (await next_of(call)).deliveries
        assert list(delivery.subscriptions) == [2]
        call.cancel()


async def test_a_reader_that_lags_is_told_how_much_it_missed() -> None:
    async with server_and_peer(config(None, subscriber_channel_capacity=10)) as (_, peer):
        call = peer.call(rpc.SUBSCRIBE_BATCHES)
        await call.write(
            pb.SubscribeBatchesRequest(open=[pb.SubscriptionOpen(number=1, pattern="a")])
        )
        await next_of(call)
        payload = b"x" * 100_000
        sent = 400  # far more than what the transport buffers
        for first in range(0, sent, 20):
            await live(peer, *[batch("a", payload) for _ in range(first, first + 20)])
        received = dropped = 0
        while received + dropped < sent:
            frame = await next_of(call)
            received += len(frame.deliveries)
            dropped += sum(lag.dropped for lag in frame.lags)
        assert received + dropped == sent
        assert dropped > 0
        call.cancel()


async def test_read_from_an_offset_with_a_filter_and_a_limit(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (_, peer):
        await peer.publish("a", b"0", b"1", b"2")
        await peer.publish("b", b"3")
        await peer.publish("a", b"4", b"5")
        asked = pb.ReadRequest(filters=["a"], start=pb.Start(offset=1), limit=3)
        frames = [frame async for frame in peer.call(rpc.READ, asked)]
        deliveries = [d for frame in frames for d in frame.deliveries]
        assert [(d.base_offset, list(d.selection), d.attempt) for d in deliveries] == [
            (0, [1, 2], 0),
            (4, [0, 0], 0),
        ]
        assert frames[-1].next_offset == 5
        everything = [frame async for frame in peer.call(rpc.READ, pb.ReadRequest())]
        assert everything[-1].next_offset == 6


async def test_read_follows_what_is_committed_later(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (_, peer):
        await peer.publish("a", b"0")
        call = peer.call(rpc.READ, pb.ReadRequest(filters=["a"], follow=True))
        assert (await next_of(call)).deliveries[0].base_offset == 0
        await peer.publish("b", b"1")
        await peer.publish("a", b"2")
        assert (await next_of(call)).deliveries[0].base_offset == 2
        call.cancel()


async def test_read_in_frames_that_a_client_takes(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (_, peer):
        for _ in range(8):
            await peer.publish("a", b"x" * 1_000_000)
        frames = [frame async for frame in peer.call(rpc.READ, pb.ReadRequest())]
        assert sum(len(frame.deliveries) for frame in frames) == 8
        assert max(frame.ByteSize() for frame in frames) <= limits.FRAME_BYTES_MIN


async def test_initial_metadata_comes_before_the_first_message(tmp_path: Path) -> None:
    """Without it a subscriber cannot know that it is registered."""
    async with server_and_peer(config(tmp_path)) as (_, peer):
        for method, message in (
            (rpc.SUBSCRIBE, pb.SubscribeRequest(subject=b"a")),
            (rpc.READ, pb.ReadRequest(follow=True)),
        ):
            call = peer.call(method, message)
            await asyncio.wait_for(call.initial_metadata(), 5)
            call.cancel()


async def test_a_frame_that_is_no_protobuf(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (_, peer):
        for method in (*rpc.BROKER_METHODS, *rpc.ADMIN_METHODS):
            kind = "stream" if method.client_streaming else "unary"
            answer = "stream" if method.server_streaming else "unary"
            channel: object = getattr(peer.channel, f"{kind}_{answer}")
            stub = channel(method.path)  # type: ignore[operator]
            junk = each([b"\xff\xff\xff"]) if method.client_streaming else b"\xff\xff\xff"
            error = await error_of(stub(junk))
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, method.path


async def test_leaving_streams_leave_nothing(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (server, peer):
        assert isinstance(server, Server)
        calls = [peer.call(rpc.SUBSCRIBE, pb.SubscribeRequest(subject=b"a")) for _ in range(20)]
        for call in calls:
            await call.initial_metadata()
        engine = server.host().engine
        assert len(engine.fanout.buffers) == 20
        for call in calls:
            call.cancel()
        assert await server.host().streams.gone(10)
        assert (len(engine.fanout.buffers), engine.state.subscriptions) == (0, {})
