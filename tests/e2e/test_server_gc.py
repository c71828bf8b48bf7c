"""Garbage collection in a real server: what goes, what stays, and what everybody is told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

from hermes import rpc
from hermes.admin.v1 import admin_pb2
from hermes.broker.v1 import broker_pb2 as pb
from hermes.server import Server
from hermes_inspect.export import Request, export
from tests.e2e.inspecting import inspect_well
from tests.e2e.rpc_calls import WAIT_SECS, Consuming, Peer, config, error_of, server_and_peer
from tests.support.custody_oracle import GONE, Oracle
from tests.support.exports import outcomes_of

SEGMENT_BYTES = 100_000
PAYLOAD = bytes(20_000)


def settings(tmp_path: Path, **more: Any) -> Any:
    defaults = {"segment_bytes_max": SEGMENT_BYTES, "retention_secs": 1, "gc_interval_secs": 3_600}
    return config(tmp_path, **(defaults | more))


async def publish_much(peer: Peer, subject: str = "a", count: int = 10) -> None:
    for _ in range(count):
        await peer.publish(subject, PAYLOAD)


async def gc(peer: Peer, method: Any = rpc.RUN_GC) -> tuple[list[Any], Any]:
    """The segments told, and the end."""
    request = method.request_class()
    async with asyncio.timeout(WAIT_SECS):
        frames = [frame async for frame in peer.call(method, request)]
    assert frames[-1].HasField("done")
    return [frame.segment for frame in frames[:-1]], frames[-1].done


async def until_old(server: Server, segments: int) -> None:
    """Until there are so many segments, and all but the last are past the retention."""
    async with asyncio.timeout(WAIT_SECS):
        while len(server.host().log.segments()) < segments:  # noqa: ASYNC110 - on a thread
            await asyncio.sleep(0.02)
    await asyncio.sleep(1.1)  # the retention


async def read_all(peer: Peer, start: int = 0) -> list[int]:
    """Offsets that a reader gets."""
    request = pb.ReadRequest(start=pb.Start(offset=start))
    offsets: list[int] = []
    async for frame in peer.call(rpc.READ, request):
        for delivery in frame.deliveries:
            offsets += range(delivery.base_offset, delivery.base_offset + 1)
    return offsets


def actions(segments: Sequence[Any]) -> list[str]:
    return [segment.action for segment in segments]


async def test_settled_payloads_go_and_needed_ones_stay(tmp_path: Path) -> None:
    async with server_and_peer(settings(tmp_path)) as (server, peer):
        member = Consuming(peer.call(rpc.CONSUME))
        await member.open("slow", "a", credit=pb.Credit(messages=100))
        await publish_much(peer)
        await publish_much(peer, "b", 5)
        for offset in range(10):
            assert (await member.delivery()).base_offset == offset
        await member.settle(pb.VERDICT_ACK, 0, 5)
        await until_old(server, 3)

        planned, done = await gc(peer, rpc.PLAN_GC)
        assert "compact" in actions(planned)
        assert done.store_bytes > 15 * len(PAYLOAD)
        assert len(await read_all(peer)) == 15
        (keeper,) = done.consumers
        assert (keeper.name, keeper.members, keeper.abandoned) == ("slow", 1, False)

        told, after = await gc(peer)
        assert [s.problem for s in told] == [""] * len(told)
        assert after.store_bytes < done.store_bytes - 5 * len(PAYLOAD)
        held = await read_all(peer)
        assert set(range(6, 10)) <= set(held)
        assert not {0, 1, 2} & set(held)
        again, _ = await gc(peer)
        assert "compact" not in actions(again)

        late = Consuming(peer.call(rpc.CONSUME))
        opened = await late.open("late", ">", start=pb.Start(offset=0))
        assert opened.position == opened.oldest_offset == opened.missed == held[0]
        got = [(await late.delivery()).base_offset for _ in held]
        assert got == held
        member.call.cancel()
        late.call.cancel()

    async with server_and_peer(settings(tmp_path)) as (server, peer):
        assert await read_all(peer) == held
        member = Consuming(peer.call(rpc.CONSUME))
        await member.open("slow", "a", credit=pb.Credit(messages=100))
        assert sorted([(await member.delivery()).base_offset for _ in range(4)]) == [6, 7, 8, 9]
        member.call.cancel()


async def test_an_abandoned_consumer_keeps_its_messages_unless_told_otherwise(
    tmp_path: Path,
) -> None:
    async with server_and_peer(settings(tmp_path)) as (server, peer):
        gone = Consuming(peer.call(rpc.CONSUME))
        await gone.open("gone", ">", credit=pb.Credit(messages=1))
        gone.call.cancel()
        await publish_much(peer)
        await until_old(server, 2)
        told, done = await gc(peer)
        assert set(actions(told)) == {"keep"}
        (consumer,) = done.consumers
        assert (consumer.name, consumer.abandoned, consumer.lag) == ("gone", True, 10)
        assert told[0].pins[0].consumer == "gone"
        assert told[0].reason == "consumer 'gone' still needs offset 0"
        assert len(await read_all(peer)) == 10

    longest = settings(tmp_path, max_unacked_retention_secs=1)
    async with server_and_peer(longest) as (server, peer):
        told, _ = await gc(peer)
        lost = sum(loss.messages for segment in told for loss in segment.lost)
        held = await read_all(peer)
        assert lost == 10 - len(held) > 0
        gone = Consuming(peer.call(rpc.CONSUME))
        opened = await gone.open("gone", ">", credit=pb.Credit(messages=100))
        assert (opened.position, opened.missed) == (0, held[0])
        assert [(await gone.delivery()).base_offset for _ in held] == held
        gone.call.cancel()


async def test_custody_of_what_went_unsettled_reconciles(tmp_path: Path) -> None:
    """What waited and what was never looked at is told apart from what was acked."""
    longest = settings(tmp_path, max_unacked_retention_secs=1)
    async with server_and_peer(longest) as (server, peer):
        member = Consuming(peer.call(rpc.CONSUME))
        await member.open("c", "a", credit=pb.Credit(messages=3))
        await publish_much(peer)
        for _ in range(3):
            await member.delivery()
        await member.settle(pb.VERDICT_ACK, 0, 0)
        member.call.cancel()  # and what it held waits for another member
        await until_old(server, 3)
        async with asyncio.timeout(WAIT_SECS):
            while server.host().engine.state.consumers["c"].leases:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        told, _ = await gc(peer)
        assert "compact" in actions(told)
        held = await read_all(peer)
        records = server.host().log.reader().read(1, limit=10_000, limit_bytes=10**9)
    store = longest.store_path
    assert store is not None
    export(Request(store, tmp_path / "out", to_lsn=records[-1].lsn))
    found = outcomes_of(tmp_path / "out")
    rows = Oracle(records).rows
    assert found == {(offset, name): row.outcome for (offset, name, _), row in rows.items()}
    gone = [offset for (offset, _), outcome in sorted(found.items()) if outcome == GONE]
    assert gone == sorted(set(range(1, 10)) - set(held)) and {1, 2} <= set(gone)
    traced = inspect_well("trace", "1", "--store", store, "--json").objects[0]["consumers"]
    assert [(one["consumer"], one["outcome"]) for one in traced] == [("c", GONE)]


async def test_a_full_store_refuses_publishes_and_goes_on_when_there_is_room(
    tmp_path: Path,
) -> None:
    bounded = settings(
        tmp_path, max_store_bytes=1_200_000, segment_bytes_max=SEGMENT_BYTES, retention_secs=2
    )
    async with server_and_peer(bounded) as (server, peer):
        member = Consuming(peer.call(rpc.CONSUME))
        await member.open("c", "a", credit=pb.Credit(messages=1_000))
        with pytest.raises(AssertionError, match="its limit is 1,200,000"):
            await publish_much(peer, count=100)
        stored = server.host().engine.state.next_offset
        _, done = await gc(peer, rpc.PLAN_GC)
        assert done.refusing
        for offset in range(stored):  # deliveries and acks go on
            assert (await member.delivery()).base_offset == offset
        await member.settle(pb.VERDICT_ACK, 0, stored - 1)
        await asyncio.sleep(2.1)
        _, done = await gc(peer)
        assert not done.refusing
        assert await peer.publish("a", PAYLOAD) == stored
        member.call.cancel()


async def test_a_store_that_frees_itself_stays_small(tmp_path: Path) -> None:
    bounded = settings(
        tmp_path,
        max_store_bytes=1_200_000,
        store_full="drop-oldest-settled",
        retention_secs=3_600,
    )
    async with server_and_peer(bounded) as (server, peer):
        for n in range(200):
            await peer.publish("a", PAYLOAD)
            if n % 4 == 3:
                await gc(peer)
        size = sum(segment.bytes for segment in server.host().log.segments())
        assert size < 1_400_000
        assert server.host().engine.state.next_offset == 200


async def test_without_a_store_there_is_nothing_to_collect() -> None:
    async with server_and_peer(config(None)) as (_, peer):
        error = await error_of(peer.call(rpc.PLAN_GC, admin_pb2.PlanGcRequest()))
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
