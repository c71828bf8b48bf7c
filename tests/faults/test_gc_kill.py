"""A server that is killed while it collects garbage: nothing needed is gone, all of it opens."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

import pytest
from broker_process import BrokerProcess

from hermes import Client
from hermes.client.admin import AdminClient
from hermes.errors import HermesError
from tests.e2e.inspecting import inspect_well

BATCHES = 60
SIZE_BYTES = 20_000


def test_nothing_needed_goes_by_a_kill_during_gc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses_secs = [0.0, 0.01, 0.03, 0.06, 0.1, 0.15]
    monkeypatch.setenv("HERMES_RETENTION_SECS", "1")
    monkeypatch.setenv("HERMES_SEGMENT_BYTES", "100000")
    monkeypatch.setenv("HERMES_GC_INTERVAL", "3600")
    broker = BrokerProcess(tmp_path / "store", tmp_path / "log")
    broker.start()
    unsettled: set[str] = set()
    try:
        with Client(broker.addr) as client:
            with client.consume("keeper", ">", start="all"):
                pass
            for n in range(BATCHES):
                client.publish("a", bytes(SIZE_BYTES), id=f"{n}")
                unsettled.add(f"{n}")
        for pause_secs in pauses_secs:
            with Client(broker.addr) as client, client.consume("keeper") as messages:
                for message in messages.fetch(BATCHES // 6 - 2, timeout=20):
                    message.ack(wait=True).result(20)
                    assert message.id is not None
                    unsettled.discard(message.id)
            _kill_during_gc(broker, pause_secs)
            broker.start()
        with Client(broker.addr) as client, client.consume("keeper") as messages:
            found = messages.fetch(len(unsettled), timeout=20)
            assert {message.id for message in found} == unsettled
            assert all(message.payload == bytes(SIZE_BYTES) for message in found)
        with AdminClient(broker.addr) as admin:
            report = admin.run_gc()
            assert not any(segment.problem for segment in report.segments)
    finally:
        broker.kill()
    verified = inspect_well("verify", tmp_path / "store", "--json").objects[-1]
    assert verified["payloads_retired"] > 0


def _kill_during_gc(broker: BrokerProcess, after_secs: float) -> None:
    begun = threading.Event()

    def collect() -> None:
        with AdminClient(broker.addr) as admin, suppress(HermesError):
            begun.set()
            admin.run_gc()

    thread = threading.Thread(target=collect)
    thread.start()
    begun.wait(20)
    thread.join(after_secs)  # however far it comes in this time
    broker.kill()
    thread.join(20)
    assert not thread.is_alive()
