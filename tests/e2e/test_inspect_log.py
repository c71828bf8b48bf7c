"""`hermes-inspect log` on the store of a real broker: pipe, terminal, live, damaged."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from broker_process import BrokerProcess

import hermes
from hermes.log.segment import file_name, is_sealed_file
from tests.e2e.inspecting import (
    PROGRAM,
    following,
    inspect,
    inspect_well,
    on_terminal,
    without_escapes,
)


def kinds(*arguments: str | Path) -> list[str]:
    return [one["kind"] for one in inspect_well("log", "--json", *arguments).objects]


def lsns(*arguments: str | Path) -> list[int]:
    return [one["lsn"] for one in inspect_well("log", "--json", *arguments).objects]


# ------------------------------------------------------------------------ at rest


def test_every_record_is_a_line_and_an_object(scene: Path) -> None:
    objects = inspect_well("log", scene, "--json").objects
    assert [one["lsn"] for one in objects] == list(range(1, len(objects) + 1))
    assert objects[0]["kind"] == "server_started"
    assert objects[-1]["kind"] == "server_stopped"
    lines = inspect_well("log", scene).lines
    assert len(lines) == len(objects)
    assert all(line.split()[0] == str(n) for n, line in enumerate(lines, 1))
    assert not any("\x1b" in line for line in lines)


def test_the_store_is_found_as_for_every_command(scene: Path) -> None:
    by_argument = inspect_well("log", scene).out
    assert inspect_well("log", "--store", scene).out == by_argument
    assert inspect_well("log", HERMES_STORE_PATH=str(scene)).out == by_argument


def test_what_a_publish_and_a_delivery_say(scene: Path) -> None:
    (first, *_) = inspect_well("log", scene, "--json", "--offset", "0").objects
    assert first["subject"] == "orders.eu.created"
    assert (first["first"], first["last"], first["ids"]) == (0, 0, ["order-1"])
    assert (first["client_name"], first["payload_bytes"]) == ("shop", 51)
    (dead,) = inspect_well("log", scene, "--json", "-k", "dead_lettered", "--offset", "1").objects
    assert (dead["consumer"], dead["cause"]) == ("billing", "too_many_failures")
    assert (dead["reason"], dead["attempts"], dead["failures"]) == ("cannot be parsed", 2, 2)


def test_filters(scene: Path) -> None:
    assert kinds(scene, "--kind", "nacked,rejected") == ["nacked", "rejected", "nacked"]
    assert set(kinds(scene, "--kind", "live")) == {
        "published_live",
        "audience",
        "delivered_live",
        "subscription_opened",
        "subscription_closed",
    }
    assert kinds(scene, "--subject", "orders.us.*") == ["published"]
    assert set(kinds(scene, "--consumer", "slow")) == {
        "consumer_created",
        "member_joined",
        "delivered",
        "released",
        "member_left",
    }
    about = kinds(scene, "--consumer", "billing", "--subject", "orders.us.created")
    assert about == ["delivered", "rejected", "dead_lettered"]
    assert kinds(scene, "--offset", "2", "-c", "audit") == ["delivered", "acked"]
    assert kinds(scene, "--text", "such customer")[:2] == ["rejected", "dead_lettered"]
    assert kinds(scene, "--text", "NOT JSON") == ["published", "published"]
    assert lsns(scene, "--lsn", "5..7") == [5, 6, 7]


def test_pages_from_both_ends(scene: Path) -> None:
    everything = lsns(scene)
    assert lsns(scene, "--limit", "3") == everything[:3]
    assert lsns(scene, "--last", "3") == everything[-3:]
    acked = lsns(scene, "--kind", "acked")
    assert lsns(scene, "--kind", "acked", "-n", "2") == acked[-2:]
    assert lsns(scene, "--last", "0") == []


def test_times(scene: Path) -> None:
    objects = inspect_well("log", scene, "--json").objects
    middle = objects[30]["at"]
    after = lsns(scene, "--since", middle)
    assert after[0] <= 31 and after[-1] == len(objects)
    assert lsns(scene, "--since", "2999-01-01") == []
    assert lsns(scene, "--until", "-1d") == []
    assert len(lsns(scene, "--since", "-1d")) == len(objects)


def test_payloads(scene: Path) -> None:
    out = inspect_well("log", scene, "--payload", "auto", "--offset", "0..3", "-k", "published").out
    assert '"order": 7,' in out  # pretty JSON
    assert "region: eu" in out
    assert "not json \\x1b[31mred" in out
    assert "00000000  00 ff" in out  # not UTF-8: hex
    (one,) = inspect_well("log", scene, "--payload", "hex", "--lsn", "5", "--json").objects
    assert one["content"] == [{"offset": 2, "id": "order-3", "headers": {}, "payload": "{}"}]
    (live, *_) = inspect_well(
        "log", scene, "--payload", "text", "--text", "live 0", "--json"
    ).objects
    assert live["content"][0]["payload"] == "live 0"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--kind", "nope"], "no kind 'nope'; there are"),
        (["--payload", "xml"], "expected auto, text, json, hex"),
        (["--since", "soon"], "'soon' is no moment"),
        (["--offset", "a..b"], "expected a number, or a range"),
        (["--subject", "a..b"], "is not valid"),
        (["--limit", "1", "--last", "1"], "exclude each other"),
        (["--kind", "session_opened", "--consumer", "x"], "have no consumer"),
    ],
)
def test_a_wrong_invocation_is_one_line(scene: Path, arguments: list[str], complaint: str) -> None:
    ran = inspect("log", scene, *arguments)
    assert ran.code == 2
    assert ran.out == ""
    assert complaint in ran.err
    assert ran.err.count("\n") == 1


def test_no_store_is_one_line_and_its_code(tmp_path: Path) -> None:
    ran = inspect("log", tmp_path)
    assert (ran.code, ran.out) == (3, "")
    assert ran.err == f"hermes-inspect: {tmp_path} holds no store (name the folder of a store)\n"


def test_a_pipe_that_closes_ends_it(scene: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*PROGRAM, "log", str(scene)], stdout=writing, stderr=subprocess.PIPE, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


# --------------------------------------------------------------------- on a terminal


@pytest.mark.parametrize("columns", [80, 160])
def test_on_a_terminal_lines_are_coloured_and_fit(scene: Path, columns: int) -> None:
    code, out = on_terminal("log", scene, "--no-tui", columns=columns)
    assert code == 0
    assert "\x1b[" in out
    lines = without_escapes(out).splitlines()
    assert max(map(len, lines)) <= columns
    dated = [line for line in lines if re.search(r"\d{4}-\d\d-\d\d", line[:24])]
    assert (len(dated) == 1) == (columns == 80)  # the date on each line, or once a day


def test_without_colour_nothing_is_lost(scene: Path) -> None:
    _, coloured = on_terminal("log", scene, "--no-tui")
    _, plain = on_terminal("log", scene, "--no-tui", NO_COLOR="1")
    assert without_escapes(plain) == without_escapes(coloured)
    assert "\x1b[3" not in plain


# ------------------------------------------------------------------------------ live


@pytest.fixture
def broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BrokerProcess]:
    monkeypatch.setenv("HERMES_SEGMENT_BYTES", "1048576")
    with BrokerProcess(tmp_path / "store", tmp_path / "broker.log") as broker:
        yield broker


def test_following_a_live_store_over_a_roll(broker: BrokerProcess, tmp_path: Path) -> None:
    """It sees what is published, lets the old segment be sealed, and misses nothing."""
    store = tmp_path / "store"
    with (
        hermes.Client(broker.addr) as client,
        client.publisher() as publisher,
        ExitStack() as stack,
    ):
        publisher.send("a.b", b"first").result(20)
        process = stack.enter_context(
            following("log", store, "--json", "--follow", "--last", "1", "-k", "published")
        )
        assert process.stdout is not None
        seen = json.loads(process.stdout.readline())["last"]
        payload = os.urandom(100_000)
        for _ in range(40):
            publisher.send("a.b", payload).result(20)
        while seen < 40:
            record = json.loads(process.stdout.readline())
            assert record["first"] == seen + 1
            seen = record["last"]
        pause = threading.Event()
        for _ in range(200):  # the server seals what it rolled away from, reader or not
            if is_sealed_file(store / file_name(1)):
                break
            pause.wait(0.1)
        assert is_sealed_file(store / file_name(1))
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    assert len(list(store.glob("*.segment"))) > 2


def test_after_a_kill_the_wal_is_read(broker: BrokerProcess, tmp_path: Path) -> None:
    with hermes.Client(broker.addr) as client:
        client.publish("a.b", b"x", id="last words")
    broker.kill()
    assert list((tmp_path / "store").glob("*-wal"))
    assert kinds(tmp_path / "store", "--text", "last words") == ["published"]


# --------------------------------------------------------------------------- damaged


def test_a_damaged_log_is_shown_as_far_as_it_can_be_read(damaged: Path, scene: Path) -> None:
    ran = inspect("log", damaged, "--json")
    assert ran.code == 5
    (gap,) = [one for one in ran.objects if one["kind"] == "damage"]
    shown = [one["lsn"] for one in ran.objects if one["kind"] != "damage"]
    missing = list(range(gap["first_lsn"], gap["last_lsn"] + 1))
    assert 1 <= len(missing) < 20
    assert sorted(shown + missing) == lsns(scene)
    lines = inspect("log", damaged, "--last", "70").lines
    assert any(f"!!! records {missing[0]}..{missing[-1]}: " in line for line in lines)


def test_a_missing_segment_is_marked(broker: BrokerProcess, tmp_path: Path) -> None:
    with hermes.Client(broker.addr) as client, client.publisher() as publisher:
        for _ in range(40):
            publisher.send("a.b", os.urandom(100_000)).result(20)
    broker.__exit__()
    segments = sorted((tmp_path / "store").glob("*.segment"))
    first, after = int(segments[1].stem), int(segments[2].stem)
    segments[1].unlink()
    ran = inspect("log", tmp_path / "store", "--json")
    assert ran.code == 5
    (gap,) = [one for one in ran.objects if one["kind"] == "damage"]
    assert (gap["first_lsn"], gap["last_lsn"]) == (first, after - 1)
    assert f"records {first}..{after - 1} are missing" in ran.err
