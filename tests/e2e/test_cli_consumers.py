"""`hermes consume`, `consumers` and `dead-letters` against a real broker."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from broker_process import BrokerProcess

from hermes import Client
from tests.e2e.cli_running import Cli, started


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    folder = tmp_path_factory.mktemp("cli")
    with BrokerProcess(folder / "store", folder / "broker.log") as broker:
        yield broker


@pytest.fixture
def hermes(
    broker: BrokerProcess,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Cli:
    return Cli(broker.addr, capsys, monkeypatch, tmp_path)


def test_a_new_consumer_is_told_with_its_price(hermes: Cli) -> None:
    hermes.good("pub", "new.a", stdin=b"1\n2\n3\n")
    ran = hermes.good("consume", "newcomer", "new.>", "--count", "2", "--json")
    assert [message["payload"] for message in ran.objects] == ["1", "2"]
    assert ran.objects[0]["consumer"] == "newcomer"
    assert ran.objects[0]["attempt"] == 1
    assert ran.err.startswith("created consumer newcomer.")
    assert "payloads included" in ran.err
    assert "hermes consumers delete newcomer" in ran.err
    # Again: it goes on where it was, and nothing is created.
    ran = hermes.good("consume", "newcomer", "new.>", "--count", "1", "--json")
    assert [message["payload"] for message in ran.objects] == ["3"]
    assert ran.err == ""


def test_no_ack_hands_back(hermes: Cli) -> None:
    hermes.good("pub", "back.a", "x")
    first = hermes.good("consume", "back", "back.>", "--no-ack", "--count", "1", "--json")
    again = hermes.good("consume", "back", "back.>", "--count", "1", "--json")
    assert first.objects[0]["offset"] == again.objects[0]["offset"]
    assert again.objects[0]["attempt"] > 1


def test_what_was_not_shown_is_not_acknowledged(hermes: Cli) -> None:
    lines = [f"{number} " + "x" * 10_000 for number in range(50)]
    hermes.good("pub", "lost.a", stdin="\n".join(lines).encode())
    reading, writing = os.pipe()
    with started(hermes.address, "consume", "lost", "lost.>", "--json", stdout=writing) as command:
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            first = pipe.readline()
        code, err = command.end()
    assert code == 141, err
    assert err.startswith("created consumer lost.")
    assert err.count("\n") == 1
    assert json.loads(first)["payload"] == lines[0]
    # What was in the pipe when it broke counts as shown; never what came after.
    ran = hermes.good("consume", "lost", "lost.>", "--count", "1", "--json")
    assert 1 <= int(ran.objects[0]["payload"].split()[0]) <= 20


def test_settings_of_an_existing_consumer_are_not_changed_by_accident(hermes: Cli) -> None:
    hermes.good("pub", "set.a", "x")
    hermes.good("consume", "set", "set.a", "--count", "1")
    ran = hermes("consume", "set", "set.b", "--count", "1")
    assert ran.code == 1
    assert "filter" in ran.err
    assert ran.err.count("\n") == 1
    hermes.good("pub", "set.a", "z")
    joined = hermes.good("consume", "set", "--count", "1", "--json")  # whatever its filter is
    assert joined.objects[0]["payload"] == "z"
    assert "filter" in hermes("consume", "unset", "--count", "1").err
    hermes.good("pub", "set.b", "y")
    ran = hermes.good("consume", "set", "set.b", "--update", "--count", "1", "--json")
    assert ran.objects[0]["payload"] == "y"


def test_consumers_are_listed_shown_and_deleted(hermes: Cli) -> None:
    hermes.good("pub", "list.a", stdin=b"1\n2\n3\n")
    hermes.good("consume", "listed", "list.>", "--count", "1", "--ack-timeout", "90s")
    (found,) = [
        one for one in hermes.good("consumers", "--json").objects if one["name"] == "listed"
    ]
    assert found["filters"] == ["list.>"]
    assert found["members"] == 0
    assert found["lag"] + found["waiting"] == 2
    assert found["ack_timeout_ns"] == 90 * 10**9
    assert "listed" in hermes.good("consumers").out
    assert "1m 30s" in hermes.good("consumers", "show", "listed").out
    ran = hermes("consumers", "delete", "listed")
    assert ran.code == 2
    assert "--yes" in ran.err
    assert "2 messages were unsettled" in hermes.good("consumers", "delete", "listed", "-y").out
    assert hermes("consumers", "show", "listed").code == 1
    assert hermes("consumers", "delete", "listed", "-y").code == 1


@pytest.fixture
def dead(hermes: Cli, request: pytest.FixtureRequest) -> list[int]:
    """Three dead letters of the consumer `dead-<test>`, on `<test>.a` and `<test>.b`."""
    name = request.node.name
    for subject, payload in (("a", "1"), ("a", "2"), ("b", "3")):
        hermes.good("pub", f"{name}.{subject}", payload)
    offsets = []
    with (
        Client(hermes.address) as client,
        client.consume(f"dead-{name}", f"{name}.>") as messages,
    ):
        for message in messages.fetch(3, timeout=10):
            assert message.offset is not None
            offsets.append(message.offset)
            message.reject("cannot be \x1b[31mread", wait=True).result(10)
    assert len(offsets) == 3
    return offsets


def test_dead_letters_are_listed_and_shown(
    hermes: Cli, dead: list[int], request: pytest.FixtureRequest
) -> None:
    name = request.node.name
    found = hermes.good("dead-letters", "--consumer", f"dead-{name}", "--json").objects
    assert [letter["offset"] for letter in found] == dead
    assert {letter["reason"] for letter in found} == {"cannot be \x1b[31mread"}
    only = hermes.good("dead-letters", "list", "--filter", f"{name}.b", "--json").objects
    assert [letter["offset"] for letter in only] == dead[2:]
    assert "\x1b" not in hermes.good("dead-letters").out

    (detail,) = hermes.good("dead-letters", "show", f"dead-{name}", str(dead[1]), "--json").objects
    assert detail["payload"] == "2"
    assert detail["attempts"] == 1
    assert detail["history"][0]["kind"] == "delivered"
    assert len(detail["history"]) >= 2
    shown = hermes.good("dead-letters", "show", f"dead-{name}", str(dead[1])).out
    assert "cannot be \\x1b[31mread" in shown
    copies = hermes.good("read", f"_dead_letter.{name}.>", "--json").objects
    assert [copy["payload"] for copy in copies] == ["1", "2", "3"]


def test_replayed_ones_come_again(
    hermes: Cli, dead: list[int], request: pytest.FixtureRequest
) -> None:
    name = request.node.name
    consumer = f"dead-{name}"
    plan = hermes.good("dead-letters", "replay", consumer, "--filter", f"{name}.a", "--dry-run")
    assert plan.out == f"2 would be replayed: {dead[0]}, {dead[1]}\n"
    assert len(hermes.good("dead-letters", "-c", consumer, "--json").objects) == 3
    assert hermes.good("dead-letters", "replay", consumer, str(dead[2])).out == "replayed 1 of 1\n"
    # Once more: it is not dead any longer.
    again = hermes.good("dead-letters", "replay", consumer, str(dead[2]))
    assert again.out == f"no dead letter of {consumer} matches; nothing replayed\n"
    ran = hermes.good("consume", consumer, f"{name}.>", "--count", "1", "--json")
    assert ran.objects[0]["payload"] == "3"
    ran = hermes.good("dead-letters", "replay", consumer, "--all", "--yes")
    assert ran.out == "replayed 2 of 2\n"
    ran = hermes.good("consume", consumer, f"{name}.>", "--count", "2", "--json")
    assert [message["payload"] for message in ran.objects] == ["1", "2"]


def test_discarded_ones_are_gone(
    hermes: Cli, dead: list[int], request: pytest.FixtureRequest
) -> None:
    consumer = f"dead-{request.node.name}"
    assert hermes("dead-letters", "discard", consumer, str(dead[0])).code == 2
    ran = hermes.good("dead-letters", "discard", consumer, "--all", "-y")
    assert ran.out == "discarded 3 of 3\n"
    assert hermes.good("dead-letters", "-c", consumer).out == "No dead letters.\n"
    assert hermes("dead-letters", "show", consumer, str(dead[0])).code == 1
    (found,) = [
        one for one in hermes.good("consumers", "--json").objects if one["name"] == consumer
    ]
    assert found["dead"] == 0


def test_what_does_not_exist_is_told(hermes: Cli) -> None:
    for arguments in (
        ["consumers", "show", "nobody"],
        ["dead-letters", "show", "nobody", "0"],
        ["dead-letters", "replay", "nobody", "0"],
        ["dead-letters", "discard", "nobody", "0", "-y"],
    ):
        ran = hermes(*arguments)
        assert (ran.code, ran.out) == (1, ""), arguments
        assert ran.err.startswith("hermes: ")
        assert ran.err.count("\n") == 1
    assert hermes("consume", "", "a.b", "--count", "1").code == 1
    assert hermes("consume", "c", "foo*", "--count", "1").code == 1
    assert "c" not in [one["name"] for one in hermes.good("consumers", "--json").objects]
