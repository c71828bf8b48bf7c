"""What the contract needs of a backend, and what its clauses share."""

from __future__ import annotations

from typing import Protocol

from hermes.log.port import Log, LogReader
from hermes.log.record import Record, StoredRecord
from tests.contract.records import BIG, Outcomes, snapshot


class Store(Protocol):
    """A place that logs are opened from, one at a time."""

    outcomes: Outcomes

    def open(self) -> Log:
        """Open it; the outcomes so far are forgotten."""
        ...


def put(store: Store, log: Log, *records: Record) -> int:
    """Append as one group and wait for the commit; returns the last lsn."""
    last = log.append(records, log.next_lsn)
    store.outcomes.wait_for(last)
    return last


def roll(store: Store, log: Log) -> int:
    last = log.roll(snapshot(), log.next_lsn)
    store.outcomes.wait_for(last)
    return last


def lsns(records: list[StoredRecord]) -> list[int]:
    return [record.lsn for record in records]


def offsets(records: list[StoredRecord]) -> list[int | None]:
    return [record.first for record in records]


def all_publishes(reader: LogReader, start: int, **options: object) -> list[StoredRecord]:
    """Page through publishes one by one; every call must move on."""
    found: list[StoredRecord] = []
    at = start
    while True:
        page, upto = reader.publishes(at, limit=1, limit_bytes=BIG, **options)  # type: ignore[arg-type]
        found += page
        if upto == at:
            return found
        assert upto > at
        at = upto
