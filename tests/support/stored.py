"""A store on disk that holds given records: what a broker in memory wrote, for the tools."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hermes.log.log import SqliteLog, open_log
from hermes.log.record import Kind, Record, StoredRecord
from tests.contract.records import Outcomes


def store_records(path: Path, records: Sequence[StoredRecord]) -> Path:
    """Make or continue a store with records 1..n of another log, at the same lsns."""
    outcomes = Outcomes()
    log = open_log(path, outcomes)
    try:
        for record in records:
            if record.lsn >= log.next_lsn and record.kind != Kind.SEGMENT_SEALED:
                _append(log, record)
        outcomes.wait_for(records[-1].lsn)
    finally:
        log.close()
    return path


def _append(log: SqliteLog, record: StoredRecord) -> None:
    same = Record(
        record.at_ns,
        record.kind,
        record.key,
        record.first,
        record.last,
        record.body,
        record.payload,
    )
    if record.lsn == log.next_lsn + 1:  # a roll seals the segment before the snapshot
        log.roll(same, log.next_lsn)
    else:
        log.append([same], log.next_lsn)
