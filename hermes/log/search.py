"""Searching the log for people: records by kind, key and offsets, forwards or backwards.

A call considers a run of lsns from one end and tells how far it came, so that whoever
pages on is never held up: its work is bounded by the page and by `SEARCH_WALK_MAX`.
Per segment whatever serves best:

- few keys: the lines of those keys and kinds, merged, each by its own index;
- rare kinds: their index, merged;
- offsets, or kinds with offsets, if what the index has of them is little: sorted by lsn;
- else, or where the span is short: a walk over its records, without their bodies.

What a subject or a consumer is, is not known here: a filter is asked about keys.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import Final

import apsw
import msgspec

from hermes import limits
from hermes.log import schema
from hermes.log.catalog import Entry, position_of
from hermes.log.kinds import kinds_of_key, kinds_with_offsets
from hermes.log.page import Page
from hermes.log.port import KeyFilter
from hermes.log.reader import SqliteReader
from hermes.log.record import FIRST_RARE_KIND, Kind, StoredRecord
from hermes.log.rows import SpanRow, first_numbers, first_record, one_record, spans
from hermes.log.schema import INTEGER_MAX

# Their records always have offsets.
_NUMBERED: Final = frozenset({Kind.PUBLISHED, Kind.DELIVERED, *range(Kind.ACKED, Kind.DROPPED)})
_EVERY_KIND: Final = -1


class Search(msgspec.Struct, frozen=True):
    """What to find: all that is given must hold. Offsets: the hull shares one with them.

    `names` are whole keys, each found by a look-up of its own; with them `keys` is not asked.
    """

    kinds: frozenset[int] | None = None
    keys: KeyFilter | None = None
    names: frozenset[str] | None = None
    first_offset: int | None = None
    last_offset: int | None = None

    @property
    def everything(self) -> bool:
        return self.kinds is None and not self.by_key and not self.by_offset

    @property
    def by_key(self) -> bool:
        return self.keys is not None or self.names is not None

    @property
    def by_offset(self) -> bool:
        return self.first_offset is not None or self.last_offset is not None

    @property
    def offsets(self) -> tuple[int, int]:
        """Lowest and highest, both included."""
        lowest = 0 if self.first_offset is None else self.first_offset
        return lowest, INTEGER_MAX if self.last_offset is None else self.last_offset


def search(
    reader: SqliteReader,
    wanted: Search,
    *,
    from_lsn: int = 1,
    before_lsn: int = INTEGER_MAX,
    newest_first: bool = False,
    limit: int,
    limit_bytes: int,
    payloads: bool = True,
) -> tuple[list[StoredRecord], int]:
    """Records with from_lsn <= lsn < before_lsn that are wanted, in the order of the walk.

    Returns them with the bound that was reached. Forwards everything below it was
    considered, and it is the next call's from_lsn; backwards everything from it on was,
    and it is the next call's before_lsn. The walk is over when it meets the other bound.
    Raises StoreError.
    """
    page = Page(limit, limit_bytes)
    statement = schema.RECORD if payloads else schema.RECORD_BARE
    entries = reader.entries()
    chosen = entries[position_of(entries, from_lsn) :]
    steps = limits.SEARCH_WALK_MAX
    for entry, low, high in _spans(chosen, from_lsn, before_lsn, newest_first=newest_first):
        if page.full or steps <= 0:
            return page.records, high if newest_first else low
        span = _Span(low, high, newest_first, limit if wanted.everything else steps)

        def gather(db: apsw.Connection, entry: Entry = entry, span: _Span = span) -> int | None:
            ids = _key_ids(reader, db, entry, wanted)
            rows = span.rows(db, wanted, ids)
            for lsn, key, first, last in rows:
                if not _fits(wanted, ids, key, first, last):
                    continue
                if not page.take(one_record(db, statement, (lsn,))):
                    return lsn + 1 if newest_first else lsn
            return span.cut

        reached = reader.look(entry, gather)
        if reached is not None:
            return page.records, reached
        steps -= span.walked
    return page.records, from_lsn if newest_first else max(from_lsn, _end(reader, before_lsn))


def lsn_at_time(reader: SqliteReader, at_ns: int) -> int:
    """lsn of the first record made at or after a Unix time; one after the last if none is.

    Found by bisection: where the wall clock was set back, one of the places where the times
    pass `at_ns`. Raises StoreError.
    """
    entries = reader.entries()
    low, high = 0, len(entries)  # the first segment that begins at or after the time
    while low < high:
        middle = (low + high) // 2
        found = _time_from(reader, entries[middle], entries[middle].first_lsn)
        if found is None or found[1] >= at_ns:
            high = middle
        else:
            low = middle + 1
    if not low:
        return entries[0].first_lsn if entries else 1
    entry = entries[low - 1]
    facts = reader.describe(entry)
    first, end = entry.first_lsn, entry.first_lsn if facts is None else facts.last_lsn + 1
    while first < end:  # the first record at or after the time is in first..end
        middle = (first + end) // 2
        found = _time_from(reader, entry, middle)
        if found is None or found[1] >= at_ns:
            end = middle
        else:
            first = middle + 1
    return first


def _time_from(reader: SqliteReader, entry: Entry, lsn: int) -> tuple[int, int] | None:
    """lsn and time of the record at an lsn of a segment, or of the next one."""

    def ask(db: apsw.Connection) -> tuple[int, int] | None:
        row = first_numbers(db, schema.TIME_FROM, (lsn,))
        return None if row is None else (row[0], row[1])

    return reader.look(entry, ask)


# --------------------------------------------------------------------------- inside


def _spans(
    entries: tuple[Entry, ...], from_lsn: int, before_lsn: int, *, newest_first: bool
) -> Iterator[tuple[Entry, int, int]]:
    """Each segment with the lsns to look at in it, low <= lsn < high, in the walk's order."""
    spans = []
    for i, entry in enumerate(entries):
        low = max(from_lsn, entry.first_lsn)
        high = min(before_lsn, entries[i + 1].first_lsn if i + 1 < len(entries) else INTEGER_MAX)
        if low < high:
            spans.append((entry, low, high))
    return iter(reversed(spans) if newest_first else spans)


def _end(reader: SqliteReader, before_lsn: int) -> int:
    """The lower of a bound and the lsn after the newest record."""
    for entry in reversed(reader.entries()):
        facts = reader.describe(entry)
        if facts is not None:
            return min(before_lsn, facts.last_lsn + 1)
    return 1


def _key_ids(
    reader: SqliteReader, db: apsw.Connection, entry: Entry, wanted: Search
) -> set[int] | None:
    """The wanted keys in the dictionary of a segment; None: any, or none."""
    if wanted.names is not None:
        found = (first_numbers(db, schema.KEY_ID, (name,)) for name in wanted.names)
        return {row[0] for row in found if row is not None}
    return None if wanted.keys is None else reader.matching_ids(db, entry, wanted.keys)


def _fits(
    wanted: Search, ids: set[int] | None, key: int | None, first: int | None, last: int | None
) -> bool:
    if ids is not None and key not in ids:
        return False
    if not wanted.by_offset:
        return True
    lowest, highest = wanted.offsets
    return first is not None and last is not None and first <= highest and last >= lowest


class _Span:
    """The lsns of one segment that a call looks at, and how."""

    def __init__(self, low: int, high: int, newest_first: bool, steps: int) -> None:
        self.low, self.high, self.newest_first, self.steps = low, high, newest_first, steps
        self.walked = 0
        self.cut: int | None = None  # where a walk ended early

    def rows(self, db: apsw.Connection, wanted: Search, ids: set[int] | None) -> Iterable[SpanRow]:
        """Candidates in the walk's order; every wanted record of the span up to `cut` is one."""
        kinds = wanted.kinds
        self._clip(db)
        if ids is not None:
            if not ids:
                return ()
            lines = [
                (key, kind)
                for key in sorted(ids)[: limits.SEARCH_LINES_MERGED_MAX + 1]
                for kind in (kinds_of_key(db, key) if kinds is None else sorted(kinds))
            ]
            if len(lines) <= limits.SEARCH_LINES_MERGED_MAX and not wanted.by_offset:
                return self._merged(db, schema.SPAN_OF_KEY, lines)
        elif kinds is not None and min(kinds, default=0) >= FIRST_RARE_KIND:
            return self._merged(db, schema.SPAN_OF_KIND, [(kind,) for kind in sorted(kinds)])
        length = self.high - self.low
        if (wanted.by_offset and length > limits.SEARCH_SHORT_MAX) or (
            kinds is not None and kinds <= _NUMBERED and length > self.steps
        ):
            found = self._by_offset(db, kinds, *wanted.offsets)
            if found is not None:
                return found
        return self._walk(db, kinds)

    def _clip(self, db: apsw.Connection) -> None:
        """Let the span end where the segment does."""
        last = first_record(db, schema.LAST_RECORD)
        self.high = min(self.high, 0 if last is None else last.lsn + 1)

    def _merged(
        self, db: apsw.Connection, statement: tuple[str, ...], lines: Iterable[tuple[int, ...]]
    ) -> Iterable[SpanRow]:
        sql = statement[self.newest_first]
        cursors = [spans(db, sql, (*line, self.low, self.high)) for line in lines]
        return heapq.merge(*cursors, key=lambda row: row[0], reverse=self.newest_first)

    def _by_offset(
        self, db: apsw.Connection, kinds: frozenset[int] | None, lowest: int, highest: int
    ) -> list[SpanRow] | None:
        """Sorted by lsn; None when there are too many to sort."""
        rows: list[SpanRow] = []
        since = max(0, lowest - limits.RECORD_HULL_MAX + 1)
        for kind in kinds_with_offsets(db):
            if kinds is not None and kind not in kinds:
                continue
            room = limits.SEARCH_SORTED_MAX + 1 - len(rows)
            # The span is not asked for: the work must be bounded by what is found.
            bounds = (kind, since, highest, lowest, room)
            rows += spans(db, schema.SPAN_OF_OFFSETS, bounds)
            if len(rows) > limits.SEARCH_SORTED_MAX:
                return None
        rows = [row for row in rows if self.low <= row[0] < self.high]
        return sorted(rows, key=lambda row: row[0], reverse=self.newest_first)

    def _walk(self, db: apsw.Connection, kinds: frozenset[int] | None) -> Iterable[SpanRow]:
        low, high = self.low, self.high
        if high - low > self.steps:
            if self.newest_first:
                low = self.cut = high - self.steps
            else:
                high = self.cut = low + self.steps
        self.walked = max(0, high - low)
        mask = _EVERY_KIND if kinds is None else sum(1 << kind for kind in kinds)
        return spans(db, schema.SPAN_OF_MASK[self.newest_first], (low, high, mask))
