"""What a segment's file holds of payloads, told without walking over its records.

A compacted file says so in its meta. Any other is sampled: some records evenly spread, how
long their payloads are, times the number of records. Payloads of a segment are mostly alike,
so a few dozen point look-ups come within a quarter of the truth, which is enough to decide
whether taking them out is worth the work and to say what it would free.

Answers about sealed files are remembered, by what tells one file from another of the same
name: a compacted file is a new one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import apsw
import msgspec

from hermes.errors import StoreDamagedError
from hermes.log import schema
from hermes.log.retired import Range
from hermes.log.rows import numbers_or_null, typed

SAMPLE_RECORDS: Final = 64
# Evenly spread and never in step with a pattern of the records: fractions of the golden ratio.
_STRIDE: Final = 0.618033988749895


class Held(msgspec.Struct, frozen=True):
    """Payload bytes that a file holds, salts included; what its last compaction took out.

    `compacted_lsn` is the SegmentCompacted record it carried out, 0 if there was none.
    """

    payload_bytes: int
    compacted_lsn: int = 0
    retired: tuple[Range, ...] = ()


class _Told(msgspec.Struct, frozen=True, array_like=True):
    """What a compacted file's meta says of it."""

    payload_bytes: int
    compacted_lsn: int
    retired: str


def read_held(db: apsw.Connection, first_lsn: int, last_lsn: int) -> Held:
    """Ask a segment's file; inside a transaction. Raises apsw.Error, StoreDamagedError."""
    compacted = read_compacted(db)
    if compacted is not None:
        return compacted
    records = last_lsn - first_lsn + 1
    if records <= SAMPLE_RECORDS:
        lsns = list(range(first_lsn, last_lsn + 1))
    else:
        lsns = [
            first_lsn + int(records * (n * _STRIDE % 1.0)) for n in range(1, SAMPLE_RECORDS + 1)
        ]
    sizes = [size for lsn in lsns for size in _payload_bytes(db, lsn)]
    return Held(sum(sizes) * records // max(1, len(sizes)))


def read_compacted(db: apsw.Connection) -> Held | None:
    """What a compacted file's meta says, None of any other. Raises apsw.Error,
    StoreDamagedError."""
    meta = {row[0]: row[1] for row in db.execute(schema.META)}
    if "compacted_lsn" not in meta:
        return None
    told = typed((meta.get("payload_bytes"), meta["compacted_lsn"], meta.get("retired")), _Told)
    return Held(told.payload_bytes, told.compacted_lsn, decode_retired(told.retired))


def _payload_bytes(db: apsw.Connection, lsn: int) -> Iterator[int]:
    """Of one record, if it is there. A damaged page is for those to name who read the record."""
    try:
        for (size,) in numbers_or_null(db, schema.PAYLOAD_BYTES, (lsn,)):
            yield size or 0
    except apsw.CorruptError:
        return


def file_bytes(path: Path) -> int:
    """Size of a segment's file and its WAL; by stat, never by opening."""
    size = 0
    for name in (path.name, path.name + "-wal"):
        try:
            size += path.with_name(name).stat().st_size
        except FileNotFoundError:
            continue
    return size


def encode_retired(retired: tuple[Range, ...]) -> str:
    """The form in meta: JSON, first0, last0, first1, last1, ..."""
    return msgspec.json.encode([bound for pair in retired for bound in pair]).decode()


def decode_retired(text: str) -> tuple[Range, ...]:
    """Read the form in meta. Raises StoreDamagedError."""
    try:
        bounds = msgspec.json.decode(text, type=list[int])
        return tuple(zip(bounds[::2], bounds[1::2], strict=True))
    except (msgspec.DecodeError, ValueError) as error:
        raise StoreDamagedError(f"meta: the retired offsets do not decode: {error}") from error


class HeldCache:
    """What is known of sealed files. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[Path, tuple[tuple[int, int, int], Held]] = {}

    def get(self, path: Path) -> Held | None:
        """What was told of the very file that is there now."""
        known = self._known.get(path)
        return known[1] if known is not None and known[0] == _identity(path) else None

    def put(self, path: Path, held: Held) -> None:
        """Remember what a file holds."""
        identity = _identity(path)
        with self._lock:
            if identity is not None:
                self._known[path] = (identity, held)

    def keep(self, paths: set[Path]) -> None:
        """Forget all other files."""
        with self._lock:
            for path in self._known.keys() - paths:
                del self._known[path]


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
