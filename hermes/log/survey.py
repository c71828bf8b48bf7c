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
from hermes.log.checking import is_damage
from hermes.log.database import connect_to_read, explain
from hermes.log.described import describe, has_snapshot
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
    """One segment as found. `first_record` is None when it is empty.

    `damage` says why nothing of it can be believed. Then it is described by the seal in the
    one behind it (`described.py`), and the chain before it is not known.
    """

    path: Path
    start: SegmentStart
    facts: SegmentFacts
    first_record: StoredRecord | None
    damage: str = ""


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

    @property
    def damaged(self) -> tuple[Surveyed, ...]:
        """Those that are to be left out; not those that were dropped before they were damaged."""
        dropped_lsn = 0 if self.dropped is None else self.dropped[0]
        return tuple(s for s in self.segments if s.damage and s.start.first_lsn > dropped_lsn)


class _Announced(msgspec.Struct):
    """What the records of all segments announce."""

    dropped: tuple[int, int] | None = None
    compacted: dict[int, int] = {}  # segment -> the newest announcement for it


def survey(
    found: Sequence[tuple[int, Path]], *, vfs: str = "", leave_out_damaged: bool = False
) -> Survey:
    """Read the ends of all segments. Raises StoreDamagedError, StoreVersionError.

    With `leave_out_damaged` a sealed segment that is damaged is told in the answer instead,
    if the one behind it says all that must be known of it.
    """
    segments: list[Surveyed] = []
    announced = _Announced()
    # Newest first: a segment is described by the seal in the one after it.
    for first_lsn, path in reversed(found):
        successor = segments[-1] if segments else None
        try:
            segments.append(_read(first_lsn, path, successor, announced, vfs))
        except (apsw.IOError, StoreDamagedError) as error:
            if not leave_out_damaged or not is_damage(error):
                raise
            left_out = _leave_out(first_lsn, path, successor, error, vfs)
            if left_out is None:
                raise
            segments.append(left_out)
    segments.reverse()
    uncompacted = [
        segment.start.first_lsn
        for segment in segments
        if announced.compacted.get(segment.start.first_lsn, 0) > segment.start.compacted_lsn
        and not segment.damage
    ]
    return Survey(tuple(segments), announced.dropped, tuple(uncompacted))


def _leave_out(
    first_lsn: int, path: Path, successor: Surveyed | None, error: Exception, vfs: str
) -> Surveyed | None:
    """A damaged segment by what is known of it elsewhere; None if that is not enough."""
    if successor is None or successor.damage:
        return None
    if isinstance(error, StoreDamagedError) and error.fields.get("renamed"):
        return None  # it is not damaged but away, and can be brought back
    described = describe(first_lsn, successor.start, successor.first_record)
    if described is None or not has_snapshot(successor.path, successor.start, vfs=vfs):
        return None
    said = error.__cause__ or error
    if isinstance(said, StoreDamagedError):
        reason = said.message
    else:
        reason = f"{type(said).__name__}: {said}"
    return Surveyed(path, *described, first_record=None, damage=reason)


def _read(
    first_lsn: int, path: Path, successor: Surveyed | None, announced: _Announced, vfs: str
) -> Surveyed:
    """Look at one segment, and take what it announces. Raises StoreDamagedError."""
    try:
        db = connect_to_read(path, vfs=vfs)
        try:
            segment = _look_at(db, first_lsn, path, successor)
            compacted = [(compacted_segment(body), lsn) for lsn, _, _, body in announcements(db, 0)]
            drop = first_record(db, schema.LATEST, (Kind.SEGMENT_DROPPED, INTEGER_MAX))
            dropped = None if drop is None else dropped_range(drop.body)
        finally:
            db.close()
    except (*UNREADABLE, apsw.SQLError) as error:
        until = f"..{successor.start.first_lsn - 1}" if successor else " on"
        raise StoreDamagedError(
            f"{path.name} is damaged: records {first_lsn}{until} cannot be read ({error})",
            hint=RESTORE_HINT,
            first_lsn=first_lsn,
            path=str(path),
        ) from error
    # Only now: a segment that turns out to be damaged announces nothing.
    for of_segment, lsn in compacted:
        announced.compacted.setdefault(of_segment, lsn)
    if announced.dropped is None:
        announced.dropped = dropped
    return segment


def survey_beside(folder: Path, *, vfs: str = "", leave_out_damaged: bool = False) -> Survey:
    """Survey a store that a server may be writing. Raises StoreError."""
    for look in range(1, LOOKS_MAX + 1):
        try:
            return survey(list_segments(folder), vfs=vfs, leave_out_damaged=leave_out_damaged)
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
            renamed=True,
        )
    if successor is not None and successor.start.store_id != start.store_id:
        _refuse_stranger(path, start.store_id)
    first = first_record(db, schema.READ_BARE, (first_lsn, 1))
    last = first_record(db, schema.LAST_RECORD)
    if first is not None:
        _check_first(path, start, first)
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


def _check_first(path: Path, start: SegmentStart, first: StoredRecord) -> None:
    """The first record follows what meta says was before it; so neither was changed alone."""
    if not first.follows(start.before.chain):
        raise StoreDamagedError(
            f"{path.name}: record {first.lsn} does not hash to its link in the chain",
            hint=RESTORE_HINT,
            first_lsn=first.lsn,
            last_lsn=first.lsn,
            path=str(path),
        )


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
        if found.damaged:
            raise StoreDamagedError(
                f"records {missing[0]}..{missing[1]} are not there; whether they were dropped may"
                f" be in {found.damaged[-1].path.name}, which is damaged"
                f" ({found.damaged[-1].damage})",
                hint=RESTORE_HINT,
                first_lsn=missing[0],
                last_lsn=missing[1],
                missing=True,
            )
        _refuse_missing(*missing)


def _was_accepted(after: Surveyed, missing: tuple[int, int]) -> bool:
    """Whether the segment behind a gap begins with a Lost that names exactly it."""
    first = after.first_record
    return first is not None and first.kind == Kind.LOST and lost_range(first.body) == missing


def _check_joint(before: Surveyed, after: Surveyed) -> None:
    end, start = before.facts.end, after.start
    if end.lsn + 1 == start.first_lsn:
        if end.chain != start.before.chain and not after.damage:
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
