"""What the log tells about dead letters: their subjects and ids, and their custody.

Runs on reader threads, with a reader and plain arguments only; never touches the engine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from hermes.admin.v1 import admin_pb2
from hermes.broker import events as ev
from hermes.broker.batch import part
from hermes.broker.consumer import Dead
from hermes.broker.event_codec import decode
from hermes.broker.ranges import Range
from hermes.broker.recovery import line_batch
from hermes.errors import SegmentDamagedError
from hermes.log.port import LogReader
from hermes.log.record import StoredRecord
from hermes.server.frames import fill

DeadRange = tuple[str, int, int, Dead]  # consumer, first, last
Wanted = Callable[[str], bool]

# Offsets looked at for one page: a filter that matches little answers with a short page.
SCANNED_MAX: Final = 20_000
# Steps in the custody of one message; a poison message may have many.
ATTEMPTS_MAX: Final = 1_000
_CHUNK_RECORDS: Final = 256
_WORD: Final = re.compile(r"(?<!^)(?=[A-Z])")


def page_of(
    reader: LogReader, dead: Sequence[DeadRange], wanted: Wanted | None, page_size: int
) -> tuple[list[admin_pb2.DeadLetter], tuple[str, int] | None]:
    """Up to `page_size` dead letters, and the last (consumer, offset) looked at if there
    may be more."""
    letters: list[admin_pb2.DeadLetter] = []
    scanned = 0
    for consumer, first, last, entry in dead:
        for record, a, b in _batches(reader, first, last):
            subject, ids = _names(record)
            if record is not None and wanted is not None and not wanted(subject):
                scanned += b - a + 1
                continue
            for offset in range(a, b + 1):
                letters.append(describe(consumer, offset, entry, subject, ids.get(offset, "")))
                scanned += 1
                if len(letters) >= page_size or scanned >= SCANNED_MAX:
                    return letters, (consumer, offset)
    return letters, None


def matching(
    reader: LogReader, dead: Sequence[tuple[int, int]], wanted: Wanted | None
) -> list[Range]:
    """The part of these offsets whose subjects are wanted."""
    if wanted is None:
        return list(dead)
    return [
        (a, b)
        for first, last in dead
        for record, a, b in _batches(reader, first, last)
        if record is not None and wanted(record.key or "")
    ]


def _batches(
    reader: LogReader, first: int, last: int
) -> Iterator[tuple[StoredRecord | None, int, int]]:
    """The records that hold first..last, with the part each holds; None: it was dropped, or
    is in a segment that is damaged."""
    while first <= last:
        record, upto = None, last
        try:
            record = reader.publish_of(first)
        except SegmentDamagedError as error:
            upto = min(last, error.fields["last_offset"])
        if record is not None and record.last is not None:
            upto = min(last, record.last)
        yield record, first, upto
        first = upto + 1


def _names(record: StoredRecord | None) -> tuple[str, dict[int, str]]:
    """Subject and ids, by offset: they are held when the payload is retired."""
    if record is None:
        return "", {}
    event = decode(record)
    assert isinstance(event, ev.Published)
    return event.subject, dict(enumerate(event.ids, event.first))


def describe(
    consumer: str, offset: int, dead: Dead, subject: str, message_id: str
) -> admin_pb2.DeadLetter:
    """One dead letter."""
    letter = admin_pb2.DeadLetter(
        consumer=consumer,
        offset=offset,
        subject=subject,
        message_id=message_id,
        attempts=dead.attempts,
        failures=dead.failures,
        reason=dead.reason,
        dead_at_ns=dead.at_ns,
    )
    if dead.copy_shift is not None:
        letter.copy_offset = offset + dead.copy_shift
    return letter


def detail_of(
    reader: LogReader, consumer: str, offset: int, dead: Dead
) -> admin_pb2.DeadLetterDetail:
    """One dead letter with its message and every step of its custody."""
    detail = admin_pb2.DeadLetterDetail()
    record = reader.publish_of(offset)
    batch = None if record is None else line_batch(record)
    subject, ids = _names(record)
    message_id = ids.get(offset, "")
    if batch is not None:
        sent, selection = part(batch, [(offset, offset)])
        fill(detail.message, sent, dead.attempts, selection)
    detail.dead_letter.CopyFrom(describe(consumer, offset, dead, subject, message_id))
    clients: dict[int, ev.SessionOpened | None] = {}
    for step in _custody(reader, consumer, offset):
        detail.attempts.append(_attempt(reader, step, clients))
    return detail


def _custody(
    reader: LogReader, consumer: str, offset: int
) -> Iterator[tuple[StoredRecord, ev.RangesEvent]]:
    """Records of the consumer about the offset, oldest first."""
    after_lsn = found = 0
    while found < ATTEMPTS_MAX:
        records = reader.touching(offset, after_lsn=after_lsn, limit=_CHUNK_RECORDS)
        for record in records:
            after_lsn = record.lsn
            if record.key != consumer:
                continue
            event = decode(record)
            if isinstance(event, ev.RangesEvent) and any(
                first <= offset <= last for first, last in event.ranges
            ):
                found += 1
                yield record, event
        if len(records) < _CHUNK_RECORDS:
            return


def _attempt(
    reader: LogReader,
    step: tuple[StoredRecord, ev.RangesEvent],
    clients: dict[int, ev.SessionOpened | None],
) -> admin_pb2.Attempt:
    record, event = step
    session: int = getattr(event, "session", 0)
    if session not in clients:
        clients[session] = _client(reader, session)
    client = clients[session]
    return admin_pb2.Attempt(
        lsn=record.lsn,
        at_ns=record.at_ns,
        kind=_WORD.sub("_", type(event).__name__).lower(),
        attempt=getattr(event, "attempt", 0) or getattr(event, "attempts", 0),
        member=getattr(event, "member", 0),
        peer="" if client is None else client.peer,
        client_name="" if client is None else client.client_name,
        reason=getattr(event, "reason", ""),
    )


def _client(reader: LogReader, session: int) -> ev.SessionOpened | None:
    if not session:
        return None
    records = reader.read(session, limit=1, limit_bytes=1, payloads=False)
    event = decode(records[0]) if records and records[0].lsn == session else None
    return event if isinstance(event, ev.SessionOpened) else None
