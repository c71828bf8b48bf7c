"""[P] Look-ups over records in memory: plain walks, for tests and simulation.

Answers what `reader.py` answers from SQLite; the contract suite holds both to the same.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from operator import itemgetter

import msgspec

from hermes.errors import SegmentDamagedError
from hermes.log.bodies import compacted_segment
from hermes.log.chain import SALT_BYTES, hash_payload, link
from hermes.log.facts import Mark, SegmentFacts
from hermes.log.page import Page
from hermes.log.port import Batch, KeyFilter, Quarantined, SegmentInfo
from hermes.log.record import FIRST_RARE_KIND, Kind, Record, StoredRecord
from hermes.log.retired import Range, first_cut, joined

_PUBLISHED = int(Kind.PUBLISHED)


class MemorySegment:
    """One segment's records, and what is known of them."""

    def __init__(self, first_lsn: int, before: Mark) -> None:
        self.first_lsn = first_lsn
        self.base_offset = before.next_offset
        self.end = before
        self.records: list[StoredRecord] = []
        self.publishes: list[StoredRecord] = []
        self.rare: list[StoredRecord] = []  # of the kinds whose newest is looked up
        self.terms: dict[int, list[StoredRecord]] = {}
        self.bytes = 0
        self.compacted_lsn = 0
        self.retired: tuple[Range, ...] = ()
        self.payload_bytes = 0
        self.damage = ""  # why it is in quarantine
        self.rot = ""  # what whoever reads its records will find wrong; nobody has yet
        self._lowest: int | None = None
        self._highest: int | None = None

    def copy(self) -> MemorySegment:
        """Another segment with the same records."""
        other = MemorySegment(self.first_lsn, self.end)
        other.base_offset = self.base_offset
        other.records = list(self.records)
        other.publishes = list(self.publishes)
        other.rare = list(self.rare)
        other.terms = {term: list(records) for term, records in self.terms.items()}
        other.bytes, other.payload_bytes = self.bytes, self.payload_bytes
        other.rot = self.rot  # but not `damage`: the mark is gone with the process
        other.compacted_lsn, other.retired = self.compacted_lsn, self.retired
        other._lowest, other._highest = self._lowest, self._highest
        return other

    def add(self, record: Record) -> None:
        """Number, chain and keep a record. Its salt is its lsn."""
        lsn = self.end.lsn + 1
        payload_hash = None
        if record.payload is not None:
            payload_hash = hash_payload(lsn.to_bytes(SALT_BYTES, "big") + record.payload)
        numbers = (lsn, record.at_ns, record.kind, record.key, record.first, record.last)
        chain = link(self.end.chain, *numbers, record.body, payload_hash)
        stored = StoredRecord(*numbers, record.body, record.payload, payload_hash, chain)
        self.records.append(stored)
        payload_bytes = len(record.payload or b"")
        self.payload_bytes += payload_bytes
        self.bytes += len(record.body) + payload_bytes
        next_offset = self.end.next_offset
        if record.first is not None and record.last is not None:
            low, high = self._lowest, self._highest
            self._lowest = record.first if low is None else min(low, record.first)
            self._highest = record.last if high is None else max(high, record.last)
            if record.kind == _PUBLISHED:
                self.publishes.append(stored)
                next_offset = record.last + 1
        if record.kind >= FIRST_RARE_KIND:
            self.rare.append(stored)
        for term in dict.fromkeys(record.terms):
            self.terms.setdefault(term, []).append(stored)
        self.end = Mark(lsn, next_offset, chain)

    def retire(self, announced_lsn: int, ranges: Iterable[Range]) -> None:
        """Take out payloads, and those of live records. Raises ValueError for part of a batch,
        and when what is written anew would not be what was sealed."""
        if self.rot:
            raise ValueError(f"the segment is damaged ({self.rot})")
        retired = joined((*self.retired, *ranges))
        batches = [(record.first or 0, _last_offset(record)) for record in self.publishes]
        cut = first_cut(retired, batches)
        if cut is not None:
            raise ValueError(f"{cut[0]}..{cut[1]} are not whole batches of the segment")

        def without(record: StoredRecord) -> StoredRecord:
            gone = record.kind == Kind.PUBLISHED_LIVE
            if record.kind == _PUBLISHED:
                at = bisect_right(retired, _last_offset(record), key=itemgetter(0))
                gone = at > 0 and _last_offset(record) <= retired[at - 1][1]
            return _without_payload(record) if gone else record

        held = [without(record) for record in self.records]
        self.records = held
        self.publishes = [held[record.lsn - self.first_lsn] for record in self.publishes]
        self.terms = {
            term: [held[record.lsn - self.first_lsn] for record in records]
            for term, records in self.terms.items()
        }
        payload_bytes = sum(len(record.payload or b"") for record in held)
        self.bytes -= self.payload_bytes - payload_bytes
        self.payload_bytes = payload_bytes
        self.compacted_lsn, self.retired = announced_lsn, retired

    def facts(self) -> SegmentFacts:
        return SegmentFacts(
            first_lsn=self.first_lsn,
            end=self.end,
            first_offset=self.publishes[0].first if self.publishes else None,
            last_offset=self.publishes[-1].last if self.publishes else None,
            lowest_touched=self._lowest,
            highest_touched=self._highest,
            first_at_ns=self.records[0].at_ns if self.records else 0,
            last_at_ns=self.records[-1].at_ns if self.records else 0,
        )

    def info(self, *, sealed: bool, subjects: bool = True) -> SegmentInfo:
        facts = self.facts()
        keys = {r.key for r in self.publishes if r.key is not None} if subjects else ()
        return SegmentInfo(
            first_lsn=facts.first_lsn,
            last_lsn=facts.last_lsn,
            records=facts.records,
            bytes=self.bytes,
            first_offset=facts.first_offset,
            last_offset=facts.last_offset,
            lowest_touched=facts.lowest_touched,
            highest_touched=facts.highest_touched,
            first_at_ns=facts.first_at_ns,
            last_at_ns=facts.last_at_ns,
            sealed=sealed,
            subjects=() if self.damage else tuple(sorted(keys)),
            payload_bytes=self.payload_bytes,
            compacted_lsn=self.compacted_lsn,
            retired=self.retired,
            quarantined=self.damage,
        )

    def quarantined(self) -> Quarantined:
        """What a mark on it says."""
        facts = self.facts()
        return Quarantined(
            facts.first_lsn, facts.last_lsn, facts.first_offset, facts.last_offset, self.damage
        )

    def damaged(self) -> SegmentDamagedError:
        """The error of whoever must read it."""
        facts = self.facts()
        reason = self.damage or self.rot
        return SegmentDamagedError(
            f"records {facts.first_lsn}..{facts.last_lsn} cannot be served ({reason})",
            first_lsn=facts.first_lsn,
            last_lsn=facts.last_lsn,
            first_offset=facts.first_offset,
            last_offset=facts.last_offset,
            reason=reason,
        )


class MemoryReader:
    """The `LogReader` over a log's list of segments, which the log changes in place."""

    def __init__(self, segments: list[MemorySegment]) -> None:
        self._segments = segments

    def read(
        self, from_lsn: int, *, limit: int, limit_bytes: int, payloads: bool = True
    ) -> list[StoredRecord]:
        page = Page(limit, limit_bytes)
        for record in self._records(from_lsn - 1):
            seen = record if payloads else _without_payload(record)
            if not page.take(seen) or page.full:
                break
        return page.records

    def publishes(
        self,
        from_offset: int,
        *,
        limit: int,
        limit_bytes: int,
        keys: KeyFilter | None = None,
        before_offset: int | None = None,
    ) -> tuple[list[StoredRecord], int]:
        page = Page(limit, limit_bytes)
        matches: dict[str, bool] = {}
        at = from_offset
        fence = self._fence(from_offset)
        for record, first, last in self._publishes(from_offset):
            if before_offset is not None and first >= before_offset:
                return page.records, max(at, before_offset)
            if fence is not None and first >= fence.base_offset:
                at = max(at, fence.base_offset)
                if page.records or at > from_offset or page.full:
                    return page.records, at
                raise fence.damaged()
            key = record.key or ""
            if keys is not None and key not in matches:
                matches[key] = keys(key)
            if page.full or ((keys is None or matches[key]) and not page.take(record)):
                return page.records, max(at, first)
            at = last + 1
        return page.records, at

    def batches(
        self, from_offset: int, *, before_offset: int | None = None, limit: int
    ) -> list[Batch]:
        fence = self._fence(from_offset)
        if fence is not None and (before_offset is None or fence.base_offset < before_offset):
            raise fence.damaged()
        found = (
            Batch(first, last, record.lsn, record.key or "")
            for record, first, last in self._publishes(from_offset)
            if before_offset is None or first < before_offset
        )
        return list(islice(found, limit))

    def _fence(self, from_offset: int) -> MemorySegment | None:
        """The first segment in quarantine with messages at or after an offset."""
        for segment in self._segments:
            if segment.damage and segment.facts().messages_from(from_offset):
                return segment
        return None

    def publish_of(self, offset: int) -> StoredRecord | None:
        fence = self._fence(offset)
        if fence is not None and offset >= fence.base_offset:
            raise fence.damaged()
        for record, first, _ in self._publishes(offset):
            return record if first <= offset else None
        return None

    def touching(self, offset: int, *, after_lsn: int = 0, limit: int) -> list[StoredRecord]:
        touching = (
            record
            for record in self._records(after_lsn)
            if record.first is not None
            and record.last is not None
            and record.first <= offset <= record.last
        )
        return list(islice(touching, limit))

    def with_term(self, term: int, *, limit: int) -> list[StoredRecord]:
        sound = (segment for segment in self._segments if not segment.damage)
        found = (record for segment in sound for record in segment.terms.get(term, ()))
        return list(islice(found, limit))

    def of_key(
        self, key: str, *, kinds: Collection[int] | None = None, after_lsn: int = 0, limit: int
    ) -> list[StoredRecord]:
        found = (
            record
            for record in self._records(after_lsn)
            if record.key == key and (kinds is None or record.kind in kinds)
        )
        return list(islice(found, limit))

    def count_messages(self, from_offset: int, keys: KeyFilter | None = None) -> int:
        return sum(
            last - max(first, from_offset) + 1
            for record, first, last in self._publishes(from_offset)
            if keys is None
            or self._is_damaged(record.lsn)
            or (record.key is not None and keys(record.key))
        )

    def count_each(self, asked: Sequence[tuple[int, KeyFilter | None]]) -> list[int]:
        return [self.count_messages(offset, keys) for offset, keys in asked]

    def _is_damaged(self, lsn: int) -> bool:
        return any(s.damage and s.first_lsn <= lsn <= s.end.lsn for s in self._segments)

    def offset_at_time(self, at_ns: int) -> int | None:
        for segment in self._segments:
            if segment.damage and segment.publishes and segment.records[-1].at_ns >= at_ns:
                return segment.publishes[0].first
            for record in () if segment.damage else segment.publishes:
                if record.at_ns >= at_ns:
                    return record.first
        return None

    def latest(self, kind: int, *, at_or_before_lsn: int | None = None) -> StoredRecord | None:
        if kind < FIRST_RARE_KIND:
            raise ValueError(f"kind {kind} travels with messages; its newest is not looked up")
        for segment in reversed([s for s in self._segments if not s.damage]):
            for record in reversed(segment.rare):
                if at_or_before_lsn is not None and record.lsn > at_or_before_lsn:
                    continue
                if record.kind == kind:
                    return record
        return None

    def announced(self, first_lsn: int, after_lsn: int) -> list[StoredRecord]:
        """The SegmentCompacted records after an lsn that name a segment."""
        return [
            record
            for segment in self._segments
            if segment.end.lsn > after_lsn and not segment.damage
            for record in segment.rare
            if record.kind == Kind.SEGMENT_COMPACTED
            and record.lsn > after_lsn
            and compacted_segment(record.body) == first_lsn
        ]

    def close(self) -> None:
        return

    def _records(self, after_lsn: int) -> Iterator[StoredRecord]:
        for segment in [s for s in self._segments if not s.damage]:
            skip = max(0, after_lsn + 1 - segment.first_lsn)
            if segment.rot and skip < len(segment.records):
                raise segment.damaged()
            yield from islice(segment.records, skip, None)

    def _publishes(self, from_offset: int) -> Iterator[tuple[StoredRecord, int, int]]:
        """(record, first, last) of publishes that end at or after an offset."""
        for segment in tuple(self._segments):
            start = bisect_left(segment.publishes, from_offset, key=_last_offset)
            if segment.rot and not segment.damage and start < len(segment.publishes):
                raise segment.damaged()
            for record in islice(segment.publishes, start, None):
                assert record.first is not None
                yield record, record.first, _last_offset(record)


def _last_offset(record: StoredRecord) -> int:
    assert record.last is not None
    return record.last


def _without_payload(record: StoredRecord) -> StoredRecord:
    return msgspec.structs.replace(record, payload=None)
