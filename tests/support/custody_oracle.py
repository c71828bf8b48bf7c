"""What custody must say of each message and consumer: message by message, without ranges.

Reads decoded events in order. Knows consumers whose filters never change.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from hermes.broker import events as ev
from hermes.broker.event_codec import decode
from hermes.broker.subject import matcher
from hermes.log.record import StoredRecord

GONE = "payload retired undelivered"
Key = tuple[int, str, int]  # message offset, consumer, lsn of its creation


class Row(msgspec.Struct):
    """A row of custody; times in nanoseconds."""

    published_at: int
    outcome: str = "never delivered"
    attempts: int = 0
    first_delivered_at: int | None = None
    settled_at: int | None = None


class _Consumer(msgspec.Struct):
    name: str
    lsn: int
    start: int
    filters: tuple[str, ...]


_ENDS = {
    ev.Acked: "acked",
    ev.DeadLettered: "dead",
    ev.Discarded: "discarded",
}
_WAITS = (ev.Nacked, ev.Rejected, ev.Expired, ev.Released, ev.Replayed, ev.Reopened)


class Oracle:
    """Rows by key, as of the last record."""

    def __init__(self, records: Sequence[StoredRecord]) -> None:
        self.rows: dict[Key, Row] = {}
        self._live: dict[str, _Consumer] = {}
        self._messages: list[tuple[str, int]] = []  # subject, published at
        self._retired: set[int] = set()
        for record in records:
            event = decode(record)
            if event is not None:
                self._apply(event, record)

    def _apply(self, event: ev.Event, record: StoredRecord) -> None:
        match event:
            case ev.Published():
                for _ in range(event.first, event.last + 1):
                    self._messages.append((event.subject, record.at_ns))
                    for consumer in self._live.values():
                        self._open(consumer, len(self._messages) - 1)
            case ev.ConsumerCreated():
                consumer = _Consumer(
                    event.consumer, record.lsn, event.position, event.policy.filters
                )
                self._live[event.consumer] = consumer
                for offset in range(len(self._messages)):
                    self._open(consumer, offset)
            case ev.ConsumerUpdated():
                raise AssertionError("the oracle knows no changes of filters")
            case ev.ConsumerDeleted():
                self._delete(self._live.pop(event.consumer), record.at_ns)
            case ev.SegmentCompacted():
                for first, last in event.ranges:
                    self._retire(range(first, last + 1))
            case ev.RangesEvent():
                lsn = self._live[event.consumer].lsn
                for first, last in event.ranges:
                    for offset in range(first, last + 1):
                        row = self.rows[offset, event.consumer, lsn]
                        _touch(row, event, record.at_ns)
                        if row.outcome == "waiting" and offset in self._retired:
                            row.outcome = GONE

    def _open(self, consumer: _Consumer, offset: int) -> None:
        subject, at_ns = self._messages[offset]
        if matcher(consumer.filters)(subject):
            row = Row(at_ns)
            if offset < consumer.start:
                row.outcome = "before start"
            elif offset in self._retired:
                row.outcome = GONE
            self.rows[offset, consumer.name, consumer.lsn] = row

    def _retire(self, offsets: range) -> None:
        self._retired.update(offsets)
        live = {consumer.lsn for consumer in self._live.values()}
        for (offset, _, lsn), row in self.rows.items():
            if lsn in live and offset in offsets and row.outcome in ("never delivered", "waiting"):
                row.outcome = GONE

    def _delete(self, consumer: _Consumer, at_ns: int) -> None:
        for (_, _, lsn), row in self.rows.items():
            if lsn == consumer.lsn and row.outcome in ("never delivered", "in flight", "waiting"):
                row.outcome, row.settled_at = "consumer deleted", at_ns


def _touch(row: Row, event: ev.RangesEvent, at_ns: int) -> None:
    if isinstance(event, ev.Delivered):
        row.outcome, row.attempts = "in flight", row.attempts + 1
        row.first_delivered_at = row.first_delivered_at or at_ns
    elif isinstance(event, _WAITS):
        row.outcome, row.settled_at = "waiting", None
    elif isinstance(event, ev.DeadLettered) and event.cause is ev.DeadCause.PAYLOAD_GONE:
        row.outcome, row.settled_at = GONE, at_ns
    elif isinstance(event, ev.Discarded) and row.outcome == GONE:
        pass
    elif type(event) in _ENDS:
        row.outcome, row.settled_at = _ENDS[type(event)], at_ns
