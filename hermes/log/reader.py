"""Look-ups over every segment of a store.

Each look-up takes the list of segments that is current, opens what it needs, and holds
no transaction after it returns: checkpoints must not starve, rolls must not wait. A
sealed segment does not change, so going from one to the next outside of one transaction
shows nothing that was never there. A segment that is dropped meanwhile is left out.

Offsets, terms and keys are found by index only (`schema.py`); the work of a call is
bounded by its limits, by `RECORD_HULL_MAX` and by the number of segments.

Works beside the writer in the same process (`SqliteLog.reader`) and in another one
(`open_reader`). What happens inside one segment's message line is in `line.py`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import TypeVar

import apsw

from hermes import limits
from hermes.errors import StoreDamagedError, StoreError
from hermes.log import checking, line, schema
from hermes.log.catalog import Entry, FolderCatalog, Source, position_of, position_of_offset
from hermes.log.connections import Connections
from hermes.log.database import explain
from hermes.log.describing import segment_infos
from hermes.log.facts import SegmentFacts, SegmentStart
from hermes.log.held import HeldCache
from hermes.log.kinds import kinds_of_key, kinds_with_offsets
from hermes.log.page import Page
from hermes.log.port import Batch, KeyFilter, SegmentInfo
from hermes.log.record import FIRST_RARE_KIND, StoredRecord
from hermes.log.rows import first_numbers, first_record, numbers, one_record, records, typed
from hermes.log.schema import INTEGER_MAX, PUBLISHED
from hermes.log.segment import read_facts, read_start

_Answer = TypeVar("_Answer")


def open_reader(path: str | Path, *, vfs: str = "", tolerant: bool = False) -> SqliteReader:
    """Read a store from outside: beside a live server, or when none runs. Changes nothing.

    With `tolerant`, segments that cannot be read at all are left out (`SqliteReader.damage`).
    Raises StoreError when there is no store, StoreVersionError for a newer one.
    """
    source = FolderCatalog(Path(path), vfs=vfs, tolerant=tolerant)
    if not source.entries() and not source.damage:
        raise StoreError(f"{path} holds no store", hint="name the folder of a store")
    connections = Connections(vfs=vfs)
    return SqliteReader(
        source, connections, line.Filters(), on_close=connections.close, damage=source.damage
    )


def _nothing() -> None:
    """What closing a reader of a shared pool does."""


class SqliteReader:
    """The LogReader of SQLite segments. Cheap: connections and filters are shared."""

    def __init__(
        self,
        source: Source,
        connections: Connections,
        filters: line.Filters,
        on_close: Callable[[], None] = _nothing,
        damage: Mapping[int, StoreError] | None = None,
        held: HeldCache | None = None,
    ) -> None:
        self.damage: Mapping[int, StoreError] = damage or {}
        self._source = source
        self._connections = connections
        self._on_close = on_close
        self._filters = filters
        self._held = held or HeldCache()

    def close(self) -> None:
        self._on_close()

    def rest(self) -> None:
        """Hold nothing while waiting: a server that seals a segment waits for connections to it.

        For who reads from outside; look-ups go on as before.
        """
        self._connections.rest()

    # ------------------------------------------------------------------ by lsn

    def read(
        self, from_lsn: int, *, limit: int, limit_bytes: int, payloads: bool = True
    ) -> list[StoredRecord]:
        return self._page(
            schema.READ if payloads else schema.READ_BARE, from_lsn, limit, limit_bytes
        )

    def read_proved(
        self, from_lsn: int, before: bytes, *, limit: int, limit_bytes: int
    ) -> checking.Proved:
        """As `read`, each record recomputed; `before` is the link in front of `from_lsn`."""
        salted = self._page(schema.READ_SALTED, from_lsn, limit, limit_bytes)
        return checking.prove_in_turn(salted, from_lsn, before)

    def _page(self, sql: str, from_lsn: int, limit: int, limit_bytes: int) -> list[StoredRecord]:
        page = Page(limit, limit_bytes)

        def gather(db: apsw.Connection) -> bool:
            for record in records(db, sql, (from_lsn, page.room)):
                if not page.take(record):
                    return False
            return not page.full

        entries = self._source.entries()
        for entry in _sound(entries[position_of(entries, from_lsn) :]):
            if self.look(entry, gather) is False:
                break
        return page.records

    def latest(self, kind: int, *, at_or_before_lsn: int | None = None) -> StoredRecord | None:
        if kind < FIRST_RARE_KIND:
            raise ValueError(f"kind {kind} travels with messages; its newest is not looked up")
        upto = INTEGER_MAX if at_or_before_lsn is None else at_or_before_lsn

        def newest(db: apsw.Connection) -> StoredRecord | None:
            return first_record(db, schema.LATEST, (kind, upto))

        entries = self._source.entries()
        for entry in reversed(_sound(entries[: position_of(entries, upto) + 1])):
            found = self.look(entry, newest)
            if found is not None:
                return found
        return None

    # --------------------------------------------------------------- by offset

    def publishes(
        self,
        from_offset: int,
        *,
        limit: int,
        limit_bytes: int,
        keys: KeyFilter | None = None,
        before_offset: int | None = None,
    ) -> tuple[list[StoredRecord], int]:
        before = INTEGER_MAX if before_offset is None else before_offset
        page = Page(limit, limit_bytes)
        at = from_offset
        entries = self._source.entries()
        for entry in entries[position_of_offset(entries, from_offset) :]:
            at = max(at, min(entry.base_offset, before))  # what lies between was lost
            if page.full or at >= before:
                break
            if entry.damage and entry.facts is not None and entry.facts.messages_from(at):
                if page.records or at > from_offset:
                    break  # what lies in front of it is answered first
                raise entry.damaged(entry.damage)
            if entry.damage:
                continue

            def gather(db: apsw.Connection, entry: Entry = entry, at: int = at) -> tuple[int, bool]:
                ids = None if keys is None else self._filters.ids(db, entry.first_lsn, keys)
                taken = len(page.records)
                at, whole = line.publishes_in(db, ids, at, before, page)
                checking.prove(db, entry, page.records[taken:])
                if whole:
                    checking.check_line_end(entry, at, before)
                return at, whole

            answer = self.look(entry, gather)
            if answer is None:
                continue
            at, whole = answer
            if not whole:
                break
        return page.records, at

    def batches(
        self, from_offset: int, *, before_offset: int | None = None, limit: int
    ) -> list[Batch]:
        before = INTEGER_MAX if before_offset is None else before_offset
        found: list[Batch] = []
        entries = self._source.entries()
        for entry in entries[position_of_offset(entries, from_offset) :]:
            if len(found) >= limit or entry.base_offset >= before:
                break
            room = limit - len(found)

            def walk(db: apsw.Connection, room: int = room) -> list[Batch]:
                start = line.batch_from(db, from_offset)
                if start is None:
                    return []
                return [
                    typed(row, Batch)
                    for row in db.execute(schema.BATCHES, (start[1], before, room))
                ]

            found += self.look(entry, walk) or []
        return found

    def publish_of(self, offset: int) -> StoredRecord | None:
        def find(db: apsw.Connection) -> list[StoredRecord]:
            batch = line.batch_at(db, offset)
            records = [] if batch is None else _fetch(db, [batch[0]])
            checking.prove(db, entry, records)
            return records

        entries = self._source.entries()
        if not entries:
            return None
        entry = entries[position_of_offset(entries, offset)]
        found = self.look(entry, find)
        return found[0] if found else None

    def touching(self, offset: int, *, after_lsn: int = 0, limit: int) -> list[StoredRecord]:
        def find(db: apsw.Connection) -> list[int]:
            lsns = []
            batch = line.batch_at(db, offset)
            if batch is not None and batch[0] > after_lsn:
                lsns.append(batch[0])
            lowest = offset - limits.RECORD_HULL_MAX + 1
            for kind in kinds_with_offsets(db):
                if kind != PUBLISHED:
                    bounds = (kind, lowest, offset, offset, after_lsn)
                    lsns.extend(lsn for (lsn,) in numbers(db, schema.TOUCHING, bounds))
            return sorted(lsns)

        entries = self._source.entries()
        within = [
            entry
            for entry in entries[position_of(entries, after_lsn + 1) :]
            if entry.facts is None or entry.facts.may_touch(offset)
        ]
        return self._by_lsn(within, find, limit)

    def count_messages(self, from_offset: int, keys: KeyFilter | None = None) -> int:
        return self.count_each([(from_offset, keys)])[0]

    def count_each(self, asked: Sequence[tuple[int, KeyFilter | None]]) -> list[int]:
        counts = dict.fromkeys(asked, 0)
        entries = self._source.entries()
        for entry, behind in zip_longest(entries, entries[1:]):
            begun = [one for one in counts if behind is None or one[0] < behind.base_offset]
            if entry.damage and entry.facts is not None:
                found = {one: entry.facts.messages_from(one[0]) for one in begun}
            elif begun:
                found = self.look(entry, partial(self._filters.counts, entry, begun)) or {}
            else:
                found = {}
            for one, count in found.items():
                counts[one] += count
        return [counts[one] for one in asked]

    def offset_at_time(self, at_ns: int) -> int | None:
        for entry in self._source.entries():
            if entry.damage and entry.facts is not None:
                if entry.facts.messages_from(0) and entry.facts.last_at_ns >= at_ns:
                    return entry.facts.first_offset
                continue
            offset = self.look(entry, lambda db: line.offset_at_time_in(db, at_ns))
            if offset is not None:
                return offset
        return None

    # ------------------------------------------------------------ by term, key

    def with_term(self, term: int, *, limit: int) -> list[StoredRecord]:
        def find(db: apsw.Connection) -> list[int]:
            return [lsn for (lsn,) in numbers(db, schema.LSNS_OF_TERM, (term, limit))]

        return self._by_lsn(self._source.entries(), find, limit)

    def of_key(
        self, key: str, *, kinds: Collection[int] | None = None, after_lsn: int = 0, limit: int
    ) -> list[StoredRecord]:
        def find(db: apsw.Connection) -> Iterable[int]:
            row = first_numbers(db, schema.KEY_ID, (key,))
            if row is None:
                return []
            wanted = kinds_of_key(db, row[0]) if kinds is None else sorted(set(kinds))
            lines = [
                [n for (n,) in numbers(db, schema.LSNS_OF_KEY, (row[0], kind, after_lsn, limit))]
                for kind in wanted
            ]
            return heapq.merge(*lines)

        entries = self._source.entries()
        return self._by_lsn(entries[position_of(entries, after_lsn + 1) :], find, limit)

    # ------------------------------------------------------------- of segments

    def entries(self) -> tuple[Entry, ...]:
        """The segments there are now, oldest first. Raises StoreError."""
        return self._source.entries()

    def segments(
        self, *, subjects: bool = True, without: Collection[int] = ()
    ) -> list[SegmentInfo]:
        """All segments but `without` (first lsns), oldest first, the active one last.

        Without `subjects` theirs are empty, and the cost of each is a few look-ups.
        """
        return segment_infos(self, self._held, subjects=subjects, without=without)

    def start_of(self, entry: Entry) -> SegmentStart | None:
        """Store, first lsn and the mark before a segment; None if it is gone."""
        return self.look(entry, lambda db: read_start(db, entry.path.name))

    def describe(self, entry: Entry) -> SegmentFacts | None:
        """What one segment holds at this moment; None if it is gone."""

        def facts(db: apsw.Connection) -> SegmentFacts:
            return read_facts(db, read_start(db, entry.path.name))

        return self.look(entry, facts)

    def subjects(self, entry: Entry) -> tuple[str, ...]:
        """Keys of one segment's PUBLISHED records, sorted; empty if it is gone."""

        def find(db: apsw.Connection) -> list[str]:
            return sorted(text for (text,) in db.execute(schema.SUBJECTS))

        return tuple(self.look(entry, find) or ())

    # ------------------------------------------------- for look-ups of other modules

    def look(self, entry: Entry, question: Callable[[apsw.Connection], _Answer]) -> _Answer | None:
        """Ask one segment, in one transaction; None if it was dropped.

        Raises SegmentDamagedError if it is sealed and damaged, StoreError. What else the
        question raises is its own fault, and passes.
        """
        if entry.damage:
            raise entry.damaged(entry.damage)
        try:
            with self._connections.borrow(entry.path) as db:
                return checking.ask(db, question)
        except apsw.CantOpenError as error:
            if any(other.first_lsn == entry.first_lsn for other in self._source.entries()):
                raise explain(error, str(entry.path)) from error
            return None
        except (apsw.Error, OSError, UnicodeDecodeError, StoreDamagedError) as error:
            # It may have been sealed since this list of segments was taken.
            now = {other.first_lsn: other for other in self._source.entries()}
            sealed = now.get(entry.first_lsn, entry)
            if sealed.facts is not None and checking.is_damage(error):
                raise checking.told(sealed, error) from error
            if isinstance(error, apsw.Error | OSError):
                raise explain(error, str(entry.path)) from error
            raise

    def matching_ids(self, db: apsw.Connection, entry: Entry, keys: KeyFilter) -> set[int]:
        """Ids of a segment's dictionary that match a filter; inside `look`."""
        return self._filters.ids(db, entry.first_lsn, keys)

    # ----------------------------------------------------------------- insides

    def _by_lsn(
        self,
        entries: Iterable[Entry],
        find: Callable[[apsw.Connection], Iterable[int]],
        limit: int,
    ) -> list[StoredRecord]:
        """Records whose lsns `find` names in each segment, up to a number in all."""
        records: list[StoredRecord] = []
        for entry in _sound(entries):
            if len(records) >= limit:
                break
            room = limit - len(records)

            def fetch(db: apsw.Connection, room: int = room) -> list[StoredRecord]:
                return _fetch(db, list(find(db))[:room])

            records += self.look(entry, fetch) or []
        return records


def _sound(entries: Iterable[Entry]) -> list[Entry]:
    return [entry for entry in entries if not entry.damage]


def _fetch(db: apsw.Connection, lsns: Iterable[int]) -> list[StoredRecord]:
    return [one_record(db, schema.RECORD, (lsn,)) for lsn in lsns]
