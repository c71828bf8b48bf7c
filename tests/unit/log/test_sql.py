"""SQL that can only read: what is refused, what is handed to a scan, how it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hermes import limits
from hermes.log.sql import ReadOnlySql, SqlError, SqlTimeoutError
from hermes.log.sql_table import Asked, Column, Find, Row, Table

ENDLESS = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c"


class Numbers:
    """Rows (n, text of n, n squared) for 0..19, and what was asked for them."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.yielded = 0

    def table(self) -> Table:
        columns = (
            Column("n", "INTEGER", find=Find.RANGE, equal_rows=1),
            Column("text", "TEXT", find=Find.EQUAL, equal_rows=1),
            Column("square", "INTEGER"),
        )
        return Table("numbers", "", columns, self.scan, lambda _: "n")

    def scan(self, asked: Asked) -> Iterator[Row]:
        self.asked.append(asked)
        for n in reversed(range(20)) if asked.newest_first else range(20):
            asked.check()
            self.yielded += 1
            yield (n, str(n), n * n, n)

    @property
    def conditions(self) -> list[tuple[str, str, Any]]:
        return [(c.column, c.op, c.value) for c in self.asked[-1].conditions]


class Ticking:
    """A clock that goes on by a second whenever it is looked at."""

    def __init__(self) -> None:
        self.ns = 0

    def wall_ns(self) -> int:
        return self.ns

    def monotonic_ns(self) -> int:
        self.ns += 10**9
        return self.ns


@pytest.fixture
def numbers() -> Numbers:
    return Numbers()


@pytest.fixture
def sql(numbers: Numbers) -> Iterator[ReadOnlySql]:
    with closing(ReadOnlySql([numbers.table()], {"twice": lambda n: 2 * n})) as connection:
        yield connection


# --------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO numbers VALUES (1, 2, 3)",
        "REPLACE INTO numbers VALUES (1, 2, 3)",
        "UPDATE numbers SET n = 1",
        "DELETE FROM numbers",
        "CREATE TABLE t (a)",
        "CREATE TEMP TABLE t (a)",
        "CREATE TABLE t AS SELECT * FROM numbers",
        "CREATE VIEW v AS SELECT 1",
        "CREATE TRIGGER t AFTER INSERT ON numbers BEGIN SELECT 1; END",
        "CREATE VIRTUAL TABLE t USING fts5(a)",
        "CREATE VIRTUAL TABLE t USING numbers",
        "CREATE INDEX i ON numbers (n)",
        "DROP TABLE numbers",
        "ALTER TABLE numbers RENAME TO others",
        "INSERT INTO sqlite_schema VALUES ('table', 't', 't', 2, 'x')",
        "ANALYZE",
        "REINDEX",
        "VACUUM",
        "BEGIN",
        "COMMIT",
        "SAVEPOINT s",
        "PRAGMA user_version = 3",
        "PRAGMA writable_schema = ON",
        "PRAGMA temp_store_directory = '/tmp'",
        "PRAGMA journal_mode",
        "SELECT * FROM pragma_user_version",
        "DETACH main",
        "SELECT load_extension('x')",
        "SELECT fts3_tokenizer('simple')",
        "SELECT readfile('/etc/passwd')",
        "SELECT writefile('x', 'y')",
    ],
)
def test_whatever_does_not_read_is_refused(
    sql: ReadOnlySql, numbers: Numbers, statement: str
) -> None:
    with pytest.raises(SqlError) as refused:
        list(sql.ask(statement))
    assert "\n" not in str(refused.value)
    assert numbers.asked == []
    assert list(sql.ask("SELECT count(*) FROM numbers")) == [(20,)]


@pytest.mark.parametrize("statement", ["ATTACH '{}' AS other", "VACUUM INTO '{}'"])
def test_no_file_is_made(sql: ReadOnlySql, tmp_path: Path, statement: str) -> None:
    with pytest.raises(SqlError, match="only reads"):
        list(sql.ask(statement.format(tmp_path / "other.db")))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("", "there is no statement"),
        ("-- nothing", "there is no statement"),
        ("SELECT 1; SELECT 2", "one statement at a time"),
        ("SELECT ?", "parameters"),
        ("SELEC 1", 'SQLite says: near "SELEC": syntax error'),
        ("SELECT nowhere FROM numbers", "no such column: nowhere"),
        ("SELECT * FROM nowhere", "no such table: nowhere"),
        ("SELECT zeroblob(1000000000)", "too big"),
        ("SELECT '" + "x" * limits.SQL_STATEMENT_BYTES_MAX + "'", "too big"),
        ("PRAGMA user_version = 3", "PRAGMA user_version"),
    ],
)
def test_errors_say_what_sqlite_said(sql: ReadOnlySql, statement: str, message: str) -> None:
    with pytest.raises(SqlError, match=message):
        list(sql.ask(statement))


@pytest.mark.parametrize(
    ("statement", "rows"),
    [
        ("SELECT 1;", [(1,)]),
        ("SELECT 1; -- and no more", [(1,)]),
        ("SELECT twice(21)", [(42,)]),
        ("SELECT name FROM sqlite_schema", [("numbers",)]),
        ("SELECT name FROM pragma_table_info('numbers')", [("n",), ("text",), ("square",)]),
        ("SELECT '[1]' -> 0", [("1",)]),
        ("VALUES (1), (2)", [(1,), (2,)]),
    ],
)
def test_what_reads_is_answered(sql: ReadOnlySql, statement: str, rows: list[Any]) -> None:
    assert list(sql.ask(statement)) == rows


def test_columns_are_known_without_rows(sql: ReadOnlySql) -> None:
    answer = sql.ask("SELECT n, n, square AS s FROM numbers WHERE n < 0")
    assert (answer.columns, list(answer)) == (("n", "n", "s"), [])


# ------------------------------------------------------------------------ what is asked


@pytest.mark.parametrize(
    ("where", "conditions"),
    [
        ("n = 3", [("n", "=", 3)]),
        ("n = twice(2)", [("n", "=", 4)]),
        ("n > 2 AND n <= 5", [("n", "<=", 5), ("n", ">", 2)]),
        ("n BETWEEN 2 AND 3", [("n", "<=", 3), ("n", ">=", 2)]),
        ("n IN (1, 5)", [("n", "in", {1, 5})]),
        ("n IN (SELECT square FROM numbers LIMIT 2)", [("n", "in", {0, 1})]),
        ("n = 1 OR n = 2", [("n", "in", {1, 2})]),
        ("text = '7' AND square > 2", [("text", "=", "7")]),
        ("text > '7'", []),
        ("text = '7' COLLATE NOCASE", []),
        ("n IS NULL", []),
        ("square = 4", []),
        ("n + 0 = 3", []),
        ("rowid = 3", []),
    ],
)
def test_conditions_reach_the_scan(
    sql: ReadOnlySql, numbers: Numbers, where: str, conditions: list[Any]
) -> None:
    rows = list(sql.ask(f"SELECT n FROM numbers WHERE {where}"))
    assert sorted(numbers.conditions) == conditions
    # Whatever a scan yields, SQLite checks it.
    assert len(rows) < 20


def test_only_the_columns_that_are_looked_at(sql: ReadOnlySql, numbers: Numbers) -> None:
    list(sql.ask("SELECT square FROM numbers WHERE n > 2"))
    assert numbers.asked[-1].columns == {"n", "square"}
    list(sql.ask("SELECT count(*) FROM numbers"))
    assert numbers.asked[-1].columns == set()


def test_the_newest_rows_need_no_sort(sql: ReadOnlySql, numbers: Numbers) -> None:
    assert list(sql.ask("SELECT n FROM numbers ORDER BY n DESC LIMIT 2")) == [(19,), (18,)]
    assert numbers.asked[-1].newest_first
    assert numbers.yielded <= 3


def test_who_stops_reading_stops_the_scan(sql: ReadOnlySql, numbers: Numbers) -> None:
    rows = iter(sql.ask("SELECT n FROM numbers"))
    assert [next(rows), next(rows)] == [(0,), (1,)]
    assert numbers.yielded <= 3


def test_a_row_that_fits_twice_comes_once(sql: ReadOnlySql, numbers: Numbers) -> None:
    rows = list(sql.ask("SELECT n FROM numbers WHERE n = 3 OR text = '3' OR text = '4'"))
    assert sorted(n for (n,) in rows) == [3, 4]
    assert len(numbers.asked) > 1  # found by two ways


# ------------------------------------------------------------------------- how it ends


@pytest.mark.parametrize(
    "statement", [ENDLESS, "SELECT sum(a.n) FROM numbers a, numbers b, numbers c, numbers d"]
)
def test_time_runs_out(numbers: Numbers, statement: str) -> None:
    with closing(ReadOnlySql([numbers.table()], clock=Ticking())) as sql:
        with pytest.raises(SqlTimeoutError, match="out of time"):
            list(sql.ask(statement, timeout_ns=5 * 10**9))
        # The next statement has its own time.
        assert list(sql.ask("SELECT 1", timeout_ns=5 * 10**9)) == [(1,)]


def test_ctrl_c_inside_of_sqlites_own_loop(numbers: Numbers) -> None:
    class Pressed(Ticking):
        def monotonic_ns(self) -> int:
            if super().monotonic_ns() > 3 * 10**9:
                raise KeyboardInterrupt
            return self.ns

    pressed = closing(ReadOnlySql([numbers.table()], clock=Pressed()))
    with pressed as sql, pytest.raises(KeyboardInterrupt):
        list(sql.ask(ENDLESS, timeout_ns=10**15))


def test_what_a_scan_raises_comes_through() -> None:
    def broken(_: Asked) -> Iterator[Row]:
        yield (1, 1)
        raise LookupError("it is gone")

    table = Table("t", "", (Column("a", "INTEGER"),), broken)
    with closing(ReadOnlySql([table])) as sql, pytest.raises(LookupError, match="it is gone"):
        list(sql.ask("SELECT * FROM t"))
