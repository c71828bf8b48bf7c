"""One table of exit codes: every condition of a store, through every command."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from hermes.log.log import open_log
from hermes.log.segment import file_name
from hermes_inspect.cli import COMMANDS
from tests.contract.records import Outcomes
from tests.e2e.inspecting_many import Command, inspect_many
from tests.support.permissions import NOBODY, public_folder

BROKEN = 1


@pytest.fixture
def public() -> Iterator[Path]:
    with public_folder() as folder:
        yield folder


def make(condition: str, store: Path, scene: Path) -> None:
    """A store in this condition; `scene` is a sound one."""
    if condition == "no store":
        store.mkdir()
    elif condition == "empty":
        open_log(store, Outcomes()).close()
    else:
        shutil.copytree(scene, store)
        segment = store / file_name(1)
        if condition == "newer":
            with sqlite3.connect(segment) as db:
                db.execute("PRAGMA user_version = 99")
            db.close()
        elif condition == "damaged":
            with sqlite3.connect(segment) as db:
                db.execute("DELETE FROM records WHERE lsn = (SELECT max(lsn) FROM records)")
            db.close()
        elif condition == "unreadable":
            for path in store.iterdir():
                path.chmod(0)
            store.chmod(0)


def arguments(command: str, store: Path, out: Path) -> list[str | Path]:
    before: dict[str, list[str | Path]] = {
        "trace": ["1"],
        "at": ["2"],
        "sql": ["SELECT count(*) FROM records"],
        "export": [out],
    }
    return [command, *before.get(command, ()), "--store", store]


@pytest.mark.parametrize(
    ("condition", "code"),
    [
        ("sound", 0),
        ("no store", 3),
        ("newer", 4),
        ("damaged", 5),
        ("empty", 6),
        ("unreadable", 7),
    ],
)
def test_a_condition_has_the_same_code_from_every_command(
    scene: Path, public: Path, condition: str, code: int
) -> None:
    store, out = public / "store", public / "out"
    make(condition, store, scene)
    warm = []
    user = None
    if condition == "unreadable" and os.geteuid() == 0:
        user = NOBODY
        make("no store", public / "none", scene)
        warm = [arguments(command, public / "none", out) for command in COMMANDS]
    try:
        commands = [arguments(command, store, out) for command in COMMANDS]
        told = dict(zip(COMMANDS, inspect_many(commands, user=user, warm=warm), strict=True))
    finally:
        store.chmod(0o755)
        shutil.rmtree(store)
    expected = dict.fromkeys(COMMANDS, code)
    if condition == "damaged":
        expected["verify"] = BROKEN
    assert {command: ran.code for command, ran in told.items()} == expected, {
        command: ran.err for command, ran in told.items()
    }
    for command, ran in told.items():
        if code in (3, 4, 6, 7):
            assert ran.out == "" and len(ran.err.splitlines()) == 1, (command, ran.err)
            assert ran.err.startswith("hermes-inspect")


def test_a_body_that_is_no_message_is_damage(scene: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(scene, store)
    with sqlite3.connect(store / file_name(1)) as db:
        db.execute("UPDATE records SET body = x'ff' WHERE first IS NOT NULL")
    db.close()
    commands: list[Command] = [["trace", "1", "--store", store], ["at", "20", "--store", store]]
    for ran in inspect_many(commands):
        assert (ran.code, ran.out) == (5, ""), ran.err
        assert "run verify" in ran.err and "Traceback" not in ran.err


def test_what_is_no_export_and_a_newer_one(scene: Path, tmp_path: Path) -> None:
    out, newer = tmp_path / "out", tmp_path / "newer"
    inspect_many([["export", out, "--store", scene]])
    newer.mkdir()
    manifest = (out / "manifest.json").read_text()
    (newer / "manifest.json").write_text(
        manifest.replace('"schema_version": ', '"schema_version": 9')
    )
    commands: list[Command] = [
        ["verify", "--export", tmp_path],
        ["verify", "--export", newer],
        ["verify", "--export", out],
        ["verify", "--export", out, "--pubkey", str(scene / "HEAD")],
        ["verify", "--nonsense"],
    ]
    assert [ran.code for ran in inspect_many(commands)] == [3, 4, 0, 2, 2]
