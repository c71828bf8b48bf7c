"""Which segments exist, and who may write them.

`Catalog` is the owning process's list; readers take the tuple that is current when a
look-up begins. `FolderCatalog` is the same for a process that only reads: it looks into
the folder each time. `StoreLock` makes sure that there is one writer.
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
from bisect import bisect_right
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Protocol

import apsw
import msgspec

from hermes.errors import SegmentDamagedError, StoreDamagedError, StoreError, StoreLockedError
from hermes.log.database import connect_to_read, explain
from hermes.log.facts import SegmentFacts
from hermes.log.segment import file_name, read_start

LOCK_NAME: Final = "LOCK"
_SEGMENT: Final = re.compile(r"(\d{20})\.segment")


class Entry(msgspec.Struct, frozen=True):
    """One segment. `base_offset` is the next offset when it began; `facts` are known of
    the sealed ones in the owning process, None elsewhere. `damage` says why it is in
    quarantine; empty for a sound one."""

    first_lsn: int
    base_offset: int
    path: Path
    facts: SegmentFacts | None = None
    damage: str = ""

    def damaged(self, reason: str) -> SegmentDamagedError:
        """The error about a sealed segment that names exactly what is affected."""
        assert self.facts is not None
        facts = self.facts
        offsets = ""
        if facts.first_offset is not None:
            offsets = f", offsets {facts.first_offset}..{facts.last_offset},"
        return SegmentDamagedError(
            f"{self.path.name} is damaged: records {self.first_lsn}..{facts.last_lsn}{offsets}"
            f" cannot be served ({reason})",
            hint="restore the file from a backup and start the server again",
            first_lsn=self.first_lsn,
            last_lsn=facts.last_lsn,
            first_offset=facts.first_offset,
            last_offset=facts.last_offset,
            reason=reason,
            path=str(self.path),
        )


class Source(Protocol):
    """Where a reader learns of segments."""

    def entries(self) -> tuple[Entry, ...]:
        """All segments, oldest first."""
        ...


def position_of(entries: tuple[Entry, ...], lsn: int) -> int:
    """Index of the segment that would hold an lsn; 0 for one before all."""
    return max(0, bisect_right(entries, lsn, key=lambda entry: entry.first_lsn) - 1)


def position_of_offset(entries: tuple[Entry, ...], offset: int) -> int:
    """Index of the last segment that began at or before an offset; 0 for one before all.

    A segment without publishes begins at the same offset as the next; the last of them
    holds it.
    """
    return max(0, bisect_right(entries, offset, key=lambda entry: entry.base_offset) - 1)


def list_segments(folder: Path) -> list[tuple[int, Path]]:
    """(first lsn, path) of each segment file, in order. Raises OSError."""
    names = (path.name for path in folder.iterdir())
    return [(first_lsn, folder / name) for first_lsn, name in segments_among(names)]


def segments_among(names: Iterable[str]) -> list[tuple[int, str]]:
    """(first lsn, name) of those names that are a segment's, in order."""
    matches = (_SEGMENT.fullmatch(name) for name in names)
    return sorted((int(match[1]), match[0]) for match in matches if match)


class Catalog:
    """The segments of an open store. The writer adds, the owner drops, anybody reads."""

    def __init__(self, entries: tuple[Entry, ...]) -> None:
        self._entries = entries
        self._changing = threading.Lock()

    def entries(self) -> tuple[Entry, ...]:
        return self._entries

    @property
    def active(self) -> Entry:
        return self._entries[-1]

    def rolled(self, facts: SegmentFacts, folder: Path) -> None:
        """The active segment was sealed with these facts; the next one follows it."""
        first_lsn = facts.end.lsn + 1
        entry = Entry(first_lsn, facts.end.next_offset, folder / file_name(first_lsn))
        with self._changing:
            *older, last = self._entries
            self._entries = (*older, msgspec.structs.replace(last, facts=facts), entry)

    def quarantine(self, first_lsn: int, reason: str) -> Entry | None:
        """Mark a sealed segment as damaged; its new entry, or None if it was marked before.

        Raises ValueError unless a sealed segment begins with that lsn.
        """
        with self._changing:
            entries = list(self._entries)
            at = position_of(self._entries, first_lsn)
            entry = entries[at]
            if entry.first_lsn != first_lsn or entry.facts is None:
                raise ValueError(f"no sealed segment begins with record {first_lsn}")
            if entry.damage:
                return None
            entries[at] = msgspec.structs.replace(entry, damage=reason or "damaged")
            self._entries = tuple(entries)
            return entries[at]

    def dropped(self) -> None:
        """The oldest segment is gone."""
        with self._changing:
            self._entries = self._entries[1:]


class FolderCatalog:
    """The segments of a store that another process may be writing.

    With `tolerant` a damaged segment is left out instead of raised, and is told by `damage`.
    """

    def __init__(self, folder: Path, *, vfs: str = "", tolerant: bool = False) -> None:
        self._folder = folder
        self._vfs = vfs
        self._tolerant = tolerant
        self._names: list[str] | None = None  # of all files, when it was looked at last
        self._known: dict[int, Entry] = {}
        self._entries: tuple[Entry, ...] = ()
        self.damage: dict[int, StoreDamagedError] = {}  # first lsn -> what is wrong

    def entries(self) -> tuple[Entry, ...]:
        """Raises StoreError when there is no store."""
        try:
            names = os.listdir(self._folder)  # noqa: PTH208  # each look-up pays for it
        except OSError as error:
            raise StoreError(f"{self._folder} cannot be read: {error.strerror}") from error
        if names == self._names:
            return self._entries
        self._entries = self._described(names)
        self._names = names
        return self._entries

    def _described(self, names: Iterable[str]) -> tuple[Entry, ...]:
        known = {}
        for first_lsn, name in segments_among(names):
            path = self._folder / name
            if first_lsn in self.damage:
                continue
            try:
                entry = self._known.get(first_lsn) or self._describe(first_lsn, path)
            except StoreDamagedError as error:
                if not self._tolerant:
                    raise
                self.damage[first_lsn] = error
                continue
            if entry is not None:
                known[first_lsn] = entry
        self._known = known
        return tuple(known.values())

    def _describe(self, first_lsn: int, path: Path) -> Entry | None:
        """None if it was dropped meanwhile. Raises StoreError."""
        try:
            db = connect_to_read(path, vfs=self._vfs)
            try:
                start = read_start(db, path.name)
            finally:
                db.close()
        except apsw.Error as error:
            if isinstance(error, apsw.CantOpenError) and not path.exists():
                return None
            raise explain(error, str(path)) from error
        return Entry(first_lsn, start.before.next_offset, path)


class StoreLock:
    """An exclusive flock on the file LOCK, held from open to close."""

    def __init__(self, folder: Path) -> None:
        """Raises StoreLockedError naming the holder, StoreError if LOCK cannot be made."""
        path = folder / LOCK_NAME
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(
                f"{folder} is not writable: {error.strerror}", path=str(folder)
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
            os.close(fd)
            raise StoreLockedError(
                f"{folder} is in use by another server" + (f", process {holder}" if holder else ""),
                hint="stop it first, or choose another store path",
                path=str(folder),
                holder=holder,
            ) from error
        self._fd = fd
        try:
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        except OSError:
            # Whose lock it is helps a person; a full disk has no room for it.
            return

    def release(self) -> None:
        """Let the next writer in. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
