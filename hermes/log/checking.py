"""Whether what was read out of a sealed segment is what was committed.

SQLite notices a page that cannot be one; it does not notice a flipped byte in what a page
holds. So a message is proved before it is handed on: its record hashes to its link in the
chain, its payload to its hash. And a sealed segment's line ends where its seal says: an
index that lost its end does not make the line shorter without a word.

An index that hides a record in the middle of a filtered line is not noticed here; that
takes `hermes-inspect verify --indexes`. The active segment is not checked here either:
opening recomputes its tail, and an error there is a failed log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

import apsw
import msgspec

from hermes.errors import SegmentDamagedError, StoreDamagedError
from hermes.log import schema
from hermes.log.catalog import Entry
from hermes.log.chain import SALT_BYTES, hash_payload
from hermes.log.database import has_our_tables
from hermes.log.record import StoredRecord
from hermes.log.rows import Proof, typed

_Answer = TypeVar("_Answer")

# What says something about a file's bytes: SQLite met them, or a check where they became
# values (`rows.py`; a text that is none fails in apsw). Never an error of Python: that is a
# fault of this program, and a sound segment must not pay for it.
_DAMAGE: Final = (apsw.CorruptError, apsw.NotADBError, UnicodeDecodeError, StoreDamagedError)
# Of the errors of reading, those of the medium. The others (no memory, no descriptor, no
# permission, a lock) are the process's, and pass.
_MEDIUM: Final = frozenset(
    {
        apsw.SQLITE_IOERR_READ,
        apsw.SQLITE_IOERR_SHORT_READ,
        apsw.SQLITE_IOERR_DATA,
        apsw.SQLITE_IOERR_CORRUPTFS,
    }
)


def is_damage(error: Exception) -> bool:
    """Whether what a look-up met says something about the segment's bytes."""
    if isinstance(error, apsw.IOError):
        # apsw's stubs do not know the attribute.
        return getattr(error, "extendedresult", 0) in _MEDIUM
    return isinstance(error, _DAMAGE)


def ask(db: apsw.Connection, question: Callable[[apsw.Connection], _Answer]) -> _Answer:
    """Ask a segment. SQLite finds fault with a statement of ours, or with what the file says
    its tables are: only the latter is raised as StoreDamagedError."""
    try:
        return question(db)
    except apsw.SQLError as error:
        if has_our_tables(db):
            raise
        raise StoreDamagedError(f"its tables are not what they were: {error}") from error


def prove(db: apsw.Connection, entry: Entry, records: Iterable[StoredRecord]) -> None:
    """Recompute hash and link of records of a sealed segment; nothing for the active one.

    Raises SegmentDamagedError for the first that is not what was committed.
    """
    if entry.facts is None:
        return
    for record in records:
        if not _is_genuine(db, record):
            raise entry.damaged(f"record {record.lsn} is not what was committed")


def _is_genuine(db: apsw.Connection, record: StoredRecord) -> bool:
    row = db.execute(schema.PROOF, (record.lsn,)).fetchone()
    if row is None:
        return False
    proof = typed(row, Proof)
    if record.payload is not None:
        salted = (proof.salt or b"") + record.payload
        if hash_payload(salted) != record.payload_hash:
            return False
    return record.follows(proof.before)


class Proved(msgspec.Struct):
    """Records without their salts, and the lsns of those that are not what was committed."""

    records: list[StoredRecord]
    changed: list[int]


def prove_in_turn(salted: Iterable[StoredRecord], from_lsn: int, before: bytes) -> Proved:
    """Recompute records that follow each other, whose payloads still have their salts.

    `before` is the link in front of `from_lsn`. Each record is held against the stored link
    of the one before it, so a changed one accuses nobody but itself; where records were lost,
    the next one is held against its payload's hash alone.
    """
    proved = Proved([], [])
    expected_lsn = from_lsn
    for record in salted:
        genuine = record.lsn != expected_lsn or record.follows(before)
        expected_lsn, before = record.lsn + 1, record.chain
        payload = record.payload
        if payload is None:
            proved.records.append(record)
        else:
            genuine = genuine and hash_payload(payload) == record.payload_hash
            bare = msgspec.structs.replace(record, payload=payload[SALT_BYTES:])
            proved.records.append(bare)
        if not genuine:
            proved.changed.append(record.lsn)
    return proved


def check_line_end(entry: Entry, at: int, before_offset: int) -> None:
    """`at` is where the line of a segment, read to its end or to `before_offset`, ended.

    Raises SegmentDamagedError unless that is where it was sealed.
    """
    if entry.facts is None or entry.facts.last_offset is None:
        return
    if at < min(entry.facts.last_offset + 1, before_offset):
        raise entry.damaged(f"its index has no message after offset {at - 1}")


def told(entry: Entry, error: Exception) -> SegmentDamagedError:
    """An error that `is_damage` and came up in a sealed segment, as one about that segment."""
    if isinstance(error, SegmentDamagedError):
        return error
    if isinstance(error, StoreDamagedError):
        return entry.damaged(error.message)
    return entry.damaged(f"{type(error).__name__}: {error}")
