"""The folder of a backup: whose it is, what in it belongs to the backup, and what is left over.

A folder is taken when it is new, empty, holds a backup of the same store, or what an
interrupted one left; anything else is refused and not touched. One backup at a time.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hermes.errors import StoreError
from hermes.log import backup_files as files
from hermes.log.backup_manifest import (
    COPY_NAME,
    LOCK_NAME,
    MANIFEST_NAME,
    Manifest,
    SegmentCopy,
    decode_manifest,
    encode_manifest,
    is_of_backup,
)
from hermes.log.head import sync_folder


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a backup; None if there is none. Raises StoreDamagedError, OSError."""
    path = folder / MANIFEST_NAME
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    return decode_manifest(data, str(path))


class BackupFolder:
    """A folder that a backup is made or renewed in."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other backups out. Raises StoreLockedError, OSError."""
        lock = files.FolderLock(self.path)
        try:
            yield
        finally:
            (self.path / COPY_NAME).unlink(missing_ok=True)
            lock.release()

    def prepare(self, store: Path) -> None:
        """Make the folder; refuse one that is not for a backup. Raises OSError, StoreError."""
        inner, outer = self.path.resolve(), store.resolve()
        if inner.is_relative_to(outer) or outer.is_relative_to(inner):
            raise StoreError(
                f"{self.path} and the store {store} are one within the other",
                hint="choose a folder elsewhere, best on another disk",
                path=str(self.path),
            )
        if self.path.exists() and not self.path.is_dir():
            raise StoreError(f"{self.path} is a file, not a folder", path=str(self.path))
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.mkdir(mode=stat.S_IRWXU)
            sync_folder(self.path.parent)
        names = {path.name for path in self.path.iterdir()}
        if MANIFEST_NAME not in names and not all(map(is_of_backup, names - {"lost+found"})):
            raise StoreError(
                f"{self.path} holds other files and no backup",
                hint="choose an empty folder or a new one",
                path=str(self.path),
            )

    def open(self, store_id: str) -> Manifest | None:
        """The manifest that is there. Refuses another store's, clears leftovers."""
        old = read_manifest(self.path)
        if old is not None and old.store_id != store_id:
            raise StoreError(
                f"{self.path} holds a backup of another store ({old.store_id})",
                hint="keep the backups of each store in a folder of their own",
                path=str(self.path),
            )
        self._clear_away(old)
        return old

    def _clear_away(self, manifest: Manifest | None) -> None:
        """Files that an interrupted or an earlier backup left, and no manifest names."""
        kept = {LOCK_NAME} if manifest is None else manifest.names()
        for path in tuple(self.path.iterdir()):
            if path.name not in kept and is_of_backup(path.name):
                path.unlink(missing_ok=True)

    def holds(self, copy: SegmentCopy) -> bool:
        """Whether the file is there, in its size. Raises OSError."""
        try:
            return (self.path / copy.file).stat().st_size == copy.bytes
        except FileNotFoundError:
            return False

    def publish(self, manifest: Manifest) -> None:
        """All it names is in its place: from here on this is the backup. Raises OSError."""
        sync_folder(self.path)
        files.write_file(self.path / MANIFEST_NAME, encode_manifest(manifest), 0o600)
        sync_folder(self.path)
        self._clear_away(manifest)
