"""Read connections, shared by the readers of a process, bounded in number.

A connection is borrowed for one look-up and goes back afterwards. While it lies idle it
may be closed: to make room (least recently used first), or because its segment is to be
sealed or dropped, which an open connection would hold up (`forget`). One whose file was
replaced under its name (a compaction, also by another process) is not lent again, nor a
`StillConnection` to a file that was written to.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from hermes import limits
from hermes.errors import LogClosedError
from hermes.log.database import StillConnection, connect_to_read, reading, state_of

# What a connection shows: a file, by its inode; a still one, that state of it only.
_Shown = int | tuple[int, ...]


class Connections:
    """A pool of read-only connections to segment files. Thread-safe."""

    def __init__(self, *, vfs: str = "", idle_max: int = limits.READER_CONNECTIONS_MAX) -> None:
        self._vfs = vfs
        self._idle_max = idle_max
        self._lock = threading.Lock()
        # By serial number, so that the oldest is first; a path may occur several times.
        self._idle: OrderedDict[int, tuple[Path, apsw.Connection, _Shown]] = OrderedDict()
        self._by_path: dict[Path, list[int]] = {}
        self._forgotten: dict[Path, int] = {}
        self._serial = 0
        self._closed = False

    @contextmanager
    def borrow(self, path: Path) -> Iterator[apsw.Connection]:
        """A connection inside a read transaction, which ends with the block.

        Raises LogClosedError after `close`, apsw.CantOpenError if the file is gone.
        """
        db, shown, epoch = self._take(path)
        sound = False
        try:
            with reading(db):
                yield db
            sound = True
        finally:
            self._give_back(path, db, shown, epoch, sound=sound)

    def _take(self, path: Path) -> tuple[apsw.Connection, _Shown, int]:
        inode = inode_of(path)
        stale: apsw.Connection | None = None
        with self._lock:
            if self._closed:
                raise LogClosedError("the log is closed")
            epoch = self._forgotten.get(path, 0)
            serials = self._by_path.get(path)
            if serials:
                _, db, shown = self._idle.pop(serials.pop())
                if shown == (state_of(path) if isinstance(db, StillConnection) else inode):
                    return db, shown, epoch
                stale = db
        if stale is not None:
            stale.close()
            self.forget(path)  # the others are of the old file too
            return self._take(path)
        state = state_of(path)
        db = connect_to_read(path, vfs=self._vfs)
        return db, state if isinstance(db, StillConnection) else inode, epoch

    def _give_back(
        self, path: Path, db: apsw.Connection, shown: _Shown, epoch: int, *, sound: bool
    ) -> None:
        surplus: apsw.Connection | None = db
        with self._lock:
            if sound and not self._closed and self._forgotten.get(path, 0) == epoch:
                self._serial += 1
                self._idle[self._serial] = (path, db, shown)
                self._by_path.setdefault(path, []).append(self._serial)
                surplus = self._evict() if len(self._idle) > self._idle_max else None
        if surplus is not None:
            surplus.close()

    def _evict(self) -> apsw.Connection:
        serial, (path, db, _) = self._idle.popitem(last=False)
        serials = self._by_path[path]
        serials.remove(serial)
        if not serials:
            del self._by_path[path]
        return db

    def forget(self, path: Path) -> None:
        """Close the idle connections to a file; borrowed ones are closed when they return."""
        with self._lock:
            self._forgotten[path] = self._forgotten.get(path, 0) + 1
            gone = [self._idle.pop(serial)[1] for serial in self._by_path.pop(path, [])]
        for db in gone:
            db.close()

    def rest(self) -> None:
        """Close the idle connections to all files."""
        with self._lock:
            gone = [db for _, db, _ in self._idle.values()]
            self._idle.clear()
            self._by_path.clear()
        for db in gone:
            db.close()

    def close(self) -> None:
        """Close all; borrowed ones when they return. Idempotent."""
        with self._lock:
            self._closed = True
        self.rest()


def inode_of(path: Path) -> int:
    """What tells one file from another under the same name; 0 if there is none."""
    try:
        return os.stat(path).st_ino  # noqa: PTH116  # each look-up pays for it
    except FileNotFoundError:
        return 0
