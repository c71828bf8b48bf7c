"""[P] Tables that fit: which columns there is room for, and how wide each is.

Columns carry the marks of `hermes.cli.output.Printer.table`: `#` right-aligned, `~` cut
with an ellipsis. Of cut columns the widest gives way first. Where that is not enough,
optional ones are left out: what they say is told beneath the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from rich.cells import cell_len
from rich.text import Text

from hermes.cli.text import printable

CUT_COLUMNS_MIN: Final = 8
# A blank on both sides of each cell.
PADDING_COLUMNS: Final = 2


class Column(msgspec.Struct, frozen=True):
    """A column that is shown: its place among all, title, width in cells."""

    index: int
    title: str
    width: int
    right: bool


def fit(
    names: Sequence[str], rows: Sequence[Sequence[str]], room: int, optional: Sequence[str] = ()
) -> list[Column]:
    """The columns to show in so many cells. `optional` are left out first, in that order."""
    left_out: set[str] = set()
    while True:
        columns = _measured(names, rows, left_out)
        spare = room - sum(column.width + PADDING_COLUMNS for column in columns)
        spare = _give_way(columns, names, spare)
        again = [name for name in optional if name not in left_out]
        if spare >= 0 or not again:
            return columns
        left_out.add(again[0])


def _measured(
    names: Sequence[str], rows: Sequence[Sequence[str]], left_out: set[str]
) -> list[Column]:
    columns = []
    for i, name in enumerate(names):
        title = name.lstrip("#=~")
        if title not in left_out:
            width = max([cell_len(title), *(cell_len(printable(row[i])) for row in rows)])
            columns.append(Column(i, title, width, name.startswith("#")))
    return columns


def _give_way(columns: list[Column], names: Sequence[str], spare: int) -> int:
    """Narrow what may be cut until it fits; answers what is still missing (negative)."""
    while spare < 0:
        can = [
            (column.width, place)
            for place, column in enumerate(columns)
            if not column.right and column.width > CUT_COLUMNS_MIN
        ]
        marked = [one for one in can if names[columns[one[1]].index].startswith("~")]
        if not can:
            break
        width, place = max(marked or can)
        columns[place] = msgspec.structs.replace(columns[place], width=width - 1)
        spare += 1
    return spare


def cell(text: str, column: Column) -> Text:
    """A cell's text, escaped, cut to its column, and on its side of it."""
    shown = Text(printable(text), no_wrap=True, end="")
    shown.truncate(column.width, overflow="ellipsis")
    if column.right:
        shown.pad_left(column.width - shown.cell_len)
    return shown
