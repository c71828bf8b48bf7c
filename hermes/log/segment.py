"""One segment file: how it is made, appended to and described.

A segment is a SQLite file named by the lsn of its first record. The last one is active:
`ActiveSegment` holds its write connection. The others are sealed; of them only facts
are kept (`SegmentFacts`), and readers open what they need (`connections.py`).

Rules
- A segment appears under its name complete with its first records: it is built beside,
  synced, and renamed. So every segment but the first begins with SegmentSealed (what
  the one before held) or Lost (what was accepted as lost before it).
- `ActiveSegment` does one transaction per call and knows nothing of queues and threads.

Which segments exist is the catalog's business; when to roll is the engine's.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import apsw
import msgspec

from hermes import limits
from hermes.errors import StoreDamagedError, StoreError, StoreVersionError
from hermes.log import schema
from hermes.log.database import CREATE_FLAGS, apply, connect
from hermes.log.facts import Mark, SegmentFacts, SegmentStart
from hermes.log.head import sync_folder
from hermes.log.inserting import KeyIds, plan_insert
from hermes.log.record import Record
from hermes.log.rows import first_numbers, first_record, one_of, one_record

SUFFIX: Final = ".segment"
BUILDING_SUFFIX: Final = ".segment.new"
# What a row costs beside body and payload: hashes, numbers, two index entries.
ROW_BYTES: Final = 160


class _Meta(msgspec.Struct, frozen=True):
    """What the table meta must say, and may."""

    store_id: str
    first_lsn: int
    next_offset: int
    chain: bytes
    compacted_lsn: int = 0


def file_name(first_lsn: int) -> str:
    """A segment's file name: 20 digits, so that names sort as lsns do."""
    return f"{first_lsn:020d}{SUFFIX}"


# -------------------------------------------------------------------- describe


def read_start(db: apsw.Connection, name: str) -> SegmentStart:
    """Read meta. Raises StoreVersionError, StoreDamagedError, apsw.Error."""
    version = db.pragma("user_version")
    if isinstance(version, int) and version > schema.FORMAT_VERSION:
        raise StoreVersionError(
            f"{name} has format {version}, this version reads up to {schema.FORMAT_VERSION}",
            hint="run the newer version of Hermes that wrote it",
            version=version,
        )
    if version != schema.FORMAT_VERSION:
        raise StoreDamagedError(f"{name} says format {version}, which never was", segment=name)
    if db.pragma("application_id") != schema.APPLICATION_ID:
        raise StoreDamagedError(f"{name} is not a segment of Hermes", segment=name)
    try:
        meta = msgspec.convert(
            {str(row[0]): row[1] for row in db.execute(schema.META)}, _Meta, builtin_types=(bytes,)
        )
    except msgspec.ValidationError as error:
        raise StoreDamagedError(f"{name}: meta: {error}", segment=name) from None
    before = Mark(meta.first_lsn - 1, meta.next_offset, meta.chain)
    return SegmentStart(meta.store_id, meta.first_lsn, before, meta.compacted_lsn)


def read_end(db: apsw.Connection, start: SegmentStart) -> Mark:
    """The mark after a segment's last record; `start.before` when it has none."""
    tail = first_record(db, schema.LAST_RECORD)
    if tail is None:
        return start.before
    last = first_numbers(db, schema.LAST_PUBLISH)
    next_offset = start.before.next_offset if last is None else last[2] + 1
    return Mark(tail.lsn, next_offset, tail.chain)


def read_facts(db: apsw.Connection, start: SegmentStart) -> SegmentFacts:
    """Describe a segment by a few look-ups, without walking over its records."""
    end = read_end(db, start)
    if end.lsn < start.first_lsn:
        return SegmentFacts(start.first_lsn, end, None, None, None, None, 0, 0)
    first = first_numbers(db, schema.PUBLISH_AFTER, (-1,))
    lowest, highest = _touched(db)
    return SegmentFacts(
        first_lsn=start.first_lsn,
        end=end,
        first_offset=None if first is None else first[1],
        last_offset=None if first is None else end.next_offset - 1,
        lowest_touched=lowest,
        highest_touched=highest,
        first_at_ns=one_record(db, schema.READ_BARE, (start.first_lsn, 1)).at_ns,
        last_at_ns=one_record(db, schema.LAST_RECORD).at_ns,
    )


def _touched(db: apsw.Connection) -> tuple[int | None, int | None]:
    """The offset hull over all records, by the ends of each kind's index."""
    lowest = highest = None
    kind = 0
    while (row := first_numbers(db, schema.NEXT_KIND, (kind,))) is not None:
        kind = row[0]
        first = one_of(db, schema.LOWEST_FIRST, (kind,))[0]
        lowest = first if lowest is None else min(lowest, first)
        # No hull is wider than the limit, so a last further up has its first near the end.
        newest = one_of(db, schema.HIGHEST_FIRST, (kind,))[0]
        since = newest - limits.RECORD_HULL_MAX
        last = one_of(db, schema.HIGHEST_LAST, (kind, since))[0]
        highest = last if highest is None else max(highest, last)
    return lowest, highest


# ----------------------------------------------------------------------- write


def create_segment(
    folder: Path, store_id: str, before: Mark, records: Sequence[Record], *, vfs: str = ""
) -> Path:
    """Make a segment that starts after a mark with these records, durable under its name.

    Raises apsw.Error, OSError or StoreError; then nothing has appeared.
    """
    first_lsn = before.lsn + 1
    path = folder / file_name(first_lsn)
    building = folder / f"{first_lsn:020d}{BUILDING_SUFFIX}"
    if path.exists():
        raise StoreError(f"{path} exists already", path=str(path))
    remove_files(building)
    # A -wal left under the final name would be replayed into the new file.
    remove_files(path)
    db = connect(building, flags=CREATE_FLAGS, pragmas=schema.BUILD_PRAGMAS, vfs=vfs)
    try:
        with db:
            for statement in (*schema.TABLES, *schema.INDEXES):
                db.execute(statement)
            facts = {
                "store_id": store_id,
                "format_version": schema.FORMAT_VERSION,
                "first_lsn": first_lsn,
                "next_offset": before.next_offset,
                "chain": before.chain,
            }
            db.executemany(schema.INSERT_META, list(facts.items()))
            if records:
                plan_insert(db, KeyIds(), records, before).execute(db)
        apply(db, schema.BUILT_PRAGMA)
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    finally:
        db.close()
    building.chmod(stat.S_IRUSR | stat.S_IWUSR)
    building.replace(path)
    remove_files(building)
    sync_folder(folder)
    return path


def remove_files(path: Path) -> None:
    """Unlink a database file and what SQLite keeps beside it, as far as they exist."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def seal_file(path: Path, *, vfs: str = "") -> bool:
    """Turn a former active segment into a plain read-only file, without a WAL, synced.

    Returns False, having changed nothing for readers, while a connection holds it.
    Raises apsw.Error, OSError.
    """
    try:
        db = connect(path, pragmas=schema.SEAL_PRAGMAS, vfs=vfs)
        try:
            db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            if db.execute("PRAGMA journal_mode = DELETE").fetchall() != [("delete",)]:
                return False
        finally:
            db.close()
    except apsw.BusyError:
        return False
    path.chmod(stat.S_IRUSR)
    return True


def is_sealed_file(path: Path) -> bool:
    """Whether `seal_file` has finished with it."""
    return not path.stat().st_mode & stat.S_IWUSR


class ActiveSegment:
    """The segment that is appended to: its write connection and its end.

    Used by one thread at a time. After an exception from `commit` other than
    apsw.FullError the object must not be used again, only closed.
    """

    def __init__(self, path: Path, *, vfs: str = "") -> None:
        """Open for writing. Raises apsw.Error or StoreError."""
        self.path = path
        self._keys = KeyIds()
        self._db = connect(path, vfs=vfs)
        try:
            self.start = read_start(self._db, path.name)
            self.end = read_end(self._db, self.start)
        except BaseException:
            self._db.close()
            raise
        # An estimate that needs no system call: pages at open, then what is added.
        pages = self._db.pragma("page_count")
        self.content_bytes = int(str(pages)) * schema.PAGE_BYTES
        self.wal_bytes = 0
        self.wal_copied_bytes = 0  # of them in the file already: whoever checkpoints says so
        self._db.set_wal_hook(self._note_wal)

    def _note_wal(self, _db: apsw.Connection, _name: str, pages: int) -> int:
        wal_bytes = pages * schema.PAGE_BYTES
        if wal_bytes < self.wal_bytes:  # it has started over
            self.wal_copied_bytes = 0
        self.wal_bytes = wal_bytes
        return apsw.SQLITE_OK

    @property
    def wal_uncopied_bytes(self) -> int:
        return self.wal_bytes - self.wal_copied_bytes

    @property
    def wants_checkpoint(self) -> bool:
        """Whether the WAL has grown enough since it was last copied."""
        return self.wal_uncopied_bytes >= limits.WAL_CHECKPOINT_BYTES

    def commit(self, records: Sequence[Record], size_bytes: int) -> Mark:
        """Append records in one synced transaction; returns the mark after them.

        apsw.FullError: nothing was written, the same call may be tried again.
        """
        try:
            insertion = plan_insert(self._db, self._keys, records, self.end)
            insertion.execute(self._db)
        except apsw.FullError:
            self._keys.forget()
            raise
        self.end = end = insertion.end
        self.content_bytes += size_bytes + len(records) * ROW_BYTES
        return end

    def facts(self) -> SegmentFacts:
        """Describe it; by the write connection, between transactions."""
        return read_facts(self._db, self.start)

    def checkpoint(self) -> None:
        """Copy what the WAL holds into the file, as far as readers allow. Raises apsw.Error."""
        try:
            self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.BusyError:
            # Another connection is at it.
            return

    def close(self) -> None:
        """Close the connection; the WAL stays as it is. Idempotent."""
        self._db.close()

    def close_cleanly(self) -> None:
        """Copy the whole WAL into the file, remove it, and close. Raises apsw.Error."""
        self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        self._db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
        self._db.close()
