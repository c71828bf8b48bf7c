"""Is a backup whole? Every file is there, with the size and the content of its manifest.

That is all a restore needs to know of the files: what they held fitted together when they
were copied, and the digests say that they hold it still. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from hermes.errors import StoreDamagedError, StoreError
from hermes.log import backup_files as files
from hermes.log.backup import Progress
from hermes.log.backup_folder import read_manifest
from hermes.log.backup_manifest import MANIFEST_NAME, CarriedFile, Manifest, SegmentCopy

# What is wrong with a file whose digest differs.
OTHER_CONTENT: Final = "has other content than the manifest says"


def check_backup(backup: Path, *, told: Callable[[Progress], None] = lambda _: None) -> Manifest:
    """Read every file of a backup and compare it with the manifest, which is returned.

    Raises StoreDamagedError naming the file that is damaged or missing, StoreVersionError,
    StoreError (no backup, no permission).
    """
    backup = backup.absolute()
    try:
        manifest = whole_manifest(backup)
        copied_bytes = 0
        for number, file in enumerate(manifest.files, 1):
            sha256, size = files.digest_of(backup / file.file, lambda _: None)
            if sha256 != file.sha256:
                raise damaged(backup / file.file, file, OTHER_CONTENT)
            copied_bytes += size
            told(Progress(copied_bytes, manifest.bytes, number))
    except OSError as error:
        raise files.explained(error, backup) from error
    return manifest


def whole_manifest(backup: Path) -> Manifest:
    """The manifest of a backup whose files are all there, in their sizes.

    Raises StoreDamagedError, StoreVersionError, StoreError, OSError.
    """
    manifest = read_manifest(backup)
    if manifest is None:
        raise StoreError(
            f"{backup} holds no complete backup: it has no {MANIFEST_NAME}",
            hint="name the folder that was given to `hermes backup`",
            path=str(backup),
        )
    for file in manifest.files:
        path = backup / file.file
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            raise damaged(path, file, "is missing") from None
        if size != file.bytes:
            raise damaged(path, file, f"has {size:,} bytes instead of {file.bytes:,}")
    return manifest


def damaged(path: Path, file: SegmentCopy | CarriedFile, what: str) -> StoreDamagedError:
    """The error that names a file of a backup and the records it held."""
    held = ""
    if isinstance(file, SegmentCopy):
        held = f" (records {file.first_lsn}..{file.last_lsn})"
    return StoreDamagedError(
        f"{path} {what}{held}: the backup is damaged",
        hint="use another backup",
        path=str(path),
    )
