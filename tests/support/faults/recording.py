"""A store under observation: every call that changes its files is noted, and may fail.

`Recorder` puts itself between a log and its disk twice: as a SQLite VFS (segments and what
SQLite keeps beside them) and in front of the few calls of `os` that the log makes itself
(HEAD, renames, folders). What passes goes into a `Disk`; `Trouble` says which call fails.

Files that hold nothing to lose are not noted: LOCK, RESERVE and the -shm.
"""

from __future__ import annotations

import errno
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import apsw
import msgspec
import pytest

from tests.support.faults.disk import FOLDER, Disk, Name, Step, Sync, Truncate, Write

_BASE: Final = "unix"
_NEW_JOURNAL: Final = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL
_serial = itertools.count()
CHANGES: Final = frozenset({"write", "sync", "truncate", "open", "unlink", "rename"})


class Trouble(msgspec.Struct, frozen=True):
    """Calls that fail: the `call`-th (from 0) of one of these `kinds`, `times` in a row.

    A write that fails has written half of its bytes. "read" is a kind, too, if asked for.
    """

    call: int
    code: int = errno.EIO
    times: int = 1
    kinds: frozenset[str] = CHANGES


FOR_EVER: Final = 1 << 60


class Recorder:
    """The calls on one store. Use `recording` to make one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.disk = Disk()
        self.trouble: Trouble | None = None
        self.calls = 0  # of the kinds that the trouble counts
        self.struck: list[str] = []  # what failed, as "kind name"
        self.lock = threading.RLock()
        self.vfs = _RecordingVFS(self)
        self.vfs_name = self.vfs.registered_name
        self._fds: dict[int, str] = {}

    @staticmethod
    def noted(name: str) -> bool:
        return (".segment" in name or name.startswith("HEAD")) and not name.endswith("-shm")

    def note(self, step: Step) -> None:
        with self.lock:
            self.disk.steps.append(step)

    def forget(self) -> None:
        """Let go of what was noted. apsw keeps whoever raised in its callbacks, this among them,
        and thousands of stories in one process would fill the memory."""
        with self.lock:
            self.disk = Disk()

    def heads_written(self, name: str) -> int:
        """How often the start of a file was written: a WAL that started over, a header."""
        named = (step for step in self.disk.steps if isinstance(step, Name))
        inodes = {step.inode for step in named if step.name == name}
        return sum(
            isinstance(step, Write) and step.offset == 0 and step.inode in inodes
            for step in self.disk.steps
        )

    def counts(self, trouble: Trouble | None) -> None:
        """Begin to count calls anew, and let one of them fail."""
        with self.lock:
            self.calls, self.struck, self.trouble = 0, [], trouble

    def fails(self, kind: str, name: str) -> int:
        """The errno that this call fails with; 0 if it goes well."""
        with self.lock:
            trouble = self.trouble
            if trouble is None or kind not in trouble.kinds or not self.noted(name):
                return 0
            number = self.calls
            self.calls += 1
            if trouble.call <= number < trouble.call + trouble.times:
                self.struck.append(f"{kind} {name}")
                return trouble.code
            return 0

    # ------------------------------------------------------------ steps of SQLite

    def write(self, name: str, data: bytes, offset: int, do: Callable[[bytes], object]) -> int:
        """Write, note, and return the errno of a failure."""
        code = self.fails("write", name)
        if code:
            data = data[: len(data) // 2]
        with self.lock:
            do(data)
            if data and self.noted(name):
                self.disk.steps.append(Write(self.disk.create(name), offset, data))
        return code

    def truncate(self, name: str, size: int, do: Callable[[], object]) -> int:
        code = self.fails("truncate", name)
        if not code:
            with self.lock:
                do()
                if self.noted(name):
                    self.disk.steps.append(Truncate(self.disk.create(name), size))
        return code

    def sync(self, name: str, do: Callable[[], object], *, names: bool = False) -> int:
        """Sync a file, and with `names` its folder too; "" is the folder alone."""
        code = self.fails("sync", name or "HEAD folder")
        with self.lock:
            began = len(self.disk.steps)
        if not code:
            do()
        with self.lock:
            if name and self.noted(name):
                inode = self.disk.create(name)
                self.disk.steps.append(Sync(inode, began, failed=bool(code)))
            if names or not name:
                self.disk.steps.append(Sync(FOLDER, began, failed=bool(code)))
        return code

    def unlink(self, name: str, do: Callable[[], object]) -> int:
        code = self.fails("unlink", name)
        if not code:
            with self.lock:
                do()
                self.disk.unlink(name)
        return code

    # ---------------------------------------------------------------- calls of os

    def watch_os(self, patch: pytest.MonkeyPatch) -> None:
        """Stand in front of `os`, for paths in the folder only."""
        for hook in (self._os_open, self._os_close, self._os_pwrite, self._os_write):
            patch.setattr(os, hook.__name__[4:], hook(getattr(os, hook.__name__[4:])))
        for hook in (self._os_fsync, self._os_replace, self._os_unlink, self._os_chmod):
            patch.setattr(os, hook.__name__[4:], hook(getattr(os, hook.__name__[4:])))
        patch.setattr(os, "pread", self._os_pread(os.pread))
        patch.setattr(Path, "read_bytes", self._path_read_bytes(Path.read_bytes))

    def _inside(self, path: Any) -> str | None:
        """The name of a path in the folder; "" for the folder itself, None for others."""
        if not isinstance(path, (str, os.PathLike)):
            return None
        found = Path(os.fspath(path))
        if found == self.folder:
            return ""
        return found.name if found.parent == self.folder else None

    def _os_open(self, real: Any) -> Any:
        def call(path: Any, flags: int, *rest: Any, **options: Any) -> int:
            name = self._inside(path)
            if name and flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
                _raise(self.fails("open", name), name)
            fd: int = real(path, flags, *rest, **options)
            if name is not None:
                with self.lock:
                    self._fds[fd] = name
                    if name and self.noted(name) and flags & os.O_CREAT:
                        inode = self.disk.create(name)
                        if flags & os.O_TRUNC:
                            self.disk.steps.append(Truncate(inode, 0))
            return fd

        return call

    def _os_close(self, real: Any) -> Any:
        def call(fd: int) -> None:
            with self.lock:
                self._fds.pop(fd, None)
                real(fd)

        return call

    def _os_pwrite(self, real: Any) -> Any:
        def call(fd: int, data: bytes, offset: int) -> int:
            name = self._fds.get(fd)
            if not name or not self.noted(name):
                return int(real(fd, data, offset))
            _raise(self.write(name, data, offset, lambda part: real(fd, part, offset)), name)
            return len(data)

        return call

    def _os_pread(self, real: Any) -> Any:
        def call(fd: int, size: int, offset: int) -> bytes:
            name = self._fds.get(fd)
            if name:
                _raise(self.fails("read", name), name)
            data: bytes = real(fd, size, offset)
            return data

        return call

    def _path_read_bytes(self, real: Any) -> Any:
        def call(path: Path) -> bytes:
            name = self._inside(path)
            if name:
                _raise(self.fails("read", name), name)
            data: bytes = real(path)
            return data

        return call

    def _os_write(self, real: Any) -> Any:
        def call(fd: int, data: bytes) -> int:
            name = self._fds.get(fd)
            if not name or not self.noted(name):
                return int(real(fd, data))
            at = os.lseek(fd, 0, os.SEEK_CUR)
            _raise(self.write(name, data, at, lambda part: real(fd, part)), name)
            return len(data)

        return call

    def _os_fsync(self, real: Any) -> Any:
        def call(fd: int) -> None:
            name = self._fds.get(fd)
            if name is None:
                real(fd)
            else:
                _raise(self.sync(name, lambda: real(fd)), name)

        return call

    def _os_replace(self, real: Any) -> Any:
        def call(old: Any, new: Any, **options: Any) -> None:
            names = self._inside(old), self._inside(new)
            if not names[0] or not names[1]:
                real(old, new, **options)
                return
            _raise(self.fails("rename", names[1]), names[1])
            with self.lock:
                real(old, new, **options)
                self.disk.rename(names[0], names[1])

        return call

    def _os_unlink(self, real: Any) -> Any:
        def call(path: Any, **options: Any) -> None:
            name = self._inside(path)
            if not name or not Path(path).exists():  # a missing file is no call to count
                real(path, **options)
                return
            _raise(self.unlink(name, lambda: real(path, **options)), name)

        return call

    def _os_chmod(self, real: Any) -> Any:
        def call(path: Any, mode: int, **options: Any) -> None:
            real(path, mode, **options)
            name = self._inside(path)
            if name and self.noted(name):
                with self.lock:
                    self.disk.steps.append(Name(name, self.disk.create(name), mode))

        return call


def _raise(code: int, name: str) -> None:
    if code:
        raise OSError(code, f"injected: {os.strerror(code)}", name)


def _raise_in_sqlite(code: int, kind: type[apsw.Error] = apsw.IOError) -> None:
    """What SQLite's own VFS makes of an errno: only a write can find the disk full."""
    if code:
        raise kind(f"injected: {os.strerror(code)}")


class _RecordingFile(apsw.VFSFile):
    def __init__(
        self, recorder: Recorder, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> None:
        path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        self._recorder = recorder
        self._file = Path(path).name
        # SQLite's own VFS syncs the folder with the first sync of a journal it has made.
        self._names = bool(flags[0] & apsw.SQLITE_OPEN_CREATE and flags[0] & _NEW_JOURNAL)
        creates = bool(flags[0] & apsw.SQLITE_OPEN_CREATE)
        if creates:
            _raise_in_sqlite(recorder.fails("open", self._file), apsw.CantOpenError)
        with recorder.lock:
            super().__init__(_BASE, name, flags)
            if creates and recorder.noted(self._file):
                recorder.disk.create(self._file)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        _raise_in_sqlite(self._recorder.fails("read", self._file))
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        write = super().xWrite
        code = self._recorder.write(
            self._file, bytes(data), offset, lambda part: part and write(part, offset)
        )
        _raise_in_sqlite(code, apsw.FullError if code == errno.ENOSPC else apsw.IOError)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        truncate = super().xTruncate
        _raise_in_sqlite(self._recorder.truncate(self._file, newsize, lambda: truncate(newsize)))

    def xSync(self, flags: int) -> None:  # noqa: N802
        sync = super().xSync
        names, self._names = self._names, False
        _raise_in_sqlite(self._recorder.sync(self._file, lambda: sync(flags), names=names))


class _RecordingVFS(apsw.VFS):
    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.registered_name = f"hermes-recording-{next(_serial)}"
        super().__init__(self.registered_name, base=_BASE)

    def xOpen(  # noqa: N802
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> apsw.VFSFile:
        return _RecordingFile(self._recorder, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        delete = super().xDelete
        _raise_in_sqlite(
            self._recorder.unlink(Path(filename).name, lambda: delete(filename, syncdir))
        )
        if syncdir:
            self._recorder.note(Sync(FOLDER, len(self._recorder.disk.steps)))


@contextmanager
def recording(folder: Path) -> Iterator[Recorder]:
    """Observe a store; what the folder holds already counts as synced."""
    recorder = Recorder(folder)
    if folder.exists():
        recorder.disk.adopt(folder, recorder.noted)
    with pytest.MonkeyPatch.context() as patch:
        recorder.watch_os(patch)
        try:
            yield recorder
        finally:
            recorder.vfs.unregister()
