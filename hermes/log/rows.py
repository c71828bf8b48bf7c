"""What a statement answers, in the types that its columns were written with.

SQLite holds a value to its column's type when it is written, not when it is read: one
flipped bit in a row's header makes a float of a number or nothing of a text. Here bytes of
a file become values, so here they are checked, once, and what fails is apsw.CorruptError,
as it would be if SQLite looked. A TypeError or ValueError further up is then a fault of
this program, and is never taken for damage of a file.

Every function raises apsw.Error. Whether a value of the right type is what was committed,
the chain tells (`checking.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import apsw
import msgspec

from hermes.log import schema
from hermes.log.database import fetch_one
from hermes.log.record import StoredRecord

_Row = TypeVar("_Row")

Parameters = Sequence[int | str | bytes]
Numbers = tuple[int, ...]
NumbersOrNull = tuple[int | None, ...]
# lsn, key id, first, last
SpanRow = tuple[int, int | None, int | None, int | None]


# Types of a StoredRecord's columns that were found right: a few, NULL or not per column.
_PASSED: set[tuple[type, ...]] = set()


class Key(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A row of a segment's dictionary."""

    id: int
    text: str


class Announced(NamedTuple):
    """A SegmentCompacted: see `schema.ANNOUNCED`."""

    lsn: int
    first: int | None
    last: int | None
    body: bytes


class Proof(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a record's hashes are over, beside the record: see `schema.PROOF`."""

    salt: bytes | None
    before: bytes


def typed(row: tuple[Any, ...], shape: type[_Row]) -> _Row:
    """A row as a struct or a named tuple with these columns."""
    try:
        return msgspec.convert(row, shape, builtin_types=(bytes,))
    except msgspec.ValidationError as error:
        raise apsw.CorruptError(f"a value is not of its column's type: {error}") from error


def first_record(db: apsw.Connection, sql: str, parameters: Parameters = ()) -> StoredRecord | None:
    """The first row of a StoredRecord's columns, None without one."""
    row = db.execute(sql, parameters).fetchone()
    return None if row is None else typed(row, StoredRecord)


def records(db: apsw.Connection, sql: str, parameters: Parameters = ()) -> Iterator[StoredRecord]:
    """Rows of a StoredRecord's columns."""
    for row in db.execute(sql, parameters):
        # Only types are checked, so rows of types that passed once need not be taken apart.
        types = tuple(map(type, row))
        if types in _PASSED:
            yield StoredRecord(*row)
        else:
            record = typed(row, StoredRecord)
            _PASSED.add(types)
            yield record


def one_record(db: apsw.Connection, sql: str, parameters: Parameters = ()) -> StoredRecord:
    """The only row of a StoredRecord's columns. Raises StoreDamagedError if there is none."""
    return typed(fetch_one(db, sql, parameters), StoredRecord)


def hull_of(published: StoredRecord) -> tuple[int, int]:
    """First and last offset of a record that must have them."""
    if published.first is None or published.last is None:
        raise apsw.CorruptError(f"record {published.lsn} has lost its offsets")
    return published.first, published.last


def numbers(db: apsw.Connection, sql: str, parameters: Parameters = ()) -> Iterator[Numbers]:
    """Rows of whole numbers."""
    for row in db.execute(sql, parameters):
        _whole(row)
        yield row


def announcements(db: apsw.Connection, after_lsn: int) -> Iterator[Announced]:
    """The SegmentCompacted records after an lsn, newest first."""
    for row in db.execute(schema.ANNOUNCED, (after_lsn,)):
        yield typed(row, Announced)


def numbers_or_null(
    db: apsw.Connection, sql: str, parameters: Parameters = ()
) -> Iterator[NumbersOrNull]:
    """Rows of whole numbers and NULLs."""
    for row in db.execute(sql, parameters):
        _whole(value for value in row if value is not None)
        yield row


def spans(db: apsw.Connection, sql: str, parameters: Parameters) -> Iterator[SpanRow]:
    """Rows of lsn, key id, first and last."""
    return cast("Iterator[SpanRow]", numbers_or_null(db, sql, parameters))


def one_of(db: apsw.Connection, sql: str, parameters: Parameters = ()) -> Numbers:
    """The only row of whole numbers. Raises StoreDamagedError if there is none."""
    row: Numbers = fetch_one(db, sql, parameters)
    _whole(row)
    return row


def first_numbers(db: apsw.Connection, sql: str, parameters: Parameters = ()) -> Numbers | None:
    """The first row of whole numbers, None without one."""
    row: Numbers | None = db.execute(sql, parameters).fetchone()
    if row is not None:
        _whole(row)
    return row


def _whole(values: Iterable[Any]) -> None:
    for value in values:
        if type(value) is not int:
            kind = type(value).__name__
            raise apsw.CorruptError(f"a value is not of its column's type: a {kind} for a number")
