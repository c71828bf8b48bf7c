"""Reading the log for the engine, around what is damaged or gone.

A segment is found to be damaged by whoever reads it first: it is put into quarantine, and the
rest read again. Threads and the event loop do not belong here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from hermes import limits
from hermes.broker.ports import Fetch, FetchAhead, Fetched
from hermes.broker.ranges import Range, intersect, normalize, subtract
from hermes.broker.recovery import line_batch
from hermes.broker.subject import matcher
from hermes.errors import SegmentDamagedError
from hermes.log.port import Log, LogReader

T = TypeVar("T")


def read_around_damage(log: Log, reader: LogReader, function: Callable[[LogReader], T]) -> T:
    """Ask the log; a sealed segment that turns out to be damaged is quarantined, and it is
    asked again.

    Raises SegmentDamagedError when there is no answer without that segment.
    """
    met: set[int] = set()  # damaged segments, so that each is met twice at most
    while True:
        try:
            return function(reader)
        except SegmentDamagedError as error:
            first_lsn = error.fields["first_lsn"]
            if first_lsn in met:
                raise
            met.add(first_lsn)
            log.quarantine(first_lsn, error.fields["reason"])


def left_out(log: Log) -> list[Range]:
    """Offsets in quarantine: published in segments that are damaged. From any thread."""
    return [
        (damaged.first_offset, damaged.last_offset)
        for damaged in log.quarantined
        if damaged.first_offset is not None and damaged.last_offset is not None
    ]


def fetched(reader: LogReader, request: Fetch, without: Sequence[Range] = ()) -> Fetched:
    """What the engine asked for, out of the log; nothing of the ranges that are left out.

    Raises SegmentDamagedError for a FetchAhead that would begin there.
    """
    if isinstance(request, FetchAhead):
        records, scanned_to = reader.publishes(
            request.from_offset,
            limit=request.limit,
            limit_bytes=request.limit_bytes,
            keys=matcher(request.filters),
        )
        found = [batch for record in records if (batch := line_batch(record)) is not None]
        return Fetched(request, found, scanned_to)
    found = []
    read_bytes = 0
    upto = -1  # the end of the record read last: ranges may share one
    damaged = normalize(without)
    withheld = tuple(intersect(request.ranges, damaged))
    ranges = subtract(request.ranges, damaged)
    for i, (first, last) in enumerate(ranges):
        offset = max(first, upto + 1)
        while offset <= last:
            if read_bytes >= limits.WINDOW_BYTES_MAX:
                unread = ((offset, last), *ranges[i + 1 :])
                return Fetched(request, found, unread=unread, withheld=withheld)
            record = reader.publish_of(offset)
            if record is None:  # dropped with its segment; the rest of the range may be there
                held = reader.batches(offset, before_offset=last + 1, limit=1)
                if not held:
                    break
                offset = held[0].first
                continue
            batch = line_batch(record)
            if batch is not None:
                found.append(batch)
                read_bytes += batch.bytes
            assert record.last is not None
            upto = record.last
            offset = upto + 1
    return Fetched(request, found, withheld=withheld)
