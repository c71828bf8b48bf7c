"""Check one sealed segment from end to end: every byte of its records, and its seal.

Theory: opening a store looks at the ends of segments only, and a disk forgets quietly. So
the rows are walked as `hermes-inspect verify` walks them, by the same code: chain, payload
hashes, dense numbers, what the segment says of itself and what the next one's seal says of
it. Two things come on top: a payload that is gone must be one that the file's last
compaction took out, and the offsets that a break concerns are told also where no row is
left to tell them.

Rules
- A segment may be compacted or dropped at any time. So a break is believed only of the
  file that has the name before and after the walk; else the answer is "look again".
- What cannot be read now but may be sound (no descriptors, no memory, no permission) is no
  finding, and neither is a fault of this program: both are raised.
- Who is told, how fast it goes and when it ends are the caller's business: `passed` is
  called after every read, may sleep, and ends the scrub by raising.

Indexes are not looked at: they hold nothing that the records do not.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import apsw
import msgspec

from hermes.errors import StoreDamagedError, StoreError, StoreVersionError
from hermes.log.bodies import parse_seal
from hermes.log.chain_walk import Break, ChainWalk
from hermes.log.checking import is_damage
from hermes.log.connections import inode_of
from hermes.log.record import Kind, StoredRecord
from hermes.log.retired import Range
from hermes.log.scan import SegmentScan, StoredRow
from hermes.log.seal_check import first_publish_breaks, meta_breaks, seal_breaks
from hermes.log.segment import file_name
from hermes.log.segment_walk import walk_rows
from hermes.log.v1 import log_pb2

# Read and checked in one go: well under a millisecond, as others wait for the interpreter.
READ_BYTES: Final = 64 * 1024
# What a row costs in the file beside its body and payload.
_ROW_BYTES: Final = 200
_PUBLISHED: Final = int(Kind.PUBLISHED)


class Sealed(msgspec.Struct, frozen=True):
    """What the log knows of a sealed segment without its file; bounds are inclusive.

    `offsets` are those of its messages, None if it has none.
    """

    store_id: str
    first_lsn: int
    last_lsn: int
    offsets: Range | None


class Finding(msgspec.Struct, frozen=True):
    """The first thing that is wrong with a segment. Bounds are inclusive.

    `offsets` are those of the messages (of another record: its hull) that are concerned, None
    if there are none; `more` is how many breaks follow. `unreadable`: the disk refuses to
    read it (an I/O error), while otherwise it was read and is wrong.
    """

    segment: str
    what: str
    text: str
    first_lsn: int
    last_lsn: int
    offsets: Range | None
    more: int
    unreadable: bool


class Scrubbed(msgspec.Struct, frozen=True):
    """A whole walk over one segment; `finding` is None of a sound one."""

    records: int
    finding: Finding | None


def scrub_segment(
    folder: Path,
    sealed: Sealed,
    after: StoredRecord | None,
    passed: Callable[[int], None],
    *,
    is_erased: Callable[[int], bool] = lambda _: False,
    vfs: str = "",
) -> Scrubbed | None:
    """Walk over a sealed segment; None: it is another file now, or gone.

    `after` is the record behind it, if there is one. `passed` gets the bytes that were read,
    `is_erased` says whether a record's payload was taken out by a PayloadErased. Raises
    StoreError when it cannot be told whether the segment is sound.
    """
    path = folder / file_name(sealed.first_lsn)
    inode = inode_of(path)
    scrub = _Scrub(sealed, path.name, passed, is_erased)
    try:
        with SegmentScan(path, vfs=vfs) as scan:
            scrub.walk_over(scan, after)
    except StoreError as error:
        scrub.cannot_read(error)
        scrub.walk.add(Break("unreadable", f"it cannot be read: {error.message}", path.name))
    seen = scrub.walk.seen
    if not seen.breaks:
        return Scrubbed(seen.records, None)
    if inode == 0 or inode_of(path) != inode:
        return None
    if scrub.transient is not None:
        raise scrub.transient
    return Scrubbed(seen.records, scrub.finding())


class _Scrub:
    """One walk over one segment: `walk` says what is wrong, the rest what that concerns."""

    def __init__(
        self,
        sealed: Sealed,
        name: str,
        passed: Callable[[int], None],
        is_erased: Callable[[int], bool],
    ) -> None:
        self.walk = ChainWalk(sealed.first_lsn, None, segment=name)
        self.transient: StoreError | None = None  # why it may be sound in spite of breaks
        self._sealed = sealed
        self._name = name
        self._passed = passed
        self._is_erased = is_erased
        self._io_error = False
        self._gaps = _Gaps(sealed)
        self._retired: _Retired | None = None
        self._offsets: Range | None = None

    def walk_over(self, scan: SegmentScan, after: StoredRecord | None) -> None:
        """All of it. Raises StoreError where not even a part can be read."""
        sealed, start = self._sealed, scan.start()
        self.walk = walk = ChainWalk(sealed.first_lsn, start.before.chain, segment=self._name)
        self._gaps.next_offset = start.before.next_offset
        self._retired = _Retired(scan)
        walk_rows(
            scan,
            walk,
            sealed.last_lsn,
            read_bytes=READ_BYTES,
            on_rows=self._rows,
            on_error=self.cannot_read,
        )
        self._gaps.end()
        for found in meta_breaks(self._name, sealed.first_lsn, start, sealed.store_id):
            walk.add(found)
        for found in first_publish_breaks(self._name, start, walk.seen):
            walk.add(found)
        self._check_seal(after)
        if walk.seen.breaks:
            self._offsets = self._offsets_of(scan, self._first_break())

    def cannot_read(self, error: StoreError) -> None:
        """Why some rows, or all, cannot be read: the bytes, the medium, or neither."""
        self._gaps.begin()
        refused = error.__cause__ if isinstance(error.__cause__, apsw.IOError) else None
        # A version that nobody wrote: the store was opened by this one.
        if not is_damage(refused or error) and not isinstance(error, StoreVersionError):
            self.transient = error
        elif refused is not None:
            self._io_error = True
        self._passed(0)

    def finding(self) -> Finding:
        """Of a segment with breaks."""
        first, seen, sealed = self._first_break(), self.walk.seen, self._sealed
        if first.lsn is None or first.what == "seal":
            lsns, offsets = (sealed.first_lsn, sealed.last_lsn), sealed.offsets
        else:
            lsns, offsets = (first.lsn, first.last_lsn or first.lsn), self._offsets
        return Finding(
            segment=self._name,
            what=first.what,
            text=first.text,
            first_lsn=lsns[0],
            last_lsn=lsns[1],
            offsets=offsets,
            more=len(seen.breaks) - 1 + seen.more_breaks,
            unreadable=self._io_error,
        )

    # ----------------------------------------------------------------- insides

    def _rows(self, rows: Sequence[StoredRow]) -> None:
        size_bytes = 0
        for lsn, _, kind, _, first, last, body, payload, payload_hash, _ in rows:
            hull = _hull(first, last)
            self._gaps.row(lsn, hull if kind == _PUBLISHED else None)
            if payload is None and payload_hash is not None:
                self._without_payload(lsn, hull)
            size_bytes += _length(body) + _length(payload) + _ROW_BYTES
        self._passed(size_bytes)

    def _without_payload(self, lsn: int, offsets: Range | None) -> None:
        assert self._retired is not None
        if self.walk.seen.more_breaks or self._retired.holds(offsets) or self._is_erased(lsn):
            return
        first = None if offsets is None else offsets[0]
        place = "" if first is None else f" (offset {first})"
        text = f"record {lsn}{place} has lost its payload: no compaction took it out"
        self.walk.add(Break("payload", text, self._name, lsn, offset=first))

    def _check_seal(self, after: StoredRecord | None) -> None:
        """What the record behind says of a segment in which nothing else is wrong."""
        seal = _sound_seal(after)
        if self.walk.seen.breaks or after is None or seal is None:
            return
        behind = file_name(after.lsn)
        first_lsn = self._sealed.first_lsn
        for found in seal_breaks(self._name, first_lsn, self.walk.seen, seal, behind, after.lsn):
            self.walk.add(found)

    def _first_break(self) -> Break:
        return min(self.walk.seen.breaks, key=lambda found: found.lsn or 0)

    def _offsets_of(self, scan: SegmentScan, found: Break) -> Range | None:
        """The offsets of the records that a break names."""
        if found.lsn is None:
            return None
        if found.what in {"missing", "unreadable"}:
            return self._gaps.first()
        try:
            rows = scan.rows(found.lsn, found.lsn, limit_bytes=1)
        except StoreError:
            return None
        return next((hull for row in rows if (hull := _hull(row[4], row[5])) is not None), None)


class _Gaps:
    """The offsets of the first gap in the rows, by the publishes around it."""

    def __init__(self, sealed: Sealed) -> None:
        self.next_offset: int | None = None  # None: not known
        self._sealed = sealed
        self._next_lsn = sealed.first_lsn
        self._open = False
        self._from: int | None = None
        self._gap: Range | None = None

    def row(self, lsn: int, published: Range | None) -> None:
        """The next row, and its offsets if it is a publish."""
        if lsn != self._next_lsn:
            self.begin()
        if published is not None:
            if self._open and self._gap is None and self._from is not None:
                self._gap = (self._from, published[0] - 1)
            self.next_offset = published[1] + 1
        self._next_lsn = lsn + 1

    def begin(self) -> None:
        """What comes next is missing; only the first gap counts."""
        if not self._open:
            self._open, self._from = True, self.next_offset

    def end(self) -> None:
        """There are no more rows."""
        if self._next_lsn <= self._sealed.last_lsn:
            self.begin()

    def first(self) -> Range | None:
        """None if no message can lie in it."""
        gap = self._gap
        if gap is None and self._from is not None and self._sealed.offsets is not None:
            gap = (self._from, self._sealed.offsets[1])
        return gap if gap is not None and gap[0] <= gap[1] else None


class _Retired:
    """The payloads that the file's last compaction took out."""

    def __init__(self, scan: SegmentScan) -> None:
        self._scan = scan
        self._ranges: tuple[Range, ...] | None = None  # None: it was not compacted

    def holds(self, offsets: Range | None) -> bool:
        """Whether this payload is among them. Raises StoreError."""
        if not self._known(offsets):
            # Asked only now, and again: it may be compacted while it is walked.
            self._ranges = self._scan.retired()
        return self._known(offsets)

    def _known(self, offsets: Range | None) -> bool:
        if self._ranges is None:
            return False
        if offsets is None:
            return True  # live messages go with any compaction
        at = bisect_right(self._ranges, offsets[0], key=lambda retired: retired[0]) - 1
        return at >= 0 and offsets[1] <= self._ranges[at][1]


def _sound_seal(after: StoredRecord | None) -> log_pb2.SegmentSealed | None:
    """The record behind, if it is a seal and hashes to its link.

    Another one was itself changed, or begins after a loss: that is found where it stands.
    """
    if after is None or after.kind != Kind.SEGMENT_SEALED:
        return None
    try:
        seal = parse_seal(after.body)
    except StoreDamagedError:
        return None
    return seal if after.follows(seal.chain) else None


def _hull(first: object, last: object) -> Range | None:
    """Both as they stand in a row that may be damaged; None if they are no range."""
    return (first, last) if isinstance(first, int) and isinstance(last, int) else None


def _length(value: object) -> int:
    """Of a blob in a row that may be damaged."""
    return len(value) if isinstance(value, bytes) else 0
