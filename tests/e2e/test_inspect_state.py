"""`hermes-inspect` trace, consumers, segments, stats and at on the store of a real broker."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from broker_process import BrokerProcess

import hermes
from hermes.client.admin import AdminClient
from tests.e2e.inspecting import inspect, inspect_well, on_terminal, without_escapes


def traced(scene: Path, *arguments: str) -> dict[str, Any]:
    (one,) = inspect_well("trace", "--store", scene, "--json", *arguments).objects
    return one


def told(trace: dict[str, Any], consumer: str) -> list[str]:
    return [step["kind"] for step in trace["steps"] if step.get("consumer") == consumer]


# ------------------------------------------------------------------------------ trace


def test_the_story_of_a_dead_letter_that_was_replayed(scene: Path) -> None:
    trace = traced(scene, "order-2")
    assert (trace["offset"], trace["subject"]) == (1, "orders.eu.created")
    assert trace["message"]["payload"] == "not json \x1b[31mred"
    assert told(trace, "billing") == [
        *("delivered", "nacked", "delivered", "nacked"),
        *("dead_lettered", "replayed", "delivered", "acked"),
    ]
    (copy,) = [step for step in trace["steps"] if step.get("dead_letter_consumer")]
    assert copy["subject"] == "_dead_letter.orders.eu.created"
    first, *others = trace["steps"]
    assert (first["kind"], first["client_name"], first["gap_ns"]) == ("published", "shop", 0)
    assert all(step["gap_ns"] >= 0 for step in others)
    assert others[0]["client_name"] == "billing-worker"
    (replayed,) = [step for step in others if step["kind"] == "replayed"]
    assert replayed["client_name"] == "operator"
    standings = {one["consumer"]: one for one in trace["consumers"]}
    assert (standings["billing"]["outcome"], standings["billing"]["attempts"]) == ("acked", 3)
    assert standings["slow"]["outcome"] == "not delivered yet"
    assert "settled_at" in standings["audit"]


def test_expiry_release_and_rejection(scene: Path) -> None:
    trace = traced(scene, "0")
    assert told(trace, "sleepy") == ["delivered", "expired", "delivered", "acked"]
    assert told(trace, "slow") == ["delivered", "released"]
    assert {one["consumer"]: one["outcome"] for one in trace["consumers"]}["slow"] == "waiting"
    dead = traced(scene, "@2")
    assert told(dead, "billing") == ["delivered", "rejected", "dead_lettered"]
    assert {one["consumer"]: one["outcome"] for one in dead["consumers"]}["billing"] == "dead"


def test_a_message_in_the_middle_of_a_batch(scene: Path) -> None:
    trace = traced(scene, "5")
    assert trace["subject"] == "metrics.cpu"
    assert trace["message"]["offset"] == 5
    assert told(trace, "audit") == ["delivered", "acked"]
    assert told(trace, "billing") == []
    assert [one["consumer"] for one in trace["consumers"]] == ["audit"]


def test_live_messages_by_id_and_by_place(scene: Path) -> None:
    trace = traced(scene, "live-1")
    assert "offset" not in trace
    published, delivered = trace["steps"]
    assert published["kind"] == "published_live"
    receivers = {one["client_name"]: one.get("queue_groups") for one in delivered["receivers"]}
    assert receivers["watcher"] is None
    assert sorted(receivers) in (["desk-1", "watcher"], ["desk-2", "watcher"])
    assert traced(scene, f"@{published['lsn']}.0") == trace


def test_the_timeline_for_a_person(scene: Path) -> None:
    lines = inspect_well("trace", "--store", scene, "order-2").lines
    assert lines[0] == "orders.eu.created @1 id order-2"
    assert any("dead lettered" in line and "too many failures" in line for line in lines)
    assert all(" +" in line for line in lines[2:-4])
    assert len(lines) == 1 + len(traced(scene, "order-2")["steps"]) + 4
    assert lines[-1].split() == ["slow", "not", "delivered", "yet"]
    code, out = on_terminal("trace", "--store", scene, "order-2")
    assert code == 0
    assert max(map(len, without_escapes(out).splitlines())) <= 80


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("99", "no message at offset 99 yet: the newest is 9"),
        ("nobody", "no message 'nobody' in"),
        ("@12345.0", "no message '@12345.0' in"),
    ],
)
def test_what_is_not_there(scene: Path, name: str, complaint: str) -> None:
    ran = inspect("trace", "--store", scene, name)
    assert (ran.code, ran.out) == (1, "")
    assert complaint in ran.err
    assert ran.err.count("\n") == 1


# -------------------------------------------------------------------- consumers, at


def test_consumers_agree_with_the_broker(tmp_path: Path) -> None:
    """Beside a live server: position, lag, leases and members as the server itself says."""
    store = tmp_path / "store"
    with BrokerProcess(store, tmp_path / "log") as broker, hermes.Client(broker.addr) as client:
        for n in range(10):
            client.publish(f"orders.{n % 2}", b"x")
        with (
            client.consume("even", "orders.0", max_in_flight=2) as member,
            AdminClient(broker.addr) as admin,
        ):
            member.fetch(2, timeout=20)[0].ack(wait=True).result(20)
            member.fetch(1, timeout=20)
            theirs = admin.consumer("even").consumer
            (ours,) = inspect_well("consumers", store, "--json").objects
    assert (ours["consumer"], ours["filters"]) == ("even", ["orders.0"])
    assert (ours["position"], ours["lag"]) == (theirs.position, theirs.lag)
    assert (ours["in_flight"], len(ours["members"])) == (theirs.in_flight, theirs.members)
    assert (ours["in_flight"], ours["lag"]) == (2, 2)
    assert ours["oldest_unacked_offset"] == 2
    assert ours["oldest_unacked_age_ns"] > 0
    assert sum(lease["last"] - lease["first"] + 1 for lease in ours["leases"]) == 2


def test_consumers_at_rest(scene: Path) -> None:
    found = {one["consumer"]: one for one in inspect_well("consumers", scene, "--json").objects}
    assert list(found) == ["audit", "billing", "sleepy", "slow"]
    assert (found["slow"]["waiting"], found["slow"]["lag"]) == (1, 2)
    assert (found["billing"]["dead"], found["billing"]["lag"]) == (1, 0)
    code, out = on_terminal("consumers", scene)
    assert code == 0
    assert max(map(len, without_escapes(out).splitlines())) <= 80


def test_the_state_at_an_lsn_and_at_a_time(scene: Path) -> None:
    records = inspect_well("log", scene, "--json").objects
    delivered = next(one for one in records if one["kind"] == "delivered")
    (then,) = inspect_well("at", str(delivered["lsn"]), "-s", scene, "--json").objects
    assert then["as_of_lsn"] == delivered["lsn"]
    assert (then["consumer"], then["position"], then["in_flight"]) == ("billing", 3, 3)
    assert then["members"][0]["client_name"] == "billing-worker"
    first, second = (one for one in records if one["kind"] == "dead_lettered")
    by_time = inspect_well("at", second["at"], "-s", scene, "--json").objects
    assert [one["dead"] for one in by_time if one["consumer"] == "billing"] == [2]
    by_lsn = inspect_well("at", str(first["lsn"]), "-s", scene, "--json").objects
    assert [one["dead"] for one in by_lsn if one["consumer"] == "billing"] == [1]
    before = inspect_well("at", "2", "-s", scene)
    assert before.lines[-1] == "no consumers"


@pytest.mark.parametrize(
    ("when", "code", "complaint"),
    [
        ("100000", 1, "after the end"),
        ("1990-01-01", 1, "before the first"),
        ("now", 2, "no moment"),
    ],
)
def test_moments_that_the_log_does_not_know(
    scene: Path, when: str, code: int, complaint: str
) -> None:
    ran = inspect("at", when, "--store", scene)
    assert (ran.code, ran.out) == (code, "")
    assert complaint in ran.err


# ------------------------------------------------------------------ segments, stats


def test_segments_and_what_pins_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERMES_SEGMENT_BYTES", "1048576")
    store = tmp_path / "store"
    with (
        BrokerProcess(store, tmp_path / "log") as broker,
        hermes.Client(broker.addr) as client,
    ):
        with client.consume("reader", "big.>", start="new"):
            pass
        with client.publisher() as publisher:
            for _ in range(30):
                publisher.send("big.a", bytes(100_000)).result(20)
        found = inspect_well("segments", store, "--json").objects
        assert len(found) > 2
        assert [one["sealed"] for one in found] == [True] * (len(found) - 1) + [False]
        assert found[0]["first_lsn"] == 1
        for before, after in pairwise(found):
            assert after["first_lsn"] == before["last_lsn"] + 1
        assert sum(one["records"] for one in found) == found[-1]["last_lsn"]
        assert "'reader' still needs offset 0" in found[0]["pinned_by"]
        with client.consume("reader") as member:
            for _ in range(30):
                member.fetch(1, timeout=20)[0].ack(wait=True).result(20)
    found = inspect_well("segments", store, "--json").objects
    assert [one["pinned_by"] for one in found] == [None] * (len(found) - 1) + ["active"]
    assert "retention only" in inspect_well("segments", store).out


def test_stats(scene: Path) -> None:
    whole, *rows = inspect_well("stats", scene, "--json").objects
    assert whole["kinds"]["published"] == 6
    subjects = {one["subject"]: one for one in rows if "subject" in one}
    assert (subjects["metrics.cpu"]["messages"], subjects["metrics.cpu"]["batches"]) == (5, 1)
    assert subjects["news.a"]["live_messages"] == 3
    consumers = {one["consumer"]: one for one in rows if "consumer" in one}
    billing = consumers["billing"]
    assert (billing["delivered"], billing["redelivered"], billing["acked"]) == (5, 1, 2)
    assert (billing["nacked"], billing["rejected"], billing["dead"]) == (2, 1, 2)
    assert consumers["sleepy"]["expired"] == 1
    latency = consumers["audit"]["publish_to_ack"]
    assert latency["measured"] == 8
    assert 0 < latency["p50_ns"] <= latency["p99_ns"] <= latency["max_ns"]
    part, *_ = inspect_well("stats", scene, "--json", "--lsn", "3..6").objects
    assert (part["records"], part["kinds"]) == (4, {"published": 4})
    assert "publish → ack" in inspect_well("stats", scene).out
    code, out = on_terminal("stats", scene)
    assert code == 0
    assert "deliver → ack" in without_escapes(out)
