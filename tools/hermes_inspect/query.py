"""Pages of a store's records under a filter, forwards and backwards by lsn.

Nothing is loaded that is not shown: a page is found by index or by a bounded walk
(`hermes.log.search`), and says how far it came, so that a caller can show progress, stop,
or go on. Damage is not the end: what cannot be read is told as a `Gap` among the records,
with its exact lsns, and the walk goes on behind it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from hermes import limits
from hermes.broker.subject import matcher
from hermes.errors import StoreDamagedError
from hermes.log.record import Kind, StoredRecord
from hermes.log.schema import INTEGER_MAX
from hermes.log.search import Search, lsn_at_time, search
from hermes_inspect.filters import Filter, fits
from hermes_inspect.model import Gap, Item, RecordView, view_of
from hermes_inspect.store import Store

PAGE_RECORDS: Final = 500
WALK_RECORDS: Final = 2_000
PAGE_BYTES: Final = 8 * limits.MIB


class Page(msgspec.Struct, frozen=True):
    """Some records, ascending. `reached` is where the next page in the same direction begins
    (going up: its first lsn; going down: the lsn before which it ends); `done`: there is
    nothing further that way now."""

    items: list[Item]
    reached: int
    done: bool


class Records:
    """The records of a store that a filter wants."""

    def __init__(self, store: Store, wanted: Filter, *, payloads: bool = False) -> None:
        """`payloads`: also read what messages say; a filter by text does so anyway."""
        self._store = store
        self._reader = store.reader
        self._wanted = wanted
        self._everything = wanted.everything
        self._payloads = payloads or wanted.needs_payloads
        self._search = Search(
            kinds=wanted.effective_kinds,
            keys=wanted.keys,
            first_offset=wanted.first_offset,
            last_offset=wanted.last_offset,
        )
        self.first_lsn, self.end_lsn = self._bounds()

    def _bounds(self) -> tuple[int, int]:
        """The lsns that can fit, first included, end not. Times are found by bisection."""
        wanted = self._wanted
        first, end = wanted.first_lsn or 1, INTEGER_MAX
        if wanted.since_ns is not None:
            first = max(first, lsn_at_time(self._reader, wanted.since_ns))
        if wanted.first_offset is not None:
            # Nothing touches a message before it was published.
            published = self._reader.publish_of(wanted.first_offset)
            first = max(first, published.lsn if published is not None else 1)
        if wanted.last_lsn is not None:
            end = wanted.last_lsn + 1
        # A time may lie in the future, where records are still to come.
        if wanted.until_ns is not None:
            upto = lsn_at_time(self._reader, wanted.until_ns + 1)
            end = min(end, upto) if upto <= self._store.last_lsn else end
        return first, end

    @property
    def end_lsn_now(self) -> int:
        """One after the newest record that can fit, at this moment."""
        return min(self.end_lsn, self._store.last_lsn + 1)

    # ------------------------------------------------------------------------- pages

    def after(self, lsn: int, limit: int = PAGE_RECORDS) -> Page:
        """The next records with an lsn from `lsn` on. Raises StoreError."""
        low = max(lsn, self.first_lsn)
        end = self.end_lsn_now
        if low >= end:
            return Page([], low, done=True)
        items, reached = self._read(low, end, limit, newest_first=False)
        return Page(items, reached, done=reached >= end)

    def before(self, lsn: int, limit: int = PAGE_RECORDS) -> Page:
        """The last records with an lsn below `lsn`, ascending. Raises StoreError."""
        low = max(self.first_lsn, self._store.first_lsn)
        high = min(lsn, self.end_lsn_now)
        if high <= low:
            return Page([], high, done=True)
        items, reached = self._read(low, high, limit, newest_first=True)
        return Page(items[::-1], reached, done=reached <= low)

    def last(self, count: int, *, before_lsn: int = INTEGER_MAX) -> list[Item]:
        """The newest `count` that fit, ascending. Walks back as far as it must."""
        found: list[Item] = []
        page = Page([], before_lsn, done=False)
        while len(found) < count and not page.done:
            page = self.before(page.reached, min(PAGE_RECORDS, count - len(found)))
            found = page.items + found
        return found[-count:]

    def walk(self, from_lsn: int = 1) -> Iterator[Page]:
        """Page after page upwards, to the end that the log has now."""
        page = Page([], from_lsn, done=False)
        while not page.done:
            page = self.after(page.reached, WALK_RECORDS)
            yield page

    # ------------------------------------------------------------------------ inside

    def _read(
        self, low: int, high: int, limit: int, *, newest_first: bool
    ) -> tuple[list[Item], int]:
        """Items in the order of the walk, and the bound that was reached."""
        try:
            records, reached = self._find(low, high, limit, newest_first=newest_first)
        except StoreDamagedError:
            return self._read_around(low, high, limit, newest_first=newest_first)
        items: list[Item] = [v for r in records if (v := self._wants(r)) is not None]
        if self._store.damage:
            span = (reached, high) if newest_first else (low, reached)
            items += self._holes(*span)
            items.sort(key=_lsn_of, reverse=newest_first)
        return items, reached

    def _find(
        self, low: int, high: int, limit: int, *, newest_first: bool
    ) -> tuple[list[StoredRecord], int]:
        if self._search.everything and not newest_first:  # nothing to look for: read on
            records = self._reader.read(
                low, limit=limit, limit_bytes=PAGE_BYTES, payloads=self._payloads
            )
            whole = not records or records[-1].lsn >= high - 1
            return [r for r in records if r.lsn < high], high if whole else records[-1].lsn + 1
        return search(
            self._reader,
            self._search,
            from_lsn=low,
            before_lsn=high,
            newest_first=newest_first,
            limit=limit,
            limit_bytes=PAGE_BYTES,
            payloads=self._payloads,
        )

    def _wants(self, record: StoredRecord) -> RecordView | None:
        view = view_of(record)
        if self._everything:
            return view
        if not fits(self._wanted, view):
            return None
        if self._wanted.about_subjects and view.consumer and not self._is_about(view):
            return None
        return view

    def _is_about(self, view: RecordView) -> bool:
        """Whether one of the messages that a settlement is about has a wanted subject."""
        keys = matcher(self._wanted.subjects)
        return any(
            self._reader.publishes(
                first, limit=1, limit_bytes=1, keys=keys, before_offset=last + 1
            )[0]
            for first, last in view.ranges
        )

    # ------------------------------------------------------------------------ damage

    def _holes(self, low: int, high: int) -> list[Gap]:
        """What is missing between segments, as far as it begins in low..high-1."""
        gaps = []
        expected = None
        for entry in self._reader.entries():
            if expected is not None and expected < entry.first_lsn and low <= expected < high:
                record = self._one(entry.first_lsn)
                if not isinstance(record, StoredRecord) or record.kind != Kind.LOST:
                    why = "a segment is missing or cannot be read"
                    gaps.append(Gap(expected, entry.first_lsn - 1, why))
            facts = self._reader.describe(entry)
            expected = None if facts is None else facts.last_lsn + 1
        head = self._store.head_lsn
        if (
            expected is not None
            and head is not None
            and expected <= head
            and low < expected <= high
        ):
            gaps.append(Gap(expected, head, "they were committed, and the log ends before them"))
        return gaps

    def _read_around(
        self, low: int, high: int, limit: int, *, newest_first: bool
    ) -> tuple[list[Item], int]:
        """Record by record, for a part of the log that is damaged."""
        items: list[Item] = []
        at = high - 1 if newest_first else low
        step = -1 if newest_first else 1
        for _ in range(limit):
            if not low <= at < high:
                break
            found = self._one(at)
            if isinstance(found, StoredRecord):
                view = self._wants(found)
                if view is not None:
                    items.append(view)
                at += step
            elif found is None:
                at += step
            else:
                other = self._end_of_damage(at, low if newest_first else high - 1, step)
                first, last = min(at, other), max(at, other)
                items.append(Gap(first, last, found.message))
                at = other + step
        return items, at + 1 if newest_first else at

    def _end_of_damage(self, at: int, bound: int, step: int) -> int:
        """The last unreadable lsn of a run that begins at `at` and goes towards `bound`."""
        bad, good, width = at, at + step, 1
        while (good - bound) * step <= 0 and isinstance(self._one(good), StoreDamagedError):
            bad, width = good, width * 2
            good = bad + step * width
        if (good - bound) * step > 0:
            good = bound + step
        while (good - bad) * step > 1:
            middle = (bad + good) // 2
            if isinstance(self._one(middle), StoreDamagedError):
                bad = middle
            else:
                good = middle
        return bad

    def _one(self, lsn: int) -> StoredRecord | StoreDamagedError | None:
        try:
            records = self._reader.read(lsn, limit=1, limit_bytes=1, payloads=self._payloads)
        except StoreDamagedError as error:
            return error
        return records[0] if records and records[0].lsn == lsn else None


def _lsn_of(item: Item) -> int:
    return item.first_lsn if isinstance(item, Gap) else item.lsn
