"""Payloads that are gone in a store, against what its records announced.

A live server may announce a compaction behind what was walked, and carry it out in front of
the walk: so if something seems lost, the records written since are asked, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from hermes.errors import StoreError
from hermes.log.catalog import list_segments
from hermes.log.chain_walk import Break
from hermes.log.missing_payloads import Announced, Gone
from hermes.log.scan import SegmentScan
from hermes.log.schema import INTEGER_MAX
from hermes_inspect.verify_joints import SegmentSeen

_READ_BYTES: Final = 4 * 1024 * 1024


def lost_payloads(folder: Path, seen: Sequence[SegmentSeen]) -> list[Break]:
    """A break for each run of payloads that are gone though nothing announced it."""
    announced = Announced()
    for segment in seen:
        for kept in segment.walked.kept:
            announced.take(kept.kind, kept.first, kept.last, kept.body)
    found = list(_lost(seen, announced))
    if found:
        _take_newer(folder, seen[-1].walked.last_lsn, announced)
        found = list(_lost(seen, announced))
    return [_break(segment, run) for segment, run in found]


def _lost(seen: Sequence[SegmentSeen], announced: Announced) -> Iterator[tuple[str, Gone]]:
    for segment in seen:
        for run in announced.lost(segment.walked.gone, segment.first_lsn):
            yield segment.name, run


def _take_newer(folder: Path, after_lsn: int, announced: Announced) -> None:
    at = after_lsn + 1
    try:
        listed = list_segments(folder)
        ends = [first_lsn for first_lsn, _ in listed[1:]] + [INTEGER_MAX]
        for (_, path), end in zip(listed, ends, strict=True):
            if end <= at:
                continue
            with SegmentScan(path) as scan:
                while rows := scan.rows(at, INTEGER_MAX, limit_bytes=_READ_BYTES):
                    for _, _, kind, _, first, last, body, _, _, _ in rows:
                        announced.take(kind, first, last, body)
                    at = rows[-1][0] + 1
    except (StoreError, OSError):
        return  # what cannot be read announces nothing


def _break(segment: str, gone: Gone) -> Break:
    records = f"record {gone.first_lsn}"
    if gone.last_lsn > gone.first_lsn:
        records = f"records {gone.first_lsn}..{gone.last_lsn}"
    offsets = "" if gone.first is None else f" (offsets {gone.first}..{gone.last})"
    return Break(
        "payload",
        f"{records}{offsets}: the payload is gone, and no record announced that",
        segment,
        gone.first_lsn,
        gone.last_lsn if gone.last_lsn > gone.first_lsn else None,
        offset=gone.first,
    )
