"""Invariant 11: a client vanishes mid-stream; what it held is redelivered at once."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import pytest

import hermes
from hermes.broker import events as ev
from hermes.broker.event_codec import decode
from hermes.log.reader import open_reader
from hermes.server import ServerConfig, endpoint, serving
from tests.support.faults.proxy import Proxy
from tests.support.faults.server import ServerProcess
from tests.support.faults.workers import WorkerProcess

# Generous: the machine may be busy. The order of events is asserted exactly.
SECOND_NS = 1_000_000_000


def _check_redelivered(store: Path, how: str) -> int:
    """By the log: released for free and delivered again within a second. When it was seen."""
    records = open_reader(store).of_key("c", limit=1_000)
    events = [(record.at_ns, decode(record)) for record in records]
    [(left_ns, left)] = [(at, e) for at, e in events if isinstance(e, ev.MemberLeft)][:1]
    assert isinstance(left, ev.MemberLeft)
    assert left.reason == "connection lost"
    released = [e for _, e in events if isinstance(e, ev.Released) and e.member == left.member]
    assert {(r.cause, r.failure) for r in released} == {(ev.ReleaseCause.MEMBER_GONE, False)}
    second_ns = [at for at, e in events if isinstance(e, ev.Delivered) and e.attempt == 2]
    later_ns = max(second_ns) - left_ns
    sys.stdout.write(f"{how}: redelivered {later_ns / 1e6:.1f} ms after it was noticed\n")
    assert later_ns < SECOND_NS
    return left_ns


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
        _check_redelivered(server.store, "killed")


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


async def _cut_off(address: str, held: int) -> int:
    """A member whose network is cut while it holds messages, and one that is there."""
    async with hermes.AsyncClient(address) as client, Proxy(address) as proxy:
        for _ in range(held):
            await client.publish("job", b"x")
        async with (
            hermes.AsyncClient(proxy.address, close_timeout=0.1, retry_timeout=0.1) as far,
            far.consume("c", "job") as lost,
        ):
            assert len(await lost.fetch(held, timeout=20)) == held
            async with client.consume("c", "job") as messages, asyncio.timeout(40):
                proxy.cut()
                cut_ns = time.time_ns()
                for _ in range(held):
                    message = await anext(messages)
                    assert message.attempt == 2
                    await message.ack(wait=True)
            proxy.reset()
    return cut_ns


async def test_leases_behind_a_cut_network_are_redelivered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No FIN, no RST: only the ping without an answer tells."""
    monkeypatch.setattr(endpoint, "KEEPALIVE_TIME_MS", 1_000)
    monkeypatch.setattr(endpoint, "KEEPALIVE_TIMEOUT_MS", 500)
    config = ServerConfig(
        listen_addr="127.0.0.1:0", store_path=tmp_path / "s", default_ack_timeout_secs=600
    )
    async with serving(config) as server:
        await _cut_off(server.address, 10)
    _check_redelivered(tmp_path / "s", "cut off")


@pytest.mark.torture
async def test_a_cut_network_is_noticed_at_the_defaults(tmp_path: Path) -> None:
    async with ServerProcess(tmp_path / "s", {"HERMES_ACK_TIMEOUT": "600"}) as server:
        cut_ns = await _cut_off(server.address, 100)
    noticed_ns = _check_redelivered(tmp_path / "s", "cut off, default settings") - cut_ns
    sys.stdout.write(f"a cut network was noticed after {noticed_ns / 1e9:.1f} s\n")
    assert noticed_ns < (endpoint.KEEPALIVE_TIME_MS + endpoint.KEEPALIVE_TIMEOUT_MS + 1_000) * 10**6


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
