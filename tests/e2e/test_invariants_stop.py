"""Invariant 17: SIGTERM under load: stop accepting, flush, tell members, exit 0 in time."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import pytest

import hermes
from hermes.broker import events as ev
from hermes.broker.event_codec import decode
from hermes.errors import ConnectionLostError
from hermes.log.reader import open_reader
from hermes.log.record import Kind
from tests.support.faults.checker import Trail, check, copies, unsettled
from tests.support.faults.ledger import Outcome
from tests.support.faults.load import Load
from tests.support.faults.server import ServerProcess

GRACE_SECONDS = 4.0
SMALL = {
    "HERMES_SEGMENT_BYTES": str(256 * 1024),
    "HERMES_SNAPSHOT_INTERVAL": "500",
    "HERMES_SHUTDOWN_GRACE": str(GRACE_SECONDS),
}
WORKERS = (("work", "job.>"), ("work", "job.>"), ("audit", "job.a.*"))


async def _stop(server: ServerProcess) -> float:
    """SIGTERM; how long it took. It must exit with 0."""
    begun = time.monotonic()
    server.terminate()
    async with asyncio.timeout(GRACE_SECONDS * 3):
        code = await server.wait()
    assert code == 0, server.tail()
    return time.monotonic() - begun


async def test_stops_under_load_lose_nothing(tmp_path: Path) -> None:
    await _stops_under_load(tmp_path / "store", 5)


@pytest.mark.torture
async def test_50_stops_under_load_lose_nothing(tmp_path: Path) -> None:
    await _stops_under_load(tmp_path / "store", 50)


async def _stops_under_load(store: Path, stops: int) -> None:
    took: list[float] = []
    server = ServerProcess(store, SMALL)
    load = Load(server.address, 17)
    async with server:
        tasks = [asyncio.create_task(load.publish(f"lane-{i}")) for i in range(2)]
        members = [asyncio.create_task(load.work(*worker)) for worker in WORKERS]
        try:
            for _ in range(stops):
                await asyncio.sleep(1.0)
                took.append(await _stop(server))
                assert took[-1] < GRACE_SECONDS + 1
                with pytest.raises(ConnectionLostError):
                    async with hermes.AsyncClient(server.address, connect_timeout=0.2):
                        pass
                await server.start()
            load.stopping.set()
            async with asyncio.timeout(30):
                await asyncio.gather(*tasks)
            await load.quiet()
        finally:
            for task in (*tasks, *members):
                task.cancel()
            await asyncio.gather(*tasks, *members, return_exceptions=True)
        await _stop(server)
    trail = Trail(store, server.said("store opened")[0]["store_id"])
    assert load.ledger.count(Outcome.OK) > 200
    problems = check(trail, load.ledger) + copies(trail)
    for consumer, pattern in set(WORKERS):
        problems += unsettled(trail, consumer, pattern)
    assert not problems, "\n".join(problems[:40])
    assert trail.kinds[Kind.SERVER_STARTED] == trail.kinds[Kind.SERVER_STOPPED] == stops + 1
    assert trail.state.clean_stop
    sys.stdout.write(
        f"{stops} stops of {GRACE_SECONDS:g} s grace under load: exit 0 after at most "
        f"{max(took):.2f} s; {load.ledger.count(Outcome.OK):,} publishes acknowledged, "
        f"{len(load.ledger.confirmed):,} acks confirmed, 0 lost\n"
    )
    assert not server.complaints(), server.told_of_failures()


async def test_a_member_is_told_and_its_leases_are_released_for_free(tmp_path: Path) -> None:
    store = tmp_path / "store"
    server = ServerProcess(store, SMALL)
    async with server, hermes.AsyncClient(server.address) as client:
        for i in range(3):
            await client.publish("a", b"%d" % i)
        async with client.consume("c", "a") as messages:
            held = [await anext(messages) for _ in range(3)]
            assert [message.attempt for message in held] == [1, 1, 1]
            await _stop(server)
            events = [decode(record) for record in open_reader(store).of_key("c", limit=100)]
            released = [event for event in events if isinstance(event, ev.Released)]
            assert [(r.ranges, r.cause, r.failure) for r in released] == [
                (((0, 2),), ev.ReleaseCause.SERVER_DRAINED, False)
            ]
            await server.start()
            again = [await anext(messages) for _ in range(3)]
            assert [message.attempt for message in again] == [2, 2, 2]


async def test_an_idle_member_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "store", SMALL)
    async with (
        server,
        hermes.AsyncClient(server.address) as client,
        client.consume("c", "a"),
        client.subscribe("b"),
    ):
        await client.publish("x", b"")
        assert await _stop(server) < GRACE_SECONDS / 2
        await server.start()


async def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "store", {"HERMES_SHUTDOWN_GRACE": "60"})
    async with server, hermes.AsyncClient(server.address) as client:
        await client.publish("a", b"1")
        async with client.consume("c", "a") as messages:
            await anext(messages)
            server.terminate()
            async with asyncio.timeout(10):
                await server.says("draining")
                server.terminate()
                assert await server.wait() == 128 + 15
            await server.start()
            assert (await anext(messages)).attempt == 2
