"""[P] Checkpoints: one committed record's link, said in a signed note (docs/log-format.md).

    hermes/5f0c…                       origin: the store's id; also the key's name
    184467                             lsn: how many records there have been
    base64, 44 characters              the link of that record in the chain
    2026-01-31T12:00:00.123456789Z     when it was signed, UTC

The form is that of c2sp.org/tlog-checkpoint: the lsn stands for the tree's size, the link
for its root (it is the end of a hash chain, not the root of a Merkle tree), the time is an
extension line. Whoever holds a checkpoint can tell whether the history up to its record is
still the one that was signed.

Files hold one note after another, each followed by an empty line.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

import msgspec

from hermes.signed_note import Note, NoteError, VerifierKey, parse_note

ORIGIN_PREFIX: Final = "hermes/"
LINK_BYTES: Final = 32
# A note of ours has some 300 bytes; others may add their signatures.
NOTE_BYTES_MAX: Final = 64 * 1024

_NS_PER_SEC: Final = 1_000_000_000
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d{9})Z", re.ASCII)
_LSN: Final = re.compile(r"0|[1-9]\d{0,18}", re.ASCII)


class Checkpoint(msgspec.Struct, frozen=True):
    """Record `lsn` of the store `store_id` had the link `chain` (32 bytes) at `at_ns` (Unix)."""

    store_id: str
    lsn: int
    chain: bytes
    at_ns: int

    @property
    def origin(self) -> str:
        return origin_of(self.store_id)

    @property
    def text(self) -> str:
        """What is signed."""
        encoded = b64encode(self.chain).decode()
        return f"{self.origin}\n{self.lsn}\n{encoded}\n{format_time(self.at_ns)}\n"


class SignedCheckpoint(msgspec.Struct, frozen=True):
    """A checkpoint and the note it came in. Who signed it, `note.signer` tells."""

    checkpoint: Checkpoint
    note: Note

    def signer(self, keys: Iterable[VerifierKey]) -> VerifierKey:
        """Which of the keys signed it. Raises NoteError."""
        return self.note.signer(keys)


def origin_of(store_id: str) -> str:
    """A store's name in checkpoints, and the name of its keys."""
    return ORIGIN_PREFIX + store_id


def format_time(at_ns: int) -> str:
    """RFC 3339, UTC, with nine decimals. `at_ns` is Unix time from year 1970 to 9999."""
    secs, ns = divmod(at_ns, _NS_PER_SEC)
    return f"{datetime.fromtimestamp(secs, UTC):%Y-%m-%dT%H:%M:%S}.{ns:09d}Z"


def parse_time(text: str) -> int:
    """Unix time in nanoseconds. Raises NoteError unless it is what `format_time` writes."""
    match = _TIME.fullmatch(text)
    try:
        if match:
            secs = int(datetime.fromisoformat(match[1] + "+00:00").timestamp())
            return secs * _NS_PER_SEC + int(match[2])
    except ValueError:
        pass
    raise NoteError(f"{text!r} is not a time of a checkpoint")


def parse_checkpoint(note: str) -> SignedCheckpoint:
    """Read a note of ours; further extension lines are ignored. Raises NoteError."""
    parsed = parse_note(note)
    lines = parsed.text.removesuffix("\n").split("\n")
    if len(lines) < 4 or "" in lines:
        raise NoteError("not a checkpoint: origin, lsn, link and time are expected, a line each")
    origin, lsn, encoded, at = lines[:4]
    if not origin.startswith(ORIGIN_PREFIX):
        raise NoteError(f"not a checkpoint of a Hermes store: its origin is {origin!r}")
    if not _LSN.fullmatch(lsn):
        raise NoteError(f"{lsn!r} is not an lsn")
    try:
        chain = b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        chain = b""
    if len(chain) != LINK_BYTES:
        raise NoteError(f"{encoded!r} is not a link of a chain")
    store_id = origin.removeprefix(ORIGIN_PREFIX)
    return SignedCheckpoint(Checkpoint(store_id, int(lsn), chain, parse_time(at)), parsed)


def split_notes(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """The notes of a file, each with the number of its first line (from 1).

    `lines` come with their ends. A note ends after its signature lines; how many empty
    lines follow does not matter. Raises NoteError for one longer than `NOTE_BYTES_MAX`.
    """
    gathered: list[str] = []
    start, size, signed = 1, 0, False
    for number, line in enumerate(lines, 1):
        signature = line.startswith("\N{EM DASH} ")
        if gathered and signed and not signature:
            yield start, "".join(gathered)
            gathered, size, signed = [], 0, False
        if not gathered and not line.strip():
            continue
        if not gathered:
            start = number
        gathered.append(line)
        size += len(line)
        signed = signature
        if size > NOTE_BYTES_MAX:
            raise NoteError(f"line {start}: no signed note is that long")
    if gathered:
        yield start, "".join(gathered)
