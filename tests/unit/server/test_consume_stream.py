"""A Consume stream whose client does not read, without a network."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import pytest

from hermes.broker.batch import single
from hermes.broker.session import Client, Session
from hermes.broker.v1 import broker_pb2 as pb
from hermes.clock import SystemClock
from hermes.errors import InvalidArgumentError
from hermes.server.config import ServerConfig
from hermes.server.host import Host
from hermes.server.native_consume import Consume
from hermes.server.sessions import Stream
from hermes.server.starting import open_host

ACK_TIMEOUT_NS = 1_000_000


class UnreadStream:
    """A stream whose writer is stuck: nothing takes from it."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def wake(self) -> None:
        pass

    def registered(self) -> None:
        pass

    def take_drain(self) -> None:
        return None


async def failures(host: Host, at_least: int) -> int:
    """Failures of message 0, once it is not leased and has so many."""
    async with asyncio.timeout(10):
        while True:
            waiting = host.engine.state.consumers["c"].waiting.at(0)
            if waiting is not None and waiting.failures >= at_least:
                return waiting.failures
            await asyncio.sleep(0.002)


async def test_heartbeats_do_not_make_room_while_deliveries_lie_unread(tmp_path: Path) -> None:
    # Found by it: a client that sent heartbeats and read nothing was given as much again
    # after each ack timeout, all of it in the broker's memory.
    host = await open_host(ServerConfig(store_path=tmp_path / "store"), SystemClock())
    session = host.engine.attach(Client("", "peer", "test", "1", ""))
    host.engine.publish(session, [single("a", b"x")], lambda _: None)
    consume = Consume(host, cast("Stream", UnreadStream(session)), 4 * 2**20)
    opened = pb.ConsumeOpen(
        consumer="c",
        filters=["a"],
        ack_timeout_ns=ACK_TIMEOUT_NS,
        backoff=pb.Backoff(),
        credit=pb.Credit(messages=1),
    )
    await consume._open(pb.ConsumeRequest(open=opened))
    assert await failures(host, 1) == 1
    for number in range(1, 4):
        consume._accept(pb.ConsumeRequest(heartbeat=number))
        await host.committed()
    consumer = host.engine.state.consumers["c"]
    assert consumer.leases.count == 0
    assert await failures(host, 1) == 1

    while consume._take() is not None:  # the client reads again
        pass
    consume._accept(pb.ConsumeRequest(heartbeat=4))
    assert await failures(host, 2) == 2
    await host.close()


async def test_what_was_not_sent_yet_cannot_be_settled(tmp_path: Path) -> None:
    # A client that acked blindly, and read nothing, had its credit back at once: a hundred
    # messages lay in the broker's memory on a credit of ten.
    host = await open_host(ServerConfig(store_path=tmp_path / "store"), SystemClock())
    session = host.engine.attach(Client("", "peer", "test", "1", ""))
    host.engine.publish(session, [single("a", b"x"), single("a", b"y")], lambda _: None)
    consume = Consume(host, cast("Stream", UnreadStream(session)), 4 * 2**20)
    opened = pb.ConsumeOpen(consumer="c", filters=["a"], credit=pb.Credit(messages=2))
    await consume._open(pb.ConsumeRequest(open=opened))
    await host.committed()
    ack = pb.Settlement(verdict=pb.VERDICT_ACK, ranges=[0, 1])
    with pytest.raises(InvalidArgumentError, match="offset 0"):
        consume._accept(pb.ConsumeRequest(settlements=[ack]))

    while consume._take() is not None:
        pass
    consume._accept(pb.ConsumeRequest(settlements=[ack]))
    assert host.engine.state.consumers["c"].unsettled == 0
    await host.close()
