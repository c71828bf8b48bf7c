"""SQL over the log answers as SQL over a plain table that holds all of it.

The plain table is SQLite's own, filled from the records one after another, without any
look-up. So whatever the virtual tables make of conditions, an index or an order must not
show. The store has several segments and was made by the real engine.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hermes import limits
from hermes.log import search
from hermes.log.log import open_log
from hermes.log.record import Kind, Record, StoredRecord, look_up_term
from hermes.log.sql import ReadOnlySql
from hermes_inspect import sql_events
from hermes_inspect.directory import Directory
from hermes_inspect.model import Gap, view_of
from hermes_inspect.rows import event_runs, parse_body
from hermes_inspect.sql_rows import event_columns, headers_text, moment
from hermes_inspect.sql_tables import functions, tables
from hermes_inspect.sql_walk import Walk
from hermes_inspect.store import Store, open_store
from tests.contract.records import Outcomes
from tests.support.story import Story

ACTIONS = 700

QUERIES = [
    # whole tables
    "SELECT * FROM events",
    "SELECT count(*) FROM events",
    "SELECT kind, consumer, count(*) FROM events GROUP BY kind, consumer",
    "SELECT DISTINCT subject FROM events",
    # by lsn
    "SELECT * FROM events WHERE lsn = 40",
    "SELECT * FROM events WHERE lsn BETWEEN 30 AND 90 AND kind = 'delivered'",
    "SELECT * FROM events WHERE lsn > 100.5 AND lsn <= 200.5",
    "SELECT * FROM events WHERE lsn IN (7, 90, 8, 300)",
    "SELECT * FROM events WHERE lsn = '50'",
    "SELECT * FROM events WHERE lsn < -3 OR lsn = 12",
    "SELECT lsn FROM events ORDER BY lsn DESC LIMIT 17",
    "SELECT lsn, kind FROM events WHERE lsn < 300 ORDER BY lsn LIMIT 9 OFFSET 4",
    # by offset
    "SELECT * FROM events WHERE message_offset = 20",
    "SELECT * FROM events WHERE message_offset BETWEEN 10 AND 13",
    "SELECT * FROM events WHERE message_offset IN (3, 4, 60)",
    "SELECT * FROM events WHERE message_offset >= 100 AND kind = 'published'",
    "SELECT lsn FROM events WHERE message_offset = 5 ORDER BY lsn DESC",
    "SELECT * FROM events WHERE message_offset = 8 AND consumer = 'c1'",
    "SELECT * FROM events WHERE message_offset IS NULL AND kind = 'delivered_live'",
    "SELECT * FROM events WHERE message_offset = NULL",
    # by consumer, kind
    "SELECT * FROM events WHERE consumer = 'c0'",
    "SELECT * FROM events WHERE consumer IN ('c1', 'c2', 'nobody') AND kind = 'acked'",
    "SELECT lsn, kind FROM events WHERE consumer = 'c1' ORDER BY lsn DESC LIMIT 5",
    "SELECT * FROM events WHERE consumer = 'C1' COLLATE NOCASE AND kind = 'nacked'",
    "SELECT * FROM events WHERE consumer = 5",
    "SELECT * FROM events WHERE kind IN ('snapshot', 'server_started', 'dead_lettered')",
    "SELECT * FROM events WHERE kind = 'Acked'",
    "SELECT * FROM events WHERE kind = 'kind_99' OR kind = 'segment_sealed'",
    "SELECT lsn FROM events WHERE kind = 'delivered_live' ORDER BY lsn DESC",
    # by subject
    "SELECT * FROM events WHERE subject = 'a.b'",
    "SELECT * FROM events WHERE subject = 'b' AND kind = 'published'",
    "SELECT lsn FROM events WHERE subject = 'b' AND kind = 'published' ORDER BY lsn DESC LIMIT 4",
    "SELECT lsn FROM events WHERE subject = 'b' ORDER BY lsn DESC LIMIT 4",
    "SELECT * FROM events WHERE subject IN ('a.c', 'a.*', 'a.b') AND kind <> 'acked'",
    "SELECT * FROM events WHERE subject = 'a.b' AND consumer = 'c1' AND lsn > 50",
    "SELECT lsn FROM events WHERE subject = 'a.b' AND consumer > 'c' ORDER BY lsn",
    "SELECT * FROM events WHERE subject = 'b' AND lsn BETWEEN 200 AND 400",
    "SELECT * FROM events WHERE subject IN (SELECT consumer FROM events)",
    # by id
    "SELECT * FROM events WHERE message_id = 'm3'",
    "SELECT * FROM events WHERE message_id IN ('m1', 'm2', 'none') AND consumer = 'c1'",
    "SELECT lsn FROM events WHERE message_id = 'm3' ORDER BY lsn DESC",
    "SELECT count(*) FROM events WHERE message_id LIKE '@%.1'",
    "SELECT * FROM events WHERE message_id = (SELECT min(message_id) FROM events)",
    # several at once
    "SELECT * FROM events WHERE message_offset = 4 OR consumer = 'c2' OR subject = 'b'",
    "SELECT * FROM events WHERE message_id = 'm3' OR lsn < 40",
    """SELECT p.message_offset, p.subject, a.lsn FROM events AS p JOIN events AS a
        ON a.message_offset = p.message_offset AND a.kind = 'acked'
        WHERE p.kind = 'published' AND p.lsn < 200""",
    """SELECT message_offset, max(attempt) FROM events WHERE kind = 'delivered'
        GROUP BY message_offset HAVING max(attempt) > 1""",
    "SELECT * FROM events WHERE payload_bytes > 0 AND headers IS NOT NULL",
    # records
    "SELECT * FROM records",
    "SELECT lsn, kind FROM records WHERE lsn >= 600 ORDER BY lsn DESC",
    "SELECT * FROM records WHERE kind = 6",
    "SELECT * FROM records WHERE kind IN (1, 4, 99, 200) AND key = 'b'",
    "SELECT * FROM records WHERE key IN ('c0', 'a.b')",
    "SELECT * FROM records WHERE first <= 20 AND last >= 20",
    "SELECT * FROM records WHERE first > 20 AND last < 40",
    "SELECT * FROM records WHERE first = 12",
    "SELECT * FROM records WHERE last = 12 AND kind = 1",
    "SELECT * FROM records WHERE first > 50 AND last < 20",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = random.Random(11)
    actions = [
        (rng.randrange(13), rng.randrange(1000), rng.randrange(1000)) for _ in range(ACTIONS)
    ]
    path = tmp_path_factory.mktemp("sql") / "store"
    store_again(path, Story().play(actions).records())
    return path


def store_again(path: Path, records: Sequence[StoredRecord]) -> None:
    """Make a store of the records of another log, at the same lsns, with their terms."""
    outcomes = Outcomes()
    with closing(open_log(path, outcomes)) as log:
        for r in records:
            if r.kind == Kind.SEGMENT_SEALED:
                continue  # made by the roll
            terms = tuple(look_up_term(text) for text in view_of(r).ids if text)
            record = Record(r.at_ns, r.kind, r.key, r.first, r.last, r.body, r.payload, terms)
            if r.lsn == log.next_lsn:
                log.append([record], r.lsn)
            else:
                log.roll(record, log.next_lsn)
        outcomes.wait_for(records[-1].lsn)


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    with open_store(folder) as opened:
        yield opened


@pytest.fixture(scope="module")
def plain(folder: Path) -> Iterator[sqlite3.Connection]:
    """All events and records, in ordinary tables."""
    with open_store(folder) as store, closing(sqlite3.connect(":memory:")) as db:
        names = [column.name for column in event_columns(payloads=True)]
        types = ", ".join(f"{c.name} {c.type}" for c in event_columns(payloads=True))
        db.execute(f"CREATE TABLE events ({types})")
        db.execute(
            """CREATE TABLE records (lsn INTEGER, at_ns INTEGER, kind INTEGER, key TEXT,
                first INTEGER, last INTEGER, body BLOB, payload_hash BLOB, chain BLOB)"""
        )
        records = store.reader.read(1, limit=10**6, limit_bytes=1 << 40)
        directory = Directory(
            lambda lsn: next((r for r in records if r.lsn == lsn), None),
            lambda offset: [r for r in records if r.kind == 1 and (r.last or 0) >= offset],
        )
        for r in records:
            for run in event_runs(r, parse_body(r), directory, payloads=True):
                for row in run.rows():
                    row["recorded_at"] = moment(r.at_ns)
                    row["headers"] = (
                        None if row["headers"] is None else headers_text(row["headers"])
                    )
                    db.execute(
                        f"INSERT INTO events VALUES ({','.join('?' * len(names))})",
                        [row[name] for name in names],
                    )
            bare = (r.lsn, r.at_ns, int(r.kind), r.key, r.first, r.last, r.body, r.payload_hash)
            db.execute("INSERT INTO records VALUES (?,?,?,?,?,?,?,?,?)", (*bare, r.chain))
        yield db


def whole(gap: Gap) -> None:
    raise AssertionError(f"nothing is damaged here: {gap}")


def ask(store: Store, statement: str) -> tuple[tuple[str, ...], list[Any]]:
    walk = Walk(store, whole)
    found = tables(store, walk, payloads=True)
    with closing(ReadOnlySql(found, functions(walk))) as sql:
        answer = sql.ask(statement)
        return answer.columns, list(answer)


def sorted_rows(rows: list[Any]) -> list[Any]:
    return sorted(rows, key=repr)


def expected(plain: sqlite3.Connection, statement: str) -> list[Any]:
    if "FROM records" in statement:
        names = "lsn, at_ns, kind, key, first, last, body, payload_hash, chain"
        statement = statement.replace("*", names)
    return plain.execute(statement).fetchall()


def check(store: Store, plain: sqlite3.Connection, statement: str) -> None:
    columns, rows = ask(store, statement)
    if "* FROM records" in statement:
        rows = [row[: columns.index("kind_name")] for row in rows]
    wanted = expected(plain, statement)
    if "ORDER BY" in statement:
        assert rows == wanted
    else:
        assert sorted_rows(rows) == sorted_rows(wanted)


def test_the_story_has_something_of_everything(plain: sqlite3.Connection) -> None:
    kinds = {kind for (kind,) in plain.execute("SELECT DISTINCT kind FROM events")}
    assert kinds >= {"published", "published_live", "delivered", "delivered_live", "acked"}
    assert kinds >= {"nacked", "expired", "dead_lettered", "replayed", "snapshot"}
    assert plain.execute("SELECT count(*) FROM records").fetchone()[0] > 800


@pytest.mark.parametrize("statement", QUERIES)
def test_as_a_plain_table(store: Store, plain: sqlite3.Connection, statement: str) -> None:
    check(store, plain, statement)


@pytest.mark.parametrize("statement", QUERIES)
def test_as_a_plain_table_by_index(
    store: Store, plain: sqlite3.Connection, statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a store so large that nothing of it is walked over if an index has it."""
    monkeypatch.setattr(sql_events, "FEW_RECORDS", 0)
    monkeypatch.setattr(sql_events, "NEAR_MESSAGES", 2)
    monkeypatch.setattr(sql_events, "TOGETHER_MESSAGES", 8)
    monkeypatch.setattr(limits, "SEARCH_WALK_MAX", 20)
    monkeypatch.setattr(limits, "SEARCH_SHORT_MAX", 0)
    monkeypatch.setattr("hermes_inspect.sql_walk.FIRST_PAGE_RECORDS", 2)
    monkeypatch.setattr("hermes_inspect.sql_walk.PAGE_RECORDS", 5)
    check(store, plain, statement)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM events WHERE message_offset = 20",
        "SELECT * FROM events WHERE message_offset IN (3, 4, 60)",
        "SELECT * FROM events WHERE consumer = 'c1'",
        "SELECT lsn FROM events WHERE consumer = 'c1' ORDER BY lsn DESC LIMIT 3",
        "SELECT * FROM events WHERE subject = 'a.c'",
        "SELECT * FROM events WHERE subject = 'b' AND kind = 'published'",
        "SELECT * FROM events WHERE message_id = 'm3'",
        "SELECT * FROM events WHERE kind = 'server_started'",
        "SELECT * FROM events WHERE message_offset = 4 OR message_id = 'm1'",
        "SELECT * FROM records WHERE key = 'b'",
        "SELECT * FROM records WHERE first <= 20 AND last >= 20",
        """SELECT a.lsn FROM events AS p JOIN events AS a ON a.message_offset = p.message_offset
            WHERE p.message_id = 'm2'""",
    ],
)
def test_look_ups_do_not_walk(
    store: Store, statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_events, "FEW_RECORDS", 0)
    monkeypatch.setattr(limits, "SEARCH_WALK_MAX", 20)
    monkeypatch.setattr(limits, "SEARCH_SHORT_MAX", 0)
    walks: list[object] = []

    def walk(*span: object) -> tuple[()]:
        walks.append(span)
        return ()

    monkeypatch.setattr(search._Span, "_walk", walk)
    read = store.reader.read

    def read_one(lsn: int, *, limit: int, **options: Any) -> Any:
        assert limit <= 2, "a session, a member or the oldest snapshot is read; nothing more"
        return read(lsn, limit=limit, **options)

    monkeypatch.setattr(store.reader, "read", read_one)
    _, rows = ask(store, statement)
    assert rows
    assert walks == []


def test_a_few_rows_cost_a_few_records(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    read = store.reader.read

    def counted(lsn: int, *, limit: int, **options: Any) -> Any:
        asked.append(limit)
        return read(lsn, limit=limit, **options)

    monkeypatch.setattr(store.reader, "read", counted)
    assert len(ask(store, "SELECT * FROM events LIMIT 5")[1]) == 5
    assert sum(asked) < 100


def test_the_log_is_seen_as_it_was_at_the_start(store: Store) -> None:
    walk = Walk(store, whole)
    walk.last_lsn = 100
    with closing(ReadOnlySql(tables(store, walk), functions(walk))) as sql:
        assert list(sql.ask("SELECT max(lsn), count(DISTINCT lsn) FROM events")) == [(100, 100)]
        assert list(sql.ask("SELECT lsn FROM records WHERE key = 'c1' AND lsn > 100")) == []
        assert list(
            sql.ask("SELECT count(*) FROM events WHERE message_id = 'm1' AND lsn > 100")
        ) == [(0,)]


def test_lsn_at_finds_a_moment(store: Store, plain: sqlite3.Connection) -> None:
    lsn, at = plain.execute(
        "SELECT lsn, recorded_at FROM events WHERE lsn > 200 LIMIT 1"
    ).fetchone()
    ((found,),) = ask(store, f"SELECT lsn_at('{at}')")[1]
    assert plain.execute("SELECT recorded_at FROM events WHERE lsn = ?", (found,)).fetchone() == (
        at,
    )
    assert found <= lsn


def test_consumers_and_segments_are_those_of_the_commands(store: Store) -> None:
    columns, rows = ask(store, "SELECT consumer, position, filters FROM consumers")
    assert columns == ("consumer", "position", "filters")
    assert {row[0] for row in rows} <= {"c0", "c1", "c2"} and rows
    assert all(row[2].startswith("[") for row in rows)
    _, found = ask(store, "SELECT first_lsn, last_lsn, sealed FROM segments")
    assert [row[0] for row in found] == [entry.first_lsn for entry in store.reader.entries()]
    assert found[-1][1:] == (store.last_lsn, 0)
