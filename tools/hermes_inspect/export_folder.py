"""The folder an export is written to: one writer, whole files, nothing of others touched.

    OUT/
      manifest.json  manifest.json.sig     written last
      manifests/                           those that an incremental export replaced
      records/date=2026-01-31/…parquet     events/  custody/
      .hermes-export/                      work in progress; gone when done
      .hermes-export.lock                  flock: one export at a time

Rules
- A file is made under the work folder, synced, and linked to its name, which fails if
  something has that name; then its folder is synced. So it appears whole or not at all.
- A name that is taken by other bytes is refused, never overwritten. Only the manifest
  is replaced, and only where the folder is known to be an export.
- Every name is made here of digits and known words, and must lie below OUT: a table's
  folder that is a link to elsewhere is refused.
- `journal` lines remember what is done; a line that was cut short does not count.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hermes_inspect.export_manifest import (
    EARLIER_FOLDER,
    NAME,
    SIGNATURE_NAME,
    FileEntry,
    Manifest,
    decode_manifest,
)
from hermes_inspect.export_options import ExportError

WORK_NAME: Final = ".hermes-export"
LOCK_NAME: Final = ".hermes-export.lock"
PLAN_NAME: Final = "plan.json"
_NO_LINKS: Final = (errno.EPERM, errno.ENOTSUP, errno.EMLINK)


class OutputFolder:
    """An export's folder, locked from construction to `close`."""

    def __init__(self, out: Path, store: Path) -> None:
        """Raises ExportError when it cannot be, or must not be, written to."""
        self.out = out.resolve()
        store = store.resolve()
        if self.out.is_relative_to(store) or store.is_relative_to(self.out):
            raise ExportError(f"{out} and the store {store} lie in each other")
        if not self.out.parent.is_dir():
            raise ExportError(f"{self.out.parent} is no folder", hint="make it first")
        self._made = not self.out.exists()
        try:
            self.out.mkdir(exist_ok=True)
            present = {path.name for path in self.out.iterdir()}
        except FileExistsError:
            raise ExportError(f"{out} is a file", hint="name a folder") from None
        self.work = self.out / WORK_NAME
        if self.work.is_symlink():
            raise ExportError(f"{self.work} is a link", hint="remove it")
        if present - {WORK_NAME, LOCK_NAME} and not present & {WORK_NAME, NAME}:
            raise ExportError(
                f"{out} holds other files and is no export",
                hint="name an empty folder, or one that does not exist",
            )
        self._lock = self._take_lock()
        self.manifest_bytes = self._read(self.out / NAME)
        self.manifest: Manifest | None = (
            None
            if self.manifest_bytes is None
            else decode_manifest(self.manifest_bytes, self.out / NAME)
        )

    def _take_lock(self) -> int:
        try:
            fd = os.open(
                self.out / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644
            )
        except OSError as error:
            raise ExportError(f"{self.out} is not writable: {error.strerror}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            raise ExportError(
                f"another export is writing to {self.out}", hint="wait for it, or name another"
            ) from error
        return fd

    def close(self) -> None:
        """Let another export in; a folder made for nothing goes again. Idempotent."""
        if self._lock >= 0:
            if self._made and [path.name for path in self.out.iterdir()] == [LOCK_NAME]:
                (self.out / LOCK_NAME).unlink()
                self.out.rmdir()
            os.close(self._lock)
            self._lock = -1

    @staticmethod
    def _read(path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None

    # -------------------------------------------------------- work in progress

    @property
    def interrupted(self) -> bool:
        """Whether an export was begun here and not finished."""
        return (self.work / PLAN_NAME).exists()

    def plan(self) -> bytes | None:
        return self._read(self.work / PLAN_NAME)

    def write_plan(self, data: bytes) -> None:
        """From now on the export counts as begun."""
        self.work.mkdir(exist_ok=True)
        _write_synced(self.work / "plan.new", data)
        (self.work / "plan.new").replace(self.work / PLAN_NAME)
        sync_folder(self.work)

    def log(self, line: bytes) -> None:
        """Remember, synced."""
        with (self.work / "journal").open("ab") as file:
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def journal(self) -> Iterator[bytes]:
        """The lines that were written whole; what was cut short is removed."""
        path = self.work / "journal"
        data = self._read(path) or b""
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            os.truncate(path, len(whole))
        yield from whole.splitlines()

    def temporary(self, table: str) -> Path:
        """Where to write the next file of a table. What an interruption left is removed."""
        path = self.work / f"{table}.tmp"
        path.unlink(missing_ok=True)
        return path

    # ------------------------------------------------------------------- files

    def publish(self, temporary: Path, table: str, day: str, name: str, rows: int) -> FileEntry:
        """Give a finished file its name; returns its entry. Raises ExportError if taken."""
        folder = self.out / table / f"date={day}"
        folder.mkdir(parents=True, exist_ok=True)
        if not folder.resolve().is_relative_to(self.out) or folder.is_symlink():
            raise ExportError(f"{folder} leads out of {self.out}", hint="remove the link")
        _sync(temporary)
        path = folder / name
        digest = digest_of(temporary)
        size = temporary.stat().st_size
        try:
            _link(temporary, path)
        except FileExistsError:
            # Ours, from just before an interruption, or somebody else's.
            if path.is_symlink() or digest_of(path) != digest:
                raise ExportError(
                    f"{path} exists and is not of this export", hint="move it away"
                ) from None
        temporary.unlink(missing_ok=True)
        for changed in (folder, folder.parent, self.out):
            sync_folder(changed)
        return FileEntry(path.relative_to(self.out).as_posix(), table, rows, size, digest)

    def finish(self, manifest: bytes, signature: bytes | None) -> None:
        """Keep the manifest that is there aside, write the new one, remove the work."""
        if self.manifest is not None and self.manifest_bytes != manifest:
            self._keep_aside(self.manifest)
        sign_path = self.out / SIGNATURE_NAME
        if signature is None:
            sign_path.unlink(missing_ok=True)
        else:
            _write_synced(self.work / "signature", signature)
            (self.work / "signature").replace(sign_path)
        _write_synced(self.work / "manifest", manifest)
        (self.work / "manifest").replace(self.out / NAME)
        sync_folder(self.out)
        shutil.rmtree(self.work)
        sync_folder(self.out)

    def _keep_aside(self, manifest: Manifest) -> None:
        folder = self.out / EARLIER_FOLDER
        folder.mkdir(exist_ok=True)
        kept = self.out / earlier_path(manifest)
        for name, path in ((NAME, kept), (SIGNATURE_NAME, kept.with_name(kept.name + ".sig"))):
            data = self._read(self.out / name)
            if data is not None:
                _write_synced(self.work / "kept", data)
                (self.work / "kept").replace(path)
        sync_folder(folder)


def earlier_path(manifest: Manifest) -> str:
    """Where a replaced manifest is kept, below the export."""
    return f"{EARLIER_FOLDER}/{manifest.last_lsn:020d}.json"


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hex. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _link(temporary: Path, path: Path) -> None:
    """Name a file without ever replacing one. Raises FileExistsError, OSError."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # A file system without hard links: nobody else writes here under the lock.
        if path.exists() or path.is_symlink():
            raise FileExistsError(path) from None
        temporary.replace(path)
