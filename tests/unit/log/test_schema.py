"""No look-up scans; pragmas are applied and read back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from hermes.errors import StoreError
from hermes.log import schema
from hermes.log.chain import genesis
from hermes.log.database import apply, connect, connect_to_read
from hermes.log.facts import Mark
from hermes.log.segment import create_segment
from tests.contract.records import event, publish

STORE_ID = "6f0d1c9e-0000-4000-8000-000000000001"


@pytest.fixture
def segment(tmp_path: Path) -> Path:
    return create_segment(tmp_path, STORE_ID, Mark(0, 0, genesis(STORE_ID)), (publish(0),))


@pytest.fixture
def db(segment: Path) -> Iterator[apsw.Connection]:
    db = connect_to_read(segment)
    yield db
    db.close()


def plan(db: apsw.Connection, sql: str, parameters: int) -> list[str]:
    return [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", (1,) * parameters)]


@pytest.mark.parametrize("sql", schema.LOOKUPS, ids=lambda sql: re.sub(r"\s+", " ", sql)[:60])
def test_a_lookup_searches(db: apsw.Connection, sql: str) -> None:
    steps = plan(db, sql, schema.LOOKUPS[sql])
    searched = [step for step in steps if step.startswith("SEARCH")]
    assert searched, steps
    assert [step for step in steps if "SCAN" in step or "TEMP B-TREE" in step] == []
    # Every search is bounded by a key, none walks an index from its end.
    assert all("(" in step for step in searched), steps


def test_lookups_by_the_index_alone(db: apsw.Connection) -> None:
    """What is asked often reads no rows."""
    for sql in (schema.MESSAGES_OF_KEY, schema.PUBLISHES_OF_KEY, schema.PUBLISHES_WALK):
        steps = plan(db, sql, schema.LOOKUPS[sql])
        assert all("COVERING INDEX" in step for step in steps), steps


@pytest.mark.parametrize("sql", [schema.NOT_FIRST, schema.NOT_LAST])
def test_many_bounds_are_looked_up_by_the_index_alone(db: apsw.Connection, sql: str) -> None:
    steps = plan(db, sql, 1)
    assert any("COVERING INDEX by_offset" in step for step in steps), steps
    assert not any("SCAN r" in step or "TEMP B-TREE" in step for step in steps), steps


def test_every_lookup_is_listed() -> None:
    listed = {
        value
        for name, value in vars(schema).items()
        if name[0] != "_" and isinstance(value, str) and value.startswith("SELECT")
    }
    # The end of a segment by rowid, a dictionary to be listed, a handful of facts, lists of
    # bounds (above); and what a compaction asks of the copy that it makes.
    unlisted = {schema.LAST_RECORD, schema.SUBJECTS, schema.META}
    unlisted |= {schema.NOT_FIRST, schema.NOT_LAST}
    assert listed - set(schema.LOOKUPS) == unlisted | {schema.LAST_TERM, schema.COUNT_TERMS}


def test_the_last_record_reads_one_row(tmp_path: Path) -> None:
    records = [event(34, "k", n) for n in range(2_000)]  # type: ignore[arg-type]
    path = create_segment(tmp_path, STORE_ID, Mark(0, 0, genesis(STORE_ID)), records)
    db = connect_to_read(path)
    pages = db.status(apsw.SQLITE_DBSTATUS_CACHE_MISS)[0]
    assert db.execute(schema.LAST_RECORD).fetchone()[0] == 2_000  # type: ignore[index]
    assert db.status(apsw.SQLITE_DBSTATUS_CACHE_MISS)[0] - pages < 6
    db.close()


def test_pragmas_hold(segment: Path) -> None:
    db = connect(segment)
    lasting = {"page_size", "auto_vacuum", "application_id", "user_version", "journal_mode"}
    built = [pragma for pragma in schema.BUILD_PRAGMAS if pragma.name in lasting]
    assert len(built) == len(lasting)
    for pragma in (*schema.WRITE_PRAGMAS, *built):
        assert db.pragma(pragma.name) == pragma.expected, pragma.name
        assert pragma.why
    db.close()
    db = connect_to_read(segment)
    for pragma in schema.READ_PRAGMAS:
        assert db.pragma(pragma.name) == pragma.expected, pragma.name
    with pytest.raises(apsw.ReadOnlyError):
        db.execute("DELETE FROM records")
    db.close()


def test_a_pragma_that_does_not_take_refuses() -> None:
    db = apsw.Connection(":memory:")
    wal = next(pragma for pragma in schema.WRITE_PRAGMAS if pragma.name == "journal_mode")
    with pytest.raises(StoreError, match="journal_mode"):
        apply(db, wal)


def test_rows_are_in_few_indexes(segment: Path) -> None:
    """The price of a commit: a frequent row is in two indexes, no more."""
    db = connect(segment)
    indexes = [
        f"SELECT count(*) FROM records INDEXED BY {name} WHERE {where}"
        for name, where in [
            ("by_key", "key IS NOT NULL"),
            ("by_offset", "first IS NOT NULL"),
            ("by_kind", "kind >= 17"),
        ]
    ]
    named = db.execute("SELECT name FROM sqlite_schema WHERE sql LIKE 'CREATE INDEX%'").fetchall()
    assert sorted(named) == [("by_key",), ("by_kind",), ("by_offset",)]
    assert [db.execute(sql).fetchone() for sql in indexes] == [(1,), (1,), (0,)]
    db.close()
