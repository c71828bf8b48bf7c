"""`hermes consumers` and `hermes dead-letters`, and the AdminClient beneath them."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hermes.cli.main import run
from hermes.client.admin import AdminClient
from hermes.errors import ClosedError, ConnectionLostError, InvalidArgumentError, NotFoundError
from tests.unit.cli import admin_fake


@pytest.fixture
def fake() -> admin_fake.FakeAdmin:
    return admin_fake.FakeAdmin()


@pytest.fixture
def address(fake: admin_fake.FakeAdmin) -> Iterator[str]:
    with admin_fake.serving(fake) as address:
        yield address


class Ran:
    """The outcome of one command line."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def objects(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def hermes(
    address: str, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> Callable[..., Ran]:
    monkeypatch.setenv("HERMES_SERVER", address)
    monkeypatch.setattr(sys, "stdin", io.StringIO())

    def call(*arguments: str) -> Ran:
        code = run(arguments)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return call


# ------------------------------------------------------------------- consumers


def test_list_is_the_default_and_pages(hermes: Callable[..., Ran]) -> None:
    for arguments in (["consumers"], ["consumers", "list"]):
        ran = hermes(*arguments)
        assert ran.code == 0
        header, *rows = ran.out.splitlines()
        assert " ".join(header.split()) == "NAME FILTER POSITION LAG IN FLIGHT WAITING DEAD MEMBERS"
        assert rows.pop() == (
            "billing: offsets 20..39 cannot be read: 20 messages not offered yet, 1 unsettled"
        )
        assert [row.split()[0] for row in rows] == ["billing", "evil\\x1b[31m", "shipping"]
        assert "1,200" in rows[0]


def test_list_as_json(hermes: Callable[..., Ran]) -> None:
    ran = hermes("consumers", "--json")
    assert [consumer["name"] for consumer in ran.objects] == ["billing", "evil\x1b[31m", "shipping"]
    billing = ran.objects[0]
    assert billing["created_at"] == "2026-01-01T00:00:00.000000000Z"
    assert billing["created_at_ns"] == admin_fake.AT_NS
    assert (billing["lag"], billing["in_flight"], billing["waiting"], billing["dead"]) == (
        1_200,
        2,
        1,
        3,
    )
    assert ran.out.replace("\n", "").isprintable()


def test_no_consumers(fake: admin_fake.FakeAdmin, hermes: Callable[..., Ran]) -> None:
    fake.consumers.clear()
    assert hermes("consumers").out.startswith("No consumers.")
    assert hermes("consumers", "--json").out == ""


def test_show(hermes: Callable[..., Ran]) -> None:
    ran = hermes("consumers", "show", "billing")
    assert ran.code == 0
    for fact in ("lag                1,200", "1s doubling to 5m", "30s", "worker", "never"):
        assert fact in ran.out
    (detail,) = hermes("consumers", "show", "billing", "--json").objects
    assert detail["members"][0]["credit_messages"] == 1_000
    assert detail["oldest_unacked_offset"] == 4
    assert "keeps              messages from offset 4 on (waiting)" in ran.out
    assert "damaged            offsets 20..39 cannot be read" in ran.out
    assert (detail["pin"]["offset"], detail["withheld"][0]["unread"]) == (4, 20)


def test_delete_asks(fake: admin_fake.FakeAdmin, hermes: Callable[..., Ran]) -> None:
    ran = hermes("consumers", "delete", "billing")
    assert ran.code == 2
    assert "1,206 unsettled messages" in ran.err
    assert "--yes" in ran.err
    assert "billing" in fake.consumers
    assert hermes("consumers", "delete", "billing", "--yes").code == 0
    assert "billing" not in fake.consumers


def test_delete_does_what_is_answered(
    fake: admin_fake.FakeAdmin, hermes: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("typer.confirm", lambda *_, **__: False)
    monkeypatch.setattr(sys, "stdin", Terminal())
    assert hermes("consumers", "delete", "billing").code == 1
    assert "billing" in fake.consumers
    monkeypatch.setattr("typer.confirm", lambda *_, **__: True)
    assert hermes("consumers", "delete", "billing").code == 0
    assert "billing" not in fake.consumers


def test_what_does_not_exist_is_one_line(hermes: Callable[..., Ran]) -> None:
    for arguments in (["show", "lost"], ["delete", "lost", "--yes"]):
        ran = hermes("consumers", *arguments)
        assert (ran.code, ran.out) == (1, "")
        assert ran.err == "hermes: no consumer lost (look again)\n"


def test_nobody_listens(hermes: Callable[..., Ran]) -> None:
    ran = hermes("consumers", "--server", "127.0.0.1:1")
    assert ran.code == 1
    assert ran.err.count("\n") == 1
    assert "is `hermes serve` running at 127.0.0.1:1?" in ran.err


# ----------------------------------------------------------------- dead letters


def test_dead_letters_are_listed(hermes: Callable[..., Ran]) -> None:
    ran = hermes("dead-letters")
    assert ran.code == 0
    assert [row.split()[1] for row in ran.out.splitlines()[1:]] == ["0", "4", "9"]
    assert "ValueError: no\\x1b such order" in ran.out
    (first, *_) = hermes("dead-letters", "--json", "-c", "billing").objects
    assert first["dead_at"] == "2026-01-01T00:00:00.000000000Z"
    assert first["copy_offset"] is None
    assert hermes("dead-letters", "list", "--consumer", "shipping").out == "No dead letters.\n"


def test_a_dead_letter_with_its_history(hermes: Callable[..., Ran]) -> None:
    ran = hermes("dead-letters", "show", "billing", "4")
    assert ran.code == 0
    assert "sec\\x1bond" in ran.out  # the second message of its batch, and escaped
    assert "first" not in ran.out
    assert "nacked" in ran.out
    (detail,) = hermes("dead-letters", "show", "billing", "4", "--json").objects
    assert detail["payload"] == "sec\x1bond"
    assert detail["headers"] == {"k": "v"}
    assert [step["kind"] for step in detail["history"]] == ["delivered", "nacked"]
    assert detail["history"][0]["at"] == "2026-01-01T00:00:00.000000000Z"
    assert hermes("dead-letters", "show", "billing", "5").code == 1


@pytest.mark.parametrize("verb", ["replay", "discard"])
def test_a_selection_is_needed(
    verb: str, fake: admin_fake.FakeAdmin, hermes: Callable[..., Ran]
) -> None:
    for wrong in ([], ["4", "--all"], ["--all", "--filter", "orders.>"]):
        ran = hermes("dead-letters", verb, "billing", *wrong)
        assert ran.code == 2
        assert "say which" in ran.err
    assert hermes("dead-letters", verb, "billing", "-1").code == 2
    assert hermes("dead-letters", verb, "billing", "four").code == 2
    assert fake.changes == []


@pytest.mark.parametrize("verb", ["replay", "discard"])
def test_a_dry_run_changes_nothing(
    verb: str, fake: admin_fake.FakeAdmin, hermes: Callable[..., Ran]
) -> None:
    ran = hermes("dead-letters", verb, "billing", "--all", "--dry-run")
    assert ran.code == 0
    assert ran.out.startswith("3 would be")
    assert ran.out.endswith(": 0, 4, 9\n")
    assert fake.changes == []


@pytest.mark.parametrize("verb", ["replay", "discard"])
def test_all_must_be_confirmed(
    verb: str, fake: admin_fake.FakeAdmin, hermes: Callable[..., Ran]
) -> None:
    ran = hermes("dead-letters", verb, "billing", "--all")
    assert ran.code == 2
    assert "3 dead letters of billing" in ran.err
    assert fake.changes == []
    ran = hermes("dead-letters", verb, "billing", "--all", "--yes", "--json")
    assert ran.objects == [
        {
            "consumer": "billing",
            "dry_run": False,
            "matched": 3,
            "changed": 3,
            "offsets": [0, 4, 9],
        }
    ]
    assert [list(change.offsets) for change in fake.changes] == [[]]


def test_replay_of_named_offsets_needs_no_question(
    fake: admin_fake.FakeAdmin, hermes: Callable[..., Ran]
) -> None:
    ran = hermes("dead-letters", "replay", "billing", "4", "9", "--rate", "50")
    assert ran.out == "replayed 2 of 2\n"
    (change,) = fake.changes
    assert list(change.offsets) == [4, 9]
    assert change.messages_per_second == 50


def test_discard_always_asks(fake: admin_fake.FakeAdmin, hermes: Callable[..., Ran]) -> None:
    assert hermes("dead-letters", "discard", "billing", "4").code == 2
    assert fake.changes == []
    assert hermes("dead-letters", "discard", "billing", "4", "-y").out == "discarded 1 of 1\n"


# -------------------------------------------------------------------- the client


def test_no_offsets_are_not_all_offsets(fake: admin_fake.FakeAdmin, address: str) -> None:
    with AdminClient(address) as admin:
        assert admin.discard_dead_letters("billing", offsets=[]).changed == 0
    assert fake.changes == []


def test_errors_are_hermes_errors(address: str) -> None:
    with AdminClient(address) as admin:
        with pytest.raises(NotFoundError, match="no consumer lost"):
            admin.consumer("lost")
        assert admin.server().version == "9.9"
    with pytest.raises(ClosedError):
        admin.server()
    with (
        AdminClient("127.0.0.1:1", timeout=5) as nobody,
        pytest.raises(ConnectionLostError, match="hermes serve"),
    ):
        nobody.server()
    with pytest.raises(InvalidArgumentError):
        AdminClient(address, timeout=-1)
