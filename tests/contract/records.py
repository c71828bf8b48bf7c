"""Records to append, and a listener to wait with; shared by the tests of logs."""

from __future__ import annotations

import threading

from hermes.log.port import Committed, Failed, Outcome
from hermes.log.record import Kind, Record
from hermes.log.v1 import log_pb2

BIG = 1 << 30


def publish(
    first: int,
    count: int = 1,
    key: str = "orders.created",
    *,
    at_ns: int | None = None,
    payload: bytes | None = b"content",
    terms: tuple[int, ...] = (),
) -> Record:
    """A batch whose time is its first offset, unless told."""
    return Record(
        at_ns=first if at_ns is None else at_ns,
        kind=Kind.PUBLISHED,
        key=key,
        first=first,
        last=first + count - 1,
        body=b"head",
        payload=payload,
        terms=terms,
    )


def event(
    kind: Kind, key: str | None = None, first: int | None = None, last: int | None = None
) -> Record:
    """A record without payload; a range of one offset when `last` is left out."""
    last = first if last is None else last
    return Record(at_ns=7, kind=kind, key=key, first=first, last=last, body=b"body")


def snapshot(engine_time_ns: int = 0) -> Record:
    body = log_pb2.Snapshot(engine_time_ns=engine_time_ns, next_offset=1)
    return Record(at_ns=11, kind=Kind.SNAPSHOT, body=body.SerializeToString())


def dropped(first_lsn: int, last_lsn: int) -> Record:
    """The record that announces a drop."""
    body = log_pb2.SegmentDropped(engine_time_ns=1, first_lsn=first_lsn, last_lsn=last_lsn)
    return Record(at_ns=12, kind=Kind.SEGMENT_DROPPED, body=body.SerializeToString())


def compacted(first_lsn: int, last_lsn: int, *ranges: tuple[int, int]) -> Record:
    """The record that announces a compaction, of ascending ranges of offsets."""
    deltas: list[int] = []
    at = ranges[0][0] if ranges else 0
    for first, last in ranges:
        deltas += [first - at, last - first + 1]
        at = last + 1
    body = log_pb2.SegmentCompacted(
        engine_time_ns=1,
        first_lsn=first_lsn,
        last_lsn=last_lsn,
        retired=deltas if len(ranges) > 1 else (),
    )
    return Record(
        at_ns=12,
        kind=Kind.SEGMENT_COMPACTED,
        first=ranges[0][0] if ranges else None,
        last=ranges[-1][1] if ranges else None,
        body=body.SerializeToString(),
    )


class Outcomes:
    """A listener that remembers, and that tests can wait on."""

    def __init__(self) -> None:
        self.all: list[Outcome] = []
        self._changed = threading.Condition()

    def __call__(self, outcome: Outcome) -> None:
        with self._changed:
            self.all.append(outcome)
            self._changed.notify_all()

    @property
    def committed_lsn(self) -> int:
        """The last lsn told as committed; 0 before any."""
        return max((o.last_lsn for o in self.all if isinstance(o, Committed)), default=0)

    @property
    def error(self) -> Exception | None:
        """Why the log failed, if it did."""
        return next((o.error for o in self.all if isinstance(o, Failed)), None)

    def wait_for(self, lsn: int) -> None:
        """Until a record is committed; a failed log fails the test."""
        with self._changed:
            assert self._changed.wait_for(
                lambda: self.committed_lsn >= lsn or self.error is not None, timeout=20
            )
        assert self.error is None, self.error
        assert self.committed_lsn >= lsn

    def wait_for_failure(self) -> Exception:
        with self._changed:
            assert self._changed.wait_for(lambda: self.error is not None, timeout=20)
        assert self.error is not None
        return self.error
