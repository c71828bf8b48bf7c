"""[P] A segment's seal against what a walk over the segment saw.

The seal is the first record of the segment behind: it says what the one before it holds.
"""

from __future__ import annotations

from collections.abc import Iterator

from hermes.log.chain_walk import Break, Walked
from hermes.log.v1 import log_pb2


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
