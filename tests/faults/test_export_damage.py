"""An export hashes what it exports: what is not what was committed is named."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import pytest

from hermes.errors import StoreDamagedError
from hermes_inspect.export import Request, export
from hermes_inspect.store import EXIT_DAMAGED
from tests.e2e.inspecting import inspect
from tests.support.stored import store_records
from tests.support.tampering import segment, segments
from tests.support.world import World, messages


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Two segments of messages, delivered and acked."""
    world = World()
    worker = world.join("c", credit=100)
    world.publish(messages(3))
    world.run()
    worker.ack((0, 2))
    world.run()
    world.engine.roll()
    world.run()
    world.publish(messages(3))
    world.run()
    worker.ack((3, 5))
    world.run()
    return store_records(tmp_path / "store", world.records())


def flip(store: Path, column: str, *, newest: bool) -> int:
    """Flip a bit at the end of one publish's payload or body; returns its lsn."""
    order = "DESC" if newest else "ASC"
    for path in segments(store)[:: -1 if newest else 1]:
        with segment(path) as db:
            row = db.execute(
                f"SELECT lsn, {column} FROM records WHERE payload IS NOT NULL ORDER BY lsn {order}"
            ).fetchone()
            if row is not None:
                lsn, value = row
                changed = value[:-1] + bytes((value[-1] ^ 1,))
                db.execute(f"UPDATE records SET {column} = ? WHERE lsn = ?", (changed, lsn))
                return int(lsn)
    raise AssertionError("no record has a payload")


@pytest.mark.parametrize("newest", [False, True])
@pytest.mark.parametrize("column", ["payload", "body", "chain"])
def test_a_changed_record_is_named(column: str, newest: bool, store: Path, tmp_path: Path) -> None:
    """A flipped payload used to be exported without a word: only `verify` of the store knew."""
    lsn = flip(store, column, newest=newest)
    out = tmp_path / "out"
    found = export(Request(store, out)).manifest.damage
    # Of a changed link nobody can tell whether it or the next record is wrong.
    changed = [lsn] if column != "chain" else [lsn, lsn + 1]
    assert found == tuple(f"record {n} is not what was committed" for n in changed)
    ran = inspect("export", tmp_path / "again", "--store", store)
    assert ran.code == EXIT_DAMAGED
    assert f"the store is damaged: {found[0]}" in ran.err


def test_an_incremental_export_goes_on_telling(store: Path, tmp_path: Path) -> None:
    lsn = flip(store, "payload", newest=False)
    out = tmp_path / "out"
    first = export(Request(store, out, to_lsn=lsn)).manifest
    assert len(first.damage) == 1
    assert export(Request(store, out, incremental=True)).manifest.damage == first.damage


def test_a_store_of_changed_records_is_not_exported(store: Path, tmp_path: Path) -> None:
    for path in segments(store):
        with segment(path) as db:
            db.execute("UPDATE records SET at_ns = at_ns + 1")
    with (
        patch("hermes_inspect.export_plan.CHANGED_MAX", 3),
        pytest.raises(StoreDamagedError, match="more than 3 records are not what was committed"),
    ):
        export(Request(store, tmp_path / "out"))
    assert not (tmp_path / "out" / "manifest.json").exists()
