"""The log on SQLite segments: the face of this package.

`open_log` gives a `SqliteLog`: the `Log` of `port.py`. It numbers records on the owner's
thread, hands them to the writer's, and answers what there is. All rules of the port hold;
what is written how is in `writer.py`, what a store looks like in docs/log-format.md.

    owner's thread        writer's thread          keeper's thread
    append, roll, drop -> transaction, HEAD    ->  checkpoints, sealing, disk space
    compact ------------------------------------>  the compactor's thread
    reader() anywhere     Committed / Failed
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import apsw

from hermes import limits
from hermes.clock import Clock, SystemClock
from hermes.errors import LogClosedError, StoreError, StoreFullError
from hermes.log.announced import check_announced
from hermes.log.bodies import dropped_range
from hermes.log.catalog import Entry
from hermes.log.compactor import Compactor
from hermes.log.connections import Connections
from hermes.log.database import explain
from hermes.log.facts import Mark
from hermes.log.held import HeldCache
from hermes.log.housekeeper import Housekeeper
from hermes.log.line import Filters
from hermes.log.opening import Opened, OpenReport, open_store
from hermes.log.port import Compaction, Listener, LogReader, Quarantined, SegmentInfo
from hermes.log.reader import SqliteReader
from hermes.log.record import Kind, Record, admit
from hermes.log.space import Space, release_reserve
from hermes.log.writer import Group, Roll, Writer

_log = logging.getLogger(__name__)


def open_log(
    path: str | Path,
    listener: Listener,
    *,
    accept_loss: bool = False,
    low_space_bytes: int = limits.LOW_SPACE_BYTES,
    clock: Clock | None = None,
    vfs: str = "",
) -> SqliteLog:
    """Open the store in a folder, or create it; returns a log that accepts appends.

    `listener` gets every outcome, on the writer's thread. `accept_loss` goes on after
    committed records that are gone. `low_space_bytes` is the watermark of `low_space`.
    `vfs` names a SQLite VFS (tests of faults).

    Raises StoreLockedError (another server has it; nothing was touched),
    StoreVersionError (written by a newer version), StoreDamagedError (naming the exact
    range that is missing or damaged), StoreFullError (no room to recover, not even in the
    reserve), StoreError (no folder, not writable, not a store).
    """
    folder = Path(path).absolute()
    clock = clock or SystemClock()
    opening = partial(open_store, folder, accept_loss=accept_loss, vfs=vfs)
    try:
        opened = opening(at_ns=clock.wall_ns())
    except StoreFullError:
        # Recovery writes what the WAL holds into the segment: that is what the reserve is for.
        if not release_reserve(folder):
            raise
        opened = opening(at_ns=clock.wall_ns())
    try:
        return SqliteLog(
            folder, opened, listener, low_space_bytes=low_space_bytes, clock=clock, vfs=vfs
        )
    except BaseException as error:
        opened.active.close()
        opened.head.close()
        opened.lock.release()
        if isinstance(error, OSError):
            raise explain(error, str(folder)) from error
        raise


class SqliteLog:
    """An open store. Made by `open_log`; one thread owns it (append, roll, drop, close)."""

    def __init__(
        self,
        folder: Path,
        opened: Opened,
        listener: Listener,
        *,
        low_space_bytes: int,
        clock: Clock,
        vfs: str,
    ) -> None:
        self._folder = folder
        self._opened = opened
        self._catalog = opened.catalog
        self._head = opened.head
        self._closed = False
        end = opened.active.end
        self._next_lsn = end.lsn + 1
        self._next_offset = end.next_offset
        # First lsn of the segment that appends go to, once what is queued is committed.
        self._active_first_lsn = opened.active.start.first_lsn
        self._connections = Connections(vfs=vfs)
        self._filters = Filters()
        self._held = HeldCache()
        self._space = Space(folder, low_space_bytes)
        self._writer = Writer(
            folder=folder,
            store_id=opened.store_id,
            active=opened.active,
            head=opened.head,
            catalog=opened.catalog,
            space=self._space,
            listener=listener,
            vfs=vfs,
        )
        self._keeper = Housekeeper(
            active=lambda: self._writer.active,
            ask_for_checkpoint=self._writer.ask_for_checkpoint,
            on_error=self._writer.doom,
            connections=self._connections,
            head=opened.head,
            space=self._space,
            unsealed=opened.unsealed,
            clock=clock,
            vfs=vfs,
        )
        self._compactor = Compactor(
            catalog=opened.catalog,
            reader=self._reader,
            connections=self._connections,
            shrinking=self._keeper.shrinking,
            space=self._space,
            clock=clock,
            vfs=vfs,
        )
        self._writer.on_rolled = self._keeper.seal
        self._writer.on_long_wal = self._keeper.wake
        self._writer.start()
        self._keeper.start()
        self._compactor.put(opened.uncompacted)

    # ------------------------------------------------------------------- facts

    @property
    def report(self) -> OpenReport:
        """What opening found and did."""
        return self._opened.report

    @property
    def store_id(self) -> str:
        return self._opened.store_id

    @property
    def durable(self) -> bool:
        return True

    @property
    def next_lsn(self) -> int:
        return self._next_lsn

    @property
    def next_offset(self) -> int:
        return self._next_offset

    @property
    def committed(self) -> Mark:
        return self._writer.committed

    @property
    def oldest_offset(self) -> int:
        for entry in self._catalog.entries():
            if entry.facts is None:
                return min(entry.base_offset, self._next_offset)
            if entry.facts.first_offset is not None:
                return entry.facts.first_offset
        return self._next_offset

    @property
    def queued_bytes(self) -> int:
        """Bytes of records that wait for their commit."""
        return self._writer.queued_bytes

    @property
    def low_space(self) -> bool:
        """Whether publishes should be refused until the disk has room again."""
        return self._space.low

    @property
    def free_bytes(self) -> int:
        """Free bytes of the file system, as last seen (at most a second ago)."""
        return self._space.free_bytes

    def segments(self, *, subjects: bool = True) -> list[SegmentInfo]:
        return self._reader().segments(subjects=subjects)

    def quarantine(self, first_lsn: int, reason: str) -> bool:
        entry = self._catalog.quarantine(first_lsn, reason)
        if entry is not None:
            self._connections.forget(entry.path)
            self._keeper.leave_alone(entry.path)
        return entry is not None

    @property
    def quarantined(self) -> tuple[Quarantined, ...]:
        return tuple(
            Quarantined(
                first_lsn=entry.first_lsn,
                last_lsn=entry.facts.last_lsn,
                first_offset=entry.facts.first_offset,
                last_offset=entry.facts.last_offset,
                reason=entry.damage,
                path=str(entry.path),
            )
            for entry in self._catalog.entries()
            if entry.damage and entry.facts is not None
        )

    # ------------------------------------------------------------------ writing

    def append(self, records: Sequence[Record], expected_next_lsn: int) -> int:
        self._check_open()
        self._check_lsn(expected_next_lsn)
        self._next_offset, size_bytes = admit(records, self._next_offset)
        if records:
            self._next_lsn += len(records)
            self._writer.put(Group(records, size_bytes))
        return self._next_lsn - 1

    def roll(self, snapshot: Record, expected_next_lsn: int) -> int:
        self._check_open()
        self._check_lsn(expected_next_lsn)
        if self._active_first_lsn == self._next_lsn:
            raise ValueError("the active segment is empty: there is nothing to seal")
        admit((snapshot,), self._next_offset)
        self._active_first_lsn = self._next_lsn
        self._next_lsn += 2
        self._writer.put(Roll(snapshot))
        return self._next_lsn - 1

    def drop(self, first_lsn: int) -> None:
        self._check_open()
        oldest = self._catalog.entries()[0]
        if oldest.damage:
            raise ValueError(f"segment {first_lsn} is in quarantine: it is evidence")
        if oldest.first_lsn != first_lsn or oldest.facts is None:
            raise ValueError(f"segment {first_lsn} is not the oldest sealed one")
        announced = self._reader().latest(Kind.SEGMENT_DROPPED)
        if announced is None or dropped_range(announced.body)[0] != first_lsn:
            raise ValueError(f"no committed SegmentDropped announces segment {first_lsn}")
        with self._compactor.exchanging:
            self._catalog.dropped()
        self._keeper.remove(oldest.path)

    def room_to_compact(self, first_lsn: int) -> bool:
        size_bytes = self._sealed(first_lsn).path.stat().st_size
        return self._space.holds(size_bytes)

    def compact(self, first_lsn: int) -> None:
        self._check_open()
        check_announced(self._reader(), self._sealed(first_lsn))
        self._compactor.put((first_lsn,))

    @property
    def compactions(self) -> tuple[Compaction, ...]:
        return self._compactor.compactions

    def _sealed(self, first_lsn: int) -> Entry:
        for entry in self._catalog.entries():
            if entry.first_lsn == first_lsn and entry.facts is not None:
                if entry.damage:
                    raise ValueError(f"segment {first_lsn} is in quarantine: it is evidence")
                return entry
        raise ValueError(f"segment {first_lsn} is not a sealed one")

    def _check_open(self) -> None:
        error = self._writer.error
        if error is not None:
            raise LogClosedError(
                "the log has failed and must be opened again", cause=str(error)
            ) from error
        if self._closed:
            raise LogClosedError("the log is closed")

    def _check_lsn(self, expected_next_lsn: int) -> None:
        if expected_next_lsn != self._next_lsn:
            raise ValueError(
                f"expected the next lsn to be {expected_next_lsn}, it is {self._next_lsn}"
            )

    # ------------------------------------------------------------------ reading

    def reader(self) -> LogReader:
        return self._reader()

    def _reader(self) -> SqliteReader:
        return SqliteReader(self._catalog, self._connections, self._filters, held=self._held)

    # ------------------------------------------------------------------ closing

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._compactor.stop()
        self._writer.finish()
        self._keeper.stop()
        self._connections.close()
        active = self._writer.active
        try:
            if self._writer.error is None:
                # A clean stop leaves plain files: nothing to recover at the next open.
                self._keeper.finish_files()
                active.close_cleanly()
                self._head.sync()
        except (apsw.Error, OSError, StoreError) as error:
            # Everything is committed; the next open finds it in the WAL.
            _log.warning("the last checkpoint failed: %s", error)
        finally:
            try:
                active.close()
            finally:
                self._head.close()
                self._opened.lock.release()
