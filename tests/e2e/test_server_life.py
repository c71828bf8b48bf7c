"""A server inside this process: stopping under load, failing stop, starting again."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from hermes import rpc
from hermes.broker.v1 import broker_pb2 as pb
from hermes.errors import StoreDamagedError, StoreError, StoreLockedError, UnavailableError
from hermes.log.log import SqliteLog, open_log
from hermes.log.record import Kind
from hermes.server import Server, ServerConfig, run_with_shutdown, serving
from hermes.server.endpoint import AddressError
from tests.e2e.rpc_calls import (
    EOF,
    Consuming,
    Peer,
    batch,
    config,
    error_of,
    next_of,
    peer_of,
    server_and_peer,
    until,
)


def request(sequence: int, *batches: pb.Batch, live: bool = False) -> pb.PublishBatchesRequest:
    opening = pb.PublishOpen(first_sequence=1) if sequence == 1 else None
    return pb.PublishBatchesRequest(open=opening, sequence=sequence, batches=batches, live=live)


async def health_of(peer: Peer) -> int:
    stub: Any = health_pb2_grpc.HealthStub(peer.channel)
    status: int = (await stub.Check(health_pb2.HealthCheckRequest())).status
    return status


async def served_again(server: Server, peer: Peer) -> None:
    """Until another engine serves; a watch of its health tells of each change."""

    def opened() -> bool:
        try:
            server.host()
        except UnavailableError:
            return False
        return True

    await until(opened)
    stub: Any = health_pb2_grpc.HealthStub(peer.channel)
    async with asyncio.timeout(10):
        async for answer in stub.Watch(health_pb2.HealthCheckRequest()):
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return


# ----------------------------------------------------------------------- stop


async def test_clients_that_leave_when_asked_are_not_hurried(tmp_path: Path) -> None:
    async with serving(config(tmp_path)) as server, peer_of(server) as peer:
        await peer.publish("a", b"1")
        member = Consuming(peer.call(rpc.CONSUME))
        await member.open("c", "a")
        await member.delivery()
        publishing = peer.call(rpc.PUBLISH_BATCHES)
        await publishing.write(request(1, batch("b", b"1")))
        while not (await next_of(publishing)).results:
            pass
        stopping = asyncio.create_task(server.stop("test"))
        notice = await next_of(publishing)
        assert (notice.drain.reason, notice.drain.grace_ms) == ("test", 2000)
        await publishing.write(request(2, batch("a", b"2")))  # still under way
        await publishing.done_writing()
        (result,) = (await next_of(publishing)).results
        assert result.base_offset == 2
        assert await publishing.code() is grpc.StatusCode.OK
        while not (await member.frame()).HasField("drain"):
            pass
        assert sum(len(frame.deliveries) for frame in member.frames) == 1
        await member.settle(pb.VERDICT_ACK, 0, 0, token=1)
        await member.confirmed(1)
        await member.call.done_writing()
        assert await member.call.code() is grpc.StatusCode.OK
        await asyncio.wait_for(stopping, 1)
    async with server_and_peer(config(tmp_path)) as (_, peer):
        again = Consuming(peer.call(rpc.CONSUME))
        await again.open("c")
        assert (await again.delivery()).base_offset == 2
        again.call.cancel()


async def test_clients_that_stay_are_ended_and_lose_nothing(tmp_path: Path) -> None:
    settings = config(tmp_path, shutdown_grace_secs=0.5)
    async with serving(settings) as server, peer_of(server) as peer:
        await peer.publish("a", b"1")
        member = Consuming(peer.call(rpc.CONSUME))
        await member.open("c", "a")
        await member.delivery()
        live = peer.call(rpc.SUBSCRIBE, pb.SubscribeRequest(subject=b"a"))
        await live.initial_metadata()
        reading = peer.call(rpc.READ, pb.ReadRequest(follow=True))
        await next_of(reading)
        begun = time.monotonic()
        await server.stop("test")
        assert time.monotonic() - begun < 2
        for call in (live, reading, member.call):
            error = await error_of(call)
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert "draining" in str(error.details())
    async with server_and_peer(config(tmp_path)) as (server, _):
        state = server.host().engine.state
        ((_, _, waiting),) = state.consumers["c"].waiting.items()
        assert (waiting.failures, waiting.attempt) == (0, 1)


async def test_new_calls_are_refused_while_draining(tmp_path: Path) -> None:
    async with serving(config(tmp_path)) as server, peer_of(server) as peer:
        staying = peer.call(rpc.SUBSCRIBE_BATCHES)
        await staying.write(pb.SubscribeBatchesRequest(heartbeat=1))
        await next_of(staying)
        stopping = asyncio.create_task(server.stop("test"))
        assert (await next_of(staying)).HasField("drain")
        error = await error_of(peer.call(rpc.SUBSCRIBE, pb.SubscribeRequest(subject=b"a")))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert await health_of(peer) == health_pb2.HealthCheckResponse.NOT_SERVING
        staying.cancel()
        await stopping


async def test_a_client_that_does_not_read_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    settings = config(tmp_path, shutdown_grace_secs=1)
    async with serving(settings) as server, peer_of(server) as peer:
        for _ in range(30):
            await peer.publish("a", b"x" * 1_000_000)
        member = Consuming(peer.call(rpc.CONSUME))
        await member.open("c", "a")
        reading = peer.call(rpc.READ, pb.ReadRequest(follow=True))
        await reading.initial_metadata()
        await asyncio.sleep(0.2)  # both writers are stuck by now
        begun = time.monotonic()
        await server.stop("test")
        assert time.monotonic() - begun < 3
        for call in (reading, member.call):
            assert (await error_of(call)).code() in (
                grpc.StatusCode.UNAVAILABLE,
                grpc.StatusCode.CANCELLED,
            )


async def test_a_v1_publisher_is_told_what_was_accepted(tmp_path: Path) -> None:
    sent = asyncio.Event()

    async def envelopes() -> AsyncIterator[pb.EventEnvelope]:
        for i in range(3):
            yield pb.EventEnvelope(id=f"{i}", subject=b"a", payload=b"x")
        sent.set()
        await asyncio.sleep(60)

    async with serving(config(tmp_path)) as server, peer_of(server) as peer:
        call = peer.call(rpc.PUBLISH_DURABLE, envelopes())
        await sent.wait()
        state = server.host().engine.state
        await until(lambda: state.next_offset == 3)
        await server.stop("test")
        error = await error_of(call)
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "3 envelopes before it were accepted" in str(error.details())


# ------------------------------------------------------------------ fail stop


async def test_fail_stop_ends_every_stream_and_serves_again(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (server, peer):
        await peer.publish("a", b"1")
        member = Consuming(peer.call(rpc.CONSUME))
        await member.open("c", "a")
        await member.delivery()
        live = peer.call(rpc.SUBSCRIBE, pb.SubscribeRequest(subject=b"a"))
        await live.initial_metadata()
        failed = server.host()
        failed.fail(OSError("the disk went away"))
        for call in (member.call, live):
            error = await error_of(call)
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert "reopening" in str(error.details())
        await served_again(server, peer)
        assert server.host() is not failed
        assert await peer.publish("a", b"2") == 1
        again = Consuming(peer.call(rpc.CONSUME))
        await again.open("c")
        assert {(await again.delivery()).base_offset, (await again.delivery()).base_offset} == {
            0,
            1,
        }
        again.call.cancel()


async def test_a_stop_waits_for_a_log_that_is_being_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It used to end before: the log that was opened then was closed by nobody."""
    opening, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def slow(*arguments: Any, **options: Any) -> SqliteLog:
        loop.call_soon_threadsafe(opening.set)
        assert go_on.wait(10)
        return open_log(*arguments, **options)

    async with serving(config(tmp_path)) as server:
        monkeypatch.setattr("hermes.server.starting.open_log", slow)
        server.host().fail(OSError("broken"))
        await opening.wait()
        stopping = asyncio.create_task(server.stop("test"))
        await asyncio.sleep(0.05)
        assert not stopping.done()
        go_on.set()
        await stopping
    log = open_log(tmp_path / "store", lambda _: None)  # the lock is free
    last = log.reader().latest(Kind.SERVER_STOPPED)
    assert last is not None and last.lsn >= log.next_lsn - 2
    log.close()


async def test_a_store_that_is_away_is_waited_for_and_not_made_anew(tmp_path: Path) -> None:
    store, away = tmp_path / "store", tmp_path / "away"
    async with server_and_peer(config(tmp_path)) as (server, peer):
        await peer.publish("a", b"1")
        store.rename(away)
        server.host().fail(OSError("unmounted"))
        await until(lambda: server.healing.refusals > 1)
        assert not store.exists()
        away.rename(store)
        await served_again(server, peer)
        assert await peer.publish("a", b"2") == 1


async def test_an_older_copy_in_the_place_of_the_store_ends_the_server(tmp_path: Path) -> None:
    """Clients were told of records that it does not hold; their numbers would be given again."""
    store, copy = tmp_path / "store", tmp_path / "copy"
    never = asyncio.get_running_loop().create_future()
    async with server_and_peer(config(tmp_path)) as (server, peer):
        await peer.publish("a", b"1")
    shutil.copytree(store, copy)
    async with server_and_peer(config(tmp_path)) as (server, peer):
        await peer.publish("a", b"2")
        store.rename(tmp_path / "newer")
        copy.rename(store)
        server.host().fail(OSError("swapped"))
        with pytest.raises(StoreError, match="lacks what this server had committed"):
            await asyncio.wait_for(server.ended(never), 10)


async def test_a_log_that_cannot_be_opened_again_ends_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> SqliteLog:
        raise StoreDamagedError("the disk is gone")

    never = asyncio.get_running_loop().create_future()
    async with serving(config(tmp_path)) as server:
        monkeypatch.setattr("hermes.server.starting.open_log", refuse)
        server.host().fail(OSError("broken"))
        with pytest.raises(StoreError, match="the disk is gone"):
            await asyncio.wait_for(server.ended(never), 10)


async def test_what_was_not_committed_is_not_acknowledged(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (server, peer):
        host = server.host()
        call = peer.call(rpc.PUBLISH_BATCHES)
        await call.write(request(1, batch("a", b"1")))
        await next_of(call)
        host.engine.journal.log = _Silent(host.log)  # type: ignore[assignment]
        await call.write(request(2, batch("a", b"2")))
        await until(lambda: host.engine.state.next_offset == 2)
        host.fail(OSError("fsync"))
        error = await error_of(call)
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        await served_again(server, peer)
        assert server.host().engine.state.next_offset == 1


class _Silent:
    """A log that takes records and never says a word about them."""

    durable = True
    low_space = False

    def __init__(self, log: object) -> None:
        self._log = log

    def append(self, records: list[object], expected_next_lsn: int) -> int:
        return expected_next_lsn + len(records) - 1


# ---------------------------------------------------------------------- start


async def test_a_second_server_on_the_store_is_refused(tmp_path: Path) -> None:
    async with server_and_peer(config(tmp_path)) as (_, peer):
        before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "store").iterdir()}
        with pytest.raises(StoreLockedError):
            async with serving(config(tmp_path)):
                pass
        after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "store").iterdir()}
        assert after == before
        assert await peer.publish("a", b"1") == 0


async def test_a_taken_port_leaves_no_store_behind(tmp_path: Path) -> None:
    async with serving(config(None)) as server:
        with pytest.raises(AddressError):
            async with serving(config(tmp_path, listen_addr=server.address)):
                pass
    assert not (tmp_path / "store").exists()


async def test_run_until_a_shutdown(tmp_path: Path) -> None:
    shutdown = asyncio.Event()
    settings = config(tmp_path)
    running = asyncio.create_task(run_with_shutdown("127.0.0.1:0", settings, shutdown.wait()))
    await asyncio.sleep(0)
    shutdown.set()
    await asyncio.wait_for(running, 10)
    assert isinstance(settings, ServerConfig)
    assert (tmp_path / "store").is_dir()


async def test_every_restart_gives_the_same_state(tmp_path: Path) -> None:
    for run in range(3):
        async with server_and_peer(config(tmp_path)) as (server, peer):
            assert server.host().engine.state.next_offset == 2 * run
            acked = await peer.publish_v1(
                *(pb.EventEnvelope(id=f"{run}.{i}", subject=b"a") for i in range(2))
            )
            assert (acked.accepted, acked.persisted) == (2, 2)
    async with server_and_peer(config(tmp_path)) as (_, peer):
        call = peer.call(rpc.READ, pb.ReadRequest())
        frames = []
        while (frame := await call.read()) is not EOF:
            frames.append(frame)
        offsets = [d.base_offset for frame in frames for d in frame.deliveries]
        assert offsets == list(range(6))
