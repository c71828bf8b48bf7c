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
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import apsw

from hermes import limits
from hermes.errors import StoreError
from hermes.log import line, schema
from hermes.log.catalog import Entry, FolderCatalog, Source, position_of, position_of_offset
from hermes.log.connections import Connections
from hermes.log.database import explain, fetch_one
from hermes.log.facts import SegmentFacts, SegmentStart
from hermes.log.held import Held, HeldCache, file_bytes, read_held
from hermes.log.page import Page
from hermes.log.port import Batch, KeyFilter, SegmentInfo
from hermes.log.record import FIRST_RARE_KIND, StoredRecord
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
        sql = schema.READ if payloads else schema.READ_BARE
        page = Page(limit, limit_bytes)

        def gather(db: apsw.Connection) -> bool:
            for row in db.execute(sql, (from_lsn, page.room)):
                if not page.take(StoredRecord(*row)):
                    return False
            return not page.full

        entries = self._source.entries()
        for entry in entries[position_of(entries, from_lsn) :]:
            if self.look(entry, gather) is False:
                break
        return page.records

    def latest(self, kind: int, *, at_or_before_lsn: int | None = None) -> StoredRecord | None:
        if kind < FIRST_RARE_KIND:
            raise ValueError(f"kind {kind} travels with messages; its newest is not looked up")
        upto = INTEGER_MAX if at_or_before_lsn is None else at_or_before_lsn

        def newest(db: apsw.Connection) -> StoredRecord | None:
            row = db.execute(schema.LATEST, (kind, upto)).fetchone()
            return None if row is None else StoredRecord(*row)

        entries = self._source.entries()
        for entry in reversed(entries[: position_of(entries, upto) + 1]):
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

            def gather(db: apsw.Connection, entry: Entry = entry, at: int = at) -> tuple[int, bool]:
                ids = None if keys is None else self._filters.ids(db, entry.first_lsn, keys)
                return line.publishes_in(db, ids, at, before, page)

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
                return [Batch(*row) for row in db.execute(schema.BATCHES, (start[1], before, room))]

            found += self.look(entry, walk) or []
        return found

    def publish_of(self, offset: int) -> StoredRecord | None:
        def find(db: apsw.Connection) -> list[StoredRecord]:
            batch = line.batch_at(db, offset)
            return [] if batch is None else _fetch(db, [batch[0]])

        entries = self._source.entries()
        if not entries:
            return None
        found = self.look(entries[position_of_offset(entries, offset)], find)
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
                    lsns.extend(row[0] for row in db.execute(schema.TOUCHING, bounds))
            return sorted(lsns)

        entries = self._source.entries()
        within = [
            entry
            for entry in entries[position_of(entries, after_lsn + 1) :]
            if _may_touch(entry, offset)
        ]
        return self._by_lsn(within, find, limit)

    def count_messages(self, from_offset: int, keys: KeyFilter | None = None) -> int:
        count = 0
        entries = self._source.entries()
        for entry in entries[position_of_offset(entries, from_offset) :]:

            def add(db: apsw.Connection, entry: Entry = entry) -> int:
                ids = None if keys is None else self._filters.ids(db, entry.first_lsn, keys)
                return line.count_in(db, ids, from_offset)

            count += self.look(entry, add) or 0
        return count

    def offset_at_time(self, at_ns: int) -> int | None:
        for entry in self._source.entries():
            offset = self.look(entry, lambda db: line.offset_at_time_in(db, at_ns))
            if offset is not None:
                return offset
        return None

    # ------------------------------------------------------------ by term, key

    def with_term(self, term: int, *, limit: int) -> list[StoredRecord]:
        def find(db: apsw.Connection) -> list[int]:
            return [row[0] for row in db.execute(schema.LSNS_OF_TERM, (term, limit))]

        return self._by_lsn(self._source.entries(), find, limit)

    def of_key(
        self, key: str, *, kinds: Collection[int] | None = None, after_lsn: int = 0, limit: int
    ) -> list[StoredRecord]:
        def find(db: apsw.Connection) -> Iterable[int]:
            row = db.execute(schema.KEY_ID, (key,)).fetchone()
            if row is None:
                return []
            wanted = kinds_of_key(db, row[0]) if kinds is None else sorted(set(kinds))
            lines = [
                [n for (n,) in db.execute(schema.LSNS_OF_KEY, (row[0], kind, after_lsn, limit))]
                for kind in wanted
            ]
            return heapq.merge(*lines)

        entries = self._source.entries()
        return self._by_lsn(entries[position_of(entries, after_lsn + 1) :], find, limit)

    # ------------------------------------------------------------- of segments

    def entries(self) -> tuple[Entry, ...]:
        """The segments there are now, oldest first. Raises StoreError."""
        return self._source.entries()

    def segments(self, *, subjects: bool = True) -> list[SegmentInfo]:
        """All segments, oldest first, the active one last.

        Without `subjects` theirs are empty, and the cost of each is a few look-ups.
        """
        infos = []
        entries = self._source.entries()
        for entry in entries:
            facts = entry.facts or self.describe(entry)
            if facts is None:
                continue
            sealed = entry is not entries[-1]
            held = self._held_in(entry, facts, sealed=sealed)
            infos.append(
                SegmentInfo(
                    first_lsn=entry.first_lsn,
                    last_lsn=facts.last_lsn,
                    records=facts.records,
                    bytes=file_bytes(entry.path),
                    first_offset=facts.first_offset,
                    last_offset=facts.last_offset,
                    lowest_touched=facts.lowest_touched,
                    highest_touched=facts.highest_touched,
                    first_at_ns=facts.first_at_ns,
                    last_at_ns=facts.last_at_ns,
                    sealed=sealed,
                    subjects=self.subjects(entry) if subjects else (),
                    payload_bytes=held.payload_bytes,
                    compacted_lsn=held.compacted_lsn,
                    retired=held.retired,
                )
            )
        self._held.keep({entry.path for entry in entries})
        return infos

    def _held_in(self, entry: Entry, facts: SegmentFacts, *, sealed: bool) -> Held:
        held = self._held.get(entry.path) if sealed else None
        if held is None:
            held = self.look(entry, lambda db: read_held(db, facts.first_lsn, facts.last_lsn))
            if held is None:  # dropped meanwhile
                return Held(0)
            if sealed:
                self._held.put(entry.path, held)
        return held

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

    def look(self, entry: Entry, ask: Callable[[apsw.Connection], _Answer]) -> _Answer | None:
        """Ask one segment, in one transaction; None if it was dropped. Raises StoreError."""
        try:
            with self._connections.borrow(entry.path) as db:
                return ask(db)
        except apsw.CantOpenError as error:
            if any(other.first_lsn == entry.first_lsn for other in self._source.entries()):
                raise explain(error, str(entry.path)) from error
            return None
        except apsw.Error as error:
            raise explain(error, str(entry.path)) from error

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
        for entry in entries:
            if len(records) >= limit:
                break
            room = limit - len(records)

            def fetch(db: apsw.Connection, room: int = room) -> list[StoredRecord]:
                return _fetch(db, list(find(db))[:room])

            records += self.look(entry, fetch) or []
        return records


def _fetch(db: apsw.Connection, lsns: Iterable[int]) -> list[StoredRecord]:
    return [StoredRecord(*fetch_one(db, schema.RECORD, (lsn,))) for lsn in lsns]


def kinds_with_offsets(db: apsw.Connection) -> Iterator[int]:
    """Kinds of records with offsets, ascending, by hops over the index."""
    row = db.execute(schema.NEXT_KIND, (0,)).fetchone()
    while row is not None:
        yield row[0]
        row = db.execute(schema.NEXT_KIND, row).fetchone()


def kinds_of_key(db: apsw.Connection, key_id: int) -> Iterator[int]:
    row = db.execute(schema.NEXT_KIND_OF_KEY, (key_id, 0)).fetchone()
    while row is not None:
        yield row[0]
        row = db.execute(schema.NEXT_KIND_OF_KEY, (key_id, row[0])).fetchone()


def _may_touch(entry: Entry, offset: int) -> bool:
    facts = entry.facts
    if facts is None:
        return True
    if facts.lowest_touched is None or facts.highest_touched is None:
        return False
    return facts.lowest_touched <= offset <= facts.highest_touched
