"""Custody, written: what the walk over the range spilled, and the history before it.

A row tells the whole story of a message for a consumer, also of what happened before the
range began. So when the range does not begin where the log does, the part of the log
that holds the story of what was unsettled then is read again (`History`), up to the
oldest of it. A whole export needs none.

Then window after window: its ops are read, replayed on a board per consumer, some
consumers at a time, and written. Memory is bounded by the window and `OWNERS_AT_ONCE`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from hermes.broker.recovery import recover
from hermes.broker.state import State
from hermes.log.record import Kind, StoredRecord
from hermes_inspect.custody import (
    PUBLISH,
    RETIRE,
    WINDOW_OFFSETS,
    Op,
    Owner,
    Tracker,
    publish_op,
    retirements,
    settlements,
)
from hermes_inspect.custody_board import Board, Window
from hermes_inspect.custody_spill import Spill
from hermes_inspect.export_arrow import TableWriter, concat, custody_table
from hermes_inspect.export_folder import OutputFolder
from hermes_inspect.export_plan import DAY_NS, Plan, Progress, Watcher, date_of
from hermes_inspect.export_source import Source
from hermes_inspect.rows import SETTLEMENTS, parse_body

OWNERS_AT_ONCE: Final = 16
WRITTEN_ROWS_MIN: Final = 65_536  # gathered of several consumers before they are written
FILE_ROWS: Final = 4_000_000
FILE_WINDOWS: Final = 16


def state_before(source: Source, first_lsn: int) -> State | None:
    """The broker's state when a range begins; None when the log begins with it.

    Of a log whose beginning was dropped: as of the snapshot that it now begins with.
    """
    if first_lsn == 1:
        return None
    if first_lsn <= source.first_lsn + 1 and source.first_lsn > 1:
        snapshot = source.record_at(source.first_lsn + 1)
        if snapshot is None or snapshot.kind != Kind.SNAPSHOT:
            return None
        return recover(source.reader, upto_lsn=snapshot.lsn).state
    return recover(source.reader, upto_lsn=first_lsn - 1).state


def oldest_of_interest(state: State, tracker: Tracker) -> int:
    """The lowest offset that a range may change: unsettled before it, or touched in it."""
    lowest = state.next_offset if tracker.lowest is None else tracker.lowest
    for consumer in state.consumers.values():
        held = (consumer.leases.first(), consumer.waiting.first(), consumer.dead.first())
        lowest = min(lowest, consumer.position, *(first for first in held if first is not None))
    return lowest


class History:
    """What happened before the range to messages that were unsettled when it began."""

    def __init__(self, folder: OutputFolder, source: Source, plan: Plan, tracker: Tracker) -> None:
        self._source = source
        self._plan = plan
        self._tracker = tracker
        self._numbers = tracker.seeded()
        self.spill = Spill(folder.work / "history")
        self.spill.cut_back({})

    def run(self, state: State, watcher: Watcher) -> None:
        """`state` is the broker's when the range begins."""
        lowest = oldest_of_interest(state, self._tracker)
        first, last = self._plan.first_lsn, self._plan.first_lsn - 1
        if lowest < state.next_offset:
            record = self._source.reader.publish_of(lowest)
            first = self._source.first_lsn if record is None else record.lsn
        if first <= last:
            watcher.begin("history", last - first + 1)
            for page in self._source.records(first, last):
                for found in page:
                    self.spill.add(self._ops(found, lowest))
                watcher.advance(len(page), 0)
        # After their history: what the broker held when the range began.
        self.spill.add(Tracker().seed(state))
        self.spill.flush()

    def _ops(self, record: StoredRecord, lowest: int) -> list[Op]:
        kind = record.kind
        if kind == Kind.PUBLISHED:
            assert record.last is not None
            return [publish_op(record, parse_body(record))] if record.last >= lowest else []
        if kind in SETTLEMENTS:
            number = self._numbers.get(record.key or "")
            if number is None or record.lsn < self._tracker.owners[number].created_lsn:
                return []
            return settlements(record, parse_body(record), number)
        if kind in (Kind.SEGMENT_COMPACTED, Kind.PAYLOAD_ERASED):
            return retirements(record, parse_body(record))
        return []


class CustodyWriter:
    """custody/, window after window from where `progress` stands."""

    def __init__(
        self,
        folder: OutputFolder,
        plan: Plan,
        progress: Progress,
        history: Spill,
        ranged: Spill,
    ) -> None:
        self._folder = folder
        self._plan = plan
        self._progress = progress
        self._spills = (history, ranged)
        self._subject_fits = plan.options.subject_fits()
        self._open: dict[int, tuple[TableWriter, int]] = {}  # day -> writer, first offset

    def run(self, end_ns: int, watcher: Watcher) -> None:
        """`end_ns` is the time of the range's last record: the date of what has no other."""
        windows = sorted(self._spills[0].windows() | self._spills[1].windows())
        windows = [w for w in windows if w >= self._progress.next_window]
        watcher.begin("custody", len(windows))
        for number in windows:
            rows = self._write_window(number, end_ns)
            watcher.advance(1, rows)
            self._close_what_is_done(number, number == windows[-1])

    def _write_window(self, number: int, end_ns: int) -> int:
        window, retired = self._load(number)
        spans = window.spans(DAY_NS, end_ns)
        wanted = self._wanted(window)
        owners = self._progress.tracker.owners
        rows = 0
        for at in range(0, len(owners), OWNERS_AT_ONCE):
            boards = {
                at + n: Board(window, owner, self._plan.first_lsn)
                for n, owner in enumerate(owners[at : at + OWNERS_AT_ONCE])
            }
            for op in self._ops(number):
                if op[0] != PUBLISH and op[0] != RETIRE:
                    board = boards.get(op[5])
                    if board is not None:
                        board.apply(op)
            for board in boards.values():
                board.finish(retired)
            for begin, end, day in spans:
                rows += self._write_span(boards, window, begin, end, day, wanted)
        return rows

    def _write_span(
        self,
        boards: dict[int, Board],
        window: Window,
        begin: int,
        end: int,
        day: int,
        wanted: bytes | None,
    ) -> int:
        rows, waiting = 0, 0
        tables: list[Any] = []
        for board in boards.values():
            table, omitted = custody_table(
                board,
                begin,
                end,
                self._wanted_of(board.owner, window, wanted),
                self._plan.last_lsn,
                all_rows=self._plan.whole,
            )
            self._progress.count("custody", table.num_rows, omitted)
            rows += table.num_rows
            if table.num_rows:
                tables.append(table)
                waiting += table.num_rows
            if waiting >= WRITTEN_ROWS_MIN:
                self._writer(day, window.base + begin).write(concat(tables, "custody"))
                tables, waiting = [], 0
        if tables:
            self._writer(day, window.base + begin).write(concat(tables, "custody"))
        return rows

    def _writer(self, day: int, first_offset: int) -> TableWriter:
        if day not in self._open:
            path = self._folder.temporary(f"custody-{day}")
            self._open[day] = (TableWriter(path, "custody"), first_offset)
        return self._open[day][0]

    def _close_what_is_done(self, number: int, is_last: bool) -> None:
        """Files of a bounded size, cut where the windows say, whatever was interrupted."""
        full = sum(writer.rows for writer, _ in self._open.values()) >= FILE_ROWS
        if not (is_last or full or len(self._open) > 1 or (number + 1) % FILE_WINDOWS == 0):
            return
        progress = self._progress
        progress.files = []
        for day, (writer, first_offset) in self._open.items():
            writer.close()
            progress.files.append(
                self._folder.publish(
                    self._folder.work / f"custody-{day}.tmp",
                    "custody",
                    date_of(day),
                    f"{self._plan.last_lsn:020d}-{first_offset:020d}.parquet",
                    writer.rows,
                )
            )
        self._open.clear()
        progress.next_window = number + 1
        self._folder.log(msgspec.json.encode(progress))

    def abandon(self) -> None:
        """Leave unfinished files to be made again."""
        for writer, _ in self._open.values():
            writer.close()

    def _ops(self, number: int) -> Iterator[Op]:
        for spill in self._spills:
            yield from spill.read(number)

    def _load(self, number: int) -> tuple[Window, list[Op]]:
        publishes: dict[int, Op] = {}
        retired: list[Op] = []
        highest = -1
        for op in self._ops(number):
            highest = max(highest, op[4])
            if op[0] == PUBLISH:
                publishes[op[3]] = op
            elif op[0] == RETIRE:
                retired.append(op)
        base = number * WINDOW_OFFSETS
        ordered = [publishes[first] for first in sorted(publishes)]
        return Window(base, highest - base + 1, ordered), retired

    def _wanted(self, window: Window) -> bytes | None:
        """Which entries the filters by subject and time let through; None for all."""
        options = self._plan.options
        if not options.subjects and options.since_ns is None and options.until_ns is None:
            return None
        wanted = bytearray(window.size)
        for _, _, at_ns, first, last, subject, _ in window.publishes:
            if self._subject_fits(subject) and options.time_fits(at_ns):
                a, b = first - window.base, last - window.base + 1
                wanted[a:b] = b"\1" * (b - a)
        return bytes(wanted)

    def _wanted_of(self, owner: Owner, window: Window, wanted: bytes | None) -> bytes | None:
        consumers = self._plan.options.consumers
        if consumers and owner.name not in consumers:
            return bytes(window.size)
        return wanted
