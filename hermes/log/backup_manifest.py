"""[P] What a backup is: the manifest, the names of its files, and what it may reuse.

A backup is a folder with a `manifest.json` and the files that it names. A file's name holds
what it is (first and last lsn, the begin of its SHA-256), so a file is never changed: the
next backup adds files beside, replaces the manifest by a rename, and removes what the new
manifest does not name. Whatever is interrupted, the folder holds the old backup or the new
one. No name is that of a segment, so that nobody takes a backup for a store and serves it.

Nothing is read or written here; that is `backup.py` and `restore.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

import msgspec

from hermes.errors import StoreDamagedError, StoreVersionError
from hermes.log.facts import Mark

MANIFEST_NAME: Final = "manifest.json"
LOCK_NAME: Final = "LOCK"
NEW_SUFFIX: Final = ".new"
# What is being copied, until it is whole.
COPY_NAME: Final = "copy" + NEW_SUFFIX
FORMAT: Final = "hermes-backup"
VERSION: Final = 1

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SEGMENT: Final = re.compile(r"\d{20}-\d{20}-[0-9a-f]{16}\.sqlite")
_CARRIED: Final = re.compile(r"[0-9a-f]{16}-[A-Za-z0-9][A-Za-z0-9._-]*")
_DIGEST_DIGITS: Final = 16
# What a store has of its own: nothing that is carried along takes its place.
_STORE_NAMES: Final = {"HEAD", "LOCK", "RESERVE"}


class SegmentCopy(msgspec.Struct, frozen=True, kw_only=True):
    """One segment in a backup. `last_lsn` is first_lsn - 1 when it is empty.

    `next_offset` and `chain` (hexadecimal) are those after its last record.
    `source_mtime_ns` is the sealed file's: it is written once, so a file of this size and
    time is the one that was copied. None for what was copied while it was written.
    """

    file: str
    bytes: int
    sha256: str
    first_lsn: int
    last_lsn: int
    next_offset: int
    chain: str
    source_mtime_ns: int | None

    @property
    def end(self) -> Mark:
        return Mark(self.last_lsn, self.next_offset, bytes.fromhex(self.chain))


class CarriedFile(msgspec.Struct, frozen=True, kw_only=True):
    """Another file of the store, such as the public key; `mode` are its permissions."""

    file: str
    name: str
    bytes: int
    sha256: str
    mode: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A whole backup: the records first_lsn..last_lsn of a store.

    `checkpoint` is the newest signed note in them, None if there is none.
    """

    format: str = FORMAT
    version: int = VERSION
    store_id: str
    taken_at: str  # as taken_at_ns (Unix time), for people
    taken_at_ns: int
    first_lsn: int
    last_lsn: int
    next_offset: int
    chain: str
    checkpoint: str | None
    segments: tuple[SegmentCopy, ...]
    carried: tuple[CarriedFile, ...]

    @property
    def end(self) -> Mark:
        return Mark(self.last_lsn, self.next_offset, bytes.fromhex(self.chain))

    @property
    def files(self) -> tuple[SegmentCopy | CarriedFile, ...]:
        """All that belong to it, the segments first."""
        return (*self.segments, *self.carried)

    @property
    def bytes(self) -> int:
        """Of all its files."""
        return sum(file.bytes for file in self.files)

    def names(self) -> set[str]:
        """The files that belong to it."""
        return {MANIFEST_NAME, LOCK_NAME} | {file.file for file in self.files}


class _Head(msgspec.Struct):
    """What every version of the format has."""

    format: str
    version: int


def manifest_of(
    store_id: str,
    taken_at_ns: int,
    segments: tuple[SegmentCopy, ...],
    carried: tuple[CarriedFile, ...],
    checkpoint: str | None,
) -> Manifest:
    """The manifest of copies that follow each other; at least one."""
    last = segments[-1]
    return Manifest(
        store_id=store_id,
        taken_at=datetime.fromtimestamp(taken_at_ns // 10**9, UTC).isoformat(),
        taken_at_ns=taken_at_ns,
        first_lsn=segments[0].first_lsn,
        last_lsn=last.last_lsn,
        next_offset=last.next_offset,
        chain=last.chain,
        checkpoint=checkpoint,
        segments=segments,
        carried=carried,
    )


def encode_manifest(manifest: Manifest) -> bytes:
    """JSON, indented for people."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def decode_manifest(data: bytes, where: str) -> Manifest:
    """A manifest read back. `where` names it in errors.

    Raises StoreDamagedError when it is none or contradicts itself, StoreVersionError for a
    newer format.
    """
    try:
        head = msgspec.json.decode(data, type=_Head)
        if head.format == FORMAT and head.version > VERSION:
            raise StoreVersionError(
                f"{where}: the backup has format {head.version}, this version reads {VERSION}",
                hint="use the newer version of Hermes that wrote it",
                version=head.version,
            )
        manifest = msgspec.json.decode(data, type=Manifest)
        problem = _problem(manifest)
    except (msgspec.DecodeError, ValueError) as error:
        raise _refusal(where, str(error)) from error
    if problem:
        raise _refusal(where, problem)
    return manifest


def _refusal(where: str, problem: str) -> StoreDamagedError:
    return StoreDamagedError(
        f"{where} is damaged or no manifest of a backup: {problem}",
        hint="use another backup, or a fresh folder for a new one",
        path=where,
    )


def _problem(manifest: Manifest) -> str:
    """Why a manifest cannot be right; empty when it can. Raises ValueError for bad hexadecimal."""
    if manifest.format != FORMAT or not manifest.segments:
        return "it names no segments"
    names = [file.file for file in manifest.files] + [file.name for file in manifest.carried]
    for name in names:
        # Names are joined to folders: none may lead out of them, or stand for another file.
        if not _NAME.fullmatch(name) or ".segment" in name or name in _STORE_NAMES:
            return f"{name!r} is no name of a file of a backup"
    if len(set(names)) < len(names):
        return "a file is named twice"
    for before, after in zip(manifest.segments, manifest.segments[1:], strict=False):
        if after.first_lsn <= before.last_lsn:
            return f"two files hold record {after.first_lsn}"
    if manifest.end != manifest.segments[-1].end:
        return "its end is not that of its last segment"
    return ""


def segment_file(first_lsn: int, last_lsn: int, sha256: str) -> str:
    """A segment's file name in a backup: never the same for other content."""
    return f"{first_lsn:020d}-{max(0, last_lsn):020d}-{sha256[:_DIGEST_DIGITS]}.sqlite"


def carried_file(name: str, sha256: str) -> str:
    """Any other file's name in a backup."""
    return f"{sha256[:_DIGEST_DIGITS]}-{name}"


def is_of_backup(name: str) -> bool:
    """Whether a backup, finished or not, may have made a file of this name."""
    return (
        name in {MANIFEST_NAME, MANIFEST_NAME + NEW_SUFFIX, LOCK_NAME, COPY_NAME}
        or _SEGMENT.fullmatch(name) is not None
        or _CARRIED.fullmatch(name) is not None
    )


class Known(msgspec.Struct, frozen=True):
    """The copies that are there, by what they are copies of."""

    by_place: dict[tuple[int, int, str], SegmentCopy]

    @classmethod
    def of(cls, copies: Iterable[SegmentCopy]) -> Known:
        return cls({(c.first_lsn, c.last_lsn, c.chain): c for c in copies})

    def with_(self, copy: SegmentCopy) -> Known:
        """These and one more, which takes the place of one of the same records."""
        return Known({**self.by_place, (copy.first_lsn, copy.last_lsn, copy.chain): copy})

    def sealed(self, first_lsn: int, end: Mark, size: int, mtime_ns: int) -> SegmentCopy | None:
        """The copy of a sealed file; one that was written anew since (compacted) has none."""
        copy = self.by_place.get((first_lsn, end.lsn, end.chain.hex()))
        same = copy is not None and (copy.bytes, copy.source_mtime_ns) == (size, mtime_ns)
        return copy if same else None

    def unsealed(self, first_lsn: int, end: Mark) -> SegmentCopy | None:
        """The copy of a segment that is written: the same end is the same content."""
        copy = self.by_place.get((first_lsn, end.lsn, end.chain.hex()))
        return copy if copy is not None and copy.source_mtime_ns is None else None
