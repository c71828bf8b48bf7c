"""Invariant 12: a publish whose answer never came is published again: one event.

The answers are lost by a network that carries requests only, so each event is in the log
before its publisher gives up.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
import pytest

import hermes
from hermes import rpc
from tests.e2e.rpc_calls import Peer, batch, each, envelope, error_of, opening, request, results_of
from tests.support.faults.proxy import Proxy
from tests.support.faults.server import ServerProcess


async def arrived(direct: hermes.AsyncClient, count: int) -> None:
    """Until so many messages are in the log."""
    async with asyncio.timeout(20), direct.read("a", follow=True) as messages:
        for _ in range(count):
            await anext(messages)


async def stored(direct: hermes.AsyncClient) -> list[bytes]:
    async with direct.read("a") as messages:
        return [message.payload async for message in messages]


async def by_id(server: ServerProcess, rounds: int) -> None:
    """The caller gives up, and another client publishes the same id."""
    async with hermes.AsyncClient(server.address) as direct, Proxy(server.address) as proxy:
        for n in range(rounds):
            payload, id = b"%d" % n, f"id-{n}"
            far = hermes.AsyncClient(proxy.address, retry_timeout=0.1, close_timeout=0.1)
            async with far:
                await far.publish("connected", b"")
                proxy.swallow()
                with pytest.raises(hermes.OperationTimeoutError):
                    await far.publish("a", payload, id=id, timeout=0.1)
                await arrived(direct, n + 1)
                ack = await direct.publish("a", payload, id=id)
                assert (ack.offset, ack.duplicate) == (2 * n + 1, True)
                proxy.reset()
        assert await stored(direct) == [b"%d" % n for n in range(rounds)]


async def by_sequence(server: ServerProcess, rounds: int) -> None:
    """The connection breaks, and the client itself sends again what was not answered."""
    async with (
        hermes.AsyncClient(server.address) as direct,
        Proxy(server.address) as proxy,
        hermes.AsyncClient(proxy.address) as far,
    ):
        await far.publish("a", b"first")
        for n in range(1, rounds + 1):
            proxy.swallow()
            publishing = asyncio.create_task(far.publish("a", b"%d" % n))
            await arrived(direct, n + 1)
            assert not publishing.done()
            proxy.reset()
            assert (await asyncio.wait_for(publishing, 20)).offset == n
        assert await stored(direct) == [b"first", *(b"%d" % n for n in range(1, rounds + 1))]


How = Callable[[ServerProcess, int], Awaitable[None]]


@pytest.mark.parametrize("how", [by_id, by_sequence])
async def test_a_retried_publish_is_one_event(tmp_path: Path, how: How) -> None:
    await run(tmp_path / "store", how, 5)


@pytest.mark.torture
@pytest.mark.parametrize("how", [by_id, by_sequence])
async def test_many_retried_publishes(tmp_path: Path, how: How) -> None:
    await run(tmp_path / "store", how, 200)


async def run(store: Path, how: How, rounds: int) -> None:
    async with ServerProcess(store) as server:
        await how(server, rounds)
        assert not server.complaints(), server.told_of_failures()
    sys.stdout.write(f"{rounds} publishes lost their answer, 0 duplicates\n")


async def test_calls_of_any_client_are_one_event(tmp_path: Path) -> None:
    """v1 by id, a native stream by its producer's sequence: after DEADLINE_EXCEEDED, again."""
    async with (
        ServerProcess(tmp_path / "store") as server,
        Proxy(server.address) as proxy,
        hermes.AsyncClient(server.address) as direct,
        grpc.aio.insecure_channel(proxy.address) as far,
        grpc.aio.insecure_channel(server.address) as near,
    ):
        await far.channel_ready()
        proxy.swallow()
        peer, sent = Peer(far), envelope("a", "1")
        call = peer.call(rpc.PUBLISH_DURABLE, each([sent]), timeout=0.5)
        assert (await error_of(call)).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await arrived(direct, 1)
        assert (await Peer(near).publish_v1(sent)).persisted == 1
        frames = [opening(b"producer"), request(1, batch("a", b"2"))]
        native = peer.call(rpc.PUBLISH_BATCHES, each(frames), timeout=0.5)
        assert (await error_of(native)).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await arrived(direct, 2)
        [again] = await results_of(Peer(near), *frames)
        assert (again.base_offset, again.duplicate) == (1, True)
        assert await stored(direct) == [b"x", b"2"]
