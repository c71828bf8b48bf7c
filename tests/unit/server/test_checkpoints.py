"""When a checkpoint is due, and what it says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hermes.broker.batch import single
from hermes.broker.session import Client
from hermes.checkpoint import Checkpoint, parse_checkpoint
from hermes.clock import SystemClock
from hermes.log.record import Kind, StoredRecord
from hermes.log.v1 import log_pb2
from hermes.server.checkpoint_key import open_signer
from hermes.server.checkpoint_sinks import Sink
from hermes.server.checkpoints import Checkpoints, open_checkpoints
from hermes.server.config import ServerConfig
from hermes.server.host import Host
from hermes.server.settings import NS_PER_SEC
from hermes.server.starting import open_host


class HandClock(SystemClock):
    """A monotonic clock that is moved by hand."""

    lead_ns = 0

    def monotonic_ns(self) -> int:
        return super().monotonic_ns() + self.lead_ns


class Place:
    """A host with checkpoints every hour, and what they said."""

    def __init__(self, host: Host, checkpoints: Checkpoints, clock: HandClock) -> None:
        self.host, self.checkpoints, self.clock = host, checkpoints, clock
        self.given: list[str] = []
        checkpoints.carry([Sink("test", self.given.append)])

    async def publish(self) -> None:
        session = self.host.engine.attach(Client("", "peer", "test", "1", ""))
        self.host.engine.publish(session, [single("a", b"x")], lambda _: None)
        self.host.engine.detach(session)
        await self.host.committed()

    async def look(self, after_secs: int = 0) -> int:
        """Look, some time later; how many checkpoints are in the log then."""
        self.clock.lead_ns += after_secs * NS_PER_SEC
        self.checkpoints.look()
        await self.host.committed()
        return len(self.records())

    def records(self) -> list[StoredRecord]:
        found = self.host.log.reader().read(1, limit=1_000, limit_bytes=1 << 20)
        return [record for record in found if record.kind == Kind.CHECKPOINT]

    def said(self) -> list[Checkpoint]:
        return [parse_checkpoint(note).checkpoint for note in self.given]


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    clock = HandClock()
    config = ServerConfig(store_path=tmp_path / "store")
    host = await open_host(config, clock)
    signer = open_signer(tmp_path / "store", host.log.store_id)
    place = Place(host, Checkpoints(host, signer, 3_600, clock), clock)
    yield place
    await place.checkpoints.leave(20, last=False)
    await host.close()


async def test_every_interval_with_news(place: Place) -> None:
    await place.publish()
    assert await place.look() == 0
    assert await place.look(after_secs=3_600) == 1
    assert await place.look(after_secs=3_600) == 1, "the checkpoint itself is no news"
    await place.publish()
    assert await place.look() == 2, "news are signed as soon as the interval is over"


async def test_what_is_signed_is_committed_and_is_what_the_record_says(place: Place) -> None:
    await place.publish()
    mark = place.host.log.committed
    assert await place.look(after_secs=3_600) == 1
    (record,) = place.records()
    body = log_pb2.Checkpoint.FromString(record.body)
    assert (body.lsn, body.chain, record.lsn) == (mark.lsn, mark.chain, mark.lsn + 1)
    assert body.engine_time_ns
    checkpoint = parse_checkpoint(body.note).checkpoint
    store_id = place.host.log.store_id
    assert checkpoint == Checkpoint(store_id, mark.lsn, mark.chain, body.at_ns)
    await place.checkpoints.leave(20, last=False)
    assert place.given == [body.note]


async def test_each_roll(place: Place) -> None:
    await place.publish()
    place.host.roll()
    assert await place.look() == 0, "not before the roll is committed"
    assert await place.look() == 1
    assert await place.look() == 1
    sealed_lsn = place.host.log.segments()[-1].first_lsn
    assert log_pb2.Checkpoint.FromString(place.records()[0].body).lsn >= sealed_lsn


async def test_the_last_one_goes_to_the_sinks_alone(place: Place) -> None:
    place.host.engine.stop("test", lambda: None)
    await place.host.committed()
    mark = place.host.log.committed
    await place.checkpoints.leave(20, last=True)
    assert [(c.lsn, c.chain) for c in place.said()] == [(mark.lsn, mark.chain)]
    assert place.records() == []


async def test_none_without_a_store_or_an_interval(tmp_path: Path) -> None:
    for config in (
        ServerConfig(),
        ServerConfig(store_path=tmp_path / "store", checkpoint_interval_secs=0),
    ):
        host = await open_host(config, SystemClock())
        assert await open_checkpoints(host, config, SystemClock()) is None
        await host.close()
    assert not list((tmp_path / "store").glob("checkpoint*"))
