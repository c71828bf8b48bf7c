"""[P] The log of a broker without a store: it numbers, answers, and keeps nothing.

Every append is told as committed before `append` returns, on the caller's thread. There
is nothing to read; `durable` is False, and that is what the broker goes by.
"""

from __future__ import annotations

from collections.abc import Sequence

from hermes.errors import LogClosedError
from hermes.log.chain import genesis
from hermes.log.facts import Mark
from hermes.log.memory_reader import MemoryReader
from hermes.log.port import Committed, Compaction, Listener, LogReader, Quarantined, SegmentInfo
from hermes.log.record import Record, admit


class NullLog:
    """The `Log` that forgets."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._next_lsn = 1
        self._next_offset = 0
        self._closed = False

    @property
    def store_id(self) -> str:
        return ""

    @property
    def next_lsn(self) -> int:
        return self._next_lsn

    @property
    def next_offset(self) -> int:
        return self._next_offset

    @property
    def committed(self) -> Mark:
        return Mark(0, 0, genesis(self.store_id))

    @property
    def oldest_offset(self) -> int:
        return self._next_offset

    @property
    def durable(self) -> bool:
        return False

    @property
    def queued_bytes(self) -> int:
        return 0

    @property
    def free_bytes(self) -> int:
        return 0

    @property
    def low_space(self) -> bool:
        return False

    def append(self, records: Sequence[Record], expected_next_lsn: int) -> int:
        self._check(expected_next_lsn)
        self._next_offset, _ = admit(records, self._next_offset)
        return self._number(len(records))

    def roll(self, snapshot: Record, expected_next_lsn: int) -> int:
        self._check(expected_next_lsn)
        admit((snapshot,), self._next_offset)
        return self._number(2)

    def _check(self, expected_next_lsn: int) -> None:
        if self._closed:
            raise LogClosedError("the log is closed")
        if expected_next_lsn != self._next_lsn:
            raise ValueError(
                f"expected the next lsn to be {expected_next_lsn}, it is {self._next_lsn}"
            )

    def _number(self, records: int) -> int:
        self._next_lsn += records
        last_lsn = self._next_lsn - 1
        if records:
            self._listener(Committed(last_lsn, 0, 0))
        return last_lsn

    def drop(self, first_lsn: int) -> None:
        raise ValueError(f"segment {first_lsn} does not exist: this log keeps nothing")

    def room_to_compact(self, first_lsn: int) -> bool:
        raise ValueError(f"segment {first_lsn} does not exist: this log keeps nothing")

    def compact(self, first_lsn: int) -> None:
        raise ValueError(f"segment {first_lsn} does not exist: this log keeps nothing")

    @property
    def compactions(self) -> tuple[Compaction, ...]:
        return ()

    def quarantine(self, first_lsn: int, reason: str) -> bool:
        raise ValueError(f"segment {first_lsn} does not exist: this log keeps nothing ({reason})")

    @property
    def quarantined(self) -> tuple[Quarantined, ...]:
        return ()

    def segments(self, *, subjects: bool = True) -> list[SegmentInfo]:  # noqa: ARG002
        return []

    def reader(self) -> LogReader:
        return MemoryReader([])

    def close(self) -> None:
        self._closed = True
