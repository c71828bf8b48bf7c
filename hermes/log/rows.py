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

from collections.abc import Iterator, Sequence
from itertools import islice
from types import NoneType
from typing import Any, Final, NamedTuple, NoReturn, TypeVar, cast

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


_WHOLE: Final = frozenset({int})
_WHOLE_OR_NULL: Final = frozenset({int, NoneType})
# Records checked at once, of up to so many bytes.
_AT_ONCE: Final = 16
_SMALL_BYTES: Final = 1024


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


def typed(row: Sequence[Any], shape: type[_Row]) -> _Row:
    """A row as a struct or a named tuple with these columns; or rows as a list of them."""
    try:
        return msgspec.convert(row, shape, builtin_types=(bytes,))
    except msgspec.ValidationError as error:
        raise apsw.CorruptError(f"a value is not of its column's type: {error}") from error


def first_record(db: apsw.Connection, sql: str, parameters: Parameters = ()) -> StoredRecord | None:
    """The first row of a StoredRecord's columns, None without one."""
    row = db.execute(sql, parameters).fetchone()
    return None if row is None else typed(row, StoredRecord)


def records(db: apsw.Connection, sql: str, parameters: Parameters = ()) -> Iterator[StoredRecord]:
    """Rows of a StoredRecord's columns.

    Checked by some at once, which costs a quarter, as long as they are small: whoever takes
    few of them must not wait for large ones to be read.
    """
    cursor = db.execute(sql, parameters)
    at_once = 1
    while rows := list(islice(cursor, at_once)):
        found = typed(rows, list[StoredRecord])
        yield from found
        size_bytes = len(found[-1].body) + len(found[-1].payload or b"")
        at_once = _AT_ONCE if size_bytes <= _SMALL_BYTES else 1


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
        if not _WHOLE_OR_NULL.issuperset(map(type, row)):
            _refuse_numbers(row)
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


def _whole(row: tuple[Any, ...]) -> None:
    if not _WHOLE.issuperset(map(type, row)):
        _refuse_numbers(row)


def _refuse_numbers(row: tuple[Any, ...]) -> NoReturn:
    kinds = ", ".join(type(value).__name__ for value in row)
    raise apsw.CorruptError(f"a value is not of its column's type: {kinds} for whole numbers")
