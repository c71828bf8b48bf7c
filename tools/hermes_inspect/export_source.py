"""The store that is exported, as far as it was committed when the export began.

Opened for reading only, beside a running server or at rest. What is appended later is
not seen: an export is of a range of lsns, and its end is fixed at the start.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hermes.errors import StoreDamagedError, StoreError
from hermes.log.catalog import FolderCatalog
from hermes.log.chain import genesis
from hermes.log.checking import Proved
from hermes.log.head import FILE_NAME as HEAD_NAME
from hermes.log.head import read_head
from hermes.log.reader import open_reader
from hermes.log.record import StoredRecord
from hermes_inspect.store import nothing_in, require_readable
from hermes_inspect.yielding import Yielding

PAGE_RECORDS: Final = 2_000
PAGE_BYTES: Final = 8 * 1024 * 1024
AHEAD_RECORDS: Final = 64  # read at once when a message is looked up
AHEAD_BYTES: Final = 1024 * 1024


class Source:
    """A store, open for reading: `first_lsn`..`last_lsn`, both included."""

    def __init__(self, path: Path) -> None:
        """Raises NoStoreError, EmptyStoreError, UnreadableStoreError, StoreVersionError, and
        StoreDamagedError."""
        require_readable(path)
        self.path = path
        self._yielding = Yielding(path)
        self.damage: list[str] = []
        committed = self._committed(path / HEAD_NAME)
        self.reader = open_reader(path)
        entries = FolderCatalog(path).entries()
        start, facts = self.reader.start_of(entries[0]), self.reader.describe(entries[-1])
        if start is None or facts is None:
            raise StoreError(f"segments of {path} went away meanwhile", hint="try again")
        self.store_id = start.store_id
        self.first_lsn = start.first_lsn
        self.last_lsn = facts.end.lsn
        self._before_first = start.before.chain
        if self.last_lsn < self.first_lsn:
            raise nothing_in(path)
        if committed > self.last_lsn:
            self.damage.append(
                f"records {self.last_lsn + 1}..{committed} were committed and are missing"
            )

    def _committed(self, head: Path) -> int:
        """How far HEAD says the log was committed; 0 when it does not say. Read before the
        log's own end, which can then only be behind if something is lost."""
        try:
            found = read_head(head)
        except StoreDamagedError as error:
            self.damage.append(error.message)
            return 0
        except OSError as error:
            self.damage.append(f"HEAD cannot be read: {error.strerror}")
            return 0
        return 0 if found is None else found.mark.lsn

    def close(self) -> None:
        self.reader.close()

    def chain_before(self, lsn: int) -> bytes:
        """The link before a record that the store holds."""
        if lsn == 1:
            return genesis(self.store_id)
        if lsn == self.first_lsn:
            return self._before_first
        record = self.record_at(lsn - 1)
        if record is None:
            raise StoreDamagedError(f"record {lsn - 1} is missing")
        return record.chain

    def record_at(self, lsn: int) -> StoredRecord | None:
        """The record of an lsn, without its payload; None when it is not held."""
        if not self.first_lsn <= lsn <= self.last_lsn:
            return None
        found = self.reader.read(lsn, limit=1, limit_bytes=1, payloads=False)
        return found[0] if found and found[0].lsn == lsn else None

    def publishes_from(self, offset: int) -> list[StoredRecord]:
        """Some batches from the one that holds an offset on, no later than `last_lsn`."""
        found, _ = self.reader.publishes(offset, limit=AHEAD_RECORDS, limit_bytes=AHEAD_BYTES)
        return [record for record in found if record.lsn <= self.last_lsn]

    def records(self, first: int, last: int) -> Iterator[list[StoredRecord]]:
        """Records first..last in order, page by page, without their payloads."""
        at = first
        while at <= last:
            page = self.reader.read(at, limit=PAGE_RECORDS, limit_bytes=PAGE_BYTES, payloads=False)
            page = _within(page, at, last)
            yield page
            at = page[-1].lsn + 1
            self._yielding.between_steps()

    def proved_records(self, first: int, last: int) -> Iterator[Proved]:
        """The same with payloads, and with the lsns of those that are not what was committed."""
        at, before = first, self.chain_before(first)
        while at <= last:
            page = self.reader.read_proved(at, before, limit=PAGE_RECORDS, limit_bytes=PAGE_BYTES)
            page.records = _within(page.records, at, last)
            page.changed = [lsn for lsn in page.changed if lsn <= last]
            yield page
            at, before = page.records[-1].lsn + 1, page.records[-1].chain
            self._yielding.between_steps()


def _within(page: list[StoredRecord], at: int, last: int) -> list[StoredRecord]:
    """Those up to `last`. Raises StoreDamagedError when there is none."""
    found = [record for record in page if record.lsn <= last]
    if not found:
        raise StoreDamagedError(
            f"records {at}..{last} cannot be found any more",
            hint="they were dropped meanwhile, or the store is damaged: run verify",
        )
    return found
