"""Look at every segment of a store before anything is touched, and judge what is there.

Reads the ends of each segment, not every byte: that the files belong together, that no
segment is missing, and that each one's chain goes on in the next. What is wrong is raised
with the exact range of lsns. Nothing is changed here; `opening.py` acts on what was found,
and the log's end is judged in `log_end.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import apsw
import msgspec

from hermes.errors import StoreDamagedError, StoreError
from hermes.log import schema
from hermes.log.bodies import (
    compacted_segment,
    dropped_range,
    lost_range,
    sealed_facts,
)
from hermes.log.catalog import list_segments
from hermes.log.database import connect_to_read, explain
from hermes.log.facts import Mark, SegmentFacts, SegmentStart
from hermes.log.record import Kind, StoredRecord
from hermes.log.rows import announcements, first_record
from hermes.log.schema import INTEGER_MAX
from hermes.log.segment import read_end, read_facts, read_start

# Of a damaged page, a value of another type than its column's, a text that is none.
UNREADABLE: Final = (apsw.CorruptError, apsw.NotADBError, UnicodeDecodeError)
RESTORE_HINT = "restore the missing files from a backup"
LOOKS_MAX = 5


class Surveyed(msgspec.Struct, frozen=True):
    """One segment as found. `first_record` is None when it is empty."""

    path: Path
    start: SegmentStart
    facts: SegmentFacts
    first_record: StoredRecord | None


class Survey(msgspec.Struct, frozen=True):
    """All segments, oldest first, and the newest announced drop (its first and last lsn).

    `uncompacted` are the first lsns of those for which more was announced than was done.
    """

    segments: tuple[Surveyed, ...]
    dropped: tuple[int, int] | None
    uncompacted: tuple[int, ...] = ()

    @property
    def end(self) -> Mark:
        return self.segments[-1].facts.end


def survey(found: Sequence[tuple[int, Path]], *, vfs: str = "") -> Survey:
    """Read the ends of all segments. Raises StoreDamagedError, StoreVersionError."""
    segments: list[Surveyed] = []
    dropped: tuple[int, int] | None = None
    compacted: dict[int, int] = {}  # segment -> the newest announcement for it
    # Newest first: a segment is described by the seal in the one after it.
    for position in range(len(found) - 1, -1, -1):
        first_lsn, path = found[position]
        successor = segments[-1] if segments else None
        try:
            db = connect_to_read(path, vfs=vfs)
            try:
                segments.append(_look_at(db, first_lsn, path, successor))
                for lsn, _, _, body in announcements(db, 0):
                    compacted.setdefault(compacted_segment(body), lsn)
                if dropped is None:
                    drop = first_record(db, schema.LATEST, (Kind.SEGMENT_DROPPED, INTEGER_MAX))
                    dropped = None if drop is None else dropped_range(drop.body)
            finally:
                db.close()
        except (*UNREADABLE, apsw.SQLError) as error:
            until = f"..{found[position + 1][0] - 1}" if successor else " on"
            raise StoreDamagedError(
                f"{path.name} is damaged: records {first_lsn}{until} cannot be read ({error})",
                hint=RESTORE_HINT,
                first_lsn=first_lsn,
                path=str(path),
            ) from error
    segments.reverse()
    uncompacted = [
        start.first_lsn
        for start in (segment.start for segment in segments)
        if compacted.get(start.first_lsn, 0) > start.compacted_lsn
    ]
    return Survey(tuple(segments), dropped, tuple(uncompacted))


def survey_beside(folder: Path, *, vfs: str = "") -> Survey:
    """Survey a store that a server may be writing. Raises StoreError."""
    for look in range(1, LOOKS_MAX + 1):
        try:
            return survey(list_segments(folder), vfs=vfs)
        except apsw.Error as error:
            # A segment may be dropped between listing and opening.
            if look == LOOKS_MAX or not isinstance(error, apsw.CantOpenError):
                raise explain(error, str(folder)) from error
    raise AssertionError("the last look returns or raises")


def _look_at(
    db: apsw.Connection, first_lsn: int, path: Path, successor: Surveyed | None
) -> Surveyed:
    start = read_start(db, path.name)
    if start.first_lsn != first_lsn:
        raise StoreDamagedError(
            f"{path.name} holds the records from {start.first_lsn} on: it was renamed",
            hint="give the file its own name back",
            path=str(path),
        )
    if successor is not None and successor.start.store_id != start.store_id:
        _refuse_stranger(path, start.store_id)
    first = first_record(db, schema.READ_BARE, (first_lsn, 1))
    last = first_record(db, schema.LAST_RECORD)
    seal = successor.first_record if successor else None
    if first is not None and seal is not None and seal.kind == Kind.SEGMENT_SEALED:
        last_at_ns = last.at_ns if last else first.at_ns
        base_offset = start.before.next_offset
        facts = sealed_facts(seal.body, first.at_ns, last_at_ns, base_offset)
        # Otherwise the segment that it seals is missing, and the gap will be named.
        if facts.first_lsn == first_lsn:
            end = read_end(db, start)
            if facts.end != end:
                _refuse_seal(path, facts, end)
            return Surveyed(path, start, facts, first)
    return Surveyed(path, start, read_facts(db, start), first)


def _refuse_stranger(path: Path, store_id: str) -> None:
    raise StoreError(
        f"{path.name} belongs to another store ({store_id})",
        hint="keep each store in a folder of its own",
        path=str(path),
    )


def _refuse_seal(path: Path, sealed: SegmentFacts, end: Mark) -> None:
    if end.lsn < sealed.end.lsn:
        raise StoreDamagedError(
            f"{path.name} has lost records {end.lsn + 1}..{sealed.end.lsn}",
            hint=RESTORE_HINT,
            first_lsn=end.lsn + 1,
            last_lsn=sealed.end.lsn,
        )
    raise StoreDamagedError(
        f"{path.name} is not what its seal says: records"
        f" {sealed.first_lsn}..{sealed.end.lsn} were changed",
        hint=RESTORE_HINT,
        first_lsn=sealed.first_lsn,
        last_lsn=sealed.end.lsn,
    )


# ----------------------------------------------------------------------- judge


def check_segments(found: Survey, store_id: str) -> None:
    """Raises StoreDamagedError for a gap, a break or a missing segment, StoreError for
    a file of another store."""
    for segment in found.segments:
        if segment.start.store_id != store_id:
            _refuse_stranger(segment.path, segment.start.store_id)
    _check_oldest(found)
    for before, after in zip(found.segments, found.segments[1:], strict=False):
        _check_joint(before, after)


def _check_oldest(found: Survey) -> None:
    oldest = found.segments[0]
    held_from = 1 if found.dropped is None else found.dropped[1] + 1
    missing = (held_from, oldest.start.first_lsn - 1)
    if missing[0] <= missing[1] and not _was_accepted(oldest, missing):
        _refuse_missing(*missing)


def _was_accepted(after: Surveyed, missing: tuple[int, int]) -> bool:
    """Whether the segment behind a gap begins with a Lost that names exactly it."""
    first = after.first_record
    return first is not None and first.kind == Kind.LOST and lost_range(first.body) == missing


def _check_joint(before: Surveyed, after: Surveyed) -> None:
    end, start = before.facts.end, after.start
    if end.lsn + 1 == start.first_lsn:
        if end.chain != start.before.chain:
            raise StoreDamagedError(
                f"the chain breaks between records {end.lsn} and {start.first_lsn}",
                hint=RESTORE_HINT,
                first_lsn=end.lsn,
                last_lsn=start.first_lsn,
            )
        return
    if end.lsn >= start.first_lsn:
        raise StoreDamagedError(
            f"{before.path.name} and {after.path.name} both hold record {start.first_lsn}",
            hint=RESTORE_HINT,
            first_lsn=start.first_lsn,
            last_lsn=end.lsn,
        )
    missing = (end.lsn + 1, start.first_lsn - 1)
    if not _was_accepted(after, missing):
        _refuse_missing(*missing)


def _refuse_missing(first_lsn: int, last_lsn: int) -> None:
    raise StoreDamagedError(
        f"records {first_lsn}..{last_lsn} are missing: a segment was removed or cut short",
        hint=RESTORE_HINT,
        first_lsn=first_lsn,
        last_lsn=last_lsn,
        missing=True,
    )
