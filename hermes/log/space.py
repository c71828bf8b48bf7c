"""Room on the disk: how much is free, when it is low, and the reserve.

RESERVE holds preallocated bytes. When a commit meets a full disk the file is removed and
the commit tried once more, so that acks and the stop of the server still find room. Space
counts as low below a watermark, and as long as the reserve could not be made again.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

import apsw

from hermes import limits

RESERVE_NAME: Final = "RESERVE"


class Space:
    """Free bytes of a store's file system. `low` and `free_bytes` may be read by any thread."""

    def __init__(self, folder: Path, low_bytes: int) -> None:
        self._folder = folder
        self._reserve = folder / RESERVE_NAME
        self._low_bytes = low_bytes
        self.free_bytes = 0
        self.low = False
        self.refresh()

    def refresh(self) -> None:
        """Look again; make the reserve again if there is room. Raises OSError."""
        stat = os.statvfs(self._folder)
        self.free_bytes = stat.f_bavail * stat.f_frsize
        reserved = self._reserve.exists()
        if not reserved and self.free_bytes - limits.RESERVE_BYTES >= self._low_bytes:
            reserved = self._make_reserve()
        self.low = not reserved or self.free_bytes < self._low_bytes

    def holds(self, size_bytes: int) -> bool:
        """Whether so many bytes more fit and leave the space not low, as it is now."""
        stat = os.statvfs(self._folder)
        return stat.f_bavail * stat.f_frsize - size_bytes >= self._low_bytes

    def _make_reserve(self) -> bool:
        fd = os.open(self._reserve, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, limits.RESERVE_BYTES)
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            self._reserve.unlink()
            return False
        finally:
            os.close(fd)
        return True

    def release_reserve(self) -> None:
        """Give the reserved bytes back to the file system."""
        self._reserve.unlink(missing_ok=True)
        self.low = True


def is_full(error: BaseException) -> bool:
    """Whether an error of SQLite or of the system says that the disk is full."""
    if isinstance(error, OSError):
        return error.errno in {errno.ENOSPC, errno.EDQUOT}
    return isinstance(error, apsw.FullError)
