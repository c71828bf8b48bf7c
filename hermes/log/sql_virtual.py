"""Virtual tables: how SQLite plans and reads the tables of `sql_table.py`.

Nothing can be written: the modules have no such methods. Names that begin with a capital
are SQLite's, by way of apsw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import apsw
import msgspec

from hermes.log.sql_table import UNKNOWN, Asked, Condition, Find, Row, Table

_RANGES: Final = {
    apsw.SQLITE_INDEX_CONSTRAINT_GT: ">",
    apsw.SQLITE_INDEX_CONSTRAINT_GE: ">=",
    apsw.SQLITE_INDEX_CONSTRAINT_LT: "<",
    apsw.SQLITE_INDEX_CONSTRAINT_LE: "<=",
}
# A range leaves so much of a table, SQLite is told: half, and half again for its other end.
_RANGE_SHARE: Final = 0.5
# What a scan costs before its first row, in rows.
_SCAN_COST: Final = 100


def add_table(db: apsw.Connection, table: Table, check: Callable[[], None]) -> None:
    """Make a table known to a connection, and to its schema."""
    module: Any = _Module(table, check)
    db.create_module(table.name, module, use_bestindex_object=True, read_only=True)
    db.execute(f"CREATE VIRTUAL TABLE {table.name} USING {table.name}")


class _Plan(msgspec.Struct, array_like=True):
    """What was agreed while SQLite planned: for each value handed over its column and
    operator; the columns that are looked at."""

    conditions: list[tuple[str, str]]
    columns: frozenset[str]
    newest_first: bool


class _Module:
    def __init__(self, table: Table, check: Callable[[], None]) -> None:
        self._table = table
        self._check = check

    def Create(self, *_: Any) -> tuple[str, _Virtual]:  # noqa: N802 - apsw's names
        columns = ", ".join(f"{column.name} {column.type}" for column in self._table.columns)
        return f"CREATE TABLE it ({columns})", _Virtual(self._table, self._check)

    Connect = Create


class _Virtual:
    """One table of a connection: plans, and opens cursors."""

    def __init__(self, table: Table, check: Callable[[], None]) -> None:
        self._table = table
        self._check = check

    def BestIndexObject(self, info: apsw.IndexInfo) -> bool:  # noqa: N802
        taken = []
        for i in range(info.nConstraint):
            condition = self._condition(info, i)
            if condition is None:
                continue
            if condition.op == "in":
                info.set_aConstraintUsage_in(i, True)  # the whole set at once
            taken.append(condition)
            info.set_aConstraintUsage_argvIndex(i, len(taken))
        newest_first = self._order(info, taken)
        columns = self._table.columns
        used = frozenset(columns[i].name for i in info.colUsed if i < len(columns))
        plan = _Plan([(one.column, one.op) for one in taken], used, newest_first)
        info.idxStr = msgspec.json.encode(plan).decode()
        info.estimatedRows = self._guess(taken)
        info.estimatedCost = _SCAN_COST + float(info.estimatedRows)
        return True

    def _condition(self, info: apsw.IndexInfo, i: int) -> Condition | None:
        """A constraint, if a scan can use it."""
        number, op = info.get_aConstraint_iColumn(i), info.get_aConstraint_op(i)
        if number < 0 or not info.get_aConstraint_usable(i):
            return None
        column = self._table.columns[number]
        if column.find is Find.NOTHING:
            return None
        if op == apsw.SQLITE_INDEX_CONSTRAINT_EQ:
            # COLLATE NOCASE finds more than an index does.
            if info.get_aConstraint_collation(i) != "BINARY":
                return None
            if info.get_aConstraintUsage_in(i):
                return Condition(column.name, "in", UNKNOWN)
            value = info.get_aConstraint_rhs(i)
            return Condition(column.name, "=", UNKNOWN if value is None else value)
        if op in _RANGES and column.find is Find.RANGE:
            return Condition(column.name, _RANGES[op], UNKNOWN)
        return None

    def _order(self, info: apsw.IndexInfo, taken: list[Condition]) -> bool:
        """Tell SQLite whether it need not sort; returns whether to walk backwards."""
        if info.nOrderBy != 1:
            return False
        number = info.get_aOrderBy_iColumn(0)
        order = self._table.order(taken)
        if number < 0 or not order or self._table.columns[number].name != order:
            return False
        info.orderByConsumed = True
        return info.get_aOrderBy_desc(0)

    def _guess(self, taken: list[Condition]) -> int:
        equal_rows = {column.name: column.equal_rows for column in self._table.columns}
        rows = float(self._table.rows)
        for condition in taken:
            if condition.op in "=in":
                rows = min(rows, equal_rows[condition.column])
            else:
                rows *= _RANGE_SHARE
        return max(1, int(rows))

    def Open(self) -> _Cursor:  # noqa: N802
        return _Cursor(self._table, self._check)

    def Disconnect(self) -> None:  # noqa: N802
        """Nothing is held."""

    Destroy = Disconnect


class _Cursor:
    """One scan at a time."""

    def __init__(self, table: Table, check: Callable[[], None]) -> None:
        self._table = table
        self._check = check
        self._rows: Iterator[Row] = iter(())
        self._row: Row | None = None

    def Filter(self, _: int, agreed: str, values: tuple[Any, ...] | None) -> None:  # noqa: N802
        plan = msgspec.json.decode(agreed, type=_Plan)
        conditions = tuple(
            Condition(column, op, value)
            for (column, op), value in zip(plan.conditions, values or (), strict=True)
        )
        asked = Asked(conditions, plan.columns, plan.newest_first, self._check)
        self.Close()
        self._rows = self._table.scan(asked)
        self.Next()

    def Next(self) -> None:  # noqa: N802
        self._row = next(self._rows, None)

    def Eof(self) -> bool:  # noqa: N802
        return self._row is None

    def Column(self, number: int) -> Any:  # noqa: N802
        return self._row[number]  # type: ignore[index]  # asked only while there is a row

    def Rowid(self) -> int:  # noqa: N802
        return self._row[-1]  # type: ignore[index,no-any-return]

    def Close(self) -> None:  # noqa: N802
        close = getattr(self._rows, "close", None)
        if close is not None:
            close()
