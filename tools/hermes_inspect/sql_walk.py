"""Reading records for SQL: page by page, as the log was when the statement began.

Damage is not the end: what cannot be read is told once, with its exact lsns, and the walk
goes on behind it (`query.py` finds out where).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from hermes import limits
from hermes.broker.ranges import Range
from hermes.errors import StoreDamagedError
from hermes.log.record import StoredRecord
from hermes.log.search import Search, search
from hermes.log.touching import touching_any
from hermes_inspect.filters import Filter
from hermes_inspect.model import Gap
from hermes_inspect.query import Records
from hermes_inspect.store import Store

# A statement may want a few records only: pages begin small.
FIRST_PAGE_RECORDS: Final = 32
PAGE_RECORDS: Final = 2_000
PAGE_BYTES: Final = 8 * limits.MIB


class Walk:
    """The records of a store up to the newest of now. `gaps` are told by `on_gap` too."""

    def __init__(
        self,
        store: Store,
        on_gap: Callable[[Gap], None],
        pause: Callable[[], None] = lambda: None,
    ) -> None:
        """`pause` is called while nothing is held. Raises StoreError."""
        self.reader = store.reader
        self.last_lsn = store.last_lsn
        self._store = store
        self._on_gap = on_gap
        self._gaps: set[Gap] = set()
        self.pause = pause

    def records(
        self,
        wanted: Search,
        lsns: Sequence[Range],
        check: Callable[[], None],
        *,
        newest_first: bool = False,
        payloads: bool = False,
    ) -> Iterator[list[StoredRecord]]:
        """Pages of what is wanted within ranges of lsns, which are ascending.

        Raises StoreError, and what `check` raises.
        """
        for first, last in reversed(lsns) if newest_first else lsns:
            low, high = first, min(last, self.last_lsn) + 1
            limit = FIRST_PAGE_RECORDS
            while low < high:
                check()
                page, reached = self._page(wanted, low, high, limit, newest_first, payloads)
                if not low < reached < high:  # the end, or nothing further is held
                    reached = low if newest_first else high
                else:
                    self._rest()
                yield page
                limit = min(PAGE_RECORDS, limit * 4)
                low, high = (low, reached) if newest_first else (reached, high)

    def _rest(self) -> None:
        """A server that seals a segment must not wait for us."""
        self.reader.rest()
        self.pause()

    def touching_any(
        self, part: Sequence[Range], kinds: frozenset[int], check: Callable[[], None]
    ) -> Iterator[StoredRecord]:
        """What touches one of some ranges of offsets (`hermes.log.touching`), each once."""
        before, told = self.last_lsn + 1, 0
        try:
            found = touching_any(
                self.reader, part, kinds=kinds, before_lsn=before, payloads=False, check=check
            )
            for page in found:
                self._rest()
                for record in page:
                    told = record.lsn
                    yield record
        except StoreDamagedError:
            # What can be read behind the damage, by a walk that knows its way around it.
            wanted = Search(kinds=kinds, first_offset=part[0][0], last_offset=part[-1][1])
            for page in self.records(wanted, [(told + 1, self.last_lsn)], check):
                yield from page

    def _page(
        self, wanted: Search, low: int, high: int, limit: int, newest_first: bool, payloads: bool
    ) -> tuple[list[StoredRecord], int]:
        try:
            if wanted.everything and not newest_first:  # nothing to look for: read on
                found = self.reader.read(
                    low, limit=limit, limit_bytes=PAGE_BYTES, payloads=payloads
                )
                reached = found[-1].lsn + 1 if found else high
                return [record for record in found if record.lsn < high], reached
            return search(
                self.reader,
                wanted,
                from_lsn=low,
                before_lsn=high,
                newest_first=newest_first,
                limit=limit,
                limit_bytes=PAGE_BYTES,
                payloads=payloads,
            )
        except StoreDamagedError:
            return self._around(wanted, low, high, limit, newest_first, payloads)

    def _around(
        self, wanted: Search, low: int, high: int, limit: int, newest_first: bool, payloads: bool
    ) -> tuple[list[StoredRecord], int]:
        records = Records(self._store, Filter(first_lsn=low, last_lsn=high - 1), payloads=payloads)
        page = records.before(high, limit) if newest_first else records.after(low, limit)
        found = []
        for item in page.items:
            if not isinstance(item, Gap):
                if fits(wanted, item.record):
                    found.append(item.record)
            elif item not in self._gaps:
                self._gaps.add(item)
                self._on_gap(item)
        return found[::-1] if newest_first else found, page.reached


def fits(wanted: Search, record: StoredRecord) -> bool:
    """Whether a search wants a record. Of keys only by name."""
    if wanted.kinds is not None and record.kind not in wanted.kinds:
        return False
    if wanted.names is not None and record.key not in wanted.names:
        return False
    if not wanted.by_offset:
        return True
    lowest, highest = wanted.offsets
    first, last = record.first, record.last
    return first is not None and last is not None and first <= highest and last >= lowest
