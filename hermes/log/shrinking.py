"""Giving back the space of a dropped segment, or of one that was written anew, bit by bit.

Theory: a file system that frees a gigabyte at once does it in one transaction of its own
journal, and every sync of the log meanwhile waits for that: some 50 ms. So a dropped file
loses its name at once, and its content from the end, a few megabytes at a time.

Rules
- What another process reads stays whole: SQLite's readers hold a lock on a range of bytes
  of the file, and a file on which that lock cannot be had is left to its readers.
- Readers of this process are not seen by that lock: so nothing is cut off before they had
  time to finish the look-up they were at when the segment was dropped.
- What has another name (a backup that links its files) is not this store's to cut.
- The file has no name any more: after a crash there is nothing to clean up.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from hermes.clock import Clock
from hermes.log.segment import remove_files

# Measured with 4 to 64 MiB: up to 16 the syncs beside it are hardly slower than without.
STEP_BYTES: Final = 4 << 20
STEP_SECONDS: Final = 0.05
REST_NS: Final = 5_000_000_000

# The bytes that SQLite's locks lie on: PENDING, RESERVED and the SHARED range.
_LOCKS_START: Final = 0x40000000
_LOCKS_BYTES: Final = 512


class _Nameless(msgspec.Struct):
    fd: int
    left_bytes: int
    from_ns: int  # monotonic; not to be touched before
    locked: bool  # against other processes


class Shrinking:
    """Files without a name whose space is given back. Used by one thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._files: deque[_Nameless] = deque()

    def __len__(self) -> int:
        return len(self._files)

    def take(self, path: Path) -> None:
        """Unlink a segment's files; what is large of them shrinks from now on. Raises OSError."""
        self._lose_name(path, lambda: remove_files(path), lock=True)

    def take_replaced(self, path: Path, new: Path) -> None:
        """Give a segment's name to its new file; the old one shrinks. Raises OSError.

        May be called by any thread. Other processes go on reading the new file at their next
        look-up: the old one is locked against them only when it has rested.
        """
        self._lose_name(path, lambda: new.replace(path), lock=False)

    def _lose_name(self, path: Path, act: Callable[[], object], *, lock: bool) -> None:
        fd = _open_own(path)
        if fd >= 0 and lock and not _lock(fd):
            os.close(fd)
            fd = -1
        try:
            act()
        except BaseException:
            if fd >= 0:
                os.close(fd)
            raise
        if fd < 0:
            return
        found = os.fstat(fd)
        if found.st_nlink:
            os.close(fd)
            return
        from_ns = self._clock.monotonic_ns() + REST_NS
        self._files.append(_Nameless(fd, found.st_size, from_ns, locked=lock))

    def step(self) -> None:
        """Cut a little off the oldest, if it has rested. Raises OSError."""
        if not self._files or self._files[0].from_ns > self._clock.monotonic_ns():
            return
        file = self._files[0]
        if not file.locked and not _lock(file.fd):
            os.close(self._files.popleft().fd)
            return
        file.locked = True
        file.left_bytes = max(0, file.left_bytes - STEP_BYTES)
        os.ftruncate(file.fd, file.left_bytes)
        if not file.left_bytes:
            os.close(self._files.popleft().fd)

    def close(self) -> None:
        """Let go of all that is left at once."""
        while self._files:
            os.close(self._files.popleft().fd)


def _open_own(path: Path) -> int:
    """A descriptor of a large file that has no other name; -1 for any other."""
    try:
        found = path.stat()
        if found.st_size <= STEP_BYTES or found.st_nlink > 1:
            return -1
        path.chmod(stat.S_IRUSR | stat.S_IWUSR)
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1


def _lock(fd: int) -> bool:
    """Whether no other process reads the file; from now on none can."""
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, _LOCKS_BYTES, _LOCKS_START)
    except OSError:
        return False
    return True
