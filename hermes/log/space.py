"""Room on the disk: how much is free, when it is low, and the reserve.

RESERVE holds preallocated bytes. When a commit meets a full disk the file is removed and
the commit tried once more, so that acks and the stop of the server still find room. Space
counts as low below a watermark, and as long as the reserve could not be made again. It is
looked at every second by the keeper, and by the writer as soon as what it wrote since may
have passed the watermark: a fast publisher fills the margin in less than a second.

Low space ends only when there is a reserve's worth more than the watermark, so that a
disk at the watermark does not go back and forth with every record.
"""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Final

import apsw

from hermes import limits

RESERVE_NAME: Final = "RESERVE"
_FULL_ERRNOS: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class Space:
    """Free bytes of a store's file system. `low` and `free_bytes` may be read by any thread."""

    def __init__(self, folder: Path, low_bytes: int) -> None:
        """Raises OSError."""
        self._folder = folder
        self._reserve = folder / RESERVE_NAME
        self._low_bytes = low_bytes
        self._lock = threading.Lock()  # the keeper's thread and the writer's
        self._written_bytes = 0  # since the last look
        self.free_bytes = 0
        self.low = False
        self.refresh()

    def refresh(self) -> None:
        """Look again; make the reserve again if there is room. Raises OSError."""
        with self._lock:
            self._look()
            reserved = self._reserve.exists()
            if not reserved and self.free_bytes - limits.RESERVE_BYTES >= self._low_bytes:
                reserved = make_reserve(self._reserve)
            above_bytes = limits.RESERVE_BYTES if self.low and reserved else 0
            self.low = not reserved or self.free_bytes < self._low_bytes + above_bytes

    def wrote(self, size_bytes: int) -> None:
        """So much was appended: look again if that may have passed the watermark."""
        self._written_bytes += size_bytes
        if not self.low and self.free_bytes - self._written_bytes < self._low_bytes:
            with self._lock:
                self._look()
                self.low |= self.free_bytes < self._low_bytes

    def _look(self) -> None:
        stat = os.statvfs(self._folder)
        self.free_bytes = stat.f_bavail * stat.f_frsize
        self._written_bytes = 0

    def holds(self, size_bytes: int) -> bool:
        """Whether so many bytes more fit and leave the space not low, as it is now."""
        stat = os.statvfs(self._folder)
        return stat.f_bavail * stat.f_frsize - size_bytes >= self._low_bytes

    def release_reserve(self) -> None:
        """Give the reserved bytes back to the file system."""
        with self._lock:
            release_reserve(self._folder)
            self.low = True


def make_reserve(path: Path) -> bool:
    """Preallocate RESERVE; False when there is no room for it. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(fd, 0, limits.RESERVE_BYTES)
    except OSError as error:
        if error.errno not in _FULL_ERRNOS:
            raise
        path.unlink()
        return False
    finally:
        os.close(fd)
    return True


def release_reserve(folder: Path) -> bool:
    """Remove a store's RESERVE; answers whether there was one. Raises OSError."""
    try:
        (folder / RESERVE_NAME).unlink()
    except FileNotFoundError:
        return False
    return True


def is_full(error: BaseException) -> bool:
    """Whether an error of SQLite or of the system says that the disk is full, and so that
    nothing was written."""
    if isinstance(error, OSError):
        return error.errno in _FULL_ERRNOS
    return isinstance(error, apsw.FullError)


def lacks_room(error: BaseException) -> bool:
    """Whether more room on the disk would have prevented the error, whatever was written.

    SQLite reports a -shm file that cannot grow as an I/O error.
    """
    # Absent where the error was raised by Python code of ours (a VFS).
    detail = getattr(error, "extendedresult", apsw.SQLITE_IOERR)
    return detail == apsw.SQLITE_IOERR_SHMSIZE or is_full(error)
