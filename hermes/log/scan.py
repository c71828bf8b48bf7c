"""One segment file as it lies there, to be verified: rows with their salts, nothing judged.

For tools, beside a live server or at rest; changes nothing. Every call is a transaction of
its own that ends with it, so a server's checkpoints and rolls never wait for long, and
nothing is kept open between two segments. A file that is compacted meanwhile is gone on with
where the old one was left: the rows are the same, but for payloads that are retired.

Damage is raised as StoreDamagedError by the call that meets it, and the object stays usable:
whoever scans may go on behind the damaged place. What rows mean is the caller's business.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

import apsw

from hermes.errors import StoreDamagedError
from hermes.log import schema
from hermes.log.connections import inode_of
from hermes.log.database import connect_to_read, explain, has_our_tables, reading
from hermes.log.facts import SegmentStart
from hermes.log.held import read_compacted
from hermes.log.retired import Range
from hermes.log.segment import read_start

# The columns of `schema.SCAN`: as a StoredRecord, but for the salt in front of the payload.
StoredRow = tuple[
    int, int, int, str | None, int | None, int | None, bytes, bytes | None, bytes | None, bytes
]

# Problems that SQLite's own check lists at most.
_PROBLEMS_MAX = 20


class SegmentScan:
    """A segment file, opened to be read from end to end. One thread at a time."""

    def __init__(self, path: Path, *, vfs: str = "") -> None:
        """Raises StoreError: it cannot be opened, or (StoreDamagedError) is no segment."""
        self._path = path
        self._vfs = vfs
        self._inode = inode_of(path)
        self._db = _open(path, vfs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._db.close()

    def start(self) -> SegmentStart:
        """What its meta table says. Raises StoreVersionError, StoreDamagedError."""
        try:
            with reading(self._current()) as db:
                return read_start(db, self._path.name)
        except (apsw.Error, UnicodeDecodeError, TypeError, ValueError) as error:
            raise self._damage(error) from error

    def last_lsn(self) -> int | None:
        """The lsn of its last record; None when it has none. Raises StoreDamagedError."""
        try:
            with reading(self._current()) as db:
                row = db.execute("SELECT max(lsn) FROM records").fetchone()
        except apsw.Error as error:
            raise self._damage(error) from error
        return None if row is None else row[0]

    def chain_at(self, lsn: int) -> bytes | None:
        """The stored link of a record; None if it is not held. Raises StoreDamagedError."""
        try:
            with reading(self._current()) as db:
                row = db.execute(schema.CHAIN_AT, (lsn,)).fetchone()
        except apsw.Error as error:
            raise self._damage(error) from error
        return None if row is None else row[0]

    def retired(self) -> tuple[Range, ...] | None:
        """The offsets whose payloads the last compaction took out; None if there was none.

        Raises StoreDamagedError.
        """
        try:
            with reading(self._current()) as db:
                held = read_compacted(db)
        except apsw.Error as error:
            raise self._damage(error) from error
        return None if held is None else held.retired

    def rows(self, first_lsn: int, last_lsn: int, *, limit_bytes: int) -> list[StoredRow]:
        """Rows of an inclusive range of lsns in order, until they exceed a size; empty: none left.

        A row that cannot be read, or that a damaged tree gives out of order, ends the answer
        before it; asked for as the first one it raises StoreDamagedError. So lsns always ascend.
        """
        next_lsn = first_lsn
        found: list[StoredRow] = []
        size_bytes = 0
        try:
            with reading(self._current()) as db:
                for row in db.execute(schema.SCAN, (first_lsn, last_lsn)):
                    if not next_lsn <= row[0] <= last_lsn:
                        raise apsw.CorruptError(f"record {row[0]} comes where {next_lsn} would")
                    next_lsn = row[0] + 1
                    found.append(row)
                    size_bytes += len(row[6]) + len(row[7] or b"") + 200
                    if size_bytes >= limit_bytes:
                        break
        except (apsw.Error, UnicodeDecodeError, TypeError) as error:
            if not found:
                raise self._damage(error) from error
        return found

    def _current(self) -> apsw.Connection:
        """To the file that has the name now: another one if it was compacted. Raises StoreError."""
        inode = inode_of(self._path)
        if inode not in {0, self._inode}:
            db, self._inode = _open(self._path, self._vfs), inode
            self._db.close()
            self._db = db
        return self._db

    def check_pages(self) -> list[str]:
        """What SQLite finds wrong with pages and indexes; reads the whole file, slowly."""
        try:
            with reading(self._current()) as db:
                rows = db.execute(f"PRAGMA integrity_check({_PROBLEMS_MAX})").fetchall()
        except apsw.Error as error:
            return [str(error)]
        return [str(row[0]) for row in rows if row[0] != "ok"]

    def _damage(self, error: Exception) -> Exception:
        try:
            if isinstance(error, apsw.SQLError) and not has_our_tables(self._db):
                text = f"{self._path.name}: its tables are not what they were: {error}"
                return StoreDamagedError(text, hint="restore it from a backup")
        except apsw.Error as worse:
            return explain(worse, self._path.name)
        if isinstance(error, apsw.Error):
            return explain(error, self._path.name)
        return StoreDamagedError(f"{self._path.name}: {error}", hint="restore it from a backup")


def _open(path: Path, vfs: str) -> apsw.Connection:
    try:
        return connect_to_read(path, vfs=vfs)
    except apsw.Error as error:
        raise explain(error, path.name) from error
