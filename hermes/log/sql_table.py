"""[P] Tables for SQL, as data: their columns, and a function that yields their rows.

SQLite is told which conditions a scan can use (`Column.find`) and hands their values over;
it checks every row again itself, so a scan may yield more than was asked for, never less,
and a condition it cannot make sense of may be ignored. That makes a wrong answer hard to
write: what a scan does with conditions only decides how fast it is.

Rules
- Rows are yielded lazily: who stops reading stops the scan.
- A row is the values of all columns in order, then its row id: an integer that is the same
  for the same row in every scan (SQLite tells rows apart by it, for OR).

What SQLite makes of it is in `sql_virtual.py`, what the tables mean is the caller's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Any, Final

import msgspec

Row = Sequence[Any]


class Find(Enum):
    """Which conditions on a column a scan can use."""

    NOTHING = 0
    EQUAL = 1  # = and IN
    RANGE = 2  # also < <= > >=


class _Unknown(Enum):
    UNKNOWN = 0


UNKNOWN: Final = _Unknown.UNKNOWN


class Column(msgspec.Struct, frozen=True):
    """`type` is SQLite's: INTEGER, TEXT, BLOB. `about` is a line for people.

    `equal_rows` guesses how many rows have one value, for SQLite to choose by.
    """

    name: str
    type: str
    about: str = ""
    find: Find = Find.NOTHING
    equal_rows: int = 1_000_000


class Condition(msgspec.Struct, frozen=True):
    """`column op value`. For `in` the value is a set. While SQLite still plans it is often
    UNKNOWN. Of any type: SQLite does not convert what is compared with a column."""

    column: str
    op: str  # = in < <= > >=
    value: Any


class Asked(msgspec.Struct, frozen=True):
    """What a scan is asked for: all `conditions` hold. Only `columns` are looked at, others
    may be None. `check` is to be called now and then, and raises when time is up."""

    conditions: tuple[Condition, ...]
    columns: frozenset[str]
    newest_first: bool
    check: Callable[[], None]


def _no_order(_: Sequence[Condition]) -> str:
    return ""


class Table(msgspec.Struct, frozen=True):
    """`order` names the column that rows come sorted by under some conditions, ascending or
    (`Asked.newest_first`) descending; "" for none. `rows` guesses how many there are."""

    name: str
    about: str
    columns: tuple[Column, ...]
    scan: Callable[[Asked], Iterator[Row]]
    order: Callable[[Sequence[Condition]], str] = _no_order
    rows: int = 1_000_000
