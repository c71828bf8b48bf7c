"""The tables that SQL sees, and what their columns mean. Events are in `sql_events.py`.

`records` has the columns of the export's records/, then what makes them readable.
Consumers and segments are as the commands of these names tell them, under the same names;
lists are JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from hermes.clock import SystemClock
from hermes.log.record import StoredRecord
from hermes.log.schema import INTEGER_MAX
from hermes.log.search import Search, lsn_at_time
from hermes.log.sql_table import Asked, Column, Condition, Find, Row, Table
from hermes_inspect import consumers, segments
from hermes_inspect.fields import record_fields
from hermes_inspect.model import kind_name, view_of
from hermes_inspect.sessions import Sessions
from hermes_inspect.sql_bounds import integers, kinds_named, searchable, texts
from hermes_inspect.sql_events import Events
from hermes_inspect.sql_rows import event_columns, moment
from hermes_inspect.sql_walk import Walk
from hermes_inspect.store import Store
from hermes_inspect.tables import consumer_fields, segment_fields
from hermes_inspect.times import parse_moment

RECORD_COLUMNS: Final = (
    Column("lsn", "INTEGER", "place in the log", Find.RANGE, 1),
    Column("at_ns", "INTEGER", "when it was recorded, Unix nanoseconds"),
    Column("kind", "INTEGER", "number of its kind", Find.EQUAL, 50_000),
    Column("key", "TEXT", "subject, pattern or consumer", Find.EQUAL, 10_000),
    Column("first", "INTEGER", "lowest offset it is about", Find.RANGE, 10),
    Column("last", "INTEGER", "highest; some between may not be meant", Find.RANGE, 10),
    Column("body", "BLOB", "protobuf, see log-format.md"),
    Column("payload_hash", "BLOB", "SHA-256 of its payload: salt and content"),
    Column("chain", "BLOB", "its link in the hash chain"),
    Column("kind_name", "TEXT", "published, delivered, acked, …", Find.EQUAL, 50_000),
    Column("recorded_at", "TEXT", "when it was recorded, in UTC"),
    Column("details", "TEXT", "what its body says, a JSON object: see log --json"),
)
CONSUMER_COLUMNS: Final = (
    Column("consumer", "TEXT", "its name"),
    Column("filters", "TEXT", "JSON list of subject patterns"),
    Column("position", "INTEGER", "next offset to consider"),
    Column("lag", "INTEGER", "messages that match and were not considered yet"),
    Column("in_flight", "INTEGER", "delivered and not settled"),
    Column("waiting", "INTEGER", "to be delivered again"),
    Column("dead", "INTEGER", "given up on"),
    Column("paused", "INTEGER", "1 or 0"),
    Column("oldest_unacked_offset", "INTEGER", "neither acked nor dead"),
    Column("oldest_unacked_age_ns", "INTEGER", "since it was published"),
    Column("members", "TEXT", "JSON list"),
    Column("leases", "TEXT", "JSON list of what is in flight, the first thousand"),
)
SEGMENT_COLUMNS: Final = (
    Column("first_lsn", "INTEGER"),
    Column("last_lsn", "INTEGER"),
    Column("records", "INTEGER"),
    Column("bytes", "INTEGER", "of its file"),
    Column("first_offset", "INTEGER", "of the messages published in it"),
    Column("last_offset", "INTEGER"),
    Column("first_at", "TEXT", "time of its first record, in UTC"),
    Column("first_at_ns", "INTEGER"),
    Column("last_at", "TEXT"),
    Column("last_at_ns", "INTEGER"),
    Column("sealed", "INTEGER", "1, or 0 for the active one"),
    Column("retired", "INTEGER", "messages whose payloads were retired"),
    Column("pinned_by", "TEXT", "why it cannot go; NULL if only for its age"),
    Column("damage", "TEXT", "why it cannot be read"),
)


def tables(store: Store, walk: Walk, *, payloads: bool = False) -> list[Table]:
    """All tables of a store."""
    return [
        Events(walk, payloads=payloads).table(),
        _Records(store, walk).table(),
        _listed("consumers", lambda: _consumers(store, walk)),
        _listed("segments", lambda: map(segment_fields, segments.rows(store))),
    ]


def describe(*, payloads: bool = False) -> list[tuple[str, str, tuple[Column, ...]]]:
    """Name, meaning and columns of each table; for this no store is needed."""
    return [
        ("events", "one row per message and event", event_columns(payloads=payloads)),
        ("records", "one row per record of the log", RECORD_COLUMNS),
        ("consumers", "one row per consumer, as of now", CONSUMER_COLUMNS),
        ("segments", "one row per segment of the log", SEGMENT_COLUMNS),
    ]


def functions(walk: Walk) -> dict[str, Callable[..., Any]]:
    """Functions that statements may call besides SQLite's own."""
    now_ns = SystemClock().wall_ns()

    def lsn_at(time: Any) -> int:
        """lsn of the first record made at or after a time; after the last if none is."""
        return lsn_at_time(walk.reader, parse_moment(str(time), now_ns=now_ns))

    return {"lsn_at": lsn_at}


# ------------------------------------------------------------------------------- records


class _Records:
    def __init__(self, store: Store, walk: Walk) -> None:
        self._walk = walk
        self._who = Sessions(store.reader)

    def table(self) -> Table:
        (_, about, columns) = describe()[1]
        return Table("records", about, columns, self._scan, lambda _: "lsn", self._walk.last_lsn)

    def _scan(self, asked: Asked) -> Iterator[Row]:
        search, lsns = records_search(asked.conditions)
        if search is None:
            return
        for page in self._walk.records(search, lsns, asked.check, newest_first=asked.newest_first):
            for record in page:
                yield self._row(record, asked.columns)

    def _row(self, r: StoredRecord, columns: frozenset[str]) -> Row:
        at = moment(r.at_ns) if "recorded_at" in columns else None
        details = None
        if "details" in columns:
            details = _json(record_fields(view_of(r), self._who, None))
        shown = (r.lsn, r.at_ns, r.kind, r.key, r.first, r.last, r.body, r.payload_hash, r.chain)
        return (*shown, kind_name(r.kind), at, details, r.lsn)


def records_search(conditions: Iterable[Condition]) -> tuple[Search | None, tuple[Any, ...]]:
    """What to search for, and the lsns to search; None when nothing can fit."""
    conditions = tuple(conditions)
    lsns = integers(conditions, "lsn")
    first, last = integers(conditions, "first"), integers(conditions, "last")
    kinds, names = kinds_named(texts(conditions, "kind_name")), texts(conditions, "key")
    numbers = integers(conditions, "kind")
    if all(low == high for low, high in numbers):
        numbered = searchable(frozenset(low for low, _ in numbers))
        kinds = numbered if kinds is None else kinds if numbered is None else kinds & numbered
    if not (lsns and first and last) or frozenset() in (kinds, names):
        return None, ()
    # first <= last, so what bounds one bounds the other.
    lowest, highest = max(first[0][0], last[0][0]), min(first[-1][1], last[-1][1])
    asked = {condition.column for condition in conditions}
    if not asked & {"first", "last"}:
        return Search(kinds=kinds, names=names), lsns
    if lowest > last[-1][1]:
        return None, ()
    return Search(
        kinds=kinds,
        names=names,
        first_offset=lowest or None,
        last_offset=None if highest == INTEGER_MAX else highest,
    ), lsns


# -------------------------------------------------------------------- consumers, segments


def _consumers(store: Store, walk: Walk) -> Iterator[dict[str, Any]]:
    then = consumers.moment(store, walk.last_lsn)
    for row in consumers.rows(store, then, now_ns=SystemClock().wall_ns()):
        yield consumer_fields(row)


def _listed(name: str, rows: Callable[[], Iterable[Mapping[str, Any]]]) -> Table:
    """A table of few rows, told as fields."""
    (found,) = (one for one in describe() if one[0] == name)
    _, about, columns = found

    def scan(asked: Asked) -> Iterator[Row]:
        asked.check()
        for number, fields in enumerate(rows()):
            yield (*(_value(fields.get(column.name)) for column in columns), number)

    return Table(name, about, columns, scan, rows=10)


def _value(value: Any) -> Any:
    if isinstance(value, list | dict):
        return _json(value)
    return int(value) if isinstance(value, bool) else value


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
