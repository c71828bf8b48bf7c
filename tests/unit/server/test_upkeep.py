"""Garbage collection against what happens while it reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hermes.broker.batch import single
from hermes.broker.consumers import OpenConsumer
from hermes.broker.session import Client
from hermes.clock import SystemClock
from hermes.server.config import ServerConfig
from hermes.server.host import Host
from hermes.server.starting import open_host
from hermes.server.upkeep import Upkeep
from tests.support.world import RecordingPort


class LateClock(SystemClock):
    """Everything that is in the log is an hour old."""

    def wall_ns(self) -> int:
        return super().wall_ns() + 3_600 * 10**9


async def host_with_an_old_segment(settings: ServerConfig) -> Host:
    host = await open_host(settings, SystemClock())
    session = host.engine.attach(Client("", "peer", "test", "1", ""))
    host.engine.publish(session, [single("a", b"x")], lambda _: None)
    await host.committed()
    host.roll()
    await host.committed()
    return host


async def collect(host: Host, settings: ServerConfig) -> None:
    await Upkeep(host, settings, LateClock())._drop_what_may_go()


async def test_what_a_new_consumer_begins_with_is_not_dropped_under_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Found by it: whoever came between the plan and the drop lost what it was to be sent.
    settings = ServerConfig(store_path=tmp_path / "store", audit_retention_secs=60)
    host = await host_with_an_old_segment(settings)
    port = RecordingPort()
    reads = 0
    read = host.read

    async def read_and_join(function: Callable[..., Any]) -> Any:
        nonlocal reads
        reads += 1
        answer = await read(function)
        if reads == 3:  # the last read before the drop
            session = host.engine.attach(Client("", "peer", "late", "1", ""))
            command = OpenConsumer(name="late", filters=("a",), position=0)
            host.engine.members.join(session, command, 10, 10**6, port)
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(host, "read", read_and_join)
        await collect(host, settings)
    await host.committed()
    assert reads >= 3
    assert port.offsets() == [0]
    assert len(host.log.segments()) == 2
    await host.close()


async def test_what_nobody_wants_is_dropped(tmp_path: Path) -> None:
    settings = ServerConfig(store_path=tmp_path / "store", audit_retention_secs=60)
    host = await host_with_an_old_segment(settings)
    await collect(host, settings)
    assert len(host.log.segments()) == 1
    assert host.engine.state.oldest_offset == 1
    await host.close()
