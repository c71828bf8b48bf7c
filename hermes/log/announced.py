"""What SegmentCompacted records announce: which payloads of a segment are to go.

A compaction is announced by one or several such records (each tells offsets within a hull),
appended as one group; the newest of them gives the compaction its number. What all records
of a segment name is retired, so a later announcement need not repeat an earlier one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import apsw
import msgspec

from hermes.errors import StoreDamagedError
from hermes.log import schema
from hermes.log.bodies import compacted_ranges, compacted_segment
from hermes.log.catalog import Entry, position_of
from hermes.log.held import Held, read_held
from hermes.log.reader import SqliteReader
from hermes.log.record import Kind
from hermes.log.retired import Range, joined
from hermes.log.rows import announcements, first_numbers


class Announcement(msgspec.Struct, frozen=True):
    """What is to be done to one segment: `lsn` is the newest record that says so."""

    lsn: int
    retired: tuple[Range, ...]


def check_announced(reader: SqliteReader, entry: Entry) -> None:
    """Whether the newest group of announcements is for this segment and can be carried out.

    Raises ValueError if not: none is newer than what was done, or it cuts a batch.
    """
    first_lsn = entry.first_lsn
    newest = reader.latest(Kind.SEGMENT_COMPACTED)
    start = reader.start_of(entry)
    done_lsn = 0 if start is None else start.compacted_lsn
    if newest is None or compacted_segment(newest.body) != first_lsn or newest.lsn <= done_lsn:
        raise ValueError(f"no committed SegmentCompacted announces more for segment {first_lsn}")
    entries = reader.entries()
    group = reader.look(
        entries[position_of(entries, newest.lsn)],
        lambda db: _group(db, first_lsn, done_lsn, newest.lsn),
    )
    cut = reader.look(entry, lambda db: first_cut(db, joined(group or ())))
    if cut is not None:
        raise ValueError(f"{cut[0]}..{cut[1]} are not whole batches of segment {first_lsn}")


def announcement(reader: SqliteReader, entry: Entry, held: Held) -> Announcement | None:
    """What is announced for a segment and not done yet: a look-up in each later segment.

    Raises StoreError.
    """
    after = max(held.compacted_lsn, 0 if entry.facts is None else entry.facts.last_lsn)
    newest = 0
    ranges = list(held.retired)
    entries = reader.entries()
    for later in entries[position_of(entries, after + 1) :]:
        for lsn, found in reader.look(later, lambda db: _named(db, entry.first_lsn, after)) or ():
            newest = max(newest, lsn)
            ranges += found
    return Announcement(newest, joined(ranges)) if newest else None


def held_in(reader: SqliteReader, entry: Entry) -> Held:
    """What a segment's file holds. Raises StoreError."""
    last_lsn = entry.first_lsn if entry.facts is None else entry.facts.last_lsn
    held = reader.look(entry, lambda db: read_held(db, entry.first_lsn, last_lsn))
    if held is None:
        raise StoreDamagedError(f"{entry.path.name} is missing", path=str(entry.path))
    return held


def first_cut(db: apsw.Connection, retired: Sequence[Range]) -> Range | None:
    """A range that does not consist of whole batches of a segment; None if all do."""
    for statement, bound in ((schema.NOT_FIRST, 0), (schema.NOT_LAST, 1)):
        offsets = [pair[bound] for pair in retired]
        row = first_numbers(db, statement, (msgspec.json.encode(offsets).decode(),))
        if row is not None:
            return retired[offsets.index(row[0])]
    return None


def _named(db: apsw.Connection, first_lsn: int, after_lsn: int) -> list[tuple[int, list[Range]]]:
    return [
        (lsn, compacted_ranges(first, last, body))
        for lsn, first, last, body in announcements(db, after_lsn)
        if compacted_segment(body) == first_lsn
    ]


def _group(db: apsw.Connection, first_lsn: int, after_lsn: int, newest_lsn: int) -> list[Range]:
    """Ranges of the records up to `newest_lsn` that follow each other without a gap."""
    return [r for ranges in _run(db, first_lsn, after_lsn, newest_lsn) for r in ranges]


def _run(
    db: apsw.Connection, first_lsn: int, after_lsn: int, newest_lsn: int
) -> Iterator[list[Range]]:
    expected = newest_lsn
    for lsn, first, last, body in announcements(db, after_lsn):
        if lsn > newest_lsn:
            continue
        if lsn != expected or compacted_segment(body) != first_lsn:
            return
        yield compacted_ranges(first, last, body)
        expected -= 1
