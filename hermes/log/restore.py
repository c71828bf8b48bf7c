"""Make a store out of a backup: checked byte by byte, and a store only at the end.

Until everything is in its place, HEAD holds a text that no server takes for a HEAD: an
interrupted restore is refused by every open, and begun anew by the next restore. HEAD is
written last, when the digests of all files are those of the manifest, and the segments fit
each other and end where the manifest says.

The store keeps its id and its numbers: the next record gets the next lsn. Two stores with
one id must not both go on; that is for people to see to (docs/operations.md).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

import apsw
import msgspec

from hermes import limits
from hermes.errors import StoreDamagedError, StoreError, StoreVersionError
from hermes.log import backup_files as files
from hermes.log import head as head_file
from hermes.log.backup import Progress
from hermes.log.backup_check import OTHER_CONTENT, damaged, whole_manifest
from hermes.log.backup_manifest import (
    MANIFEST_NAME,
    NEW_SUFFIX,
    CarriedFile,
    Manifest,
    SegmentCopy,
)
from hermes.log.catalog import LOCK_NAME, StoreLock, list_segments
from hermes.log.head import UNFINISHED, create_head, is_unfinished, sync_folder
from hermes.log.log_end import check_tail
from hermes.log.segment import BUILDING_SUFFIX, file_name
from hermes.log.space import Space
from hermes.log.survey import check_segments, survey

_FOREIGN_NAMES: Final = {"lost+found"}
# Nothing of a store: what a restore that hardly began leaves behind.
_EMPTY_NAMES: Final = {*_FOREIGN_NAMES, LOCK_NAME, head_file.FILE_NAME + NEW_SUFFIX}
_RESTORED_NAME: Final = "restored" + BUILDING_SUFFIX


class RestoreReport(msgspec.Struct, frozen=True):
    """A store that was restored."""

    manifest: Manifest
    bytes: int


def restore_backup(
    backup: Path,
    store: Path,
    *,
    told: Callable[[Progress], None] = lambda _: None,
) -> RestoreReport:
    """Make a store of a backup in an empty or missing folder.

    Raises StoreDamagedError naming the file of the backup that is damaged or missing,
    StoreVersionError, StoreFullError, StoreLockedError, StoreError (no backup, the folder
    is not empty, no permission). Then there is no store.
    """
    backup, store = backup.absolute(), store.absolute()
    try:
        manifest = whole_manifest(backup)
        made = _prepare(store)
        lock = StoreLock(store)
        try:
            _Restore(backup, store, manifest, told).run()
        except BaseException:
            _clear(store)
            if made:
                store.rmdir()
            raise
        finally:
            lock.release()
    except (OSError, apsw.Error) as error:
        raise files.explained(error, store) from error
    return RestoreReport(manifest, manifest.bytes)


def _prepare(store: Path) -> bool:
    """Make the folder, or see that it is empty; whether it was made. Raises StoreError, OSError."""
    if not store.exists():
        store.parent.mkdir(parents=True, exist_ok=True)
        store.mkdir(mode=stat.S_IRWXU)
        sync_folder(store.parent)
        return True
    if not store.is_dir():
        raise StoreError(f"{store} is a file, not a folder", path=str(store))
    if {path.name for path in store.iterdir()} - _EMPTY_NAMES and not is_unfinished(
        store / head_file.FILE_NAME
    ):
        raise StoreError(
            f"{store} is not empty",
            hint="restore into an empty folder or a new one; nothing is ever overwritten",
            path=str(store),
        )
    return False


def _clear(store: Path) -> None:
    """Remove what a restore has made: everything, for the folder was empty."""
    for path in tuple(store.iterdir()):
        if path.name not in _FOREIGN_NAMES:
            path.unlink(missing_ok=True)


class _Restore:
    """One run, under the store's lock."""

    def __init__(
        self, backup: Path, store: Path, manifest: Manifest, told: Callable[[Progress], None]
    ) -> None:
        self._backup = backup
        self._store = store
        self._manifest = manifest
        self._told = told
        self._new = store / _RESTORED_NAME
        self._copied_bytes = self._segments = 0

    def run(self) -> None:
        store, manifest = self._store, self._manifest
        for path in tuple(store.iterdir()):
            if path.name not in _EMPTY_NAMES | {head_file.FILE_NAME}:
                path.unlink()
        files.refuse_lack_of_room(store, manifest.bytes, limits.LOW_SPACE_BYTES)
        files.write_file(store / head_file.FILE_NAME, UNFINISHED, stat.S_IRUSR | stat.S_IWUSR)
        sync_folder(store)
        for segment in manifest.segments:
            self._segment(segment)
        for carried in manifest.carried:
            self._copy(carried)
            files.put(self._new, store / carried.name, carried.mode)
        self._check()
        store.chmod(stat.S_IRWXU)
        Space(store, limits.LOW_SPACE_BYTES)  # makes RESERVE
        sync_folder(store)
        create_head(store / head_file.FILE_NAME, manifest.store_id, manifest.end)

    def _segment(self, segment: SegmentCopy) -> None:
        self._copy(segment)
        path = self._store / file_name(segment.first_lsn)
        mtime_ns = segment.source_mtime_ns
        if mtime_ns is None:
            files.put(self._new, path, stat.S_IRUSR | stat.S_IWUSR)
        else:
            # The time of the original: the next backup knows the file again.
            os.utime(self._new, ns=(mtime_ns, mtime_ns))
            files.put(self._new, path, stat.S_IRUSR)
        self._segments += 1
        self._wrote(0)

    def _copy(self, file: SegmentCopy | CarriedFile) -> None:
        path = self._backup / file.file
        try:
            sha256, _ = files.copy_file(path, self._new, self._wrote)
        except FileNotFoundError:
            raise damaged(path, file, "is missing") from None
        if sha256 != file.sha256:
            raise damaged(path, file, OTHER_CONTENT)

    def _wrote(self, size: int) -> None:
        self._copied_bytes += size
        self._told(Progress(self._copied_bytes, self._manifest.bytes, self._segments))

    def _check(self) -> None:
        """Judge the segments as an open would. Raises StoreDamagedError."""
        manifest = self._manifest
        try:
            seen = survey(list_segments(self._store))
            check_segments(seen, manifest.store_id)
            check_tail(seen.segments[-1])
        except StoreVersionError:
            raise
        except StoreError as error:
            raise StoreDamagedError(
                f"{self._backup} does not make a sound store: {error.message}",
                hint="nothing was restored; use another backup",
                path=str(self._backup),
            ) from error
        if seen.end != manifest.end:
            raise StoreDamagedError(
                f"{self._backup / MANIFEST_NAME} says that the log ends at record"
                f" {manifest.end.lsn}, with another link or offset than record {seen.end.lsn} has",
                hint="nothing was restored; use another backup",
                path=str(self._backup / MANIFEST_NAME),
            )
        self._remove_traces()

    def _remove_traces(self) -> None:
        """What SQLite makes beside a file to read it."""
        for path in tuple(self._store.iterdir()):
            if path.name.endswith((".segment-wal", ".segment-shm")):
                path.unlink()
