"""HEAD: how far the log was committed, outside the log.

SQLite recovers a WAL with one flipped bit by silently dropping every later commit.
HEAD is what makes that visible: a log that ends before HEAD has lost committed records.

The file holds two slots in separate 4 KiB blocks, written alternately with `pwrite`
after each commit and before its outcome is told. There is no fsync per commit: after
a power loss HEAD may lag behind the log, but it is never ahead of it. A torn or flipped
write spoils one slot; the other is at most one commit older.

A slot, 100 bytes, integers big-endian:

    magic           8   b"HERMESHD"
    format version  4
    store id        16  the UUID's bytes
    lsn             8   of the last committed record
    next offset     8
    chain           32  after that record
    reserved        20  zero
    crc             4   CRC-32 of the 96 bytes before
"""

from __future__ import annotations

import errno
import os
import zlib
from pathlib import Path
from struct import Struct
from typing import Final
from uuid import UUID

import msgspec

from hermes.errors import StoreDamagedError, StoreVersionError
from hermes.log.facts import Mark
from hermes.log.schema import FORMAT_VERSION

FILE_NAME: Final = "HEAD"
BLOCK_BYTES: Final = 4096
SLOTS: Final = 2
# What a restore puts in the place of HEAD until it is done; a person can read why.
UNFINISHED: Final = b"HERMES: a restore into this folder was not finished\n"

_MAGIC: Final = b"HERMESHD"
_SLOT: Final = Struct(">8sI16sqq32s20x")
SLOT_BYTES: Final = _SLOT.size + 4


def encode_slot(store_id: str, mark: Mark) -> bytes:
    """One slot's bytes."""
    front = _SLOT.pack(
        _MAGIC, FORMAT_VERSION, UUID(store_id).bytes, mark.lsn, mark.next_offset, mark.chain
    )
    return front + zlib.crc32(front).to_bytes(4, "big")


def decode_slot(data: bytes) -> tuple[str, Mark] | None:
    """Store id and mark of a slot, None if it is damaged.

    Raises StoreVersionError for a sound slot of a newer format.
    """
    front, crc = data[: _SLOT.size], data[_SLOT.size : SLOT_BYTES]
    if len(data) < SLOT_BYTES or zlib.crc32(front).to_bytes(4, "big") != crc:
        return None
    magic, version, store, lsn, next_offset, chain = _SLOT.unpack(front)
    if magic != _MAGIC:
        return None
    if version > FORMAT_VERSION:
        raise StoreVersionError(
            f"the store has format {version}, this version reads up to {FORMAT_VERSION}",
            hint="run the newer version of Hermes that wrote it",
            version=version,
        )
    return str(UUID(bytes=store)), Mark(lsn, next_offset, chain)


class HeadRead(msgspec.Struct, frozen=True):
    """What the file says: the newer sound slot, and the numbers of the bad ones."""

    store_id: str
    mark: Mark
    slot: int
    bad_slots: tuple[int, ...]


def read_head(path: Path) -> HeadRead | None:
    """Read HEAD; None if there is no such file.

    Raises StoreDamagedError when both slots are bad, StoreVersionError for a newer format.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    slots = [decode_slot(data[n * BLOCK_BYTES : (n + 1) * BLOCK_BYTES]) for n in range(SLOTS)]
    sound = [(slot[1].lsn, n) for n, slot in enumerate(slots) if slot is not None]
    if not sound:
        raise StoreDamagedError(
            f"{path}: both slots are damaged; how far the log was committed is unknown",
            hint="restore a backup, or go on after what the log holds with --accept-loss",
            path=str(path),
        )
    newest = max(sound)[1]
    store_id, mark = slots[newest]  # type: ignore[misc]  # sound ones are not None
    bad = tuple(n for n, slot in enumerate(slots) if slot is None)
    return HeadRead(store_id, mark, newest, bad)


def is_unfinished(path: Path) -> bool:
    """Whether this HEAD says that a restore was not finished. Raises OSError."""
    return path.exists() and path.read_bytes() == UNFINISHED


class HeadFile:
    """HEAD, open for writing. One thread writes."""

    def __init__(self, path: Path, store_id: str, next_slot: int) -> None:
        self._store_id = store_id
        self._slot = next_slot
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def write(self, mark: Mark) -> None:
        """Write the slot that is not the newest; no fsync. Raises OSError."""
        data = encode_slot(self._store_id, mark)
        if os.pwrite(self._fd, data, self._slot * BLOCK_BYTES) != len(data):
            raise OSError("short write to HEAD")
        self._slot = 1 - self._slot

    def sync(self) -> None:
        """Make it durable: before what HEAD could otherwise lag behind is dropped."""
        os.fsync(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def create_head(path: Path, store_id: str, mark: Mark) -> None:
    """Write a new HEAD, both slots alike, fsynced; replaces one that is there."""
    slot = encode_slot(store_id, mark).ljust(BLOCK_BYTES, b"\0")
    temporary = path.with_name(path.name + ".new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        if os.write(fd, slot * SLOTS) != len(slot) * SLOTS:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(temporary))
        os.fsync(fd)
    finally:
        os.close(fd)
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make names created, renamed or removed in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
