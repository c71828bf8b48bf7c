"""[P] Plain data about places and segments, shared by the log's parts."""

from __future__ import annotations

import msgspec


class Mark(msgspec.Struct, frozen=True, gc=False):
    """A place in the log, just after a record: what follows gets the next numbers.

    `lsn` is that record's, `chain` its link; before the first record 0 and the genesis.
    """

    lsn: int
    next_offset: int
    chain: bytes


class SegmentStart(msgspec.Struct, frozen=True):
    """What a segment's meta table says. `before` is the mark of the record before it.

    `compacted_lsn` is the SegmentCompacted record that the file carried out, 0 if none.
    """

    store_id: str
    first_lsn: int
    before: Mark
    compacted_lsn: int = 0


class SegmentFacts(msgspec.Struct, frozen=True):
    """What a segment holds. Bounds are inclusive; `end` is the mark after its last record.

    Offsets are None where there are none; times are Unix, in nanoseconds, 0 when empty.
    """

    first_lsn: int
    end: Mark
    first_offset: int | None
    last_offset: int | None
    lowest_touched: int | None
    highest_touched: int | None
    first_at_ns: int
    last_at_ns: int

    @property
    def last_lsn(self) -> int:
        return self.end.lsn

    @property
    def records(self) -> int:
        return self.end.lsn - self.first_lsn + 1

    def messages_from(self, offset: int) -> int:
        """How many messages were published in it at or after an offset."""
        if self.first_offset is None or self.last_offset is None:
            return 0
        return max(0, self.last_offset - max(self.first_offset, offset) + 1)

    def may_touch(self, offset: int) -> bool:
        """Whether a record in it may be about the offset."""
        if self.lowest_touched is None or self.highest_touched is None:
            return False
        return self.lowest_touched <= offset <= self.highest_touched
