"""Invariant 11: a client vanishes mid-stream; what it held is redelivered at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import hermes
from hermes.broker import events as ev
from hermes.broker.event_codec import decode
from hermes.log.reader import open_reader
from hermes.server import ServerConfig, endpoint, serving
from tests.support.faults.server import ServerProcess
from tests.support.faults.workers import WorkerProcess

# Generous: the machine may be busy. The order of events is asserted exactly.
SECOND_NS = 1_000_000_000


async def test_a_killed_clients_leases_are_redelivered_at_once(tmp_path: Path) -> None:
    held = 10
    async with ServerProcess(tmp_path / "s") as server:
        async with hermes.AsyncClient(server.address) as client:
            for _ in range(held):
                await client.publish("job", b"hold")
            async with WorkerProcess(server.address, "c", "job") as worker:
                for _ in range(held):
                    await worker.until("hold")
                async with client.consume("c", "job") as messages:
                    await worker.kill()
                    async with asyncio.timeout(10):
                        again = [await anext(messages) for _ in range(held)]
                    assert [message.attempt for message in again] == [2] * held
                    assert {message.offset for message in again} == set(range(held))
                    for message in again:
                        await message.ack(wait=True)
        records = open_reader(server.store).of_key("c", limit=1_000)
        events = [(record.at_ns, decode(record)) for record in records]
        [(left_ns, left)] = [(at, e) for at, e in events if isinstance(e, ev.MemberLeft)][:1]
        assert isinstance(left, ev.MemberLeft)
        assert left.reason == "connection lost"
        released = [e for _, e in events if isinstance(e, ev.Released)]
        assert {(r.member, r.cause, r.failure) for r in released} == {
            (left.member, ev.ReleaseCause.MEMBER_GONE, False)
        }
        second_ns = [at for at, e in events if isinstance(e, ev.Delivered) and e.attempt == 2]
        assert max(second_ns) - left_ns < SECOND_NS


async def test_a_frozen_clients_leases_are_redelivered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Found by stopping a client: its kernel answers TCP, so only pings tell. Of grpc's
    # two timeouts for them the one that counts was left at its default, a minute.
    monkeypatch.setattr(endpoint, "KEEPALIVE_TIME_MS", 1_000)
    monkeypatch.setattr(endpoint, "KEEPALIVE_TIMEOUT_MS", 500)
    monkeypatch.setattr(endpoint, "PING_INTERVAL_MIN_MS", 100)
    config = ServerConfig(
        listen_addr="127.0.0.1:0", store_path=tmp_path / "s", default_ack_timeout_secs=600
    )
    async with serving(config) as server, hermes.AsyncClient(server.address) as client:
        await client.publish("job", b"hold")
        async with WorkerProcess(server.address, "c", "job") as worker:
            await worker.until("hold")
            async with client.consume("c", "job") as messages:
                worker.stop()
                async with asyncio.timeout(20):
                    assert (await anext(messages)).attempt == 2


async def test_a_killed_client_takes_no_healthy_message_along(tmp_path: Path) -> None:
    """As often as would make a message dead, if it counted."""
    async with (
        ServerProcess(tmp_path / "s", {"HERMES_MAX_DELIVERY_ATTEMPTS": "3"}) as server,
        hermes.AsyncClient(server.address) as client,
    ):
        for _ in range(3):
            await client.publish("job", b"hold")
        for _ in range(3):
            async with WorkerProcess(server.address, "c", "job") as worker:
                for _ in range(3):
                    await worker.until("hold")
                await worker.kill()
        got: set[int | None] = set()
        async with client.consume("c", "job") as messages, asyncio.timeout(20):
            while len(got) < 3:
                message = await anext(messages)
                got.add(message.offset)
                await message.ack(wait=True)
        assert got == {0, 1, 2}
