"""A store of one sealed segment to be damaged, and the scrub of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from hermes.log.chain_walk import Break
from hermes.log.log import open_log
from hermes.log.port import Log
from hermes.log.record import Kind, StoredRecord
from hermes.log.scan import SegmentScan
from hermes.log.schema import PAGE_BYTES
from hermes.log.scrub import Finding, Scrubbed, Sealed, scrub_segment
from hermes.log.segment import file_name
from hermes_inspect.verify_notes import Claims, Keys
from hermes_inspect.verify_store import look, verify_store
from tests.contract.records import Outcomes, event, publish, snapshot

MESSAGES = 40
LAST_LSN = 2 * MESSAGES  # of the first segment: a publish and an ack for each pair of messages
ALL_OFFSETS = (0, 2 * MESSAGES - 1)
LSN, OFFSETS = 21, (20, 21)  # a publish in its middle


def fill(log: Log, outcomes: Outcomes) -> None:
    """Publishes of two messages each, and their acks; then a second segment."""
    for first in range(0, 2 * MESSAGES, 2):
        group = [
            publish(first, 2, payload=b"content" * 300),
            event(Kind.ACKED, "c", first, first + 1),
        ]
        log.append(group, log.next_lsn)
    log.roll(snapshot(), log.next_lsn)
    outcomes.wait_for(log.next_lsn - 1)


def seal_of(folder: Path, lsn: int = LAST_LSN + 1) -> StoredRecord:
    log = open_log(folder, Outcomes())
    try:
        return log.reader().read(lsn, limit=1, limit_bytes=1)[0]
    finally:
        log.close()


def sealed(folder: Path) -> Sealed:
    with SegmentScan(folder / file_name(LAST_LSN + 1)) as scan:
        return Sealed(scan.start().store_id, 1, LAST_LSN, ALL_OFFSETS)


def scrub(
    folder: Path,
    after: StoredRecord | None,
    passed: Callable[[int], None] = lambda _: None,
    vfs: str = "",
) -> Scrubbed | None:
    return scrub_segment(folder, sealed(folder), after, passed, vfs=vfs)


def finding(folder: Path, after: StoredRecord | None, vfs: str = "") -> Finding:
    scrubbed = scrub(folder, after, vfs=vfs)
    assert scrubbed is not None and scrubbed.finding is not None
    return scrubbed.finding


def page_of(path: Path, lsn: int) -> int:
    """The number, from 0, of the leaf page that holds a row."""
    with sqlite3.connect(path) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name='records'").fetchone()
        (body,) = db.execute("SELECT chain FROM records WHERE lsn = ?", (lsn,)).fetchone()
    db.close()
    page: int = path.read_bytes().index(body) // PAGE_BYTES
    assert page != root - 1
    return page


def verify(folder: Path) -> list[Break]:
    keys = Keys((), given=False)
    return verify_store(look(folder), keys, Claims(), lambda _: None, workers=0).breaks
