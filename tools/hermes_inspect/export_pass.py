"""The walk over the log: records/ and events/ are written, custody's ops are spilled.

One pass in steps. A step is a run of records of one UTC date, and gives one file of each
table, named by its first lsn. Where a step ends follows from the records alone, so the
same range is always cut alike. After each step what was done is remembered, synced; an
interruption costs one step.

Encoding and compressing run on a thread of their own, a row group at a time: Arrow lets
go of the interpreter meanwhile, and the walk goes on.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any, Final

import msgspec

from hermes.log.record import Kind, StoredRecord
from hermes_inspect import export_arrow
from hermes_inspect.custody_spill import Spill
from hermes_inspect.directory import Directory
from hermes_inspect.export_arrow import EventColumns, RecordColumns, TableWriter
from hermes_inspect.export_folder import OutputFolder
from hermes_inspect.export_options import Options
from hermes_inspect.export_plan import DAY_NS, Plan, Progress, Watcher, date_of
from hermes_inspect.export_source import Source
from hermes_inspect.rows import EventRun, event_runs, parse_body

STEP_ROWS: Final = 4_000_000  # of events
STEP_RECORDS: Final = 1_000_000
ROW_GROUPS_WAITING_MAX: Final = 2  # for the thread that encodes

Kept = tuple[Mapping[str, str], ...]


class Step:
    """The files of one step, while they are written."""

    def __init__(self, folder: OutputFolder, first: StoredRecord, workers: ThreadPoolExecutor):
        self.day = first.at_ns // DAY_NS
        self.first_lsn = first.lsn
        self.count = 0
        self.rows = 0  # before filters
        self.omitted = 0  # by filters
        self.last = first
        self.records = RecordColumns()
        self.events = EventColumns()
        self._folder = folder
        self._workers = workers
        self._waiting: list[Future[None]] = []
        self._paths = {name: folder.temporary(name) for name in ("records", "events")}
        self._writers = {name: TableWriter(path, name) for name, path in self._paths.items()}

    def fits(self, record: StoredRecord) -> bool:
        """Whether the record belongs to this step."""
        return (
            record.at_ns // DAY_NS == self.day
            and self.count < STEP_RECORDS
            and self.rows < STEP_ROWS
        )

    def add_record(self, record: StoredRecord) -> None:
        self.records.add(record)
        self.count += 1
        if self.records.cost >= export_arrow.ROW_GROUP_ROWS:
            self._write("records", self.records.take())

    def add_run(self, run: EventRun) -> None:
        self.events.add(run)
        if self.events.cost >= export_arrow.ROW_GROUP_ROWS:
            self._write("events", self.events.take())

    def _write(self, name: str, table: Any) -> None:
        self._waiting.append(self._workers.submit(self._writers[name].write, table))
        while len(self._waiting) > ROW_GROUPS_WAITING_MAX:
            self._waiting.pop(0).result()

    def finish(self, progress: Progress) -> None:
        """Close the files and give them their names."""
        self._write("records", self.records.take())
        self._write("events", self.events.take())
        while self._waiting:
            self._waiting.pop(0).result()
        progress.files = []
        progress.count("events", 0, self.omitted)
        progress.next_lsn = self.last.lsn + 1
        progress.chain_last = self.last.chain.hex()
        for name, writer in self._writers.items():
            writer.close()
            progress.count(name, writer.rows)
            if writer.rows:
                progress.files.append(
                    self._folder.publish(
                        self._paths[name],
                        name,
                        date_of(self.day),
                        f"{self.first_lsn:020d}.parquet",
                        writer.rows,
                    )
                )

    def abandon(self) -> None:
        """Wait for the thread; the files are left to be made again."""
        for future in self._waiting:
            future.cancel()
        for writer in self._writers.values():
            writer.close()


class LogPass:
    """Walks over the range from where `progress` stands to its end."""

    def __init__(
        self,
        folder: OutputFolder,
        source: Source,
        plan: Plan,
        progress: Progress,
        directory: Directory,
    ) -> None:
        self._folder = folder
        self._source = source
        self._plan = plan
        self._progress = progress
        self._directory = directory
        self._fits = plan.options.run_fits()
        self._keep = header_filter(plan.options, progress.headers_dropped)
        self.spill = Spill(folder.work / "range")
        self.spill.cut_back(progress.spilled)
        self._step: Step | None = None

    def run(self, watcher: Watcher) -> None:
        """Raises StoreError when the log cannot be read to the end of the range."""
        progress, plan = self._progress, self._plan
        watcher.begin("records", plan.last_lsn - progress.next_lsn + 1)
        with ThreadPoolExecutor(1, "parquet") as workers:
            try:
                for page in self._source.proved_records(progress.next_lsn, plan.last_lsn):
                    progress.note_changed(page.changed)
                    rows = sum(self._take(record, workers) for record in page.records)
                    watcher.advance(len(page.records), rows)
                self._end_step()
            except BaseException:
                if self._step is not None:
                    self._step.abandon()
                raise

    def _take(self, record: StoredRecord, workers: ThreadPoolExecutor) -> int:
        """Add one record; returns how many rows of events it gave."""
        if self._step is not None and not self._step.fits(record):
            self._end_step()
        if self._step is None:
            self._step = Step(self._folder, record, workers)
        step, progress, options = self._step, self._progress, self._plan.options
        body = parse_body(record)
        self.spill.add(progress.tracker.fold(record, body))
        if record.kind == Kind.SERVER_STARTED and not body.clean_stop:
            progress.unclean_stops.append(record.lsn)
        kept = omitted = 0
        for run in event_runs(
            record,
            body,
            self._directory,
            payloads=options.payloads,
            by_subject=bool(options.subjects),
        ):
            if self._fits is None or self._fits(run):
                if run.headers:
                    self._keep(run)
                kept += run.count
                step.add_run(run)
            else:
                omitted += run.count
        step.add_record(record)
        step.rows += kept + omitted
        step.omitted += omitted
        step.last = record
        return kept

    def _end_step(self) -> None:
        if self._step is None:
            return
        step, self._step = self._step, None
        progress = self._progress
        step.finish(progress)
        gc.collect()  # which rests meanwhile (export.py)
        self.spill.flush(sync=True)
        progress.spilled = self.spill.lengths
        self._folder.log(msgspec.json.encode(progress))


def header_filter(options: Options, dropped: dict[str, int]) -> Callable[[EventRun], None]:
    """What takes the unwanted headers out of a run, and counts them in `dropped`."""
    unwanted = frozenset(options.dropped_headers)

    @lru_cache(maxsize=1024)
    def is_wanted(name: str) -> bool:
        return name.lower() not in unwanted

    def keep(run: EventRun) -> None:
        if all(is_wanted(name) for entries in run.headers for name in entries):
            return
        kept = []
        for entries in run.headers:
            wanted = {}
            for name, value in entries.items():
                lower = name.lower()
                if lower in unwanted:
                    dropped[lower] = dropped.get(lower, 0) + 1
                else:
                    wanted[name] = value
            kept.append(wanted)
        run.headers = kept

    return keep
