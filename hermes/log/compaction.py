"""Write a sealed segment anew, without the payloads that are retired: one file, beside the old.

    copy in pieces -> verify the copy -> write down what was done -> sealed, synced

Theory: a payload is a column, and space inside a SQLite file comes back only by writing the
file again. So the rows are copied by statements that run inside SQLite (no row passes
through Python, nobody waits for the interpreter), and retired payloads are never read.
Then the copy alone is read back, by a connection of its own, and its whole chain
recomputed: what arrives at the link that the segment's seal names is bit for bit what
was sealed, whatever happened to the source, the copying, or memory.

Rules
- Nothing but the temporary file is written. Whoever renames it (`compactor.py`) decides
  whether the old file has had its day; an exception leaves no temporary file behind.
- Each piece is a transaction that ends with a sync of some 256 KiB: one sync of a gigabyte
  would make the commits on the same disk wait for it, and so does what the kernel writes
  back by itself. Between pieces `rest` is called, with how many times as long as the piece
  took it is to be.
- A source that is damaged is refused with the lsn, as StoreDamagedError.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import apsw
import msgspec

from hermes.errors import StoreDamagedError
from hermes.log import schema
from hermes.log.announced import Announcement
from hermes.log.chain import hash_payload, link
from hermes.log.database import CREATE_FLAGS, connect, fetch_one
from hermes.log.facts import SegmentFacts
from hermes.log.held import encode_retired
from hermes.log.scan import SegmentScan
from hermes.log.segment import BUILDING_SUFFIX, remove_files

# With 64 KiB publishers' p99 was no better, and the work took twice as long.
PIECE_BYTES: Final = 256 << 10
_PIECE_ROWS_MAX: Final = 2_048
RANGES_AT_ONCE: Final = 1_024
_KEYS_AT_ONCE: Final = 4_096
_TERMS_AT_ONCE: Final = 8_192
# Hashing rows is Python's work, which the event loop waits for: some 0.5 ms at a time.
_VERIFY_BYTES: Final = 24 << 10
# Times as long as a piece took. Copying is the disk's work, and every commit waits for the
# disk; verifying reads what is in memory.
COPY_RESTS: Final = 12
VERIFY_RESTS: Final = 3

HINT: Final = "run hermes-inspect verify on the store; restore the segment from a backup"


class Source(msgspec.Struct, frozen=True):
    """A sealed segment to be written anew: its file, and what its seal says."""

    path: Path
    facts: SegmentFacts


def rewrite(
    source: Source, todo: Announcement, *, rest: Callable[[int], None], vfs: str = ""
) -> tuple[Path, int]:
    """Make the new file; returns its temporary path and the payload bytes that it holds.

    `rest` is told COPY_RESTS or VERIFY_RESTS; it may raise to end the work. Raises
    StoreDamagedError (the source is, or the copy is not what was sealed), apsw.Error, OSError.
    """
    building = source.path.with_name(f"{source.facts.first_lsn:020d}{BUILDING_SUFFIX}")
    remove_files(building)
    try:
        db = connect(
            building,
            flags=CREATE_FLAGS | apsw.SQLITE_OPEN_URI,
            pragmas=schema.COMPACT_PRAGMAS,
            vfs=vfs,
        )
        with closing(db):
            for _ in _copy(db, source, todo):
                rest(COPY_RESTS)
            payload_bytes = 0
            for hashed_bytes in _verify(building, source, vfs):
                payload_bytes += hashed_bytes
                rest(VERIFY_RESTS)
            facts = (
                ("payload_bytes", payload_bytes),
                ("retired", encode_retired(todo.retired)),
                ("compacted_lsn", todo.lsn),
            )
            with _piece(db):
                db.executemany(schema.INSERT_META, facts)
        building.chmod(stat.S_IRUSR)
    except apsw.CorruptError as error:
        remove_files(building)
        raise _damaged(source, f"cannot be read ({error})", source.facts.first_lsn) from error
    except BaseException:
        remove_files(building)
        raise
    return building, payload_bytes


# ------------------------------------------------------------------------- copying


@contextmanager
def _piece(db: apsw.Connection) -> Iterator[None]:
    """One transaction: synced when it ends well. A failed one leaves a file to throw away."""
    db.execute("BEGIN")
    yield
    db.execute("COMMIT")


def _copy(db: apsw.Connection, source: Source, todo: Announcement) -> Iterator[None]:
    """Tables, keys, records and terms; a step of the iterator is a piece on the disk."""
    db.execute(schema.ATTACH_SOURCE, (f"{source.path.absolute().as_uri()}?mode=ro",))
    with _piece(db):
        for statement in (*schema.TABLES, *schema.INDEXES):
            db.execute(statement)
        db.execute(schema.COPY_META)
    db.execute(schema.RETIRED_TABLE)
    for at in range(0, len(todo.retired), RANGES_AT_ONCE):
        with _piece(db):
            db.executemany(schema.INSERT_RETIRED, todo.retired[at : at + RANGES_AT_ONCE])
        yield
    yield from _copy_keys(db)
    yield from _copy_records(db, source.facts)
    yield from _copy_terms(db, source)


def _copy_keys(db: apsw.Connection) -> Iterator[None]:
    copied = True
    while copied:
        with _piece(db):
            db.execute(schema.COPY_KEYS, (_KEYS_AT_ONCE,))
            copied = db.changes() > 0
        yield


def _copy_records(db: apsw.Connection, facts: SegmentFacts) -> Iterator[None]:
    lsn, rows = facts.first_lsn, 1
    # Where few rows were left of many, the next ones may all be.
    source_bytes = int(str(db.pragma("page_count", schema="source"))) * schema.PAGE_BYTES
    most = max(1, min(_PIECE_ROWS_MAX, 2 * PIECE_BYTES * facts.records // source_bytes))
    size_bytes = _size_of(db)
    while lsn <= facts.last_lsn:
        upto = min(lsn + rows - 1, facts.last_lsn)
        with _piece(db):
            db.execute(schema.COPY_RECORDS, (lsn, upto))
        grown_bytes = max(1, _size_of(db) - size_bytes)
        size_bytes += grown_bytes
        # As many rows next time as fill a piece, but never much more than last time.
        rows = max(1, min(most, 4 * rows, rows * PIECE_BYTES // grown_bytes))
        lsn = upto + 1
        yield


def _copy_terms(db: apsw.Connection, source: Source) -> Iterator[None]:
    at = (-1, -1)
    while True:
        with _piece(db):
            db.execute(schema.COPY_TERMS, (*at, _TERMS_AT_ONCE))
            copied = db.changes()
        if not copied:
            break
        at = fetch_one(db, schema.LAST_TERM)
        yield
    copies, originals = fetch_one(db, schema.COUNT_TERMS)
    if copies != originals:
        raise _damaged(source, "has terms in disorder", source.facts.first_lsn)


def _size_of(db: apsw.Connection) -> int:
    return int(str(db.pragma("page_count"))) * schema.PAGE_BYTES


# ---------------------------------------------------------------------- verification


def _verify(building: Path, source: Source, vfs: str) -> Iterator[int]:
    """Recompute the copy's chain up to the seal; yields payload bytes found sound."""
    facts = source.facts
    with SegmentScan(building, vfs=vfs) as scan:
        start = scan.start()
        if start.first_lsn != facts.first_lsn:
            raise _damaged(source, "is another segment", facts.first_lsn)
        lsn, chain = start.before.lsn, start.before.chain
        while rows := scan.rows(lsn + 1, facts.last_lsn, limit_bytes=_VERIFY_BYTES):
            held_bytes = 0
            for number, at_ns, kind, key, first, last, body, payload, payload_hash, stored in rows:
                lsn += 1
                chain = link(chain, number, at_ns, kind, key, first, last, body, payload_hash)
                if number != lsn or chain != stored:
                    raise _damaged(source, f"record {lsn} does not hash to its link", lsn)
                if payload is not None:
                    if hash_payload(payload) != payload_hash:
                        raise _damaged(source, f"the payload of record {lsn} was changed", lsn)
                    held_bytes += len(payload)
            yield held_bytes
    if lsn != facts.end.lsn or chain != facts.end.chain:
        raise _damaged(source, "does not end as its seal says", lsn)


def _damaged(source: Source, problem: str, first_lsn: int) -> StoreDamagedError:
    return StoreDamagedError(
        f"{source.path.name}: {problem}; it was not compacted",
        hint=HINT,
        first_lsn=first_lsn,
        last_lsn=source.facts.last_lsn,
        path=str(source.path),
    )
