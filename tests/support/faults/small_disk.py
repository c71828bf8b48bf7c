"""A small disk under a test, to be filled and emptied beside a server's store.

Either a real one (a tmpfs, where mounting is allowed) or one by decree: a folder for which
`bad_disk.py` refuses what does not fit. Both are filled by a file beside the store.
"""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from hermes.limits import MIB

CAPACITY_BYTES = 256 * MIB


class SmallDisk:
    """`module` and `environment` are what a server on it is started with."""

    module = "hermes"
    environment: Mapping[str, str] = {}

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"
        self._filler = folder / "filler"

    def free_bytes(self) -> int:
        stat = os.statvfs(self.folder)
        return stat.f_bavail * stat.f_frsize

    def fill(self, leave_bytes: int = 0) -> None:
        """Take all but so much of what is free."""
        with self._filler.open("ab") as file:
            size_bytes = max(0, self.free_bytes() - leave_bytes)
            try:
                if size_bytes:
                    self._take(file.fileno(), size_bytes)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                # The server was quicker: the disk is all the fuller.

    def _take(self, fd: int, size_bytes: int) -> None:
        os.posix_fallocate(fd, os.fstat(fd).st_size, size_bytes)

    def empty(self) -> None:
        """Give it back."""
        self._filler.unlink()


class DecreedDisk(SmallDisk):
    """A folder whose sum of sizes is bounded; needs no rights."""

    module = "tests.support.faults.bad_disk"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        folder.mkdir()
        folder.with_suffix(".capacity").write_text(str(CAPACITY_BYTES))
        self.environment = {"BAD_DISK": str(folder)}

    def free_bytes(self) -> int:
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return max(0, CAPACITY_BYTES - sum(path.stat().st_size for path in files))

    def _take(self, fd: int, size_bytes: int) -> None:
        os.ftruncate(fd, os.fstat(fd).st_size + size_bytes)


@contextmanager
def mounted(folder: Path) -> Iterator[SmallDisk | None]:
    """A tmpfs at the folder; None where this user may not mount one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={CAPACITY_BYTES}", "tmpfs", str(folder)]
    try:
        allowed = subprocess.run(mount, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        allowed = False
    if not allowed:
        yield None
        return
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", str(folder)], check=True)
