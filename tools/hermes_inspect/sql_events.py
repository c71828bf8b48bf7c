"""The table `events`: one row per message and event, found the shortest way.

Which way, is decided by what a statement says of its columns:

- offsets: what touches them, by the index of offsets;
- ids: their messages by the index of terms, then what touches those;
- a consumer: its records, by the index of keys;
- subjects: their publishes by the index of keys; what happened to a message is not under
  its subject, so then what touches those, some messages at a time;
- a few lsns, kinds, or nothing: a walk.

Rows come by lsn on all of them but the ways by ids and by subjects, and several offsets.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Final

from hermes import limits
from hermes.broker.ranges import Range
from hermes.log.record import Kind, StoredRecord, look_up_term
from hermes.log.search import Search
from hermes.log.sql_table import Asked, Condition, Row, Table
from hermes.log.touching import parts
from hermes_inspect.directory import Person
from hermes_inspect.model import view_of
from hermes_inspect.rows import SETTLEMENTS
from hermes_inspect.sessions import Sessions
from hermes_inspect.sql_bounds import (
    ANY,
    SUBJECT_KINDS,
    integers,
    kinds_named,
    known,
    mentions,
    texts,
)
from hermes_inspect.sql_ones import Ones
from hermes_inspect.sql_rows import EVERYWHERE, Window, event_columns, event_rows
from hermes_inspect.sql_walk import Walk

Found = Iterator[tuple[StoredRecord, Range]]

# So few records are walked over rather than looked for by subject.
FEW_RECORDS: Final = 20_000
# Publishes with the same id that are looked up; with more of them the log is walked.
SAME_ID_MAX: Final = 1_000
# Messages whose part of a record is told at once, and how far they may be apart.
NEAR_MESSAGES: Final = 256
TOGETHER_MESSAGES: Final = 4_096
AHEAD_RECORDS: Final = 64  # read at once when a message is looked up
AHEAD_BYTES: Final = limits.MIB


class Events:
    """The events of a store, as a table."""

    def __init__(self, walk: Walk, *, payloads: bool = False) -> None:
        self._walk = walk
        self._payloads = payloads
        self._directory = Window(self._record_at, self._publishes_from)
        self._directory.seed(
            (lsn, Person(who.principal or None, who.peer or None))
            for lsn, who in Sessions(walk.reader).oldest.items()
        )

    def table(self) -> Table:
        return Table(
            name="events",
            about="one row per message and event",
            columns=event_columns(payloads=self._payloads),
            scan=self._scan,
            order=_order,
            rows=10 * self._walk.last_lsn,
        )

    def _record_at(self, lsn: int) -> StoredRecord | None:
        if lsn > self._walk.last_lsn:
            return None
        found = self._walk.reader.read(lsn, limit=1, limit_bytes=1, payloads=False)
        return found[0] if found and found[0].lsn == lsn else None

    def _publishes_from(self, offset: int) -> Sequence[StoredRecord]:
        found, _ = self._walk.reader.publishes(offset, limit=AHEAD_RECORDS, limit_bytes=AHEAD_BYTES)
        return [record for record in found if record.lsn <= self._walk.last_lsn]

    def _scan(self, asked: Asked) -> Iterator[Row]:
        directory = self._directory
        ones = Ones(directory, asked.columns, payloads=self._payloads)
        for record, window in _Hunt(self._walk, asked).found():
            if record.first == record.last and record.kind in ones.kinds:
                yield ones.row(record)
            else:
                yield from event_rows(
                    record, directory, asked.columns, window, payloads=self._payloads
                )
                self._walk.pause()  # a page of batches is millions of rows


def _order(conditions: Sequence[Condition]) -> str:
    """Rows come by lsn, unless one of the unordered ways may be taken."""
    if any((c.column, c.op) == ("message_offset", "in") for c in conditions):
        return ""
    if mentions(conditions, "message_id"):
        return ""
    if mentions(conditions, "subject") and not mentions(conditions, "consumer"):
        kind = known(conditions, "kind")
        kinds = kinds_named(frozenset({kind})) if isinstance(kind, str) else None
        return "lsn" if kinds is not None and kinds <= SUBJECT_KINDS else ""
    return "lsn"


class _Hunt:
    """One scan: the records that are asked for, each with the offsets it is wanted for."""

    def __init__(self, walk: Walk, asked: Asked) -> None:
        self._walk = walk
        self._check = asked.check
        self._newest_first = asked.newest_first
        self._payloads = bool(asked.columns & {"headers", "payload"})
        conditions = asked.conditions
        self._lsns = integers(conditions, "lsn")
        self._offsets = integers(conditions, "message_offset")
        self._kinds = kinds_named(texts(conditions, "kind"))
        self._ids = texts(conditions, "message_id")
        self._consumers = texts(conditions, "consumer")
        self._subjects = texts(conditions, "subject")
        # As `_order` decides it, which sees no values.
        self._by_subject = not mentions(conditions, "consumer")

    def found(self) -> Found:
        if not (self._lsns and self._offsets) or frozenset() in (
            self._kinds,
            self._ids,
            self._consumers,
            self._subjects,
        ):
            return
        if self._offsets != ANY:
            for window in self._offsets:
                yield from self._touching(window)
            return
        if self._ids is not None:
            publishes = self._with_ids(self._ids)
            if publishes is not None:
                yield from self._about(publishes)
                return
        if self._consumers is not None:
            yield from self._search(Search(kinds=self._kinds, names=self._consumers))
        elif self._subjects is not None and self._by_subject and not self._few:
            yield from self._of_subjects(self._subjects)
        else:
            yield from self._search(Search(kinds=self._kinds))

    @property
    def _few(self) -> bool:
        last = min(self._lsns[-1][1], self._walk.last_lsn)
        return last - self._lsns[0][0] < FEW_RECORDS

    def _search(
        self, wanted: Search, lsns: Sequence[Range] | None = None, window: Range = EVERYWHERE
    ) -> Found:
        pages = self._walk.records(
            wanted,
            self._lsns if lsns is None else lsns,
            self._check,
            newest_first=self._newest_first,
            payloads=self._payloads,
        )
        for page in pages:
            for record in page:
                yield record, window

    def _from(self, lsn: int) -> list[Range]:
        """The lsns that are wanted, from one on."""
        return [(max(lsn, first), last) for first, last in self._lsns if last >= lsn]

    # --------------------------------------------------------------- by offset, by id

    def _touching(self, window: Range, kinds: frozenset[int] | None = None) -> Found:
        first, last = window
        # Nothing touches a message before it was published.
        published = self._walk.reader.publish_of(first)
        wanted = Search(
            kinds=self._kinds if kinds is None else kinds,
            names=self._consumers,
            first_offset=first,
            last_offset=last,
        )
        return self._search(wanted, self._from(published.lsn if published else 1), window)

    def _with_ids(self, ids: frozenset[str]) -> list[StoredRecord] | None:
        """Publishes that have one of the ids; None when the index cannot tell."""
        found: dict[int, StoredRecord] = {}
        for text in ids:
            if text.startswith("@"):  # may be the name of a live message without an id
                return None
            same = self._walk.reader.with_term(look_up_term(text), limit=SAME_ID_MAX)
            if len(same) == SAME_ID_MAX:
                return None
            found |= {record.lsn: record for record in same}
        return [found[lsn] for lsn in sorted(found) if lsn <= self._walk.last_lsn]

    def _about(self, publishes: Sequence[StoredRecord]) -> Found:
        """What concerns messages that have one of the ids."""
        offsets: set[int] = set()
        live: dict[str, int] = {}  # subject -> lsn of the first publish
        for record in publishes:
            ids = view_of(record).ids
            if record.first is not None:
                offsets |= {record.first + i for i, text in enumerate(ids) if text in self._ids_set}
            elif record.key is not None:
                live.setdefault(record.key, record.lsn)
                if any(first <= record.lsn <= last for first, last in self._lsns):
                    yield record, EVERYWHERE
        for offset in sorted(offsets):
            yield from self._touching((offset, offset))
        for subject, lsn in live.items():
            wanted = Search(kinds=frozenset({Kind.DELIVERED_LIVE}), names=frozenset({subject}))
            for record, window in self._search(wanted, self._from(lsn)):
                if record.first is None:  # others were found by their offsets
                    yield record, window

    @property
    def _ids_set(self) -> frozenset[str]:
        return self._ids or frozenset()

    # --------------------------------------------------------------------- by subject

    def _of_subjects(self, subjects: frozenset[str]) -> Found:
        kinds = SUBJECT_KINDS if self._kinds is None else self._kinds & SUBJECT_KINDS
        settled = SETTLEMENTS if self._kinds is None else self._kinds & SETTLEMENTS
        if not settled:
            if kinds:
                yield from self._search(Search(kinds=kinds, names=subjects))
            return
        publishes = Search(kinds=kinds | {Kind.PUBLISHED}, names=subjects)
        end = self._lsns[-1][1]
        for page in self._walk.records(publishes, [(1, end)], self._check, payloads=self._payloads):
            for record in page:
                if self._kinds is None or record.kind in self._kinds:
                    yield record, EVERYWHERE
            yield from self._touching_any(offsets_of(page), settled)

    def _touching_any(self, offsets: Sequence[Range], kinds: frozenset[int]) -> Found:
        """What touches one of many ranges of offsets: all of them in one pass."""
        for part in parts(offsets):
            windows = together(part)
            firsts = [first for first, _ in windows]
            for record in self._walk.touching_any(part, kinds, self._check):
                if record.first is None or record.last is None:
                    continue
                at = max(0, bisect_right(firsts, record.first) - 1)
                while at < len(windows) and firsts[at] <= record.last:
                    if windows[at][1] >= record.first:
                        yield record, windows[at]
                    at += 1


def offsets_of(page: Sequence[StoredRecord]) -> list[Range]:
    """The offsets of those that are publishes, ascending."""
    return [
        (record.first, record.last)
        for record in page
        if record.kind == Kind.PUBLISHED and record.first is not None and record.last is not None
    ]


def together(offsets: Sequence[Range]) -> list[Range]:
    """Ranges that lie near each other as one: a record may be about thousands of them."""
    windows: list[Range] = []
    for first, last in offsets:
        if windows:
            begin, end = windows[-1]
            if first - end <= NEAR_MESSAGES and last - begin < TOGETHER_MESSAGES:
                windows[-1] = (begin, last)
                continue
        windows.append((first, last))
    return windows
