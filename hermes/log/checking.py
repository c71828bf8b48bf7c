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

from collections.abc import Iterable
from typing import Final

import apsw

from hermes.errors import SegmentDamagedError, StoreDamagedError
from hermes.log import schema
from hermes.log.catalog import Entry
from hermes.log.chain import hash_payload, link
from hermes.log.record import StoredRecord

# What SQLite, or a value of another type than was written, says about one file. Not what
# says something about the process: no memory, no descriptors, a file that is away.
DAMAGE: Final = (
    apsw.CorruptError,
    apsw.NotADBError,
    apsw.FormatError,
    apsw.IOError,
    apsw.SQLError,
    StoreDamagedError,
    TypeError,
    ValueError,
)


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
    salt, before = row
    if record.payload is not None and hash_payload(salt + record.payload) != record.payload_hash:
        return False
    chain = link(
        before,
        record.lsn,
        record.at_ns,
        record.kind,
        record.key,
        record.first,
        record.last,
        record.body,
        record.payload_hash,
    )
    return chain == record.chain


def check_line_end(entry: Entry, at: int, before_offset: int) -> None:
    """`at` is where the line of a segment, read to its end or to `before_offset`, ended.

    Raises SegmentDamagedError unless that is where it was sealed.
    """
    if entry.facts is None or entry.facts.last_offset is None:
        return
    if at < min(entry.facts.last_offset + 1, before_offset):
        raise entry.damaged(f"its index has no message after offset {at - 1}")


def told(entry: Entry, error: Exception) -> SegmentDamagedError:
    """An error of `DAMAGE` that came up in a sealed segment, as one about that segment."""
    if isinstance(error, SegmentDamagedError):
        return error
    if isinstance(error, StoreDamagedError):
        return entry.damaged(error.message)
    return entry.damaged(f"{type(error).__name__}: {error}")
