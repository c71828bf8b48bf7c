"""[P] What segments say of each other, of what is gone, and what HEAD says of them all.

Takes what the walks saw and judges the places between: pieces of one segment, one segment
and the next, the oldest and what was before it, the newest and HEAD. Each function answers
with breaks; nothing is read here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import msgspec
from google.protobuf.message import DecodeError

from hermes.log.chain import genesis
from hermes.log.chain_walk import Break, Kept, Walked
from hermes.log.facts import Mark, SegmentStart
from hermes.log.record import Kind
from hermes.log.seal_check import first_publish_breaks, meta_breaks, not_next, seal_breaks
from hermes.log.v1 import log_pb2

_Body = TypeVar("_Body", log_pb2.SegmentSealed, log_pb2.SegmentDropped, log_pb2.Lost)


class SegmentSeen(msgspec.Struct):
    """A segment: what its name and its meta table say, and what the walk over it saw.

    `start` is None when meta cannot be read; that is a break of its own.
    """

    name: str
    first_lsn: int
    start: SegmentStart | None
    walked: Walked


class Whole(msgspec.Struct):
    """What all segments say together. `losses`: accepted ones, inclusive lsns."""

    breaks: list[Break] = []
    losses: list[tuple[int, int]] = []
    seals: int = 0
    next_offset: int = 0


def merge(pieces: Iterable[Walked], segment: str) -> Walked:
    """The walk over a segment from those over its pieces, in order."""
    first, *others = pieces
    whole = msgspec.structs.replace(
        first, kept=list(first.kept), gone=list(first.gone), breaks=list(first.breaks)
    )
    for piece in others:
        known = whole.next_offset is not None and piece.first_offset is not None
        if known and not whole.gaps + piece.gaps and piece.first_offset != whole.next_offset:
            whole.breaks.append(not_next(piece, whole.next_offset, segment))
        whole.last_lsn = piece.last_lsn
        whole.chain = piece.chain
        for name in ("records", "bytes", "payloads", "retired", "gaps", "more_breaks"):
            setattr(whole, name, getattr(whole, name) + getattr(piece, name))
        if whole.first_offset is None:
            whole.first_offset, whole.first_publish_lsn = (
                piece.first_offset,
                piece.first_publish_lsn,
            )
        if piece.next_offset is not None:
            whole.next_offset = piece.next_offset
        whole.lowest = _either(min, whole.lowest, piece.lowest)
        whole.highest = _either(max, whole.highest, piece.highest)
        whole.kept += piece.kept
        whole.gone += piece.gone
        whole.breaks += piece.breaks
    return whole


def _either(
    choose: Callable[[Iterable[int]], int], one: int | None, other: int | None
) -> int | None:
    found = [value for value in (one, other) if value is not None]
    return choose(found) if found else None


def judge(segments: list[SegmentSeen], store_id: str, *, oldest_went: bool = False) -> Whole:
    """Everything between the segments of a store, oldest first. There is at least one.

    `oldest_went`: older ones were dropped since the look at the log's end, so the record
    that announces it may lie beyond.
    """
    whole = Whole()
    dropped = list(_announced_drops(segments, whole))
    before: SegmentSeen | None = None
    for segment in segments:
        start, breaks = segment.start, whole.breaks
        if start is not None:
            breaks += meta_breaks(segment.name, segment.first_lsn, start, store_id)
            if before is None and oldest_went:
                pass
            elif before is None:
                breaks += _oldest(segment, start, store_id, dropped, whole)
            else:
                breaks += _joint(before, segment, start, whole)
            walked = segment.walked
            breaks += first_publish_breaks(segment.name, start, walked)
            whole.next_offset = (
                start.before.next_offset if walked.next_offset is None else walked.next_offset
            )
        before = segment
    return whole


def _differs(segment: str, what: str, wanted: object, got: object) -> Iterator[Break]:
    """A fact of meta that is not what the records before it say."""
    if wanted != got:
        expected, found = (v.hex() if isinstance(v, bytes) else str(v) for v in (wanted, got))
        text = f"{segment} has another {what} in its meta table than the records before it"
        yield Break("meta", text, segment, expected=expected, found=found)


def _first(segment: SegmentSeen, kind: Kind) -> Kept | None:
    """The segment's first record, if it is of this kind."""
    kept = segment.walked.kept
    if segment.walked.first_kind == kind and kept and kept[0].kind == kind:
        return kept[0]
    return None


# ---------------------------------------------------------------- the oldest end


def _announced_drops(segments: list[SegmentSeen], whole: Whole) -> Iterator[log_pb2.SegmentDropped]:
    for segment in segments:
        for kept in segment.walked.kept:
            if kept.kind == Kind.SEGMENT_DROPPED:
                body = _parse(log_pb2.SegmentDropped, kept, segment.name, whole)
                if body is not None:
                    yield body


def _oldest(
    segment: SegmentSeen,
    start: SegmentStart,
    store_id: str,
    dropped: list[log_pb2.SegmentDropped],
    whole: Whole,
) -> Iterator[Break]:
    """What lies before the first record held is nothing, or was dropped by the book, or lost."""
    first_lsn = segment.first_lsn
    if first_lsn == 1:
        yield from _differs(segment.name, "chain", genesis(store_id), start.before.chain)
        yield from _differs(segment.name, "next_offset", 0, start.before.next_offset)
        return
    seal = _first(segment, Kind.SEGMENT_SEALED)
    if seal is not None:
        body = _parse(log_pb2.SegmentSealed, seal, segment.name, whole)
        if body is not None:
            yield from _differs(segment.name, "chain", body.chain, start.before.chain)
    announced = next((body for body in dropped if body.last_lsn == first_lsn - 1), None)
    if announced is not None:
        if announced.chain:
            yield from _differs(segment.name, "chain", announced.chain, start.before.chain)
        return
    if not _lost_before(segment, start, Mark(0, 0, b""), whole):
        yield _gap(1, first_lsn - 1, segment.name)


def _gap(first_lsn: int, last_lsn: int, segment: str) -> Break:
    records = f"record {first_lsn}" if first_lsn == last_lsn else f"records {first_lsn}..{last_lsn}"
    text = f"{records} before {segment} missing: a segment was removed or cut short"
    return Break("missing", text, segment, first_lsn, last_lsn)


# ------------------------------------------------------------- between segments


def _joint(
    before: SegmentSeen, segment: SegmentSeen, start: SegmentStart, whole: Whole
) -> Iterator[Break]:
    end = before.walked
    if segment.first_lsn <= end.last_lsn:
        text = f"{before.name} and {segment.name} both hold record {segment.first_lsn}"
        yield Break("lsn", text, segment.name, segment.first_lsn, end.last_lsn)
        return
    next_offset = end.next_offset
    if next_offset is None:
        next_offset = before.start.before.next_offset if before.start else start.before.next_offset
    chain = end.chain
    if chain is None and not end.gaps and before.start is not None:
        chain = before.start.before.chain
    if segment.first_lsn > end.last_lsn + 1:
        mark = Mark(end.last_lsn, next_offset, chain or b"")
        if not _lost_before(segment, start, mark, whole):
            yield _gap(end.last_lsn + 1, segment.first_lsn - 1, segment.name)
        return
    if chain is not None:
        yield from _differs(segment.name, "chain", chain, start.before.chain)
    if not end.gaps:
        yield from _differs(segment.name, "next_offset", next_offset, start.before.next_offset)
    seal = _first(segment, Kind.SEGMENT_SEALED)
    if seal is None:
        if segment.walked.first_kind is not None:
            text = f"record {segment.first_lsn} must be the seal of {before.name}, and is not"
            yield Break("seal", text, segment.name, segment.first_lsn)
        return
    body = _parse(log_pb2.SegmentSealed, seal, segment.name, whole)
    if body is not None:
        whole.seals += 1
        yield from _seal(before, segment, seal, body)


def _seal(
    before: SegmentSeen, segment: SegmentSeen, seal: Kept, body: log_pb2.SegmentSealed
) -> Iterator[Break]:
    """SegmentSealed against what the walk over the segment before it saw."""
    walked = before.walked
    if walked.breaks:
        return  # what is wrong is named; the seal would only repeat it
    yield from seal_breaks(before.name, before.first_lsn, walked, body, segment.name, seal.lsn)


def _lost_before(segment: SegmentSeen, start: SegmentStart, end: Mark, whole: Whole) -> bool:
    """Whether the segment begins with a Lost that names exactly what is missing before it."""
    kept = _first(segment, Kind.LOST)
    body = _parse(log_pb2.Lost, kept, segment.name, whole) if kept else None
    if body is None or (body.first_lsn, body.last_lsn) != (end.lsn + 1, segment.first_lsn - 1):
        return False
    whole.losses.append((body.first_lsn, body.last_lsn))
    whole.breaks += _differs(segment.name, "chain", body.chain, start.before.chain)
    whole.breaks += _differs(
        segment.name, "next_offset", body.next_offset, start.before.next_offset
    )
    return True


def _parse(kind: type[_Body], kept: Kept, segment: str, whole: Whole) -> _Body | None:
    try:
        return kind.FromString(kept.body)
    except DecodeError as error:
        text = f"record {kept.lsn} cannot be parsed: {error}"
        whole.breaks.append(Break("record", text, segment, kept.lsn))
        return None


# ---------------------------------------------------------------------- HEAD


def judge_head(head: Mark, end: Mark | None, chain: bytes | None) -> Iterator[Break]:
    """HEAD against the log: `end` is its last record, `chain` the link of the one HEAD names."""
    end_lsn = 0 if end is None else end.lsn
    if head.lsn > end_lsn:
        yield Break(
            "missing",
            f"records {end_lsn + 1}..{head.lsn} were committed (HEAD) and are lost:"
            f" the log ends at {end_lsn}",
            None,
            end_lsn + 1,
            head.lsn,
            expected=str(head.lsn),
            found=str(end_lsn),
        )
        return
    if chain != head.chain:
        yield Break(
            "head",
            f"record {head.lsn} is not the one that HEAD knows as committed",
            None,
            head.lsn,
            expected=head.chain.hex(),
            found=None if chain is None else chain.hex(),
        )
    elif end is not None and head.lsn == end.lsn and head.next_offset != end.next_offset:
        yield Break(
            "head",
            "HEAD has another next offset than the log",
            None,
            head.lsn,
            expected=str(end.next_offset),
            found=str(head.next_offset),
        )
