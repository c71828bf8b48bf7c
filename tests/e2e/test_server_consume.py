"""Consume over real gRPC: members, verdicts, credit, starts, refusals."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest

from hermes import limits, rpc
from hermes.broker.v1 import broker_pb2 as pb
from tests.e2e.rpc_calls import (
    EOF,
    Consuming,
    Peer,
    config,
    each,
    error_of,
    server_and_peer,
)

SECOND_NS = 10**9


def consuming(peer: Peer) -> Consuming:
    return Consuming(peer.call(rpc.CONSUME))


async def test_consume_what_was_published_before_and_after(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (_, peer):
        await peer.publish("orders.1", b"a", b"b")
        await peer.publish("other.1", b"-")
        member = consuming(peer)
        opened = await member.open("billing", "orders.>")
        assert (opened.created, opened.position, opened.missed) == (True, 0, 0)
        first = await member.delivery()
        assert (first.base_offset, first.attempt, list(first.selection)) == (0, 1, [])
        assert list(pb.BatchContent.FromString(first.batch.content).payloads) == [b"a", b"b"]
        await peer.publish("orders.2", b"c")
        second = await member.delivery()
        assert (second.base_offset, second.batch.subject) == (3, "orders.2")
        await member.settle(pb.VERDICT_ACK, 0, 1, 3, 3, token=7)
        await member.confirmed(7)
        member.call.cancel()

        again = consuming(peer)
        opened = await again.open("billing")
        assert (opened.created, opened.position, list(opened.filters)) == (False, 4, ["orders.>"])
        await peer.publish("orders.3", b"d")
        assert (await again.delivery()).base_offset == 4
        again.call.cancel()


async def test_members_share_and_a_lost_member_gives_back(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (_, peer):
        one, two = consuming(peer), consuming(peer)
        await one.open("shared", "a", credit=pb.Credit(messages=2))
        await two.open("shared", "a", credit=pb.Credit(messages=2))
        for payload in (b"1", b"2", b"3", b"4"):
            await peer.publish("a", payload)
        held = {(await one.delivery()).base_offset, (await one.delivery()).base_offset}
        others = {(await two.delivery()).base_offset, (await two.delivery()).base_offset}
        assert held | others == {0, 1, 2, 3}
        one.call.cancel()
        await two.settle(pb.VERDICT_ACK, *[bound for o in sorted(others) for bound in (o, o)])
        returned = [await two.delivery(), await two.delivery()]
        assert {delivery.base_offset for delivery in returned} == held
        assert {delivery.attempt for delivery in returned} == {2}
        two.call.cancel()


async def test_half_closing_hands_back_in_order(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (server, peer):
        await peer.publish("a", b"1")
        member = consuming(peer)
        await member.open("c", "a")
        await member.delivery()
        await member.call.done_writing()
        assert await asyncio.wait_for(member.call.read(), 5) is EOF
        assert await member.call.code() is grpc.StatusCode.OK
        consumer = server.host().engine.state.consumers["c"]
        ((_, _, waiting),) = consumer.waiting.items()
        assert (waiting.failures, waiting.releases) == (0, 0)


async def test_the_loss_of_a_member_convicts_its_only_message(tmp_path: Path) -> None:
    """grpc tells of the end of requests before it tells that the call was cancelled."""
    async with server_and_peer(config(tmp_path)) as (server, peer):
        await peer.publish("a", b"1")
        member = consuming(peer)
        await member.open(
            "c", "a", backoff=pb.Backoff(initial_ns=3600 * SECOND_NS, max_ns=3600 * SECOND_NS)
        )
        await member.delivery()
        member.call.cancel()
        consumer = server.host().engine.state.consumers["c"]
        assert await server.host().streams.gone(10)
        ((_, _, waiting),) = consumer.waiting.items()
        assert (waiting.failures, waiting.releases) == (1, 0)


async def test_nack_reject_extend_release(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (server, peer):
        await peer.publish("a", b"1")
        member = consuming(peer)
        await member.open("c", "a", ack_timeout_ns=60 * SECOND_NS)
        assert (await member.delivery()).attempt == 1
        await member.settle(pb.VERDICT_EXTEND, 0, 0, attempt=1, token=1)
        await member.confirmed(1)
        await member.settle(pb.VERDICT_NACK, 0, 0, attempt=1, delay_ns=0, reason="busy")
        assert (await member.delivery()).attempt == 2
        await member.settle(pb.VERDICT_NACK, 0, 0, attempt=1, token=2)
        stale = await member.stale()
        assert (stale.verdict, list(stale.ranges), stale.token) == (pb.VERDICT_NACK, [0, 0], 2)
        await member.settle(pb.VERDICT_RELEASE, 0, 0, attempt=2)
        assert (await member.delivery()).attempt == 3
        await member.settle(pb.VERDICT_REJECT, 0, 0, attempt=3, reason="unreadable", token=3)
        await member.confirmed(3)
        ((_, _, dead),) = server.host().engine.state.consumers["c"].dead.items()
        assert (dead.attempts, dead.failures, dead.reason) == (3, 1, "unreadable")
        member.call.cancel()


async def test_an_unacked_message_comes_again_by_itself(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (_, peer):
        await peer.publish("a", b"1")
        member = consuming(peer)
        await member.open("c", "a", ack_timeout_ns=SECOND_NS // 20, backoff=pb.Backoff())
        attempts = [(await member.delivery()).attempt for _ in range(4)]
        assert attempts == [1, 2, 3, 4]
        member.call.cancel()


async def test_credit_and_heartbeat(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (_, peer):
        await peer.publish("a", b"1")
        await peer.publish("a", b"2")
        member = consuming(peer)
        opened = await member.open("c", "a", credit=pb.Credit(messages=1))
        assert (opened.credit.messages, opened.credit.bytes) == (1, limits.CREDIT_BYTES_DEFAULT)
        assert (await member.delivery()).base_offset == 0
        await member.call.write(pb.ConsumeRequest(heartbeat=5))
        frame = await member.frame()
        assert (frame.heartbeat, len(frame.deliveries)) == (5, 0)
        await member.call.write(pb.ConsumeRequest(credit=pb.Credit(messages=10)))
        assert (await member.delivery()).base_offset == 1
        member.call.cancel()


@pytest.mark.parametrize(
    ("fields", "code", "text"),
    [
        ({"consumer": ""}, "INVALID_ARGUMENT", "consumer name"),
        ({"consumer": "x\n"}, "INVALID_ARGUMENT", "control"),
        ({"filters": ["a..b"]}, "INVALID_ARGUMENT", "pattern"),
        ({"filters": ["foo*"]}, "INVALID_ARGUMENT", "pattern"),
        ({"filters": []}, "INVALID_ARGUMENT", "no filter"),
        ({"filters": [f"a.{i}" for i in range(65)]}, "INVALID_ARGUMENT", "at most 64"),
        ({"ack_timeout_ns": 0}, "INVALID_ARGUMENT", "ack_timeout_ns"),
        ({"ack_timeout_ns": -1}, "INVALID_ARGUMENT", "ack_timeout_ns"),
        ({"backoff": pb.Backoff(initial_ns=5, max_ns=1)}, "INVALID_ARGUMENT", "backoff.max_ns"),
        ({"start": pb.Start(offset=9)}, "OUT_OF_RANGE", "next offset is 0"),
    ],
)
async def test_opens_that_are_refused(
    tmp_path: Path, fields: dict[str, object], code: str, text: str
) -> None:
    async with server_and_peer(config(tmp_path)) as (server, peer):
        asked = pb.ConsumeOpen(**{"consumer": "c", "filters": ["a"], **fields})  # type: ignore[arg-type]
        error = await error_of(peer.call(rpc.CONSUME, each([pb.ConsumeRequest(open=asked)])))
        assert error.code().name == code
        assert text in str(error.details())
        assert server.host().engine.state.consumers == {}


async def test_requests_that_end_a_consume_stream(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (_, peer):
        first = pb.ConsumeRequest(open=pb.ConsumeOpen(consumer="c", filters=["a"]))
        never_sent = pb.Settlement(verdict=pb.VERDICT_ACK, ranges=[5, 5])
        for requests, text in (
            ([pb.ConsumeRequest(heartbeat=1)], "no `open`"),
            ([first, first], "first request of a stream only"),
            ([first, pb.ConsumeRequest(settlements=[never_sent])], "never delivered"),
            ([first, pb.ConsumeRequest(settlements=[pb.Settlement(ranges=[0, 0])])], "verdict 0"),
        ):
            error = await error_of(peer.call(rpc.CONSUME, each(requests)))
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert text in str(error.details())


async def test_a_differing_open_names_the_fields(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (_, peer):
        member = consuming(peer)
        await member.open("c", "a")
        asked = pb.ConsumeOpen(consumer="c", filters=["b"], max_attempts=9)
        error = await error_of(peer.call(rpc.CONSUME, each([pb.ConsumeRequest(open=asked)])))
        assert error.code() is grpc.StatusCode.ALREADY_EXISTS
        assert "filters" in str(error.details()) and "max_attempts" in str(error.details())
        member.call.cancel()


async def test_starts(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (_, peer):
        for payload in (b"0", b"1", b"2"):
            await peer.publish("a", payload)
        for name, start, position in (
            ("oldest", pb.Start(oldest=True), 0),
            ("newest", pb.Start(newest=True), 3),
            ("offset", pb.Start(offset=2), 2),
            ("then", pb.Start(time_ns=1), 0),
            ("later", pb.Start(time_ns=2**62), 3),
        ):
            member = consuming(peer)
            assert (await member.open(name, "a", start=start)).position == position
            member.call.cancel()


async def test_deleting_a_consumer_ends_its_streams(tmp_path: Path) -> None:
    from hermes.admin.v1 import admin_pb2

    async with server_and_peer(config(tmp_path)) as (_, peer):
        member = consuming(peer)
        await member.open("c", "a")
        await peer.call(rpc.DELETE_CONSUMER, admin_pb2.DeleteConsumerRequest(name="c"))
        error = await error_of(member.call)
        assert error.code() is grpc.StatusCode.NOT_FOUND
