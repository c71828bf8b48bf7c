"""The native RPCs over real gRPC: publish, consume, subscribe, read, and what they refuse."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest

from hermes import limits, rpc
from hermes.broker.v1 import broker_pb2 as pb
from hermes.server import Server
from tests.e2e.rpc_calls import (
    EOF,
    Consuming,
    Peer,
    batch,
    config,
    each,
    error_of,
    next_of,
    rest_of,
    server_and_peer,
)

SECOND_NS = 10**9


def consuming(peer: Peer) -> Consuming:
    return Consuming(peer.call(rpc.CONSUME))


def request(sequence: int, *batches: pb.Batch, live: bool = False) -> pb.PublishBatchesRequest:
    return pb.PublishBatchesRequest(sequence=sequence, batches=batches, live=live)


def opening(producer_id: bytes = b"", first_sequence: int = 1) -> pb.PublishBatchesRequest:
    return pb.PublishBatchesRequest(
        open=pb.PublishOpen(producer_id=producer_id, first_sequence=first_sequence)
    )


async def results_of(peer: Peer, *requests: pb.PublishBatchesRequest) -> list[pb.PublishResult]:
    call = peer.call(rpc.PUBLISH_BATCHES, each(requests))
    return [result async for frame in call for result in frame.results]


# -------------------------------------------------------------------- publish


async def test_results_come_in_order_as_runs(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (_, peer):
        call = peer.call(rpc.PUBLISH_BATCHES)
        await call.write(opening())
        opened = (await next_of(call)).opened
        assert opened.max_batch_messages == limits.BATCH_MESSAGES_MAX
        assert opened.max_message_bytes == limits.MESSAGE_BYTES_DEFAULT
        frame = [batch("a.b", b"1", b"2"), batch("a.c", b"3"), batch("a..d", b"4")]
        await call.write(request(1, *frame))
        await call.write(request(4, batch("a.b", b"5")))
        await call.done_writing()
        results = [result for response in await rest_of(call) for result in response.results]
        runs = [(r.sequence, r.batches, r.count, r.base_offset) for r in results]
        assert runs == [(1, 2, 3, 0), (3, 1, 0, 0), (4, 1, 1, 3)]
        assert results[1].refusal.code == "INVALID_ARGUMENT"
        assert not results[1].HasField("base_offset")


async def test_a_live_result_waits_for_its_turn(tmp_path: Path) -> None:
    """Live batches are answered at once, durable ones at commit; the order is by sequence."""
    async with server_and_peer(config(tmp_path)) as (_, peer):
        durable, live = request(1, batch("a", b"1")), request(2, batch("a", b"2"), live=True)
        results = await results_of(peer, opening(), durable, live)
        assert [r.sequence for r in results] == [1, 2]
        assert [r.HasField("base_offset") for r in results] == [True, False]


async def test_a_gap_ends_the_stream_after_the_results_before(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (_, peer):
        requests = each([opening(), request(1, batch("a", b"1")), request(3, batch("a", b"2"))])
        call = peer.call(rpc.PUBLISH_BATCHES, requests)
        frames = await rest_of(call)
        assert [r.base_offset for frame in frames for r in frame.results] == [0]
        error = await error_of(call)
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "expected 2" in str(error.details())


@pytest.mark.parametrize(
    "requests",
    [
        [request(1, batch("a", b"1"))],
        [opening(first_sequence=0)],
        [opening(producer_id=b"x" * 65)],
        [opening(), opening()],
    ],
)
async def test_openings_that_are_refused(requests: list[pb.PublishBatchesRequest]) -> None:
    async with server_and_peer(config(None)) as (_, peer):
        error = await error_of(peer.call(rpc.PUBLISH_BATCHES, each(requests)))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_batch_sent_again_is_stored_once(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (_, peer):
        sent = request(1, batch("a", b"1", b"2"), batch("a", b"3"))
        first = await results_of(peer, opening(b"producer"), sent)
        again = await results_of(peer, opening(b"producer"), sent, request(3, batch("a", b"4")))
        assert [(r.base_offset, r.count) for r in first] == [(0, 3)]
        assert [(r.base_offset, r.count, r.duplicate) for r in again] == [
            (0, 2, True),
            (2, 1, True),
            (3, 1, False),
        ]


async def test_a_newer_stream_of_the_producer_ends_the_older(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (_, peer):
        older = peer.call(rpc.PUBLISH_BATCHES)
        await older.write(opening(b"producer"))
        await next_of(older)
        newer = peer.call(rpc.PUBLISH_BATCHES)
        await newer.write(opening(b"producer"))
        await next_of(newer)
        error = await error_of(older)
        assert error.code() is grpc.StatusCode.ABORTED
        newer.cancel()


async def test_refused_batches_say_why(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path, max_message_bytes=1_000)) as (_, peer):
        bad = [
            batch("_reserved.x", b"1"),
            batch("a.*", b"1"),
            batch("a", b"x" * 1_001),
            pb.Batch(subject="a", head=b"\xff", content=b""),
            batch("a"),
            batch("a", b"1", ids=["@1"]),
        ]
        results = await results_of(peer, opening(), request(1, *bad))
        codes = [r.refusal.code for r in results]
        assert codes == ["INVALID_ARGUMENT"] * 2 + ["RESOURCE_EXHAUSTED"] + ["INVALID_ARGUMENT"] * 3
        assert "1,000 bytes" in results[2].refusal.message
        assert await peer.publish("a", b"next") == 0  # nothing of them was taken


async def test_without_a_store_durable_is_refused_and_live_works() -> None:
    async with server_and_peer(config(None)) as (_, peer):
        results = await results_of(
            peer,
            opening(),
            request(1, batch("a", b"1")),
            request(2, batch("a", b"1"), live=True),
        )
        assert [r.refusal.code for r in results] == ["FAILED_PRECONDITION", ""]
        for method, message in (
            (rpc.CONSUME, pb.ConsumeRequest(open=pb.ConsumeOpen(consumer="c", filters=["a"]))),
            (rpc.PUBLISH_DURABLE, pb.EventEnvelope(id="1", subject=b"a")),
        ):
            error = await error_of(peer.call(method, each([message])))
            assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert "HERMES_STORE_PATH" in str(error.details())


# -------------------------------------------------------------------- consume


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
        assert (waiting.failures, waiting.releases) == (0, 1)


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


# ------------------------------------------------------------- live and reading


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
