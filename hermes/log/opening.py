"""Open a store: lock, look, ask the table, and only then act.

    place -> LOCK -> observe -> plan -> steps (copy WALs, finish what was announced, ...) -> ready

What is found and what is wrong with it: `observing.py`. What is done about it:
`recovery_plan.py`, one table. Here it is done. Up to the plan nothing but LOCK is touched,
so a refused store is left as evidence; but for a seal that was cut off, which is undone
first (`journals.py`), or it could not be read. Each step may be cut off by a kill and is done
again, or found done, by the next opening; a test cuts at each of them.

A WAL is written anew, and copying it (checkpoint TRUNCATE) writes and syncs what it holds:
after a failed sync the page cache may show what the disk does not hold.
"""

from __future__ import annotations

import stat
import uuid
from pathlib import Path

import apsw
import msgspec

from hermes.errors import StoreError, StoreLockedError
from hermes.log import head as head_file
from hermes.log import schema
from hermes.log.bodies import engine_time_of, lost_record
from hermes.log.catalog import Catalog, Entry, StoreLock, list_segments
from hermes.log.chain import genesis
from hermes.log.database import connect, connect_to_read, explain, fetch_one
from hermes.log.facts import Mark
from hermes.log.head import HeadFile, create_head, sync_folder
from hermes.log.journals import roll_back_journals
from hermes.log.observing import Observed, make_folder, observe_content, observe_place
from hermes.log.recovery_plan import Decision, Facts, Lock, Plan, Step, plan_recovery
from hermes.log.segment import (
    ActiveSegment,
    create_segment,
    is_sealed_file,
    read_end,
    read_start,
    remove_files,
)
from hermes.log.wal import write_anew


class OpenReport(msgspec.Struct, frozen=True):
    """What opening found and did, for people. `rule` is the row of the table
    (`recovery_plan.RULES`); `lost` is an accepted loss, inclusive lsns."""

    created: bool
    segments: int
    lost: tuple[int, int] | None = None
    warnings: tuple[str, ...] = ()
    rule: str = ""


class Opened(msgspec.Struct):
    """A store that is ready for its writer. `unsealed` are former active segments.

    `uncompacted` are the first lsns of segments with an announced compaction to carry out.
    """

    lock: StoreLock
    store_id: str
    head: HeadFile
    catalog: Catalog
    active: ActiveSegment
    unsealed: list[Path]
    report: OpenReport
    uncompacted: tuple[int, ...] = ()


def open_store(path: Path, *, at_ns: int, accept_loss: bool = False, vfs: str = "") -> Opened:
    """Open or create a store. `at_ns` is Unix time, for a Lost record.

    Raises StoreLockedError, StoreVersionError, StoreDamagedError, StoreError.
    """
    lock = _lock(path)
    try:
        roll_back_journals((segment for _, segment in list_segments(path)), vfs=vfs)
        observed = observe_content(path, accept_loss=accept_loss, vfs=vfs)
        plan = _plan(observed)
        return _Opening(path, lock, observed, at_ns, vfs).run(plan)
    except (apsw.Error, OSError) as error:
        lock.release()
        raise explain(error, str(path)) from error
    except BaseException:
        lock.release()
        raise


def _lock(path: Path) -> StoreLock:
    """Make the folder if need be, and take its LOCK. Raises StoreError and its kin."""
    try:
        _plan(observe_place(path))
        make_folder(path)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be made: {error.strerror}",
            hint="choose a path that this user may write",
            path=str(path),
        ) from error
    try:
        return StoreLock(path)
    except StoreLockedError as error:
        _plan(Observed(Facts(lock=Lock.HELD), error))
        raise


def _plan(observed: Observed) -> Plan:
    """What to do. Raises what was wrong if that is to refuse."""
    plan = plan_recovery(observed.facts)
    if plan.decision is Decision.REFUSE:
        assert observed.error is not None, plan.rule.name
        raise observed.error
    return plan


class _Opening:
    """The acting part: does the steps of a plan, in order."""

    def __init__(
        self, folder: Path, lock: StoreLock, observed: Observed, at_ns: int, vfs: str
    ) -> None:
        self._folder = folder
        self._head_path = folder / head_file.FILE_NAME
        self._lock = lock
        self._seen = observed.survey
        self._head = observed.head
        self._warnings = observed.warnings
        # Only where there are segments or a HEAD.
        self._end = observed.end if observed.head is not None else None
        self._at_ns = at_ns
        self._vfs = vfs
        # What this run says of the store: HEAD's word, the segments', or a new id.
        self._store_id = str(uuid.uuid4()) if self._head is None else self._head.store_id

    def run(self, plan: Plan) -> Opened:
        for step in plan.steps:
            self._act(step)
        return self._ready(plan)

    def _act(self, step: Step) -> None:
        match step:
            case Step.COPY_WALS:
                self._copy_wals()
            case Step.BEGIN_AFTER_LOSS:
                self._begin_after_loss()
            case Step.FINISH_ANNOUNCED:
                self._finish_drops()
            case Step.CLEAR_STRAYS:
                self._remove_strays()
                sync_folder(self._folder)
            case Step.CREATE_SEGMENT:
                before = Mark(0, 0, genesis(self._store_id))
                create_segment(self._folder, self._store_id, before, (), vfs=self._vfs)
                self._folder.chmod(stat.S_IRWXU)
            case Step.WRITE_HEAD:
                self._write_head()

    # ------------------------------------------------------------------- steps

    def _copy_wals(self) -> None:
        """Write and sync what WALs hold, into their files."""
        for segment in self._seen.segments:
            if segment.damage:
                continue  # it is evidence, and so is what lies beside it
            wal = segment.path.with_name(segment.path.name + "-wal")
            if wal.exists() and wal.stat().st_size:
                write_anew(wal)
                db = connect(segment.path, vfs=self._vfs)
                try:
                    db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
                finally:
                    db.close()

    def _begin_after_loss(self) -> None:
        """The log goes on after HEAD's numbers, chained to HEAD's chain: none is used twice."""
        assert self._head is not None
        assert self._end is not None
        lost = lost_record(self._end, self._head.mark, self._at_ns, self._last_engine_time())
        create_segment(self._folder, self._store_id, self._head.mark, (lost,), vfs=self._vfs)

    def _finish_drops(self) -> None:
        """A SegmentDropped was committed and its file is still there."""
        if self._seen.dropped is not None:
            for segment in self._seen.segments[:-1]:
                if segment.start.first_lsn <= self._seen.dropped[0]:
                    remove_files(segment.path)

    def _write_head(self) -> None:
        """One fsynced file, both slots alike, that names the log's end."""
        path = list_segments(self._folder)[-1][1]
        db = connect_to_read(path, vfs=self._vfs)
        try:
            end = read_end(db, read_start(db, path.name))
        finally:
            db.close()
        create_head(self._head_path, self._store_id, end)

    def _last_engine_time(self) -> int:
        if not self._seen.segments:
            return 0
        last = self._seen.segments[-1]
        if last.first_record is None:
            return 0
        db = connect(last.path, vfs=self._vfs)
        try:
            return engine_time_of(fetch_one(db, schema.LAST_RECORD)[6])
        finally:
            db.close()

    def _remove_strays(self) -> None:
        """Files of segments that were being built, or whose main file is gone."""
        for path in tuple(self._folder.iterdir()):
            main, dash, _ = path.name.partition("-")
            building = main.endswith(".segment.new")
            orphan = dash and main.endswith(".segment") and not path.with_name(main).exists()
            if building or orphan or path.name == head_file.FILE_NAME + ".new":
                path.unlink(missing_ok=True)

    # ------------------------------------------------------------------- ready

    def _ready(self, plan: Plan) -> Opened:
        paths = list_segments(self._folder)
        # A sealed segment becomes the active one again when a backup without the last is used.
        paths[-1][1].chmod(stat.S_IRUSR | stat.S_IWUSR)
        active = ActiveSegment(paths[-1][1], vfs=self._vfs)
        try:
            return self._opened(plan, paths, active)
        except BaseException:
            # Opening is tried again while the disk fails: each one left open would add up.
            active.close()
            raise

    def _opened(self, plan: Plan, paths: list[tuple[int, Path]], active: ActiveSegment) -> Opened:
        facts = {segment.start.first_lsn: segment for segment in self._seen.segments}
        entries = [
            Entry(
                lsn,
                facts[lsn].start.before.next_offset,
                path,
                facts[lsn].facts,
                damage=facts[lsn].damage,
            )
            for lsn, path in paths[:-1]
        ]
        start = active.start
        entries.append(Entry(start.first_lsn, start.before.next_offset, paths[-1][1]))
        lost = None
        if plan.decision is Decision.ACCEPT_LOSS:
            assert self._end is not None
            lost = (self._end.lsn + 1, start.before.lsn)
        unsealed = [
            entry.path
            for entry in entries[:-1]
            if not entry.damage and not is_sealed_file(entry.path)
        ]
        # The older slot is written next; after WRITE_HEAD both are alike.
        slot = 0 if self._head is None else 1 - self._head.slot
        return Opened(
            lock=self._lock,
            store_id=self._store_id,
            head=HeadFile(self._head_path, self._store_id, slot),
            catalog=Catalog(tuple(entries)),
            active=active,
            unsealed=unsealed,
            uncompacted=self._seen.uncompacted,
            report=OpenReport(
                created=plan.decision is Decision.CREATE,
                segments=len(entries),
                lost=lost,
                warnings=self._warnings if plan.warns else (),
                rule=plan.rule.name,
            ),
        )
