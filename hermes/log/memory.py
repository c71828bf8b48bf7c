"""[P] The log in memory: the port's rules without a disk, for tests and simulation.

Committed records live in segments as they do on disk, numbered, salted and chained; the
salt is the lsn, so that a run repeats exactly. With `auto_commit` each append is told as
committed before it returns. Without it commits wait until they are released (`commit`,
`commit_all`), the log can be made to fail (`fail`), and it can crash (`crash`): then
what was not committed is lost, or some of it is found on disk after all although nobody
was told, which is what a real log does.

No thread: the listener is called on the thread of whoever releases a commit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

import msgspec

from hermes.errors import LogClosedError, StoreError
from hermes.log.bodies import compacted_ranges, compacted_segment, dropped_range, seal_record
from hermes.log.chain import genesis
from hermes.log.facts import Mark
from hermes.log.memory_reader import MemoryReader, MemorySegment
from hermes.log.port import (
    Committed,
    Compaction,
    Failed,
    Listener,
    LogReader,
    Quarantined,
    SegmentInfo,
)
from hermes.log.record import Kind, Record, admit

STORE_ID: Final = "00000000-0000-4000-8000-000000000000"


class MemoryImage(msgspec.Struct, frozen=True):
    """What the disk holds after a crash: give it to the next `MemoryLog`."""

    store_id: str
    segments: tuple[MemorySegment, ...]

    def mend(self) -> None:
        """Put back what was damaged, as from a backup."""
        for segment in self.segments:
            segment.rot = ""


class _Group(msgspec.Struct, frozen=True):
    """Queued records; a roll is a group that begins a segment."""

    records: Sequence[Record]
    size_bytes: int
    rolls: bool = False


class MemoryLog:
    """The `Log` in memory. One thread."""

    def __init__(
        self,
        listener: Listener,
        *,
        image: MemoryImage | None = None,
        auto_commit: bool = True,
        store_id: str = STORE_ID,
    ) -> None:
        self._listener = listener
        self._auto_commit = auto_commit
        self._store_id = image.store_id if image else store_id
        self._segments = [segment.copy() for segment in image.segments] if image else []
        if not self._segments:
            self._segments.append(MemorySegment(1, Mark(0, 0, genesis(self._store_id))))
        end = self._segments[-1].end
        self._next_lsn = end.lsn + 1
        self._next_offset = end.next_offset
        self._active_first_lsn = self._segments[-1].first_lsn
        self._queue: deque[_Group] = deque()
        self._queued_bytes = 0
        self._error: Exception | None = None
        self._closed = False
        self.low_space = False  # set by tests
        self.free_bytes = 0
        self.no_room_to_compact = False  # set by tests
        # Opening goes on with what was announced.
        self._drop_announced()
        attempts = [self._retire_announced(segment) for segment in self._segments[:-1]]
        self._stuck = tuple(attempt for attempt in attempts if attempt is not None)

    # ------------------------------------------------------------------- facts

    @property
    def store_id(self) -> str:
        return self._store_id

    @property
    def durable(self) -> bool:
        return True

    @property
    def next_lsn(self) -> int:
        return self._next_lsn

    @property
    def next_offset(self) -> int:
        return self._next_offset

    @property
    def committed(self) -> Mark:
        return self._segments[-1].end

    @property
    def oldest_offset(self) -> int:
        for segment in self._segments:
            if segment.publishes:
                first = segment.publishes[0].first
                assert first is not None
                return first
        return min(self._segments[-1].end.next_offset, self._next_offset)

    @property
    def queued_bytes(self) -> int:
        return self._queued_bytes

    def quarantine(self, first_lsn: int, reason: str) -> bool:
        for segment in self._segments[:-1]:
            if segment.first_lsn == first_lsn:
                known, segment.damage = bool(segment.damage), segment.damage or reason or "damaged"
                return not known
        raise ValueError(f"no sealed segment begins with record {first_lsn}")

    @property
    def quarantined(self) -> tuple[Quarantined, ...]:
        return tuple(segment.quarantined() for segment in self._segments if segment.damage)

    def segments(self, *, subjects: bool = True) -> list[SegmentInfo]:
        active = self._segments[-1]
        return [
            segment.info(sealed=segment is not active, subjects=subjects)
            for segment in self._segments
        ]

    # ----------------------------------------------------------------- writing

    def append(self, records: Sequence[Record], expected_next_lsn: int) -> int:
        self._check(expected_next_lsn)
        self._next_offset, size_bytes = admit(records, self._next_offset)
        if records:
            self._next_lsn += len(records)
            self._put(_Group(records, size_bytes))
        return self._next_lsn - 1

    def roll(self, snapshot: Record, expected_next_lsn: int) -> int:
        self._check(expected_next_lsn)
        if self._active_first_lsn == self._next_lsn:
            raise ValueError("the active segment is empty: there is nothing to seal")
        admit((snapshot,), self._next_offset)
        self._active_first_lsn = self._next_lsn
        self._next_lsn += 2
        last_lsn = self._next_lsn - 1
        self._put(_Group((snapshot,), len(snapshot.body), rolls=True))
        return last_lsn

    def drop(self, first_lsn: int) -> None:
        self._check(self._next_lsn)
        if self._segments[0].first_lsn != first_lsn or len(self._segments) == 1:
            raise ValueError(f"segment {first_lsn} is not the oldest sealed one")
        if self._segments[0].damage:
            raise ValueError(f"segment {first_lsn} is in quarantine: it is evidence")
        announced = self.reader().latest(Kind.SEGMENT_DROPPED)
        if announced is None or dropped_range(announced.body)[0] != first_lsn:
            raise ValueError(f"no committed SegmentDropped announces segment {first_lsn}")
        del self._segments[0]

    def room_to_compact(self, first_lsn: int) -> bool:
        self._sealed(first_lsn)
        return not self.no_room_to_compact

    def compact(self, first_lsn: int) -> None:
        self._check(self._next_lsn)
        segment = self._sealed(first_lsn)
        newest = self.reader().latest(Kind.SEGMENT_COMPACTED)
        if (
            newest is None
            or compacted_segment(newest.body) != first_lsn
            or newest.lsn <= segment.compacted_lsn
        ):
            raise ValueError(f"no committed SegmentCompacted announces more for {first_lsn}")
        outcome = self._retire_announced(segment)
        if outcome is not None and not segment.rot:
            raise ValueError(str(outcome.error))
        if outcome is not None:
            self._stuck = (*self._stuck, outcome)

    @property
    def compactions(self) -> tuple[Compaction, ...]:
        return self._stuck

    def _sealed(self, first_lsn: int) -> MemorySegment:
        for segment in self._segments[:-1]:
            if segment.first_lsn == first_lsn:
                if segment.damage:
                    raise ValueError(f"segment {first_lsn} is in quarantine: it is evidence")
                return segment
        raise ValueError(f"segment {first_lsn} is not a sealed one")

    def _drop_announced(self) -> None:
        """Forget what a committed SegmentDropped says is gone."""
        newest = self.reader().latest(Kind.SEGMENT_DROPPED)
        while newest is not None and self._segments[0].first_lsn <= dropped_range(newest.body)[0]:
            del self._segments[0]

    def _retire_announced(self, segment: MemorySegment) -> Compaction | None:
        """Do what is announced and not done yet; or say why it cannot be done."""
        after = max(segment.compacted_lsn, segment.end.lsn)
        announced = MemoryReader(self._segments).announced(segment.first_lsn, after)
        ranges = [r for a in announced for r in compacted_ranges(a.first, a.last, a.body)]
        try:
            if announced:
                segment.retire(announced[-1].lsn, ranges)
        except ValueError as error:
            return Compaction(segment.first_lsn, StoreError(str(error)), stuck=True)
        return None

    def _check(self, expected_next_lsn: int) -> None:
        if self._error is not None or self._closed:
            raise LogClosedError("the log is closed") from self._error
        if expected_next_lsn != self._next_lsn:
            raise ValueError(
                f"expected the next lsn to be {expected_next_lsn}, it is {self._next_lsn}"
            )

    def _put(self, group: _Group) -> None:
        self._queue.append(group)
        self._queued_bytes += group.size_bytes
        if self._auto_commit:
            self.commit_all()

    # -------------------------------------------------------------- simulation

    @property
    def pending(self) -> int:
        """How many groups wait for their commit. A roll is one."""
        return len(self._queue)

    def commit(self, groups: int = 1) -> int:
        """Commit the first groups in one go; returns how many there were."""
        count = min(groups, len(self._queue))
        for _ in range(count):
            self._write(self._queue.popleft())
        if count:
            active = self._segments[-1]
            self._listener(Committed(active.end.lsn, active.bytes, self._queued_bytes))
        return count

    def commit_all(self) -> int:
        """Commit everything that waits; returns how many groups that were."""
        return self.commit(len(self._queue))

    def fail(self, error: Exception) -> None:
        """Stop as on a failed sync: `Failed` is told, nothing is committed any more.

        What waits is neither committed nor gone: `crash` decides what the disk holds.
        """
        if self._error is None and not self._closed:
            self._error = error
            self._listener(Failed(error))

    def crash(self, keep: int = 0) -> MemoryImage:
        """Lose the process: returns what the disk holds; nobody is told anything.

        `keep` groups that were not told as committed are found on disk all the same.
        """
        for _ in range(min(keep, len(self._queue))):
            self._write(self._queue.popleft())
        self._queue.clear()
        self._queued_bytes = 0
        self._closed = True
        return self.image()

    def damage(self, first_lsn: int, what: str) -> None:
        """Make a sealed segment unreadable, as a bad page of its file does: whoever reads its
        records gets SegmentDamagedError. Another log opened from the image finds it so too."""
        self._sealed(first_lsn).rot = what

    def image(self) -> MemoryImage:
        """What is committed at this moment, to open another log from."""
        return MemoryImage(self._store_id, tuple(segment.copy() for segment in self._segments))

    def _write(self, group: _Group) -> None:
        self._queued_bytes -= group.size_bytes
        records = group.records
        active = self._segments[-1]
        if group.rolls:
            records = (seal_record(active.facts(), records[0]), *records)
            active = MemorySegment(active.end.lsn + 1, active.end)
            self._segments.append(active)
        for record in records:
            active.add(record)

    # ----------------------------------------------------------------- reading

    def reader(self) -> LogReader:
        return MemoryReader(self._segments)

    def close(self) -> None:
        if self._closed:
            return
        if self._error is None:
            self.commit_all()
        self._closed = True
