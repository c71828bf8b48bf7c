"""Records that touch any of many offsets, by one pass over the index of each kind.

To look for what touches one offset is to search `RECORD_HULL_MAX` offsets back, per kind. For
thousands of offsets that lie thousands apart, the same part of the index would be read again
and again. So they are looked for together: which are wanted is a string of bytes, one per
offset, and SQLite cuts a record's piece out of it to see whether there is a 1 in it. Each
entry of the index is read once.

A look-up covers the offsets of one part (`parts`), of one kind in one segment, so that its
transaction stays short. What the records say is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import apsw

from hermes import limits
from hermes.log import schema
from hermes.log.catalog import Entry
from hermes.log.kinds import kinds_with_offsets
from hermes.log.reader import SqliteReader
from hermes.log.record import StoredRecord
from hermes.log.rows import numbers, one_record

Range = tuple[int, int]

# Of the line, in one look-up; so much more is read besides as a record may be wide.
OFFSETS_AT_ONCE: Final = 4 * limits.RECORD_HULL_MAX
# Records fetched in one transaction.
RECORDS_AT_ONCE: Final = 500


def parts(ranges: Sequence[Range]) -> Iterator[Sequence[Range]]:
    """Ascending ranges of offsets in runs of no more than `OFFSETS_AT_ONCE` from end to end,
    or of one range."""
    start = 0
    for i, (_, last) in enumerate(ranges):
        if i > start and last - ranges[start][0] >= OFFSETS_AT_ONCE:
            yield ranges[start:i]
            start = i
    if ranges:
        yield ranges[start:]


def touching_any(
    reader: SqliteReader,
    part: Sequence[Range],
    *,
    kinds: frozenset[int],
    before_lsn: int,
    payloads: bool,
    check: Callable[[], None],
) -> Iterator[list[StoredRecord]]:
    """Records of some kinds whose hull shares an offset with a range of a part, each once.

    Pages, ascending by lsn. `check` is called between look-ups and may raise.
    Raises StoreError.
    """
    mask = _Mask(part)
    statement = schema.RECORD if payloads else schema.RECORD_BARE
    for entry in reader.entries():
        lsns = [lsn for lsn in _lsns(reader, entry, mask, kinds, check) if lsn < before_lsn]
        lsns.sort()
        for at in range(0, len(lsns), RECORDS_AT_ONCE):
            check()
            some = lsns[at : at + RECORDS_AT_ONCE]

            def fetch(db: apsw.Connection, some: list[int] = some) -> list[StoredRecord]:
                return [one_record(db, statement, (lsn,)) for lsn in some]

            yield reader.look(entry, fetch) or []


class _Mask:
    """The offsets of a part as a string of bytes: 1 for those that are wanted."""

    def __init__(self, part: Sequence[Range]) -> None:
        self.first, self.last = part[0][0], part[-1][1]
        wanted = bytearray(self.last - self.first + 1)
        for first, last in part:
            wanted[first - self.first : last - self.first + 1] = b"\1" * (last - first + 1)
        self.wanted = bytes(wanted)

    def parameters(self, kind: int) -> tuple[int | bytes, ...]:
        """Of `schema.TOUCHING_ANY`."""
        since = self.first - limits.RECORD_HULL_MAX + 1
        return kind, since, self.last, self.first, self.wanted


def _lsns(
    reader: SqliteReader,
    entry: Entry,
    mask: _Mask,
    kinds: frozenset[int],
    check: Callable[[], None],
) -> Iterator[int]:
    """Those of one segment, in no order."""
    facts = entry.facts
    if facts is not None:  # sealed: it is known what it touches
        lowest, highest = facts.lowest_touched, facts.highest_touched
        if lowest is None or highest is None or lowest > mask.last or highest < mask.first:
            return
    held = reader.look(entry, lambda db: list(kinds_with_offsets(db)))
    for kind in kinds.intersection(held or ()):
        check()

        def find(db: apsw.Connection, kind: int = kind) -> list[int]:
            return [lsn for (lsn,) in numbers(db, schema.TOUCHING_ANY, mask.parameters(kind))]

        yield from reader.look(entry, find) or ()
