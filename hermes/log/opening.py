"""Open a store: lock, look, judge, and only then act.

    lock -> list -> survey and checks -> checkpoint (TRUNCATE) -> finish what was
    announced -> HEAD -> ready

Up to the checks nothing but LOCK is touched, so a refused store is left as evidence. The
WAL is written anew, and the checkpoint writes and syncs what it holds: after a failed
sync the page cache may show what the disk does not hold. A store that ends before HEAD is
refused, unless the loss is accepted: then the log goes on *after* HEAD's numbers, in a
new segment that begins with Lost and is chained to HEAD's chain.
"""

from __future__ import annotations

import stat
import uuid
from pathlib import Path
from typing import Final

import apsw
import msgspec

from hermes.errors import StoreDamagedError, StoreError
from hermes.log import head as head_file
from hermes.log import schema
from hermes.log.bodies import engine_time_of, lost_record
from hermes.log.catalog import LOCK_NAME, Catalog, Entry, StoreLock, list_segments
from hermes.log.chain import genesis
from hermes.log.database import connect, explain, fetch_one
from hermes.log.facts import Mark
from hermes.log.head import HeadFile, HeadRead, create_head, read_head, sync_folder
from hermes.log.segment import ActiveSegment, create_segment, is_sealed_file, remove_files
from hermes.log.space import RESERVE_NAME
from hermes.log.survey import Survey, check_head, check_segments, check_tail, survey
from hermes.log.wal import write_anew

_OWN_NAMES: Final = {LOCK_NAME, head_file.FILE_NAME, RESERVE_NAME}
# What a file system or a volume puts into an empty folder.
_FOREIGN_NAMES: Final = {"lost+found"}


class OpenReport(msgspec.Struct, frozen=True):
    """What opening found and did, for people. `lost` is an accepted loss, inclusive lsns."""

    created: bool
    segments: int
    lost: tuple[int, int] | None = None
    warnings: tuple[str, ...] = ()


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
    try:
        _prepare_folder(path)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be made: {error.strerror}",
            hint="choose a path that this user may write",
            path=str(path),
        ) from error
    lock = StoreLock(path)
    try:
        return _Opening(path, lock, at_ns, vfs).run(accept_loss=accept_loss)
    except (apsw.Error, OSError) as error:
        lock.release()
        raise explain(error, str(path)) from error
    except BaseException:
        lock.release()
        raise


def _prepare_folder(path: Path) -> None:
    """Make the folder if it is not there. Raises OSError, StoreError."""
    if path.exists():
        if not path.is_dir():
            raise StoreError(
                f"{path} is a file, not a folder",
                hint="the store path names a folder",
                path=str(path),
            )
        names = {entry.name for entry in path.iterdir()} - _FOREIGN_NAMES
        ours = {name for name in names if name in _OWN_NAMES or ".segment" in name}
        if names and not ours:
            raise StoreError(
                f"{path} holds other files and no store",
                hint="choose an empty folder or a new one",
                path=str(path),
            )
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=stat.S_IRWXU)
    sync_folder(path.parent)


class _Opening:
    """One run of the open sequence."""

    def __init__(self, folder: Path, lock: StoreLock, at_ns: int, vfs: str) -> None:
        self._folder = folder
        self._head_path = folder / head_file.FILE_NAME
        self._lock = lock
        self._at_ns = at_ns
        self._vfs = vfs
        self._warnings: list[str] = []
        self._lost: tuple[int, int] | None = None

    def run(self, *, accept_loss: bool) -> Opened:
        found = list_segments(self._folder)
        head = self._read_head(accept_loss=accept_loss)
        if not found and (head is None or head.mark.lsn == 0):
            if head is None and self._head_path.exists():
                raise StoreDamagedError(
                    f"{self._folder} holds a damaged HEAD and no segments",
                    hint="restore the folder from a backup",
                    path=str(self._folder),
                )
            return self._create()
        seen = survey(found, vfs=self._vfs)
        if head is None:
            head = self._head_from(seen, accept_loss=accept_loss)
        self._judge(seen, head, accept_loss=accept_loss)
        self._act(seen, head)
        return self._ready(seen, head)

    # ---------------------------------------------------------------- judging

    def _read_head(self, *, accept_loss: bool) -> HeadRead | None:
        try:
            head = read_head(self._head_path)
        except StoreDamagedError:
            if not accept_loss:
                raise
            self._warnings.append("both slots of HEAD were damaged; the log's own end was taken")
            return None
        if head is not None and head.bad_slots:
            slots = " and ".join(str(slot) for slot in head.bad_slots)
            self._warnings.append(f"slot {slots} of HEAD was damaged; the other one was used")
        return head

    def _head_from(self, seen: Survey, *, accept_loss: bool) -> HeadRead:
        """HEAD is not there. That is right only if creating the store was interrupted."""
        first = seen.segments[0]
        interrupted = len(seen.segments) == 1 and first.first_record is None
        if not interrupted and not accept_loss:
            raise StoreDamagedError(
                f"{self._head_path} is missing; how far the log was committed is unknown",
                hint="restore it from a backup, or accept the loss to go on after what is there",
                path=str(self._head_path),
            )
        return HeadRead(first.start.store_id, seen.end, 0, (0, 1))

    def _judge(self, seen: Survey, head: HeadRead, *, accept_loss: bool) -> None:
        if not seen.segments:
            end = Mark(0, 0, genesis(head.store_id))
        else:
            check_segments(seen, head.store_id)
            end = seen.end
        if head.mark.lsn <= end.lsn:
            check_head(seen, head.mark, vfs=self._vfs)
            check_tail(seen.segments[-1], vfs=self._vfs)
            return
        self._lost = (end.lsn + 1, head.mark.lsn)
        if not accept_loss:
            raise StoreDamagedError(
                f"records {end.lsn + 1}..{head.mark.lsn} were committed and are lost:"
                f" the log ends at {end.lsn}",
                hint="restore the folder from a backup, or accept the loss to go on without them",
                first_lsn=end.lsn + 1,
                last_lsn=head.mark.lsn,
                path=str(self._folder),
            )
        self._warnings.append(f"the loss of records {end.lsn + 1}..{head.mark.lsn} was accepted")

    # ----------------------------------------------------------------- acting

    def _create(self) -> Opened:
        store_id = str(uuid.uuid4())
        before = Mark(0, 0, genesis(store_id))
        self._remove_strays()
        path = create_segment(self._folder, store_id, before, (), vfs=self._vfs)
        create_head(self._head_path, store_id, before)
        self._folder.chmod(stat.S_IRWXU)
        return Opened(
            lock=self._lock,
            store_id=store_id,
            head=HeadFile(self._head_path, store_id, 0),
            catalog=Catalog((Entry(1, 0, path),)),
            active=ActiveSegment(path, vfs=self._vfs),
            unsealed=[],
            report=OpenReport(created=True, segments=1),
        )

    def _act(self, seen: Survey, head: HeadRead) -> None:
        """Write and sync what WALs hold, finish announced drops, clear away leftovers."""
        for segment in seen.segments:
            wal = segment.path.with_name(segment.path.name + "-wal")
            if wal.exists() and wal.stat().st_size:
                write_anew(wal)
                db = connect(segment.path, vfs=self._vfs)
                try:
                    db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
                finally:
                    db.close()
        if self._lost is not None:
            end = seen.end if seen.segments else Mark(0, 0, genesis(head.store_id))
            lost = lost_record(end, head.mark, self._at_ns, self._last_engine_time(seen))
            create_segment(self._folder, head.store_id, head.mark, (lost,), vfs=self._vfs)
        if seen.dropped is not None:
            for segment in seen.segments[:-1]:
                if segment.start.first_lsn <= seen.dropped[0]:
                    remove_files(segment.path)
        self._remove_strays()
        sync_folder(self._folder)

    def _last_engine_time(self, seen: Survey) -> int:
        if not seen.segments:
            return 0
        last = seen.segments[-1]
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

    def _ready(self, seen: Survey, head: HeadRead) -> Opened:
        facts = {segment.start.first_lsn: segment for segment in seen.segments}
        paths = list_segments(self._folder)
        # A sealed segment becomes the active one again when a backup without the last is used.
        paths[-1][1].chmod(stat.S_IRUSR | stat.S_IWUSR)
        active = ActiveSegment(paths[-1][1], vfs=self._vfs)
        entries = [
            Entry(lsn, facts[lsn].start.before.next_offset, path, facts[lsn].facts)
            for lsn, path in paths[:-1]
        ]
        start = active.start
        entries.append(Entry(start.first_lsn, start.before.next_offset, paths[-1][1]))
        if head.bad_slots or active.end != head.mark:
            # One fsynced file again, both slots alike.
            create_head(self._head_path, head.store_id, active.end)
        return Opened(
            lock=self._lock,
            store_id=head.store_id,
            head=HeadFile(self._head_path, head.store_id, 1 - head.slot),
            catalog=Catalog(tuple(entries)),
            active=active,
            unsealed=[path for _, path in paths[:-1] if not is_sealed_file(path)],
            uncompacted=seen.uncompacted,
            report=OpenReport(
                created=False,
                segments=len(entries),
                lost=self._lost,
                warnings=tuple(self._warnings),
            ),
        )
