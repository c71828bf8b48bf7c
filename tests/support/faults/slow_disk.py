"""`hermes`, on a disk that is slow on purpose: `python -m tests.support.faults.slow_disk serve`.

SLOW_DISK_BYTES_PER_SECOND is how fast SQLite's files take what is written to them. A
sync waits for what was written since the last one, as that of a real disk does.
"""

from __future__ import annotations

import os
import sys
import time

import apsw

from hermes.cli.main import main

_BASE = "unix"  # by name: the default is ours
_BYTES_PER_SECOND = int(os.environ["SLOW_DISK_BYTES_PER_SECOND"])


class _SlowFile(apsw.VFSFile):
    def __init__(self, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._unsynced_bytes = 0
        super().__init__(_BASE, name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._unsynced_bytes += len(data)
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        time.sleep(self._unsynced_bytes / _BYTES_PER_SECOND)
        self._unsynced_bytes = 0
        super().xSync(flags)


class _SlowVFS(apsw.VFS):
    def __init__(self) -> None:
        super().__init__("slow-disk", base=_BASE, makedefault=True)

    def xOpen(  # noqa: N802
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> apsw.VFSFile:
        return _SlowFile(name, flags)


if __name__ == "__main__":
    _vfs = _SlowVFS()
    sys.argv[0] = "hermes"
    main()
