"""[P] Payloads that are not there: retired by an announcement, or lost.

Theory: the chain covers a payload's hash, so that the payload may go and the chain hold. The
price is that one flipped bit, which turns a short payload into NULL, looks like retention.
What tells them apart is that payloads go only after a record has said so: SegmentCompacted
names offsets of one segment (without offsets: its live publishes), PayloadErased one record.
A payload is gone by the book when such a record names it; else it is lost, and named.

A walk gathers what is gone as runs, so that a segment without payloads is one run: offsets
that follow each other, or live publishes (they have no offsets) with no present one between.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

import msgspec
from google.protobuf.message import DecodeError

from hermes.errors import StoreDamagedError
from hermes.log.bodies import compacted_ranges
from hermes.log.record import Kind
from hermes.log.retired import Range
from hermes.log.v1 import log_pb2


class Gone(msgspec.Struct):
    """A run of `records` publishes without payloads, from lsn to lsn, both included.

    `first` and `last` are their offsets, None for live publishes.
    """

    first_lsn: int
    last_lsn: int
    first: int | None
    last: int | None
    records: int = 1


class Announced:
    """What records have said is to go. Lsns and offsets are numbered in the whole log."""

    def __init__(self) -> None:
        self._offsets: dict[int, list[Range]] = {}  # by the first lsn of their segment
        self._erased_offsets: list[Range] = []
        self._erased_lsns: set[int] = set()

    def take(self, kind: int, first: int | None, last: int | None, body: bytes) -> None:
        """One more record of the log; of other kinds it is ignored.

        A body that does not decode announces nothing.
        """
        ranged = first is not None and last is not None
        if kind == Kind.PAYLOAD_ERASED:
            try:
                erased = log_pb2.PayloadErased.FromString(body)
            except DecodeError:
                return
            self._erased_lsns.add(erased.published_lsn)
            if ranged:
                self._erased_offsets.append((first, last))  # type: ignore[arg-type]
        elif kind == Kind.SEGMENT_COMPACTED:
            try:
                compacted = log_pb2.SegmentCompacted.FromString(body)
                named = compacted_ranges(first, last, body)
            except (DecodeError, StoreDamagedError):
                return
            self._offsets.setdefault(compacted.first_lsn, []).extend(named)

    def lost(self, gone: Iterable[Gone], segment_lsn: int) -> Iterator[Gone]:
        """Of the runs of one segment, named by its first lsn, what nothing announced."""
        compacted = segment_lsn in self._offsets
        legal = sorted(self._offsets.get(segment_lsn, []) + self._erased_offsets)
        erased = sorted(self._erased_lsns)
        for run in gone:
            if run.first is not None and run.last is not None:
                for first, last in _without((run.first, run.last), legal):
                    yield Gone(run.first_lsn, run.last_lsn, first, last)
            elif not compacted:
                named = bisect_right(erased, run.last_lsn) - bisect_left(erased, run.first_lsn)
                if named < run.records:
                    yield run


def _without(whole: Range, taken: list[Range]) -> Iterator[Range]:
    """What is left of a range; `taken` ascends by its firsts."""
    at, end = whole
    for first, last in taken:
        if first > end:
            break
        if first > at:
            yield at, first - 1
        at = max(at, last + 1)
    if at <= end:
        yield at, end
