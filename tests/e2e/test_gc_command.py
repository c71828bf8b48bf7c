"""`hermes gc`, and what hermes-inspect says of a store that was collected."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from broker_process import BrokerProcess

from hermes import Client
from tests.e2e.cli_running import Cli
from tests.e2e.inspecting import inspect, inspect_well

RETENTION_SECS = 1


def test_the_plan_the_round_and_what_the_inspector_says_after_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    monkeypatch.setenv("HERMES_RETENTION_SECS", f"{RETENTION_SECS}")
    monkeypatch.setenv("HERMES_SEGMENT_BYTES", "200000")
    with BrokerProcess(store, tmp_path / "log") as broker:
        hermes = Cli(broker.addr, capsys, monkeypatch, tmp_path)
        with Client(broker.addr) as client:
            with client.consume("forgotten", "b.>"):
                pass
            for n in range(12):
                client.publish("a.x", bytes(40_000), id=f"a{n}")
            with client.consume("worker", "a.>") as messages:
                for message in messages.fetch(12, timeout=20):
                    message.ack(wait=True).result(20)
            for n in range(6):
                client.publish("b.x", bytes(40_000), id=f"b{n}")
        past = inspect_well("consumers", store, "--json").objects
        time.sleep(RETENTION_SECS + 0.2)

        plan = hermes.good("gc", "--dry-run")
        assert "compact" in plan.out
        assert "would be freed" in plan.out
        assert "ABANDONED: consumer forgotten keeps" in plan.out
        assert "hermes consumers delete forgotten" in plan.out
        before = hermes.good("gc", "--dry-run", "--json").objects
        assert sum(line.get("retired_messages", 0) for line in before) >= 10
        (kept,) = [line for line in before if line.get("consumer") == "forgotten"]
        assert (kept["abandoned"], kept["lag"]) == (True, 6)

        done = hermes.good("gc")
        assert "compacted" in done.out
        assert " freed in " in done.out
        assert "compact" not in {
            line.get("action") for line in hermes.good("gc", "--dry-run", "--json").objects
        }
        read = [json.loads(line) for line in hermes.good("read", "--json").out.splitlines()]
        assert {f"b{n}" for n in range(6)} <= {message["id"] for message in read}
        assert "a0" not in {message["id"] for message in read}

    verified = inspect_well("verify", store, "--json").objects[-1]
    assert verified["payloads_retired"] >= 10
    trace = inspect_well("trace", "a0", "--store", store).out
    assert "its payload is no longer held" in trace
    assert "segment compacted" in trace
    assert "worker acked" in trace
    assert inspect_well("consumers", store, "--json").objects[0]["position"] == past[0]["position"]
    assert inspect_well("at", "20", "--store", store).out
    out = tmp_path / "export"
    exported = inspect("export", "--store", store, out)
    assert exported.code == 0, exported.err

    with BrokerProcess(store, tmp_path / "log") as broker, Client(broker.addr) as client:
        with client.consume("forgotten") as messages:
            found = messages.fetch(6, timeout=20)
            assert [message.id for message in found] == [f"b{n}" for n in range(6)]
        with client.consume("fresh", ">") as messages:
            first = messages.fetch(1, timeout=20)[0]
            assert first.id == read[0]["id"]


def test_what_goes_unsettled_is_on_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    monkeypatch.setenv("HERMES_RETENTION_SECS", f"{RETENTION_SECS}")
    monkeypatch.setenv("HERMES_MAX_UNACKED_RETENTION_SECS", f"{RETENTION_SECS}")
    monkeypatch.setenv("HERMES_SEGMENT_BYTES", "100000")
    with BrokerProcess(store, tmp_path / "log") as broker:
        hermes = Cli(broker.addr, capsys, monkeypatch, tmp_path)
        with Client(broker.addr) as client:
            with client.consume("late", ">", start="all"):
                pass
            for n in range(8):
                client.publish("a.x", bytes(40_000), id=f"a{n}")
            with client.consume("slow", "a.>", max_in_flight=1) as messages:
                messages.fetch(1, timeout=20)[0].nack(delay=3600, wait=True).result(20)
        time.sleep(RETENTION_SECS + 0.2)
        done = hermes.good("gc", "--json").objects
        lost = [line["lost"] for line in done if line.get("lost")]
        assert lost[0]["slow"] >= 1
        assert lost[0]["late"] >= 1
        dead = hermes.good("dead-letters", "list", "--json").objects[0]
        assert (dead["offset"], dead["subject"], dead["message_id"]) == (0, "a.x", "a0")
        assert dead["reason"].startswith("payload retired undelivered")
        shown = hermes.good("dead-letters", "show", "slow", "0").out
        assert "its payload is no longer held" in shown
        refused = hermes("dead-letters", "replay", "slow", "0", "--yes")
        assert refused.code == 1
        assert "its payload is retired" in refused.err
    trace = inspect_well("trace", "a0", "--store", store).out
    assert "payload retired undelivered" in trace
    assert "slow dead" in trace
    assert "late payload retired undelivered" in trace
