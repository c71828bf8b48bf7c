"""[P] What a segment says of itself, and its seal, against what a walk over it saw.

The seal is the first record of the segment behind: it says what the one before it holds.
"""

from __future__ import annotations

from collections.abc import Iterator

from hermes.log.chain_walk import Break, Walked
from hermes.log.facts import SegmentStart
from hermes.log.v1 import log_pb2


def meta_breaks(name: str, first_lsn: int, start: SegmentStart, store_id: str) -> Iterator[Break]:
    """A meta table that speaks of another store, or of another segment than its name does."""
    if start.store_id != store_id:
        yield Break(
            "meta",
            f"{name} belongs to another store",
            name,
            expected=store_id,
            found=start.store_id,
        )
    if start.first_lsn != first_lsn:
        yield Break(
            "meta",
            f"{name} says that it begins with record {start.first_lsn}",
            name,
            first_lsn,
            expected=str(first_lsn),
            found=str(start.first_lsn),
        )


def first_publish_breaks(name: str, start: SegmentStart, walked: Walked) -> Iterator[Break]:
    """A first publish with another offset than its segment begins with."""
    expected = start.before.next_offset
    if walked.first_offset is not None and not walked.gaps and walked.first_offset != expected:
        yield not_next(walked, expected, name)


def not_next(walked: Walked, expected: int | None, segment: str) -> Break:
    """The first publish of a walk has another offset than expected."""
    lsn, found = walked.first_publish_lsn, walked.first_offset
    return Break(
        "offsets",
        f"record {lsn} (offset {found}) is not the next publish",
        segment,
        lsn,
        offset=found,
        expected=str(expected),
        found=str(found),
    )


def seal_breaks(
    name: str,
    first_lsn: int,
    walked: Walked,
    seal: log_pb2.SegmentSealed,
    seal_segment: str,
    seal_lsn: int,
) -> Iterator[Break]:
    """A break for each fact of the seal of segment `name` that is another than was walked."""
    has_offsets = walked.first_offset is not None and walked.next_offset is not None
    seen = {
        "first_lsn": first_lsn,
        "last_lsn": walked.last_lsn,
        "records": walked.records,
        "first_offset": walked.first_offset,
        "last_offset": walked.next_offset - 1 if has_offsets and walked.next_offset else None,
        "lowest_touched": walked.lowest,
        "highest_touched": walked.highest,
        "chain": walked.chain,
    }
    for field, found in seen.items():
        optional = field.endswith(("offset", "touched"))
        told = getattr(seal, field) if not optional or seal.HasField(field) else None
        if told != found:
            yield Break(
                "seal",
                f"the seal of {name} (record {seal_lsn}) says another {field}",
                seal_segment,
                seal_lsn,
                expected=_text(told),
                found=_text(found),
            )


def _text(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
