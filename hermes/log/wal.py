"""Writing a WAL anew before it is copied into its file.

Theory: after a failed sync the system marks what it could not write as clean. The WAL then
reads whole, and its next sync succeeds, while the disk does not hold it. A checkpoint that
trusts it overwrites pages of the segment; if the power fails in the middle of that, the
disk has some new pages and not the WAL that would complete them: a damaged segment,
though every record told as committed had been on the disk. So whoever opens a store
writes the bytes of a WAL again, which makes the system owe them to the disk, and syncs.

The same bytes go to the same places: a power loss in the middle of it changes nothing.
A WAL carries no POSIX locks (the segment and the -shm do), so it may be opened like this.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_CHUNK_BYTES: Final = 1 << 20


def write_anew(wal: Path) -> None:
    """Write every byte of a file again, and sync it. Raises OSError."""
    fd = os.open(wal, os.O_RDWR | os.O_CLOEXEC)
    try:
        at = 0
        while data := os.pread(fd, _CHUNK_BYTES, at):
            at += os.pwrite(fd, data, at)
        os.fsync(fd)
    finally:
        os.close(fd)
