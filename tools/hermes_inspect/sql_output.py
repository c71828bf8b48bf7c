"""The answer to a SQL statement, written: a table, CSV, or JSON objects.

NULL and bytes must not pass for text. A table writes them as SQL does, NULL and x'0a0b',
long bytes cut; CSV has nothing for NULL and "" for an empty text; JSON has null. Bytes are
hexadecimal in both. All but the table of a terminal are written as rows come, in memory
that does not grow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, count, islice
from typing import Any, Final

from rich.cells import cell_len

from hermes.cli.text import printable
from hermes.log.sql import Answer
from hermes.log.sql_table import Row
from hermes_inspect.output import Output

# Rows that decide how wide the columns of a table are; on a terminal also the most shown.
TABLE_ROWS: Final = 1_000
BYTES_SHOWN: Final = 32
# A terminal that gives a column less than this shows a row over several lines.
CELL_COLUMNS_MIN: Final = 8
_TO_QUOTE: Final = frozenset(',"\r\n')


def write_table(out: Output, answer: Answer) -> None:
    """A table for a person, folded or upright where the terminal is too narrow for it; on a
    pipe aligned lines."""
    rows = iter(answer)
    head = list(islice(rows, TABLE_ROWS))
    cells = [[cell(value) for value in row] for row in head]
    marks = ["#" if _is_number(head, i) else "" for i in range(len(answer.columns))]
    if out.columns is None:
        _write_aligned(out, answer.columns, marks, cells, rows)
    elif len(answer.columns) * (CELL_COLUMNS_MIN + 2) > out.columns and _wide(
        answer.columns, cells, out.columns
    ):
        _write_upright(out, answer.columns, cells)
    else:
        out.table([m + name for m, name in zip(marks, answer.columns, strict=True)], cells)


def _write_aligned(
    out: Output,
    columns: Sequence[str],
    marks: Sequence[str],
    cells: Sequence[Sequence[str]],
    rest: Iterable[Row],
) -> None:
    widths = [max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)]
    more = ([cell(value) for value in row] for row in rest)
    for line in chain([columns], cells, more):
        padded = (
            " " * (width - cell_len(text)) + text if mark else text + " " * (width - cell_len(text))
            for text, width, mark in zip(line, widths, marks, strict=True)
        )
        out.raw("  ".join(padded).rstrip() + "\n")


def _write_upright(out: Output, columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    width = max(map(cell_len, columns))
    for number, row in enumerate(cells, 1):
        out.line(f"── row {number}")
        for name, text in zip(columns, row, strict=True):
            out.line(f"{name}{' ' * (width - cell_len(name))}  {text}")


def _wide(columns: Sequence[str], cells: Sequence[Sequence[str]], room: int) -> bool:
    widths = [max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)]
    return sum(widths) + 2 * (len(widths) - 1) > room


def _is_number(rows: Sequence[Row], i: int) -> bool:
    values = [row[i] for row in rows if row[i] is not None]
    return bool(values) and all(isinstance(value, int | float) for value in values)


def cell(value: Any) -> str:
    """A value in a table."""
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        if len(value) <= BYTES_SHOWN:
            return f"x'{value.hex()}'"
        return f"x'{value[:BYTES_SHOWN].hex()}…' ({len(value):,} bytes)"
    return printable(str(value))


# --------------------------------------------------------------------------- for programs


def write_csv(out: Output, answer: Answer) -> None:
    """As RFC 4180 has it, with plain line ends."""
    rows = iter(answer)
    first = list(islice(rows, 1))  # a statement that fails at once has no head either
    for line in chain([answer.columns], first, rows):
        out.raw(",".join(map(csv_field, line)) + "\n")


def csv_field(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.hex()
    text = str(value)
    if not text or not _TO_QUOTE.isdisjoint(text):
        return '"' + text.replace('"', '""') + '"'
    return text


def write_json(out: Output, answer: Answer) -> None:
    names = distinct(answer.columns)
    for row in answer:
        out.fields(
            {
                name: value.hex() if isinstance(value, bytes) else value
                for name, value in zip(names, row, strict=True)
            }
        )


def distinct(names: Sequence[str]) -> list[str]:
    """Names of columns as keys: the second `lsn` is `lsn_2`."""
    found: list[str] = []
    for name in names:
        numbered = (name if n == 1 else f"{name}_{n}" for n in count(1))
        found.append(next(one for one in numbered if one not in found))
    return found


class Limited(Answer):
    """An answer cut after a number of rows; `cut` tells whether there were more."""

    def __init__(self, answer: Answer, limit: int) -> None:
        super().__init__(answer.columns, self._some(iter(answer), limit))
        self.cut = False

    def _some(self, rows: Iterator[Row], limit: int) -> Iterator[Row]:
        yield from islice(rows, limit)
        self.cut = next(rows, None) is not None
