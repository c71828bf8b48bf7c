"""PublishBatches over real gRPC: order, runs, duplicates, refusals."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from hermes import limits, rpc
from hermes.broker.v1 import broker_pb2 as pb
from tests.e2e.rpc_calls import (
    batch,
    config,
    each,
    error_of,
    next_of,
    opening,
    request,
    rest_of,
    results_of,
    server_and_peer,
)


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


async def test_a_publisher_waits_for_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "QUEUE_PUBLISH_BYTES_MAX", 1)
    async with server_and_peer(config(tmp_path)) as (_, peer):
        requests = [request(i, batch("a", b"x")) for i in range(1, 51)]
        results = await results_of(peer, opening(), *requests)
        assert sum(r.batches for r in results) == 50
        envelopes = [pb.EventEnvelope(id=f"{i}", subject=b"a") for i in range(50)]
        assert (await peer.publish_v1(*envelopes)).persisted == 50


async def test_a_publisher_that_reads_no_answers_is_not_read_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ANSWERS_WAITING_MAX", 0)
    async with server_and_peer(config(tmp_path)) as (_, peer):
        requests = [request(i, batch("a", b"x"), live=i % 2 == 0) for i in range(1, 51)]
        results = await results_of(peer, opening(), *requests)
        assert [r.sequence for r in results] == list(range(1, 51))


async def test_a_bug_in_taking_a_batch_ends_the_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Found by it: the stream waited for the answer to what was never taken, for ever.
    async with server_and_peer(config(tmp_path)) as (server, peer):

        def broken(*_: object, **__: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(server.host().engine, "publish", broken)
        call = peer.call(rpc.PUBLISH_BATCHES, each([opening(), request(1, batch("a", b"1"))]))
        assert (await error_of(call)).details().startswith("internal error")
