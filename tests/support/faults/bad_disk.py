"""`hermes`, on a disk that is small or fails: `python -m tests.support.faults.bad_disk serve`.

BAD_DISK is a folder that takes the part of a file system. Two files beside it steer it:

- BAD_DISK.capacity: how many bytes fit, counted over every file in the folder by its size.
  What SQLite would write beyond gets SQLITE_FULL, what the system preallocates ENOSPC, and
  `statvfs` tells what is left.
- BAD_DISK.syncs: while it exists, syncs of SQLite's files fail (EIO). It holds how many of
  them still do; whoever fails the last removes it.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import apsw

from hermes.cli.main import main

_BASE = "unix"  # by name: the default is ours
_DISK = Path(os.environ["BAD_DISK"])
_CAPACITY = _DISK.with_suffix(".capacity")
_SYNCS = _DISK.with_suffix(".syncs")
_IS_SMALL = _CAPACITY.exists()


def _left_bytes() -> int:
    used_bytes = 0
    for folder, _, names in os.walk(_DISK):
        for name in names:
            try:
                used_bytes += os.stat(os.path.join(folder, name)).st_size  # noqa: PTH116, PTH118
            except FileNotFoundError:
                continue  # gone between the two calls
    return int(_CAPACITY.read_text()) - used_bytes


class _BadFile(apsw.VFSFile):
    def __init__(self, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__(_BASE, name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        grows_bytes = offset + len(data) - self.xFileSize() if _IS_SMALL else 0
        if grows_bytes > 0 and grows_bytes > _left_bytes():
            raise apsw.FullError("the disk is full on purpose")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        if _SYNCS.exists():
            left = int(_SYNCS.read_text()) - 1
            if left:
                _SYNCS.write_text(str(left))
            else:
                _SYNCS.unlink()
            raise apsw.IOError("the sync fails on purpose")
        super().xSync(flags)


class _BadVFS(apsw.VFS):
    def __init__(self) -> None:
        super().__init__("bad-disk", base=_BASE, makedefault=True)

    def xOpen(  # noqa: N802
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> apsw.VFSFile:
        return _BadFile(name, flags)


def _statvfs(_: object) -> Any:
    return SimpleNamespace(f_bavail=max(0, _left_bytes()), f_frsize=1)


def _posix_fallocate(fd: int, offset: int, length: int) -> None:
    if length > _left_bytes():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.ftruncate(fd, offset + length)


if __name__ == "__main__":
    _vfs = _BadVFS()
    if _IS_SMALL:
        os.statvfs = _statvfs  # type: ignore[assignment]
        os.posix_fallocate = _posix_fallocate
    sys.argv[0] = "hermes"
    main()
