"""The end of a log: whether it is the one that HEAD knows, and whether its last records hash.

What was committed last is what a crash can spoil, so here every record is recomputed, a bounded
number of them. Raises with the exact range; nothing is changed. The ends of all segments and
how they fit together are in `survey.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, NoReturn

import apsw

from hermes import limits
from hermes.errors import StoreDamagedError
from hermes.log import schema
from hermes.log.bodies import erased_lsn
from hermes.log.chain import hash_payload
from hermes.log.database import connect_to_read
from hermes.log.facts import Mark
from hermes.log.record import Kind
from hermes.log.rows import first_record, hull_of, records, typed
from hermes.log.schema import INTEGER_MAX
from hermes.log.survey import RESTORE_HINT, UNREADABLE, Survey, Surveyed


class _Payload(NamedTuple):
    """A row of `schema.PAYLOADS_BACK`."""

    lsn: int
    payload: bytes | None
    payload_hash: bytes | None


def check_head(found: Survey, head: Mark, *, vfs: str = "") -> None:
    """HEAD within the log: the record it names must be the one that it knows.

    Raises StoreDamagedError.
    """
    for segment in reversed(found.segments):
        if segment.start.before.lsn > head.lsn:
            continue
        if segment.damage:
            if segment.start.before.lsn == head.lsn:
                continue  # that record is in the one before it
            raise StoreDamagedError(
                f"{segment.path.name} is damaged ({segment.damage}), and the record that HEAD"
                f" names, {head.lsn}, is in it: whether the log behind it is the one that was"
                " committed cannot be told",
                hint=RESTORE_HINT,
                first_lsn=segment.start.first_lsn,
                last_lsn=segment.facts.last_lsn,
                path=str(segment.path),
            )
        if segment.start.before.lsn == head.lsn:
            chain = segment.start.before.chain
        else:
            db = connect_to_read(segment.path, vfs=vfs)
            try:
                row = db.execute(schema.CHAIN_AT, (head.lsn,)).fetchone()
            except UNREADABLE as error:
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
            if found.lsn != start or not found.follows(chain):
                raise StoreDamagedError(
                    f"record {start} does not hash to its link in the chain",
                    hint=RESTORE_HINT,
                    first_lsn=start,
                    last_lsn=end_lsn,
                )
            chain = found.chain
            if found.kind == Kind.PUBLISHED:
                next_offset = hull_of(found)[1] + 1
        if next_offset != segment.facts.end.next_offset:
            _refuse_offsets(next_offset, segment)
        _check_payloads(db, since_lsn)
    except UNREADABLE as error:
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
