"""[P] Walk over records in order and recompute everything they say of themselves.

Theory: each record's link is checked from the *stored* link of the record before. So a
walk may begin anywhere, ranges can be walked side by side, and one changed record is one
break, not a break for every record after it. A walk takes rows from wherever they come: a
segment, an export, a stream.

Checked here: lsns are dense, links are what they should be, payloads hash to what the
chain covers, offsets of publishes are dense, hulls are within bounds. What segments say of
each other is not: the inspector's verify judges that, after its walks.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from struct import error as StructError  # noqa: N812 - it is a class
from types import NoneType
from typing import Final

import msgspec

from hermes.limits import RECORD_HULL_MAX
from hermes.log.chain import hash_payload, link
from hermes.log.missing_payloads import Gone
from hermes.log.record import FIRST_RARE_KIND, Kind

# A record as stored, in this order: lsn, at_ns, kind, key, first, last, body, payload (salt
# and content, None when retired), payload_hash and chain.
Row = tuple[
    int, int, int, str | None, int | None, int | None, bytes, bytes | None, bytes | None, bytes
]

# Of these the whole body is kept: they speak of other records.
KEPT_KINDS: Final = frozenset(
    {
        Kind.SEGMENT_SEALED,
        Kind.SEGMENT_COMPACTED,
        Kind.SEGMENT_DROPPED,
        Kind.PAYLOAD_ERASED,
        Kind.LOST,
        Kind.CHECKPOINT,
    }
)
# Breaks that one walk tells; more of them are counted.
BREAKS_MAX: Final = 20

_PUBLISHED: Final = int(Kind.PUBLISHED)
_NAMES: Final = ("lsn", "at_ns", "kind", "key", "first", "last", "body")
_COLUMNS: Final = (*_NAMES, "payload", "payload_hash", "chain")
_TYPES: Final = (
    *((int,),) * 3,  # lsn, at_ns, kind
    (str, NoneType),
    *((int, NoneType),) * 2,  # first, last
    (bytes,),
    *((bytes, NoneType),) * 2,  # payload, payload_hash
    (bytes,),
)
# What the types of a row's values may be together: one look-up per row.
_SHAPES: Final = frozenset(product(*_TYPES))
_UNHASHABLE: Final = (TypeError, AttributeError, ValueError, StructError)


class Break(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that is not as it must be, named exactly.

    `lsn`..`last_lsn` are the records concerned (last_lsn None: one), `offset` the first
    message in the first of them. `what` is a word for programs, `text` a sentence.
    """

    what: str
    text: str
    segment: str | None = None
    lsn: int | None = None
    last_lsn: int | None = None
    offset: int | None = None
    expected: str | None = None
    found: str | None = None


class Kept(msgspec.Struct, frozen=True):
    """A record that speaks of others."""

    lsn: int
    kind: int
    body: bytes
    first: int | None = None
    last: int | None = None


class Walked(msgspec.Struct):
    """What a walk saw, from `first_lsn` up to and including `last_lsn`.

    `chain` is the stored link of the last record, None when none was seen. Offsets: of the
    first publish and after the last; `lowest`..`highest` is the hull over all records. Where
    there are `gaps`, records missing or unreadable, all of this speaks of what was seen only.
    """

    first_lsn: int
    last_lsn: int
    chain: bytes | None = None
    records: int = 0
    bytes: int = 0
    payloads: int = 0
    retired: int = 0
    gaps: int = 0
    first_kind: int | None = None
    first_publish_lsn: int | None = None
    first_offset: int | None = None
    next_offset: int | None = None
    lowest: int | None = None
    highest: int | None = None
    kept: list[Kept] = []
    gone: list[Gone] = []
    breaks: list[Break] = []
    more_breaks: int = 0


class ChainWalk:
    """Takes rows in order; `seen` says what came of it.

    `chain` is the stored link before the first row: None if it is not known, then the first
    row's own link cannot be checked.
    """

    def __init__(self, first_lsn: int, chain: bytes | None, *, segment: str | None = None) -> None:
        self.seen = Walked(first_lsn, first_lsn - 1)
        self._chain = chain
        self.segment = segment
        self._gap = False  # since the last publish: which offset is next is not known
        # The link that the row before should have had, when it had another one.
        self._instead: bytes | None = None
        self._gone: Gone | None = None  # a run of live publishes that may go on

    def take(self, rows: Iterable[Row]) -> None:
        """Check more rows: the next ones in the log."""
        seen = self.seen
        chain, next_lsn = self._chain, seen.last_lsn + 1
        lowest, highest = seen.lowest, seen.highest
        for row in rows:
            lsn, at_ns, kind, key, first, last, body, payload, payload_hash, stored = row
            if lsn != next_lsn:
                self._jump(row, next_lsn)
                chain = None
            if tuple(map(type, row)) not in _SHAPES:
                self._no_record(row)
                chain, next_lsn = None, lsn + 1
                continue
            if chain is not None:
                try:
                    linked = link(chain, lsn, at_ns, kind, key, first, last, body, payload_hash)
                except _UNHASHABLE as error:
                    linked = b""
                    self._add("row", row, f"is not a record: {error}")
                if linked != stored and linked:
                    self._wrong_link(row, linked)
                elif self._instead is not None:
                    self._instead = None
            if payload_hash is not None or payload is not None:
                self._payload(row)
            if (first is not None or last is not None or kind == _PUBLISHED) and self._offsets(row):
                if lowest is None or first < lowest:  # type: ignore[operator]
                    lowest = first
                if highest is None or last > highest:  # type: ignore[operator]
                    highest = last
            if kind >= FIRST_RARE_KIND and kind in KEPT_KINDS:
                seen.kept.append(Kept(lsn, kind, body, first, last))
            if lsn == seen.first_lsn:
                seen.first_kind = kind
            seen.records += 1
            seen.bytes += len(body)
            chain, next_lsn = stored, lsn + 1
        seen.lowest, seen.highest = lowest, highest
        seen.last_lsn, seen.chain = next_lsn - 1, chain
        self._chain = chain

    def skip(self, last_lsn: int, reason: str) -> None:
        """The records after the last one, up to this lsn, cannot be read."""
        first_lsn = self.seen.last_lsn + 1
        self.add(
            Break(
                "unreadable",
                f"{_range(first_lsn, last_lsn)} cannot be read: {reason}",
                self.segment,
                first_lsn,
                last_lsn,
            )
        )
        self.seen.gaps += 1
        self._gap = True
        self.seen.last_lsn = last_lsn
        self.seen.chain = self._chain = self._instead = None

    def end(self, last_lsn: int) -> None:
        """There are no more rows, though records up to this lsn were expected."""
        first_lsn = self.seen.last_lsn + 1
        if first_lsn <= last_lsn:
            self.seen.gaps += 1
            self.add(self._missing(first_lsn, last_lsn))

    def add(self, found: Break) -> None:
        """Remember a break, or count it when there are many."""
        if len(self.seen.breaks) < BREAKS_MAX:
            self.seen.breaks.append(found)
        else:
            self.seen.more_breaks += 1

    # ----------------------------------------------------------------- insides

    def _add(
        self, what: str, row: Row, text: str, expected: object = None, found: object = None
    ) -> None:
        lsn, offset = row[0], row[4]
        place = f"record {lsn}" if offset is None else f"record {lsn} (offset {offset})"
        self.add(
            Break(
                what,
                f"{place} {text}",
                self.segment,
                lsn,
                offset=offset,
                expected=_show(expected),
                found=_show(found),
            )
        )

    def _no_record(self, row: Row) -> None:
        """A value of another type than its column's: a bit flipped in the row's header."""
        pairs = zip(_COLUMNS, row, _TYPES, strict=True)
        name, value = next((n, v) for n, v, types in pairs if type(v) not in types)
        whole = (*row[:4], None, None, *row[6:])  # its offset may be the bad value
        self._add("row", whole, f"is not a record: its {name} is of type {type(value).__name__}")
        self.seen.records += 1
        self.seen.gaps += 1
        self._gap, self._instead = True, None

    def _jump(self, row: Row, next_lsn: int) -> None:
        lsn = row[0]
        if lsn > next_lsn:
            self.seen.gaps += 1
            self._gap = True
            self.add(self._missing(next_lsn, lsn - 1))
        else:
            self._add("lsn", row, "comes again", next_lsn, lsn)
        self._instead = None

    def _missing(self, first_lsn: int, last_lsn: int) -> Break:
        return Break(
            "missing",
            f"{_range(first_lsn, last_lsn)} {'are' if last_lsn > first_lsn else 'is'} missing",
            self.segment,
            first_lsn,
            last_lsn,
        )

    def _wrong_link(self, row: Row, linked: bytes) -> None:
        stored = row[9]
        instead, self._instead = self._instead, None
        if instead is not None and link(instead, *row[:7], row[8]) == stored:
            # The row before is what it was, and this one follows from it: only the link
            # that is stored between them was changed.
            seen = self.seen
            if seen.breaks and seen.breaks[-1].lsn == row[0] - 1:
                before = seen.breaks[-1]
                text = before.text.replace("does not hash to its link", "has another link stored")
                seen.breaks[-1] = msgspec.structs.replace(before, what="link", text=text)
            return
        self._instead = linked
        self._add("record", row, "does not hash to its link: it was changed", linked, stored)

    def _payload(self, row: Row) -> None:
        payload, payload_hash = row[7], row[8]
        if payload is None:
            self.seen.retired += 1
            self._without_payload(row)
            return
        if row[4] is None:
            self._gone = None
        self.seen.payloads += 1
        self.seen.bytes += len(payload)
        digest = hash_payload(payload)
        if digest == payload_hash:
            return
        if payload_hash is None:
            self._add("payload", row, "has a payload that no hash covers", None, digest)
        else:
            self._add("payload", row, "has another payload than was hashed", payload_hash, digest)

    def _without_payload(self, row: Row) -> None:
        """Add to the run that it goes on, or begin one. Whether it may be gone is judged later."""
        lsn, first, last, gone = row[0], row[4], row[5], self.seen.gone
        if first is None:
            if self._gone is not None:
                self._gone.last_lsn = lsn
                self._gone.records += 1
                return
            self._gone = Gone(lsn, lsn, None, None)
            gone.append(self._gone)
            return
        if gone and gone[-1].last is not None and gone[-1].last + 1 == first:
            gone[-1].last_lsn, gone[-1].last = lsn, last
            gone[-1].records += 1
        else:
            gone.append(Gone(lsn, lsn, first, last))

    def _offsets(self, row: Row) -> bool:
        """Check a row's offsets; whether there are any to speak of."""
        _, _, kind, key, first, last = row[:6]
        seen = self.seen
        if not (isinstance(first, int) and isinstance(last, int)):
            self._add("offsets", row, "has no range of offsets", "a range", f"{first}..{last}")
            return False
        if first < 0 or not 0 <= last - first < RECORD_HULL_MAX:
            self._add(
                "offsets", row, "has an impossible range of offsets", None, f"{first}..{last}"
            )
            return False
        if kind == _PUBLISHED:
            if seen.next_offset is None:
                seen.first_publish_lsn, seen.first_offset = row[0], first
            elif first != seen.next_offset and not self._gap:
                self._add("offsets", row, "is not the next publish", seen.next_offset, first)
            if key is None:
                self._add("row", row, "was published without a subject")
            seen.next_offset = last + 1
            self._gap = False
        return True


def _range(first_lsn: int, last_lsn: int) -> str:
    return f"record {first_lsn}" if first_lsn == last_lsn else f"records {first_lsn}..{last_lsn}"


def _show(value: object) -> str | None:
    if value is None:
        return None
    return value.hex() if isinstance(value, bytes) else str(value)
