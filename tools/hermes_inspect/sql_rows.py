"""[P] Events as rows for SQL: the columns of the export's events/, as values that SQLite has.

Names and meaning are the export's, so that a query serves both. What SQLite has no type
for is text: `recorded_at` is RFC 3339 to the microsecond in UTC (it sorts as it should),
`headers` is a JSON object. Headers that often carry secrets are left out, as there.

A row's id is made of its record's lsn and its place in the record, so that it stays the
same whichever way the row was found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import count, repeat
from typing import Any, Final

import msgspec
from google.protobuf.message import DecodeError

from hermes.broker.ranges import Range
from hermes.errors import HermesError
from hermes.log.record import StoredRecord
from hermes.log.sql_table import Column, Find, Row
from hermes_inspect.directory import Directory, Piece
from hermes_inspect.rows import SETTLEMENTS, EventRun, event_runs, parse_body

DROPPED_HEADERS: Final = frozenset({"authorization", "cookie"})
# Rows of a record that can be told apart: messages of a batch times receivers.
PLACE_BITS: Final = 24
EVERYWHERE: Final[Range] = (-1, 1 << 63)

EVENT_COLUMNS: Final = (
    Column("lsn", "INTEGER", "place of the record in the log", Find.RANGE, 100),
    Column("recorded_at", "TEXT", "when it was recorded, in UTC"),
    Column("recorded_at_ns", "INTEGER", "the same, in Unix nanoseconds"),
    Column("kind", "TEXT", "published, delivered, acked, …", Find.EQUAL, 300_000),
    Column("message_offset", "INTEGER", "of the message; NULL for a live one", Find.RANGE, 10),
    Column("message_id", "TEXT", "that it was published with", Find.EQUAL, 10),
    Column("subject", "TEXT", "of the message", Find.EQUAL, 20_000),
    Column("consumer", "TEXT", "whom it was delivered to, who acked it", Find.EQUAL, 100_000),
    Column("member", "INTEGER", "lsn of the member or subscription"),
    Column("peer", "TEXT", "network address of who did it"),
    Column("principal", "TEXT", "authenticated name of who did it"),
    Column("attempt", "INTEGER", "of the delivery, from 1"),
    Column("reason", "TEXT", "why it was nacked, rejected, released, …"),
    Column("headers", "TEXT", "of a publish, a JSON object; not authorization, cookie"),
    Column("payload", "BLOB", "of a publish; only with --payloads"),
    Column("payload_bytes", "INTEGER", "its size"),
    Column("payload_hash", "BLOB", "SHA-256 of its batch as stored: salt and content"),
)
COLUMNS_LEFT_OF_PAYLOAD: Final = 14


class Window(Directory):
    """A directory that tells of messages within `window` only: of a wide settlement, what
    is asked for is often one message."""

    window: Range = EVERYWHERE

    def messages(self, first: int, last: int) -> Iterator[Piece]:
        low, high = self.window
        return super().messages(max(first, low), min(last, high))


def event_rows(
    record: StoredRecord,
    directory: Window,
    columns: frozenset[str],
    window: Range = EVERYWHERE,
    *,
    payloads: bool = False,
) -> Iterator[Row]:
    """The rows of a record about messages within a range; without one, all.

    Columns that are not asked for may be None. A body that cannot be parsed is told as one
    row, with the reason.
    """
    settled = record.kind in SETTLEMENTS
    try:
        directory.window = window if settled else EVERYWHERE
        # At once: whoever shares the directory may change its window.
        runs = list(
            event_runs(record, parse_body(record), directory, payloads="payload" in columns)
        )
    except (DecodeError, AssertionError, ValueError, HermesError) as error:
        why = f"cannot be parsed: {str(error) or 'no offsets'}"
        runs = [EventRun(record.lsn, record.at_ns, record.kind, reason=why)]
    at = moment(record.at_ns) if "recorded_at" in columns else None
    place = record.lsn << PLACE_BITS
    narrow = window is not EVERYWHERE
    for run in runs:
        if settled and run.first is not None and record.first is not None:
            begin = place + run.first - record.first
        else:
            begin = place
            place += run.count
        rows = _run_rows(run, at, begin, columns, payloads)
        if narrow and not settled:
            low, high = window
            rows = (row for row in rows if row[4] is not None and low <= row[4] <= high)
        yield from rows


def _run_rows(
    run: EventRun, at: str | None, begin: int, columns: frozenset[str], payloads: bool
) -> Iterator[Row]:
    """Column by column; what all rows share is repeated."""
    headers: Sequence[str | None] = ()
    if run.headers and "headers" in columns:
        headers = [headers_text(entries) for entries in run.headers]
    values: list[Any] = [
        repeat(run.lsn, run.count),
        repeat(at),
        repeat(run.at_ns),
        repeat(run.kind_name),
        repeat(None) if run.first is None else count(run.first),
        [text or None for text in run.ids] if run.ids else repeat(None),
        run.subjects or repeat(run.subject),
        repeat(run.consumer),
        repeat(run.member),
        repeat(run.peer),
        repeat(run.principal),
        repeat(run.attempt),
        repeat(run.reason),
        headers or repeat(None),
        run.payloads or repeat(None),
        run.sizes or repeat(None),
        repeat(run.payload_hash),
        count(begin),
    ]
    if not payloads:
        del values[COLUMNS_LEFT_OF_PAYLOAD]
    return zip(*values, strict=False)


def event_columns(*, payloads: bool) -> tuple[Column, ...]:
    """The columns of events, with that of payloads or without."""
    return tuple(c for c in EVENT_COLUMNS if payloads or c.name != "payload")


def headers_text(entries: Mapping[str, str]) -> str:
    """Headers as a JSON object, by name; without those that carry secrets."""
    kept = {n: entries[n] for n in sorted(entries) if n.lower() not in DROPPED_HEADERS}
    return msgspec.json.encode(kept).decode()


@lru_cache(maxsize=16)
def moment(unix_ns: int) -> str:
    """`2026-01-31T12:00:00.000000Z`, rounded down as in the export."""
    seconds, nanos = divmod(unix_ns, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanos // 1000:06d}Z"
