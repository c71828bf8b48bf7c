"""Back up a store into a folder: beside its running server, or when none runs.

Theory: sealed segments do not change, the active one only grows, and SQLite shows a reader
one moment of it. So a backup is the sealed files and one moment of the last one; it holds
every record that was committed when it began, and no later record without the ones before.
It needs nothing of the writer, and changes nothing in the store.

Rules
- The last segment is copied last: what a file that went meanwhile needs to be understood
  (SegmentDropped comes before the unlinking) is in it. A file that is gone when its turn
  comes means: look again.
- A segment that is there already is not copied again (`backup_manifest.Known`).
- The manifest is replaced last, by a rename; before it everything it names is synced.
- A log that ends before HEAD, or whose segments do not fit each other, is refused: a backup
  of a damaged store must not take the place of a good one.

Why pages and not the writer's own handle: docs/decisions/0014-backups.md.
"""

from __future__ import annotations

import stat
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import apsw
import msgspec

from hermes import limits
from hermes.clock import SystemClock
from hermes.errors import StoreDamagedError, StoreError, UnavailableError
from hermes.log import backup_files as files
from hermes.log import head as head_file
from hermes.log.backup_folder import BackupFolder
from hermes.log.backup_manifest import (
    COPY_NAME,
    CarriedFile,
    Known,
    Manifest,
    SegmentCopy,
    carried_file,
    manifest_of,
    segment_file,
)
from hermes.log.database import connect_to_read, reading
from hermes.log.facts import Mark
from hermes.log.head import HeadRead, read_head
from hermes.log.pace import Pace
from hermes.log.reader import open_reader
from hermes.log.record import Kind
from hermes.log.segment import is_sealed_file, read_end, read_start
from hermes.log.survey import LOOKS_MAX, Survey, Surveyed, check_segments, survey_beside
from hermes.log.v1 import log_pb2

# A segment that was just rolled away from is a plain file within a second, mostly at once;
# then it is copied once and for all.
SEAL_WAIT_SECS: Final = 3.0
_SEAL_LOOK_SECS: Final = 0.05
# How long a resting backup may take to see that it is to stop.
_REST_SECS: Final = 0.1


class Progress(msgspec.Struct, frozen=True):
    """How far a backup or a restore is. `total_bytes` is to be copied, as far as is known."""

    copied_bytes: int
    total_bytes: int
    segments: int  # in their place


class BackupReport(msgspec.Struct, frozen=True):
    """A finished backup, and what of it this run has copied."""

    manifest: Manifest
    copied_segments: int
    copied_bytes: int


class _GoneError(Exception):
    """A segment was dropped or rewritten while the backup looked elsewhere."""


def take_backup(
    store: Path,
    folder: Path,
    *,
    taken_at_ns: int,
    link: bool = False,
    carry: Sequence[str] = (),
    seal_wait_secs: float = 0.0,
    bytes_per_sec: int | None = None,
    told: Callable[[Progress], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
) -> BackupReport:
    """Make or renew the backup of a store in a folder of its own.

    `link` links sealed segments instead of copying them; `carry` names further files of the
    store, left out where they are not there. `seal_wait_secs`: a server runs in this
    process and seals soon. No more than `bytes_per_sec` are copied of what is sealed (None:
    as fast as it goes). `stopped` is asked between pieces.

    Raises StoreError (not a store, not a backup of this store, no permission),
    StoreFullError, StoreDamagedError (the store's), StoreLockedError (another backup is
    being written there), UnavailableError (stopped). The backup that was there is whole then.
    """
    store, place = store.absolute(), BackupFolder(folder.absolute())
    try:
        head = read_head(store / head_file.FILE_NAME)
        if head is None:
            raise StoreError(f"{store} holds no store", hint="name the folder of a store")
        place.prepare(store)
        with place.locked():
            pace = Pace(bytes_per_sec, SystemClock())
            run = _Backup(store, place, link, seal_wait_secs, pace, told, stopped)
            return run.run(head, taken_at_ns, carry)
    except (OSError, apsw.Error) as error:
        raise files.explained(error, place.path) from error


class _Backup:
    """One run."""

    def __init__(
        self,
        store: Path,
        folder: BackupFolder,
        link: bool,
        seal_wait_secs: float,
        pace: Pace,
        told: Callable[[Progress], None],
        stopped: Callable[[], bool],
    ) -> None:
        self._folder = folder
        self._store = store
        self._link = link
        self._seal_wait_secs = seal_wait_secs
        self._pace = pace
        self._told = told
        self._stopped = stopped
        self._known = Known.of(())
        self._new = folder.path / COPY_NAME
        self._copied: dict[str, SegmentCopy] = {}  # in this run, by file
        self._copied_bytes = self._total_bytes = self._segments = 0

    # ------------------------------------------------------------------- the run

    def run(self, head: HeadRead, taken_at_ns: int, carry: Sequence[str]) -> BackupReport:
        old = self._folder.open(head.store_id)
        self._known = Known.of(old.segments if old is not None else ())
        segments = self._segments_of(head.store_id, head.mark)
        carried = tuple(copy for name in carry if (copy := self._carried(name)) is not None)
        checkpoint = self._checkpoint(segments[-1].last_lsn)
        manifest = manifest_of(head.store_id, taken_at_ns, segments, carried, checkpoint)
        self._folder.publish(manifest)
        kept = [copy for copy in segments if copy.file in self._copied]
        return BackupReport(manifest, len(kept), self._copied_bytes)

    def _segments_of(self, store_id: str, head: Mark) -> tuple[SegmentCopy, ...]:
        for _ in range(LOOKS_MAX):
            seen = survey_beside(self._store)
            check_segments(seen, store_id)
            try:
                self._expect(seen)
                *sealed, last = seen.segments
                copies = [self._sealed(segment) for segment in sealed]
                copies.append(self._moment(last, known=True))
            except _GoneError:
                continue
            if copies[-1].last_lsn < head.lsn:
                raise StoreDamagedError(
                    f"records {copies[-1].last_lsn + 1}..{head.lsn} were committed and are lost:"
                    f" the log ends at {copies[-1].last_lsn}",
                    hint="no backup was made; the one that was there is as it was",
                    first_lsn=copies[-1].last_lsn + 1,
                    last_lsn=head.lsn,
                )
            return tuple(copies)
        raise StoreError(
            f"segments of {self._store} went away faster than they could be copied",
            hint="try again",
        )

    def _expect(self, seen: Survey) -> None:
        """Count what there is to copy, and refuse when there is no room for it."""
        try:
            sizes = [self._size_to_copy(segment) for segment in seen.segments]
        except FileNotFoundError as error:
            raise _GoneError from error
        self._segments = 0
        self._total_bytes = self._copied_bytes + sum(sizes)
        linked = sum(sizes[:-1]) if self._link else 0
        same_disk = self._store.stat().st_dev == self._folder.path.stat().st_dev
        spared = limits.LOW_SPACE_BYTES if same_disk else 0
        files.refuse_lack_of_room(self._folder.path, sum(sizes) - linked, spared)

    def _size_to_copy(self, segment: Surveyed) -> int:
        """Raises FileNotFoundError."""
        found = segment.path.stat()
        if is_sealed_file(segment.path):
            copy = self._known.sealed(
                segment.start.first_lsn, segment.facts.end, found.st_size, found.st_mtime_ns
            )
        else:
            copy = self._known.unsealed(segment.start.first_lsn, segment.facts.end)
        return 0 if copy is not None and self._folder.holds(copy) else found.st_size

    # -------------------------------------------------------------- one segment

    def _sealed(self, segment: Surveyed) -> SegmentCopy:
        """A segment that is not the last one. Raises _GoneError."""
        try:
            if not self._await_seal(segment.path):
                return self._moment(segment, known=False)
            found = segment.path.stat()
            first_lsn, end = segment.start.first_lsn, segment.facts.end
            copy = self._known.sealed(first_lsn, end, found.st_size, found.st_mtime_ns)
            if copy is not None and self._folder.holds(copy):
                return self._kept(copy)
            make = files.link_file if self._link else files.copy_file
            sha256, size = make(segment.path, self._new, self._wrote_at_ease)
            if size != found.st_size:
                raise _GoneError
        except FileNotFoundError as error:
            raise _GoneError from error
        mode = None if self._link else stat.S_IRUSR
        return self._placed(first_lsn, end, sha256, size, found.st_mtime_ns, mode)

    def _await_seal(self, path: Path) -> bool:
        """Whether it is a plain file by now. Raises FileNotFoundError."""
        pause = threading.Event()
        for _ in range(int(self._seal_wait_secs / _SEAL_LOOK_SECS)):
            if is_sealed_file(path) or self._stopped():
                break
            pause.wait(_SEAL_LOOK_SECS)
        return is_sealed_file(path)

    def _moment(self, segment: Surveyed, *, known: bool) -> SegmentCopy:
        """A segment as it is now, with its WAL, read in one transaction. Raises _GoneError."""
        try:
            db = connect_to_read(segment.path)
        except apsw.CantOpenError as error:
            if segment.path.exists():
                raise
            raise _GoneError from error
        try:
            with reading(db):
                start = read_start(db, segment.path.name)
                end = read_end(db, start)
                copy = self._known.unsealed(start.first_lsn, end) if known else None
                if copy is not None and self._folder.holds(copy):
                    return self._kept(copy)
                sha256, size = files.copy_pages(db, self._new, self._wrote)
        finally:
            db.close()
        mode = stat.S_IRUSR | stat.S_IWUSR
        return self._placed(start.first_lsn, end, sha256, size, None, mode)

    def _placed(
        self,
        first_lsn: int,
        end: Mark,
        sha256: str,
        size: int,
        mtime_ns: int | None,
        mode: int | None,
    ) -> SegmentCopy:
        copy = SegmentCopy(
            file=segment_file(first_lsn, end.lsn, sha256),
            bytes=size,
            sha256=sha256,
            first_lsn=first_lsn,
            last_lsn=end.lsn,
            next_offset=end.next_offset,
            chain=end.chain.hex(),
            source_mtime_ns=mtime_ns,
        )
        files.put(self._new, self._folder.path / copy.file, mode)
        self._copied[copy.file] = copy
        # Should there be another look, this one is known.
        self._known = self._known.with_(copy)
        return self._kept(copy)

    def _kept(self, copy: SegmentCopy) -> SegmentCopy:
        self._segments += 1
        self._wrote(0)
        return copy

    def _wrote(self, size: int) -> None:
        if self._stopped():
            raise UnavailableError(
                "the backup was stopped", hint="the one that was there is whole; start it again"
            )
        self._copied_bytes += size
        total_bytes = max(self._total_bytes, self._copied_bytes)
        self._told(Progress(self._copied_bytes, total_bytes, self._segments))

    def _wrote_at_ease(self, size: int) -> None:
        """Rest too: never in a read transaction, which the WAL has to wait for."""
        self._wrote(size)
        rest_secs = self._pace.rest_secs(size)
        while rest_secs > 0 and not self._stopped():
            step_secs = min(rest_secs, _REST_SECS)
            threading.Event().wait(step_secs)
            rest_secs -= step_secs

    # -------------------------------------------------------------------- beside

    def _carried(self, name: str) -> CarriedFile | None:
        source = self._store / name
        try:
            mode = stat.S_IMODE(source.stat().st_mode)
            sha256, size = files.copy_file(source, self._new, lambda _: None)
        except FileNotFoundError:
            return None
        file = carried_file(name, sha256)
        files.put(self._new, self._folder.path / file, mode)
        return CarriedFile(file=file, name=name, bytes=size, sha256=sha256, mode=mode)

    def _checkpoint(self, last_lsn: int) -> str | None:
        """The newest signed note among the records of the backup."""
        with closing(open_reader(self._store)) as reader:
            record = reader.latest(Kind.CHECKPOINT, at_or_before_lsn=last_lsn)
        return None if record is None else log_pb2.Checkpoint.FromString(record.body).note
