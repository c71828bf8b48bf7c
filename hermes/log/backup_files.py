"""Files of a backup: copied, linked and written so that they appear whole or not at all.

Each is made under a temporary name and then `put`: synced and renamed; who puts several in
place syncs the folder once after them. Digests are SHA-256 of the bytes that were written.

- A sealed segment is a plain file that nobody writes: it is read as one. (What closing it
  drops are this process's POSIX locks on it, and those protect nothing any more.)
- Any other segment is read by SQLite alone, page by page inside one read transaction: a
  moment of it, whatever is committed meanwhile, and no commit waits.
- Written bytes are synced every 2 MiB: one sync of a whole segment would make the
  commits on the same disk wait for it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

import apsw

from hermes import limits
from hermes.errors import HermesError, StoreError, StoreFullError, StoreLockedError
from hermes.log.backup_manifest import LOCK_NAME, NEW_SUFFIX
from hermes.log.database import CREATE_FLAGS, connect, explain
from hermes.log.schema import PAGE_BYTES, Pragma
from hermes.log.space import is_full

_CHUNK_BYTES: Final = limits.MIB
# With 8 MiB the commits' p99 was 3.8 times as long during a backup at full speed, with 2: 2.0.
_SYNC_BYTES: Final = 2 * limits.MIB
_PAGES_AT_ONCE: Final = _SYNC_BYTES // PAGE_BYTES
# A copy that is torn is thrown away, so it needs neither a journal nor SQLite's syncs.
_COPY_PRAGMAS: Final = (
    Pragma("journal_mode", "OFF", "off", "half a copy is worth nothing"),
    Pragma("synchronous", "OFF", 0, "it is synced by whoever renames it"),
)

# Told of bytes that were written. May raise, to end the copying.
Told = Callable[[int], None]


def copy_file(source: Path, new: Path, told: Told) -> tuple[str, int]:
    """Copy a plain file; returns its SHA-256 (hexadecimal) and its size.

    Raises OSError, FileNotFoundError when the source is gone, and what `told` raises.
    """
    digest = hashlib.sha256()
    size = unsynced = 0
    with open(source, "rb", buffering=0) as reader:  # noqa: PTH123 - unbuffered
        fd = _create(new)
        try:
            while chunk := reader.read(_CHUNK_BYTES):
                _write(fd, chunk)
                digest.update(chunk)
                size += len(chunk)
                unsynced += len(chunk)
                if unsynced >= _SYNC_BYTES:
                    os.fdatasync(fd)
                    unsynced = 0
                told(len(chunk))
        finally:
            os.close(fd)
    return digest.hexdigest(), size


def link_file(source: Path, new: Path, told: Told) -> tuple[str, int]:
    """The same by a hard link. Raises StoreError where that is not possible."""
    new.unlink(missing_ok=True)
    try:
        new.hardlink_to(source)
    except OSError as error:
        if error.errno in {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP}:
            raise StoreError(
                f"{source.name} cannot be linked into {new.parent}: {error.strerror}",
                hint="leave out --link to copy it",
                path=str(new.parent),
            ) from error
        raise
    return digest_of(new, told)


def copy_pages(db: apsw.Connection, new: Path, told: Told) -> tuple[str, int]:
    """Copy a segment as the open read transaction of `db` sees it; SHA-256 and size.

    Raises apsw.Error, OSError, and what `told` raises.
    """
    fd = _create(new)  # with its permissions, before there is anything to read
    try:
        copy = connect(new, flags=CREATE_FLAGS, pragmas=_COPY_PRAGMAS)
        try:
            with copy.backup("main", db, "main") as backup:
                copied = 0
                while not backup.done:
                    backup.step(_PAGES_AT_ONCE)
                    os.fdatasync(fd)
                    now = backup.page_count - backup.remaining
                    told((now - copied) * PAGE_BYTES)
                    copied = now
        finally:
            copy.close()
    finally:
        os.close(fd)
    return digest_of(new, _ignore)


def put(new: Path, target: Path, mode: int | None) -> None:
    """Sync a finished file and give it its name and mode (None: as it is). Raises OSError."""
    fd = os.open(new, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if mode is not None:
            os.fchmod(fd, mode)
        os.fsync(fd)
    finally:
        os.close(fd)
    new.replace(target)


def write_file(target: Path, data: bytes, mode: int) -> None:
    """A small file with this content, whole or not at all. Raises OSError."""
    new = target.with_name(target.name + NEW_SUFFIX)
    fd = _create(new)
    try:
        _write(fd, data)
        put(new, target, mode)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)


def digest_of(path: Path, told: Told) -> tuple[str, int]:
    """SHA-256 (hexadecimal) and size of a file. Raises OSError, and what `told` raises."""
    digest = hashlib.sha256()
    size = 0
    with open(path, "rb", buffering=0) as reader:  # noqa: PTH123 - unbuffered, by descriptor
        while chunk := reader.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
            told(len(chunk))
    return digest.hexdigest(), size


def free_bytes(folder: Path) -> int:
    """Room for who is not root. Raises OSError."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def refuse_lack_of_room(folder: Path, needed: int, spared: int = 0) -> None:
    """Raise StoreFullError unless so many bytes fit and `spared` stay free."""
    free = free_bytes(folder)
    if free < needed + spared:
        beside = f" and {spared:,} are to stay free for the store" if spared else ""
        raise StoreFullError(
            f"{folder} has {free:,} bytes free: {needed:,} are needed{beside}",
            hint="free some disk space, or choose another place",
            path=str(folder),
        )


def explained(error: Exception, where: Path) -> HermesError:
    """One clear line for what the system or SQLite said about a file below `where`."""
    if isinstance(error, HermesError):
        return error
    if is_full(error):
        return StoreFullError(
            f"{where}: no space left",
            hint="nothing is lost; free some disk space and do it again",
            path=str(where),
        )
    if isinstance(error, OSError):
        name = error.filename or str(where)
        return StoreError(
            f"{name}: {error.strerror or error}",
            hint="a path that its user may read and write is needed"
            if isinstance(error, PermissionError)
            else "",
            path=str(name),
        )
    return explain(error, str(where))


class FolderLock:
    """An exclusive flock on the file LOCK of a backup. Raises StoreLockedError, OSError."""

    def __init__(self, folder: Path) -> None:
        self._fd = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._fd)
            raise StoreLockedError(
                f"another backup is being written to {folder}",
                hint="wait for it, or choose another folder",
                path=str(folder),
            ) from error

    def release(self) -> None:
        os.close(self._fd)


def _create(path: Path) -> int:
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return os.open(path, flags, stat.S_IRUSR | stat.S_IWUSR)


def _write(fd: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]


def _ignore(_bytes: int) -> None:
    """Nobody is told."""
