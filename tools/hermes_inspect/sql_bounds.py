"""[P] What the conditions of a SQL statement leave of a table: ranges of numbers, sets of text.

SQLite checks every row again, so what is made of conditions here need only be no narrower
than they are. A value that SQLite would convert before it compares (a number in quotes) is
not understood: then the condition narrows nothing. NULL fits nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil, floor, isfinite
from typing import Final

from hermes.broker.ranges import Range
from hermes.log.record import Kind
from hermes.log.schema import INTEGER_MAX
from hermes.log.sql_table import UNKNOWN, Condition
from hermes_inspect.rows import KIND_NAMES

ANY: Final[tuple[Range, ...]] = ((0, INTEGER_MAX),)
# A walk asks for kinds by a mask of bits.
_KIND_MAX: Final = 62
_NUMBERS: Final = {name: int(kind) for kind, name in KIND_NAMES.items()}


def integers(conditions: Iterable[Condition], column: str) -> tuple[Range, ...]:
    """What a column of numbers from 0 on may be: ranges, both ends included, ascending and
    apart from each other. () if nothing fits."""
    ranges = list(ANY)
    for condition in conditions:
        if condition.column == column:
            ranges = _both(ranges, _fitting(condition))
    return tuple(ranges)


def _both(some: Sequence[Range], others: Sequence[Range]) -> list[Range]:
    """What is in both. One of them has one range, or both are short."""
    return [(max(a, c), min(b, d)) for a, b in some for c, d in others if max(a, c) <= min(b, d)]


def _fitting(condition: Condition) -> list[Range]:
    value = condition.value
    if condition.op == "in":
        numbers = {n for n in value if n is not None}
        if not all(isinstance(n, int) for n in numbers):
            return list(ANY)
        return _runs(sorted(n for n in numbers if n >= 0))
    if value is None:
        return []
    if not isinstance(value, int | float) or not isfinite(value):
        return list(ANY)
    low, high = 0, INTEGER_MAX
    match condition.op:
        case "=":
            low, high = max(0, ceil(value)), floor(value)
        case ">":
            low = max(0, floor(value) + 1)
        case ">=":
            low = max(0, ceil(value))
        case "<":
            high = ceil(value) - 1
        case "<=":
            high = floor(value)
    return [(low, min(high, INTEGER_MAX))] if low <= high else []


def _runs(numbers: Sequence[int]) -> list[Range]:
    """Ascending numbers as ranges."""
    runs: list[Range] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs


def texts(conditions: Iterable[Condition], column: str) -> frozenset[str] | None:
    """What a column of text may be; None is anything, an empty set nothing."""
    fitting: frozenset[str] | None = None
    for condition in conditions:
        if condition.column != column:
            continue
        values = condition.value if condition.op == "in" else (condition.value,)
        held = {value for value in values if value is not None}
        if all(isinstance(value, str) for value in held):
            fitting = frozenset(held) if fitting is None else fitting & held
    return fitting


def kinds_named(names: frozenset[str] | None) -> frozenset[int] | None:
    """Kinds by their names; also of later versions, kind_99. None is any."""
    if names is None:
        return None
    kinds = {_NUMBERS.get(name) or _numbered(name) for name in names}
    return searchable(frozenset(kind for kind in kinds if kind))


def searchable(kinds: frozenset[int]) -> frozenset[int] | None:
    """Kinds that a search can be asked for; None, any, if one of them is too high a number."""
    return kinds if max(kinds, default=0) <= _KIND_MAX else None


def _numbered(name: str) -> int:
    number = name.removeprefix("kind_")
    return int(number) if number.isascii() and number.isdigit() and len(number) < 10 else 0


def known(conditions: Iterable[Condition], column: str) -> object:
    """What a column must be equal to, if that is known already."""
    for condition in conditions:
        if (condition.column, condition.op) == (column, "="):
            return condition.value
    return UNKNOWN


def mentions(conditions: Iterable[Condition], *columns: str) -> bool:
    return any(condition.column in columns for condition in conditions)


# Kinds whose key is a subject, as it is told by `rows.py`.
SUBJECT_KINDS: Final = frozenset(
    int(kind)
    for kind in (
        Kind.PUBLISHED,
        Kind.PUBLISHED_LIVE,
        Kind.DELIVERED_LIVE,
        Kind.SUBSCRIPTION_OPENED,
        Kind.SUBSCRIPTION_CLOSED,
    )
)
