"""The message line inside one segment: publishes by offset, under a filter, by time.

A filter is a question about a key. It is asked once per key and segment, and the
answers are remembered as ids of the segment's dictionary (`Filters`). Then

- no filter: the index of offsets is walked, rows and all;
- few ids: the lines of those keys are merged, each by its own index;
- many ids: the line of all publishes is walked in the index alone, a bounded way per
  call, and only matching rows are read.

Everything here works inside a transaction of the caller (`reader.py`).
"""

from __future__ import annotations

import heapq
import threading
from collections import OrderedDict
from collections.abc import Iterable

import apsw

from hermes import limits
from hermes.log import schema
from hermes.log.catalog import Entry
from hermes.log.page import Page
from hermes.log.port import KeyFilter
from hermes.log.rows import (
    Key,
    Numbers,
    first_numbers,
    hull_of,
    numbers,
    numbers_or_null,
    one_of,
    one_record,
    records,
    typed,
)
from hermes.log.schema import INTEGER_MAX


class _Matches:
    """Which ids of one segment's dictionary match a filter, as far as it was asked."""

    def __init__(self) -> None:
        self.seen = 0
        self.ids: set[int] = set()


class Filters:
    """What is known of filters: for the last few, the matching ids per segment. Thread-safe.

    A filter is known by its identity: who asks with the same callable again is answered
    from memory.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[KeyFilter, int], _Matches] = OrderedDict()

    def ids(self, db: apsw.Connection, first_lsn: int, keys: KeyFilter) -> set[int]:
        """The ids that match; a dictionary that grew is asked about what is new."""
        with self._lock:
            matches = self._known.pop((keys, first_lsn), None) or _Matches()
            for row in db.execute(schema.KEYS_AFTER, (matches.seen,)):
                key = typed(row, Key)
                if keys(key.text):
                    matches.ids.add(key.id)
                matches.seen = key.id
            self._known[keys, first_lsn] = matches
            if len(self._known) > limits.FILTERS_CACHED_MAX:
                self._known.popitem(last=False)
        return matches.ids

    def counts(
        self, entry: Entry, asked: Iterable[tuple[int, KeyFilter | None]], db: apsw.Connection
    ) -> dict[tuple[int, KeyFilter | None], int]:
        """How many messages of a segment are at or after each offset and match its filter.

        Offsets in front of the segment come to the same, and are counted once per filter.
        """
        known: dict[tuple[int, KeyFilter | None], int] = {}
        found = {}
        for offset, keys in asked:
            here = max(offset, entry.base_offset), keys
            if here not in known:
                ids = None if keys is None else self.ids(db, entry.first_lsn, keys)
                known[here] = count_in(db, ids, here[0])
            found[offset, keys] = known[here]
        return found


def batch_at(db: apsw.Connection, offset: int) -> Numbers | None:
    """(lsn, first, last, at_ns) of the publish that holds an offset."""
    row = first_numbers(db, schema.PUBLISH_AT, (offset,))
    return row if row is not None and row[2] >= offset else None


def batch_from(db: apsw.Connection, offset: int) -> Numbers | None:
    """(lsn, first, last, at_ns) of the publish that holds an offset, or of the next one."""
    return batch_at(db, offset) or first_numbers(db, schema.PUBLISH_AFTER, (offset,))


def publishes_in(
    db: apsw.Connection,
    ids: set[int] | None,
    from_offset: int,
    before_offset: int,
    page: Page,
) -> tuple[int, bool]:
    """Gather a segment's publishes from an offset on into a page.

    Returns (offset up to which everything was considered, whether the segment was
    considered to its end or to before_offset).
    """
    start = batch_from(db, from_offset)
    if start is None or start[1] >= before_offset:
        return _considered(db, from_offset, before_offset), True
    if ids is None:
        return _whole_line(db, start[1], from_offset, before_offset, page)
    walk: Iterable[Numbers]
    steps = limits.FILTER_WALK_MAX
    if len(ids) <= limits.FILTER_KEYS_MERGED_MAX:
        steps = INTEGER_MAX
        walk = heapq.merge(
            *(numbers(db, schema.PUBLISHES_OF_KEY, (key_id, start[0])) for key_id in tuple(ids))
        )
    else:
        walk = numbers(db, schema.PUBLISHES_WALK, (start[1], before_offset, steps + 1))
    at = from_offset
    for first, last, lsn, key_id in walk:
        if first >= before_offset:
            break
        if steps == 0 or page.full:
            return max(at, first), False
        if key_id in ids and not page.take(one_record(db, schema.RECORD, (lsn,))):
            return max(at, first), False
        steps -= 1
        at = last + 1
    return max(at, _considered(db, from_offset, before_offset)), True


def _whole_line(
    db: apsw.Connection, first: int, from_offset: int, before_offset: int, page: Page
) -> tuple[int, bool]:
    at = from_offset
    for record in records(db, schema.PUBLISHES, (first, before_offset, page.room + 1)):
        begin, end = hull_of(record)
        if not page.take(record):
            return max(at, begin), False
        at = end + 1
    return max(at, _considered(db, from_offset, before_offset)), True


def _considered(db: apsw.Connection, from_offset: int, before_offset: int) -> int:
    last = first_numbers(db, schema.LAST_PUBLISH)
    end = from_offset if last is None else last[2] + 1
    return max(from_offset, min(end, before_offset))


def count_in(db: apsw.Connection, ids: set[int] | None, from_offset: int) -> int:
    """How many messages of a segment are at or after an offset and match."""
    start = batch_from(db, from_offset)
    if start is None:
        return 0
    if ids is None or _hold_all(db, ids, start[0]):
        # Offsets are dense inside a segment.
        return one_of(db, schema.LAST_PUBLISH)[2] - max(start[1], from_offset) + 1
    count = 0
    # A copy: another reader may be adding to what the filter matches.
    for key_id in tuple(ids):
        sums = numbers_or_null(db, schema.MESSAGES_OF_KEY, (from_offset, key_id, start[0]))
        count += sum(messages or 0 for (messages,) in sums)
    return count


def _hold_all(db: apsw.Connection, ids: set[int], from_lsn: int) -> bool:
    """Whether no other key has a publish from an lsn on; False where that costs much to tell.

    A filter for most of a busy log is common, and to add up its batches costs each of them.
    """
    newest = first_numbers(db, schema.LAST_KEY, (0,))
    if newest is None or newest[0] - len(ids) > limits.FILTER_KEYS_MERGED_MAX:
        return False
    others = set(range(1, newest[0] + 1)) - ids
    return len(others) <= limits.FILTER_KEYS_MERGED_MAX and not any(
        db.execute(schema.PUBLISHES_OF_KEY, (key_id, from_lsn)).fetchone() for key_id in others
    )


def offset_at_time_in(db: apsw.Connection, at_ns: int) -> int | None:
    """First offset of a segment's first publish recorded at or after a time, by bisection.

    None if its last publish is older.
    """
    last = first_numbers(db, schema.LAST_PUBLISH)
    if last is None or last[3] < at_ns:
        return None
    # Invariant: the publish at `high` is late enough; every one below `low` is older.
    low, high = one_of(db, schema.PUBLISH_AFTER, (-1,))[1], last[1]
    while low < high:
        _, first, end, recorded_ns = one_of(db, schema.PUBLISH_AT, ((low + high) // 2,))
        if recorded_ns >= at_ns:
            high = first
        else:
            low = end + 1
    return int(high)
