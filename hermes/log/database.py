"""Connections to segment files: how they are opened, and what SQLite's errors mean.

Rules
- A segment's file is only ever opened by SQLite in this process: closing any other
  descriptor of it would drop SQLite's POSIX locks.
- Pragmas are applied one by one and read back; a different answer refuses the start.
- Closing a connection never checkpoints: a WAL is evidence until the open sequence
  has judged it. Whoever wants a checkpoint asks for one.

SQL text lives in `schema.py`; transactions and threads belong to the callers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from hermes.errors import StoreDamagedError, StoreError, StoreFullError
from hermes.log.schema import INDEXES, READ_PRAGMAS, TABLES, WRITE_PRAGMAS, Pragma
from hermes.log.space import lacks_room

WRITE_FLAGS = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_EXRESCODE
CREATE_FLAGS = WRITE_FLAGS | apsw.SQLITE_OPEN_CREATE
READ_FLAGS = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI | apsw.SQLITE_OPEN_EXRESCODE


def connect(
    path: Path,
    *,
    flags: int = WRITE_FLAGS,
    pragmas: Sequence[Pragma] = WRITE_PRAGMAS,
    vfs: str = "",
) -> apsw.Connection:
    """A connection with its pragmas applied. Raises apsw.Error or StoreError."""
    db = apsw.Connection(str(path), flags=flags, vfs=vfs or None)
    try:
        db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        for pragma in pragmas:
            apply(db, pragma)
    except BaseException:
        db.close()
        raise
    return db


class StillConnection(apsw.Connection):
    """A connection that takes its file for one that never changes, and looks at no WAL.

    What is written meanwhile it does not see: whoever keeps one must look whether the file
    and its WAL are what they were (`state_of`).
    """


def connect_to_read(path: Path, *, vfs: str = "") -> apsw.Connection:
    """A read-only connection; works with read permission only and on read-only media.

    Without write permission SQLite cannot make the -shm file that a WAL needs. If there
    is nothing in the WAL the file alone is complete, and a StillConnection is opened; if
    there is, it must not be ignored: raises StoreError. So it does for a rollback journal,
    which only a writer can make use of; opening the store does (`journals.py`). Any other
    reason why a WAL cannot be opened, as too many open files, is raised as apsw.Error.
    """
    uri = f"{path.absolute().as_uri()}?mode=ro"
    try:
        return _connect_uri(uri, vfs)
    except (apsw.CantOpenError, apsw.ReadOnlyError) as error:
        if not path.exists():
            raise
        # apsw's stubs do not know the attribute.
        if getattr(error, "extendedresult", 0) == apsw.SQLITE_READONLY_ROLLBACK:
            raise StoreError(
                f"{path}: sealing it was cut off, its -journal must be rolled back",
                hint="start the server on this folder once: it completes the segment",
                path=str(path),
            ) from error
        if _may_write_beside(path):
            raise
        wal = path.with_name(path.name + "-wal")
        if wal.exists() and wal.stat().st_size > 0:
            raise StoreError(
                f"{path}: its -wal cannot be read without write permission",
                hint="copy the folder to a writable place and read it there",
                path=str(path),
            ) from error
        return _connect_uri(f"{uri}&immutable=1", vfs, StillConnection)


def _may_write_beside(path: Path) -> bool:
    """Whether this process can use a -shm file for a segment, or make one."""
    effective = os.access in os.supports_effective_ids
    shm = path.with_name(path.name + "-shm")
    target = shm if shm.exists() else path.parent
    return os.access(target, os.R_OK | os.W_OK, effective_ids=effective)


def state_of(path: Path) -> tuple[int, ...]:
    """What tells whether a StillConnection shows what there is; empty if there is no file."""
    try:
        file = path.stat()
        wal = path.with_name(path.name + "-wal")
        wal_bytes = wal.stat().st_size if wal.exists() else 0
    except FileNotFoundError:
        return ()
    return file.st_ino, file.st_size, file.st_mtime_ns, wal_bytes


def _connect_uri(
    uri: str, vfs: str, kind: type[apsw.Connection] = apsw.Connection
) -> apsw.Connection:
    db = kind(uri, flags=READ_FLAGS, vfs=vfs or None)
    try:
        db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        for pragma in READ_PRAGMAS:
            apply(db, pragma)
        # The first page is read only now: a file that cannot be opened says so here.
        db.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    except BaseException:
        db.close()
        raise
    return db


def apply(db: apsw.Connection, pragma: Pragma) -> None:
    """Set one pragma and read it back. Raises StoreError if SQLite answers otherwise."""
    db.execute(f"PRAGMA {pragma.name} = {pragma.value}").fetchall()
    answer = db.pragma(pragma.name)
    if answer != pragma.expected:
        raise StoreError(
            f"SQLite refused PRAGMA {pragma.name} = {pragma.value}: it is {answer!r}",
            hint=pragma.why,
            pragma=pragma.name,
        )


@contextmanager
def reading(db: apsw.Connection) -> Iterator[apsw.Connection]:
    """One read transaction: all statements inside see the same records."""
    db.execute("BEGIN")
    try:
        yield db
    finally:
        # Cursors that were left early are reset by it. SQLite ends a transaction
        # itself on some errors.
        if db.in_transaction:
            db.execute("ROLLBACK")


def fetch_one(db: apsw.Connection, sql: str, parameters: Sequence[int | str | bytes] = ()) -> Any:
    """The only row of a statement that must have one. Raises StoreDamagedError if it has none."""
    row = db.execute(sql, parameters).fetchone()
    if row is None:
        raise StoreDamagedError(f"{db.filename}: a row is missing where there must be one")
    return row


def has_our_tables(db: apsw.Connection) -> bool:
    """If not, SQLite finds fault with the file and not with a statement of ours.

    Raises apsw.Error.
    """
    # As bytes: what is damaged need not be UTF-8.
    statement = "SELECT CAST(sql AS BLOB) FROM sqlite_schema WHERE sql NOT NULL"
    written = {sql for (sql,) in db.execute(statement)}
    return written >= {sql.encode() for sql in (*TABLES, *INDEXES)}


def explain(error: Exception, what: str) -> StoreError:
    """The store's word for an error of SQLite or of the system; already typed ones pass."""
    if isinstance(error, StoreError):
        return error
    if lacks_room(error):
        return StoreFullError(f"{what}: no space left", hint="free some disk space")
    if isinstance(error, apsw.BusyError):
        return StoreError(
            f"{what}: another process has it open", hint="stop what reads the store, then try again"
        )
    if isinstance(error, (apsw.CorruptError, apsw.NotADBError)):
        return StoreDamagedError(f"{what}: {error}", hint="restore it from a backup")
    return StoreError(f"{what}: {type(error).__name__}: {error}")
