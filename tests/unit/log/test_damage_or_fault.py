"""What is taken for damage of a sealed segment, and what is a fault of this program.

A TypeError or ValueError of a look-up counted as damage, whatever had raised it: a fault in
our own code would have put a sound segment into quarantine.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from hermes.errors import SegmentDamagedError, StoreDamagedError, StoreError
from hermes.log.log import SqliteLog
from hermes.log.reader import SqliteReader
from tests.contract.records import BIG, publish
from tests.support.folders import StoreFolder, three_segments
from tests.support.tampering import segment, segments


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    three_segments(tmp_path / "store", publish(4), killed=False)
    return tmp_path / "store"


def reader_of(folder: Path) -> tuple[SqliteLog, SqliteReader]:
    log = StoreFolder(folder).open()
    reader = log.reader()
    assert isinstance(reader, SqliteReader)
    return log, reader


def read_all(reader: SqliteReader) -> None:
    reader.read(1, limit=99, limit_bytes=BIG)
    reader.publishes(2, limit=99, limit_bytes=BIG)


def our_fault(error: Exception) -> Callable[[apsw.Connection], Any]:
    def ask(db: apsw.Connection) -> None:
        raise error

    return ask


@pytest.mark.parametrize(
    "error", [TypeError("None + 1"), ValueError("not so"), KeyError("x"), AssertionError()]
)
def test_our_own_fault_is_no_damage(folder: Path, error: Exception) -> None:
    log, reader = reader_of(folder)
    with pytest.raises(type(error)) as caught:
        reader.look(reader.entries()[1], our_fault(error))
    assert caught.value is error
    log.close()


def test_nor_is_a_statement_that_sqlite_does_not_take(folder: Path) -> None:
    log, reader = reader_of(folder)
    with pytest.raises(StoreError, match="no such column") as caught:
        reader.look(reader.entries()[1], lambda db: db.execute("SELECT none FROM records"))
    assert not isinstance(caught.value, StoreDamagedError)
    log.close()


def sqlite_error(name: str) -> apsw.Error:
    """An error as a look-up meets it, with its extended code."""
    error = apsw.exception_for(getattr(apsw, name))
    assert isinstance(error, apsw.Error)
    return error


@pytest.mark.parametrize(
    "error",
    [
        sqlite_error("SQLITE_IOERR_NOMEM"),
        sqlite_error("SQLITE_IOERR_ACCESS"),
        sqlite_error("SQLITE_IOERR_SHMOPEN"),
        sqlite_error("SQLITE_NOMEM"),
        sqlite_error("SQLITE_CANTOPEN"),
        OSError(errno.EMFILE, os.strerror(errno.EMFILE)),
        PermissionError(errno.EACCES, os.strerror(errno.EACCES)),
    ],
    ids=str,
)
def test_what_the_process_lacks_is_no_damage(folder: Path, error: Exception) -> None:
    """No memory, no descriptor, no permission: the bytes may be as sound as ever."""
    log, reader = reader_of(folder)
    with pytest.raises(StoreError) as caught:
        reader.look(reader.entries()[1], our_fault(error))
    assert not isinstance(caught.value, StoreDamagedError)
    log.close()


@pytest.mark.parametrize("name", ["SQLITE_IOERR_READ", "SQLITE_IOERR_SHORT_READ"])
def test_what_the_medium_does_not_give_is_damage(folder: Path, name: str) -> None:
    log, reader = reader_of(folder)
    with pytest.raises(SegmentDamagedError, match="IOError"):
        reader.look(reader.entries()[1], our_fault(sqlite_error(name)))
    log.close()


def test_tables_that_were_changed_are_damage(folder: Path) -> None:
    """One bit makes another name of a column: SQLite finds fault with the statement."""
    log, reader = reader_of(folder)
    with segment(segments(folder)[1]) as db:
        db.execute("ALTER TABLE records RENAME COLUMN body TO bodx")
    with pytest.raises(SegmentDamagedError, match="tables are not what they were"):
        reader.read(1, limit=99, limit_bytes=BIG)
    log.close()


def test_tables_whose_names_are_no_text_are_damage(folder: Path) -> None:
    # Found by flipped bits: the changed name was read as text, and what should have named the
    # damage, `verify` too, ended with a UnicodeDecodeError.
    log, reader = reader_of(folder)
    with segment(segments(folder)[1]) as db:
        db.execute("PRAGMA writable_schema = ON")
        (sql,) = db.execute("SELECT sql FROM sqlite_schema WHERE name = 'records'").fetchone()
        flipped = sql.encode().replace(b"body", b"b\xf4dy")
        change = "UPDATE sqlite_schema SET sql = CAST(? AS TEXT) WHERE name = 'records'"
        db.execute(change, (flipped,))
    with pytest.raises(SegmentDamagedError, match="tables are not what they were"):
        reader.read(1, limit=99, limit_bytes=BIG)
    log.close()


def loosen(path: Path, column: str, value: str) -> None:
    """Put a value of another type into every row of a table that was made to take it."""
    with segment(path) as db:
        (sql,) = db.execute("SELECT sql FROM sqlite_schema WHERE name = 'records'").fetchone()
        loose = sql.replace(" STRICT", "")
        for kind in ("INTEGER NOT NULL", "BLOB NOT NULL", "INTEGER", "BLOB"):
            loose = loose.replace(f"{column} {kind}", column)
        db.execute("PRAGMA writable_schema = ON")
        change = "UPDATE sqlite_schema SET sql = ? WHERE name = 'records'"
        db.execute(change, (loose,))
        db.commit()
        db.execute("PRAGMA writable_schema = RESET")
        db.execute(f"UPDATE records SET {column} = {value}")
        db.execute("PRAGMA writable_schema = ON")
        db.execute(change, (sql,))


@pytest.mark.parametrize(
    ("column", "value"),
    [("at_ns", "0.5"), ("first", "'x'"), ("last", "0.5"), ("body", "7"), ("chain", "NULL")],
)
def test_a_value_of_another_type_is_damage(folder: Path, column: str, value: str) -> None:
    log, reader = reader_of(folder)
    loosen(segments(folder)[1], column, value)
    with pytest.raises(SegmentDamagedError, match="not of its column's type") as caught:
        read_all(reader)
    assert caught.value.fields["first_lsn"] == 4
    log.close()


def test_a_text_that_is_none_is_damage(folder: Path) -> None:
    log, reader = reader_of(folder)
    with segment(segments(folder)[1]) as db:
        db.execute("UPDATE keys SET text = CAST(x'ff80' AS TEXT)")
    with pytest.raises(SegmentDamagedError, match="UnicodeDecodeError"):
        reader.read(1, limit=99, limit_bytes=BIG)
    log.close()
