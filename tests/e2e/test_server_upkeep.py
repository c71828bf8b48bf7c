"""By the clock: new segments, dropped segments, limits on streams."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest

from hermes import limits, rpc
from hermes.broker.v1 import broker_pb2 as pb
from hermes.server import Server
from tests.e2e.rpc_calls import WAIT_SECS, Consuming, Peer, config, error_of, server_and_peer


async def segments_until(server: Server, first_lsn_above: int, count: int) -> list[int]:
    """First lsns of the segments, once the oldest is beyond and there are enough."""
    async with asyncio.timeout(WAIT_SECS):
        while True:
            firsts = [segment.first_lsn for segment in server.host().log.segments()]
            if firsts[0] > first_lsn_above and len(firsts) >= count:
                return firsts
            await asyncio.sleep(0.02)


async def publish_much(peer: Peer) -> None:
    for _ in range(10):
        await peer.publish("a", bytes(20_000))


async def test_a_segment_of_age_is_rolled_unless_it_holds_nothing(tmp_path: Path) -> None:
    # Found by it: the checkpoint that follows a roll was news enough for the next roll.
    settings = config(
        tmp_path, segment_age_secs=1, gc_interval_secs=0.05, checkpoint_interval_secs=0.05
    )
    async with server_and_peer(settings) as (server, peer):
        await peer.publish("a", b"1")
        assert len(await segments_until(server, 0, 2)) == 2
        await asyncio.sleep(1.3)
        assert len(server.host().log.segments()) == 2
        assert await peer.publish("a", b"2") == 1
    async with server_and_peer(settings) as (server, _):
        assert server.host().engine.state.next_offset == 2


async def test_old_segments_go_when_nobody_needs_them(tmp_path: Path) -> None:
    settings = config(
        tmp_path, segment_bytes_max=100_000, audit_retention_secs=1, gc_interval_secs=0.05
    )
    async with server_and_peer(settings) as (server, peer):
        await publish_much(peer)
        firsts = await segments_until(server, 1, 1)
        state = server.host().engine.state
        assert state.oldest_offset > 0
        member = Consuming(peer.call(rpc.CONSUME))
        opened = await member.open("late", "a", start=pb.Start(offset=0))
        assert (opened.position, opened.missed) == (state.oldest_offset, state.oldest_offset)
        member.call.cancel()
    async with server_and_peer(config(tmp_path)) as (server, peer):
        assert server.host().log.segments()[0].first_lsn >= firsts[0]
        assert server.host().engine.state.next_offset == 10


async def test_a_consumer_keeps_its_segments(tmp_path: Path) -> None:
    settings = config(
        tmp_path, segment_bytes_max=100_000, audit_retention_secs=1, gc_interval_secs=0.05
    )
    async with server_and_peer(settings) as (server, peer):
        slow, other = Consuming(peer.call(rpc.CONSUME)), Consuming(peer.call(rpc.CONSUME))
        await slow.open("slow", "a", credit=pb.Credit(messages=1))
        await other.open("of another subject", "b")
        await publish_much(peer)
        assert (await slow.delivery()).base_offset == 0
        await segments_until(server, 0, 2)
        await asyncio.sleep(1.5)
        assert server.host().log.segments()[0].first_lsn == 1
        await slow.call.write(pb.ConsumeRequest(credit=pb.Credit(messages=100)))
        await slow.settle(pb.VERDICT_ACK, 0, 0)
        for offset in range(1, 10):
            assert (await slow.delivery()).base_offset == offset
        await slow.settle(pb.VERDICT_ACK, 1, 9)
        await segments_until(server, 1, 1)
        slow.call.cancel()
        other.call.cancel()


async def test_more_streams_than_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STREAMS_MAX", 2)
    async with server_and_peer(config(None)) as (_, peer):
        request = pb.SubscribeRequest(subject=b"a")
        calls = [peer.call(rpc.SUBSCRIBE, request) for _ in range(2)]
        for call in calls:
            await call.initial_metadata()
        error = await error_of(peer.call(rpc.SUBSCRIBE, request))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        calls[0].cancel()
