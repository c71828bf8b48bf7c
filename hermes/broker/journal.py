"""The one path: an event is folded at once, appended with its turn, released at commit.

Theory: everything decided in one turn of the event loop becomes one atomic group of
records. Effects (publish acks, frames for members, replies) hang on the group and are
released when the log says it is durable; nothing durable leaves the broker before.
A reply that caused no event waits for the last record appended when it was decided,
because it may rest on something not yet committed.

When the log fails, the state in memory is ahead of the disk: the journal is abandoned,
every effect of its epoch is dropped, and nothing can be recorded any more.

The journal knows no commands and decides nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from hermes import limits
from hermes.broker import events as ev
from hermes.broker.event_codec import encode
from hermes.broker.snapshot import encode_snapshot
from hermes.broker.state import State
from hermes.errors import UnavailableError
from hermes.log.port import Log
from hermes.log.record import Record

Effect = Callable[[], None]


class Group:
    """What is released together: everything up to `last_lsn`."""

    __slots__ = ("bytes", "effects", "last_lsn")

    def __init__(self) -> None:
        self.last_lsn = 0
        self.bytes = 0
        self.effects: list[Effect] = []


class Journal:
    """Folds events into the state, appends them, and holds effects until the commit."""

    def __init__(self, state: State, log: Log) -> None:
        self.state = state
        self.log = log
        self.wall_ns = 0  # of the current turn; stamped on its records
        self.records_since_snapshot = 0
        self.snapshot_bytes = 0  # of the last one of this run
        self.uncommitted_bytes = 0
        self.abandoned = False
        self._records: list[Record] = []
        self._group = Group()
        self._pending: deque[Group] = deque()

    def record(self, event: ev.Event) -> int:
        """Fold an event and queue its record; returns its lsn.

        Encoded before it is folded: an event that no record can hold changes nothing.
        """
        if self.abandoned:
            raise UnavailableError("the broker is reopening its log", hint="try again shortly")
        record = encode(event, self.wall_ns) if self.log.durable else None
        lsn = self.state.next_lsn
        self.state.fold(event, lsn)
        if record is not None:
            self._records.append(record)
            if record.payload is not None:
                self._group.bytes += len(record.payload) + limits.QUEUED_OVERHEAD_BYTES
        return lsn

    def after_commit(self, effect: Effect) -> None:
        """Release `effect` once everything decided so far is durable; never, once abandoned."""
        if self.abandoned:
            return
        if self._records or not (self._pending or self.log.durable):
            self._group.effects.append(effect)
        elif self._pending:
            self._pending[-1].effects.append(effect)
        else:
            effect()

    @property
    def idle(self) -> bool:
        """Nothing recorded in this turn, nothing waiting for a commit."""
        return not (self._records or self._group.effects or self._pending)

    def flush(self) -> None:
        """End of a turn: hand its records to the log as one group."""
        group, self._group = self._group, Group()
        if not self.log.durable:
            for effect in group.effects:
                effect()
            return
        if not self._records:
            return
        records, self._records = self._records, []
        expected = self.state.next_lsn - len(records)
        group.last_lsn = self.log.append(records, expected)
        self.records_since_snapshot += len(records)
        self.uncommitted_bytes += group.bytes
        self._pending.append(group)

    def snapshot(self) -> None:
        """Append the whole state as one more record. Call between turns."""
        lsn = self.state.next_lsn
        record = encode_snapshot(self.state, self.wall_ns)
        self.log.append([record], lsn)
        self._after_snapshot(lsn, record)

    def roll(self) -> None:
        """Begin a new segment: SegmentSealed, then the snapshot. Call between turns."""
        expected = self.state.next_lsn
        self.state.fold(None, expected)  # SegmentSealed changes no state
        record = encode_snapshot(self.state, self.wall_ns)
        self._after_snapshot(self.log.roll(record, expected), record)

    def _after_snapshot(self, lsn: int, record: Record) -> None:
        self.state.fold(None, lsn)
        self.records_since_snapshot = 0
        self.snapshot_bytes = len(record.body)
        group = Group()
        group.last_lsn = lsn
        self._pending.append(group)

    def committed(self, last_lsn: int) -> None:
        """Everything up to `last_lsn` is durable: release what hangs on it, in order."""
        while self._pending and self._pending[0].last_lsn <= last_lsn:
            group = self._pending.popleft()
            self.uncommitted_bytes -= group.bytes
            for effect in group.effects:
                effect()

    def abandon(self) -> None:
        """The log failed: no effect of this epoch is ever released."""
        self.abandoned = True
        self._records.clear()
        self._group = Group()
        self._pending.clear()
