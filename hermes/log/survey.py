"""Look at every segment of a store before anything is touched, and judge what is there.

Reads the ends of each segment, not every byte: that the files belong together, that no
segment is missing, that each one's chain goes on in the next, that the log reaches HEAD,
and that the last records hash to what they say. What is wrong is raised with the exact
range of lsns. Nothing is changed here; `opening.py` acts on what was found.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

import apsw
import msgspec

from hermes import limits
from hermes.errors import StoreDamagedError, StoreError
from hermes.log import schema
from hermes.log.bodies import (
    compacted_segment,
    dropped_range,
    erased_lsn,
    lost_range,
    sealed_facts,
)
from hermes.log.catalog import list_segments
from hermes.log.chain import hash_payload, link
from hermes.log.database import connect_to_read, explain
from hermes.log.facts import Mark, SegmentFacts, SegmentStart
from hermes.log.record import Kind, StoredRecord
from hermes.log.rows import announcements, first_record, hull_of, records, typed
from hermes.log.schema import INTEGER_MAX
from hermes.log.segment import read_end, read_facts, read_start

# Of a damaged page, a value of another type than its column's, a text that is none.
_UNREADABLE: Final = (apsw.CorruptError, apsw.NotADBError, UnicodeDecodeError)
RESTORE_HINT = "restore the missing files from a backup"
LOOKS_MAX = 5


class _Payload(NamedTuple):
    """A row of `schema.PAYLOADS_BACK`."""

    lsn: int
    payload: bytes | None
    payload_hash: bytes | None


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
        except (*_UNREADABLE, apsw.SQLError) as error:
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


def check_head(found: Survey, head: Mark, *, vfs: str = "") -> None:
    """HEAD within the log: the record it names must be the one that it knows.

    Raises StoreDamagedError.
    """
    for segment in reversed(found.segments):
        if segment.start.before.lsn > head.lsn:
            continue
        if segment.start.before.lsn == head.lsn:
            chain = segment.start.before.chain
        else:
            db = connect_to_read(segment.path, vfs=vfs)
            try:
                row = db.execute(schema.CHAIN_AT, (head.lsn,)).fetchone()
            except _UNREADABLE as error:
                _refuse_unreadable(segment.path, head.lsn, head.lsn, error)
            finally:
                db.close()
            chain = b"" if row is None else row[0]
        if chain != head.chain:
            raise StoreDamagedError(
                f"record {head.lsn} is not the one that was committed: the log was changed",
                hint=RESTORE_HINT,
                first_lsn=head.lsn,
                last_lsn=head.lsn,
            )
        break
    if head.lsn == found.end.lsn and head.next_offset != found.end.next_offset:
        _refuse_offsets(head.next_offset, found.segments[-1])


def _refuse_unreadable(path: Path, first_lsn: int, last_lsn: int, error: Exception) -> NoReturn:
    raise StoreDamagedError(
        f"{path.name} is damaged: of the records {first_lsn}..{last_lsn} not all can be read"
        f" ({error})",
        hint=RESTORE_HINT,
        first_lsn=first_lsn,
        last_lsn=last_lsn,
        path=str(path),
    ) from error


def _refuse_offsets(next_offset: int, segment: Surveyed) -> None:
    """An index of offsets is damaged: going on by it would give numbers twice."""
    end = segment.facts.end
    raise StoreDamagedError(
        f"{segment.path.name}: the next offset after record {end.lsn} is {next_offset},"
        f" its index says {end.next_offset}",
        hint=RESTORE_HINT,
        first_lsn=end.lsn,
        last_lsn=end.lsn,
        path=str(segment.path),
    )


def check_tail(segment: Surveyed, *, vfs: str = "") -> None:
    """Recompute the chain of the last records, and hash their payloads up to a size.

    Raises StoreDamagedError for the first break.
    """
    end_lsn = segment.facts.end.lsn
    start = since_lsn = max(segment.start.before.lsn, end_lsn - limits.TAIL_CHECK_RECORDS)
    db = connect_to_read(segment.path, vfs=vfs)
    try:
        chain = segment.start.before.chain
        if start > segment.start.before.lsn:
            before = first_record(db, schema.READ_BARE, (start, 1))
            chain = b"" if before is None else before.chain
        next_offset = segment.facts.end.next_offset
        for found in records(db, schema.READ_BARE, (start + 1, limits.TAIL_CHECK_RECORDS)):
            start += 1
            chain = link(
                chain,
                found.lsn,
                found.at_ns,
                found.kind,
                found.key,
                found.first,
                found.last,
                found.body,
                found.payload_hash,
            )
            if found.lsn != start or chain != found.chain:
                raise StoreDamagedError(
                    f"record {start} does not hash to its link in the chain",
                    hint=RESTORE_HINT,
                    first_lsn=start,
                    last_lsn=end_lsn,
                )
            if found.kind == Kind.PUBLISHED:
                next_offset = hull_of(found)[1] + 1
        if next_offset != segment.facts.end.next_offset:
            _refuse_offsets(next_offset, segment)
        _check_payloads(db, since_lsn)
    except _UNREADABLE as error:
        _refuse_unreadable(segment.path, since_lsn + 1, end_lsn, error)
    finally:
        db.close()


def _check_payloads(db: apsw.Connection, since_lsn: int) -> None:
    """The chain covers a payload's hash alone. Raises StoreDamagedError.

    A payload is taken out of a sealed segment, or because a PayloadErased here says so. Any
    other one that is gone is lost: a flipped bit can make NULL of a short one.
    """
    left_bytes = limits.TAIL_CHECK_PAYLOAD_BYTES
    for row in db.execute(schema.PAYLOADS_BACK, (since_lsn,)):
        lsn, payload, payload_hash = typed(row, _Payload)
        if payload is None:
            whole = payload_hash is None or _may_be_gone(db, lsn)
        else:
            whole = hash_payload(payload) == payload_hash
            left_bytes -= len(payload)
        if not whole:
            raise StoreDamagedError(
                f"the payload of record {lsn} does not hash to what the log says",
                hint=RESTORE_HINT,
                first_lsn=lsn,
                last_lsn=lsn,
            )
        if left_bytes <= 0:
            return


def _may_be_gone(db: apsw.Connection, lsn: int) -> bool:
    """Whether this file was sealed and compacted once, or a record in it erased that payload."""
    if any(name == "compacted_lsn" for name, _ in db.execute(schema.META)):
        return True
    before = INTEGER_MAX
    while (found := first_record(db, schema.LATEST, (Kind.PAYLOAD_ERASED, before))) is not None:
        if erased_lsn(found.body) == lsn:
            return True
        before = found.lsn - 1
    return False
