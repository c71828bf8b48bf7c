"""Columns made in bulk, Parquet files in and out. Only this file and export_schema know Arrow.

Theory: nothing here is done row by row. Runs (rows.py) become columns by one list per
column and run, and one index that says how often each repeats; boards (custody.py) are
arrays already.

Rules
- Bytes of a file follow from its rows alone: fixed row groups, fixed encodings, no times,
  no metadata of the writer's machine.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hermes.log.record import StoredRecord
from hermes_inspect.custody import OUTCOMES, UNKNOWN
from hermes_inspect.custody_board import Board
from hermes_inspect.export_schema import (
    CUSTODY,
    DIGEST,
    EVENTS,
    RECORDS,
    SCHEMAS,
    TIME,
    WORD,
)
from hermes_inspect.rows import EventRun, kind_name

ROW_GROUP_ROWS: Final = 131_072
# What else a row group is made of, counted as rows, so that memory stays bounded.
ROW_BYTES: Final = 128  # of a payload or a body
HEADERS_COST: Final = 3  # of a message's headers, and of each of them
RUN_COST: Final = 2  # of a run
RECORD_COST: Final = 4  # of a record
COMPRESSION_LEVEL: Final = 3

# What rows share: see `EventColumns`.
_OF_RUNS: Final = (
    *(pa.int64(), pa.int64(), WORD, WORD, pa.int64(), WORD, WORD, pa.int32(), WORD),
    *(DIGEST, pa.int64()),
)
# Numbers that grow: a few bits each. The rest is better off in a dictionary or plain.
_DELTAS: Final = {"lsn", "at_ns", "recorded_at", "recorded_at_ns", "message_offset"}
_PLAIN: Final = {"body", "chain", "message_id", "payload"}


# --------------------------------------------------------------------- writing


class TableWriter:
    """One Parquet file. Rows come as tables of one row group or less."""

    def __init__(self, path: Path, table: str) -> None:
        schema = SCHEMAS[table]
        names = [field.name for field in schema]
        self.rows = 0
        self._writer = pq.ParquetWriter(
            path,
            schema,
            compression="zstd",
            compression_level=COMPRESSION_LEVEL,
            use_dictionary=[
                # A map's own columns are named by their path.
                name if name != "headers" else f"headers.key_value.{part}"
                for name in names
                for part in (("key", "value") if name == "headers" else ("",))
                if name not in _DELTAS | _PLAIN
            ],
            column_encoding={name: "DELTA_BINARY_PACKED" for name in names if name in _DELTAS},
            write_statistics=True,
            store_schema=False,
        )

    def write(self, table: Any) -> None:
        if table.num_rows:
            self._writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
            self.rows += table.num_rows

    def close(self) -> None:
        self._writer.close()


class RecordColumns:
    """Rows of records/, gathered for a row group until `cost` reaches ROW_GROUP_ROWS."""

    def __init__(self) -> None:
        self.cost = 0
        self._rows: list[tuple[Any, ...]] = []

    def add(self, r: StoredRecord) -> None:
        self._rows.append(
            (r.lsn, r.at_ns, r.kind, r.key, r.first, r.last, r.body, r.payload_hash, r.chain)
        )
        self.cost += RECORD_COST + len(r.body) // ROW_BYTES

    def take(self) -> Any:
        """What was gathered, as a table; begins anew."""
        columns: list[Any] = list(zip(*self._rows, strict=True)) or [()] * len(RECORDS)
        self._rows, self.cost = [], 0
        return pa.table(
            [_column(values, field.type) for values, field in zip(columns, RECORDS, strict=True)],
            schema=RECORDS,
        )


class _Codes(dict[str | None, int]):
    """Words by number, in the order in which they are first asked for."""

    def __missing__(self, word: str | None) -> int:
        code = self[word] = len(self)
        return code


class EventColumns:
    """Rows of events/, gathered for a row group until `cost` reaches ROW_GROUP_ROWS."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.cost = 0  # in rows; what is large counts for several
        self._rows = 0
        # Per run, what its rows share: lsn, at_ns, kind, consumer, member, peer,
        # principal, attempt, reason, payload_hash, and what its offsets are ahead of its rows.
        self._runs: list[tuple[Any, ...]] = []
        self._index = array("i")  # per row: which run it is of
        self._codes = _Codes()  # of subjects
        self._subject = array("i")  # per row: which of them
        self._ids: list[str | None] = []
        self._sizes: list[int | None] = []
        self._headers: list[Any] = []
        self._payloads: list[bytes | None] = []

    def add(self, run: EventRun) -> None:
        n, row = run.count, self._rows
        self._index.extend(array("i", (len(self._runs),)) * n)
        self._runs.append(
            (
                run.lsn,
                run.at_ns,
                run.kind,
                run.consumer,
                run.member,
                run.peer,
                run.principal,
                run.attempt,
                run.reason,
                run.payload_hash,
                None if run.first is None else run.first - row,
            )
        )
        rows = self._rows = row + n
        self.cost += n + RUN_COST
        if run.subjects:
            self._subject.extend(map(self._codes.__getitem__, run.subjects))
        elif n == 1:
            self._subject.append(self._codes[run.subject])
        else:
            self._subject.extend(array("i", (self._codes[run.subject],)) * n)
        if run.ids:
            _pad(self._ids, run.ids, rows)
        if run.sizes:
            _pad(self._sizes, run.sizes, rows)
        if run.headers:
            _pad(self._headers, run.headers, rows)
            self.cost += sum(map(_headers_cost, run.headers))
        if run.payloads:
            _pad(self._payloads, run.payloads, rows)
            self.cost += sum(run.sizes) // ROW_BYTES

    def take(self) -> Any:
        """What was gathered, as a table; begins anew."""
        rows = self._rows
        index = _numbers(self._index, pa.int32())
        lists: list[Any] = list(zip(*self._runs, strict=True)) or [()] * len(_OF_RUNS)
        lists[2] = [kind_name(kind) for kind in lists[2]]
        lsn, at_ns, kind, consumer, member, peer, principal, attempt, reason, digest, ahead = (
            _column(values, of).take(index) for values, of in zip(lists, _OF_RUNS, strict=True)
        )
        ids = _column(self._ids, pa.string(), rows)
        columns = [
            lsn,
            _time(at_ns),
            at_ns,
            kind,
            pc.add(ahead, _count_up(rows)),
            pc.if_else(pc.equal(ids, ""), None, ids),
            _words(list(self._codes)).take(_numbers(self._subject, pa.int32())),
            consumer,
            member,
            peer,
            principal,
            attempt,
            reason,
            _column(_pairs(self._headers), EVENTS.field("headers").type, rows),
            _column(self._payloads, pa.binary(), rows),
            _column(self._sizes, pa.int64(), rows),
            digest,
        ]
        self._begin()
        return pa.table(columns, schema=EVENTS)


@cache
def _counted(power: int) -> Any:
    return pa.array(range(1 << power), pa.int64())


def _count_up(n: int) -> Any:
    """0, 1, … below n."""
    return _counted(n.bit_length()).slice(0, n)


def custody_table(
    board: Board, begin: int, end: int, wanted: bytes | None, as_of_lsn: int, *, all_rows: bool
) -> tuple[Any, int]:
    """Rows begin..end (not included) of a finished board, and how many were left out.

    `wanted` has 1 for each entry that the filters let through; None lets all through.
    """
    window, owner = board.window, board.owner

    def part(buffer: Any, kind: Any) -> Any:
        return _numbers(buffer, kind).slice(begin, end - begin)

    state = part(board.state, pa.uint8())
    rows = pc.and_(pc.equal(part(board.included, pa.uint8()), 1), pc.not_equal(state, UNKNOWN))
    if not all_rows:
        rows = pc.and_(rows, pc.equal(part(board.changed, pa.uint8()), 1))
    chosen = rows if wanted is None else pc.and_(rows, pc.equal(part(wanted, pa.uint8()), 1))
    index = pc.indices_nonzero(chosen)
    n = len(index)
    left_out = (pc.sum(rows).as_py() or 0) - n if wanted is not None else 0

    def picked(buffer: Any, kind: Any) -> Any:
        return part(buffer, kind).take(index)

    batch = picked(window.batch, pa.int32())
    batch = pc.if_else(pc.less(batch, 0), None, batch)
    subjects = _words([publish[5] for publish in window.publishes])
    published = _column([publish[2] for publish in window.publishes], pa.int64())
    first_at, settled_at = (
        pc.if_else(pc.equal(times, 0), None, times)
        for times in (
            picked(board.first_at_ns, pa.int64()),
            picked(board.settled_at_ns, pa.int64()),
        )
    )
    columns = [
        pc.add(pc.cast(index, pa.int64()), window.base + begin),
        pa.array(window.ids[begin:end], pa.string()).take(index),
        subjects.take(batch),
        _repeat(owner.name, n),
        pa.repeat(pa.scalar(owner.created_lsn, pa.int64()), n),
        _time(published.take(batch)),
        _time(first_at),
        picked(board.attempts, pa.int32()),
        _time(settled_at),
        pa.DictionaryArray.from_arrays(
            pc.cast(state.take(index), pa.int32()), pa.array(OUTCOMES, pa.string())
        ),
        pa.repeat(pa.scalar(as_of_lsn, pa.int64()), n),
    ]
    return pa.table(columns, schema=CUSTODY), left_out


def concat(tables: Sequence[Any], table: str) -> Any:
    """Tables one after another, as one."""
    return pa.concat_tables(tables or [SCHEMAS[table].empty_table()]).unify_dictionaries()


def _pad(values: list[Any], more: Sequence[Any], rows: int) -> None:
    """Append `more` so that it ends at row `rows`; what lies before it is None."""
    missing = rows - len(more) - len(values)
    if missing:
        values.extend([None] * missing)
    values += more


def _headers_cost(entries: Mapping[str, str]) -> int:
    size = sum(map(len, entries)) + sum(map(len, entries.values()))
    return HEADERS_COST * (1 + len(entries)) + size // ROW_BYTES


def _pairs(headers: list[Any]) -> list[Any]:
    """Headers as sorted pairs: protobuf's maps have no order of their own."""
    return [None if entry is None else sorted(entry.items()) for entry in headers]


def _numbers(buffer: Any, kind: Any) -> Any:
    """A column over an array's own memory; it must not change afterwards."""
    data = pa.py_buffer(buffer)
    return pa.Array.from_buffers(kind, len(buffer), [None, data])


def _column(values: Sequence[Any], kind: Any, rows: int | None = None) -> Any:
    """A column of values; filled up with nulls to `rows`."""
    if rows is not None and not values:
        return pa.nulls(rows, kind)
    if kind == WORD:
        return _words(values)
    column = pa.array(values, kind)
    if rows is not None and len(values) < rows:
        column = pa.concat_arrays([column, pa.nulls(rows - len(values), kind)])
    return column


def _words(values: Sequence[str | None]) -> Any:
    """A dictionary column."""
    return pa.array(values, pa.string()).dictionary_encode()


def _repeat(text: str, n: int) -> Any:
    return pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), n), [text])


def _time(ns: Any) -> Any:
    """Unix nanoseconds as timestamp[us, UTC], rounded down."""
    return pc.cast(pc.cast(ns, pa.timestamp("ns", tz="UTC")), TIME, safe=False)


# --------------------------------------------------------------------- reading


def read_records(path: Path) -> Iterator[list[tuple[Any, ...]]]:
    """Rows of a file of records/, in its order, a row group at a time: (lsn, at_ns, kind, key,
    first, last, body, payload_hash, chain). Raises OSError, ValueError for no such file."""
    names = [field.name for field in RECORDS]
    with pq.ParquetFile(path) as file:
        for number in range(file.num_row_groups):
            group = file.read_row_group(number, columns=names)
            yield list(zip(*(column.to_pylist() for column in group.columns), strict=True))


def count_rows(path: Path) -> int:
    """Rows that a Parquet file says it has. Raises OSError, ValueError."""
    return int(pq.read_metadata(path).num_rows)
