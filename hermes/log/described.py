"""A damaged sealed segment, described by the one behind it.

A segment that is damaged cannot be believed in anything, also not in what it says of itself.
What must be known to leave it out is known elsewhere: the segment behind it begins with
SegmentSealed (range, offsets, hull, final chain) and Snapshot, and its meta table says the
same end. Only where these agree is a store opened without it; else its range is a guess, or
the broker's state cannot be folded, and the store is refused.

What is not known: the chain before it, and its times. For those the time of its seal stands:
no record of it is newer.
"""

from __future__ import annotations

from pathlib import Path

import apsw

from hermes.log import schema
from hermes.log.bodies import sealed_facts
from hermes.log.database import connect_to_read
from hermes.log.facts import Mark, SegmentFacts, SegmentStart
from hermes.log.record import Kind, StoredRecord
from hermes.log.rows import first_record


def describe(
    first_lsn: int, behind: SegmentStart, seal: StoredRecord | None
) -> tuple[SegmentStart, SegmentFacts] | None:
    """The segment that begins with `first_lsn`, by what the next one says: its meta table and
    its first record. None if these do not describe it. Raises StoreDamagedError."""
    if seal is None or seal.kind != Kind.SEGMENT_SEALED:
        return None
    facts = sealed_facts(seal.body, seal.at_ns, seal.at_ns, behind.before.next_offset)
    if facts.first_lsn != first_lsn or facts.end != behind.before:
        return None
    # Without a publish in it the next offset was the same at both its ends.
    offset = facts.end.next_offset if facts.first_offset is None else facts.first_offset
    return SegmentStart(behind.store_id, first_lsn, Mark(first_lsn - 1, offset, b"")), facts


def has_snapshot(path: Path, behind: SegmentStart, *, vfs: str = "") -> bool:
    """Whether a Snapshot follows the seal, so that nothing before it is needed to fold.

    Raises apsw.Error.
    """
    db = connect_to_read(path, vfs=vfs)
    try:
        second = first_record(db, schema.READ_BARE, (behind.first_lsn + 1, 1))
    except (apsw.CorruptError, UnicodeDecodeError):
        return False
    finally:
        db.close()
    return second is not None and second.kind == Kind.SNAPSHOT
