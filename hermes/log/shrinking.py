"""Giving back the space of a dropped segment bit by bit.

Theory: a file system that frees a gigabyte at once does it in one transaction of its own
journal, and every sync of the log meanwhile waits for that: some 50 ms. So a dropped file
loses its name at once, and its content from the end, a few megabytes at a time.

Rules
- What another process reads stays whole: SQLite's readers hold a lock on a range of bytes
  of the file, and a file on which that lock cannot be had is left to its readers.
- Readers of this process are not seen by that lock: so nothing is cut off before they had
  time to finish the look-up they were at when the segment was dropped.
- The file has no name any more: after a crash there is nothing to clean up.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections import deque
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


class Shrinking:
    """Files without a name whose space is given back. Used by one thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._files: deque[_Nameless] = deque()

    def __len__(self) -> int:
        return len(self._files)

    def take(self, path: Path) -> None:
        """Unlink a segment's files; what is large of them shrinks from now on. Raises OSError."""
        fd = _open_unread(path)
        try:
            remove_files(path)
        except BaseException:
            if fd >= 0:
                os.close(fd)
            raise
        if fd >= 0:
            size_bytes = os.fstat(fd).st_size
            self._files.append(_Nameless(fd, size_bytes, self._clock.monotonic_ns() + REST_NS))

    def step(self) -> None:
        """Cut a little off the oldest, if it has rested. Raises OSError."""
        if not self._files or self._files[0].from_ns > self._clock.monotonic_ns():
            return
        file = self._files[0]
        file.left_bytes = max(0, file.left_bytes - STEP_BYTES)
        os.ftruncate(file.fd, file.left_bytes)
        if not file.left_bytes:
            os.close(self._files.popleft().fd)

    def close(self) -> None:
        """Let go of all that is left at once."""
        while self._files:
            os.close(self._files.popleft().fd)


def _open_unread(path: Path) -> int:
    """A descriptor of a large file that no other process reads; -1 for any other."""
    try:
        if path.stat().st_size <= STEP_BYTES:
            return -1
        path.chmod(stat.S_IRUSR | stat.S_IWUSR)
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, _LOCKS_BYTES, _LOCKS_START)
    except OSError:
        os.close(fd)
        return -1
    return fd
