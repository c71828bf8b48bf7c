"""The thread that carries out announced compactions, one after the other, beside the log.

    announced (committed) -> new file beside the old -> verified -> renamed -> folder synced

Rules
- The announcement is committed before anything is done, so a crash at any point leaves the
  old file or the new one, and opening tells this thread what is left to do.
- Nothing here stops the log. A full disk or an I/O error leaves the old file as it is, and
  is tried again every `COMPACTION_RETRY_SECS`; a damaged source, or an announcement that
  cuts a batch, is told once and kept in `compactions` as stuck.
- Above all it must not be felt: it works in pieces of 256 KiB or half a millisecond and rests
  after each for several times as long as it took, it stops when the disk runs low, and the
  old file's space is given back in steps (`shrinking.py`).
- A segment that is dropped meanwhile must not come back: `exchanging` is held over the
  rename here, and by whoever drops.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import apsw
import msgspec

from hermes import limits
from hermes.clock import Clock
from hermes.errors import StoreDamagedError, StoreError, StoreFullError
from hermes.log.announced import announcement, first_cut, held_in
from hermes.log.catalog import Catalog, Entry
from hermes.log.compaction import Source, rewrite
from hermes.log.connections import Connections
from hermes.log.database import explain
from hermes.log.head import sync_folder
from hermes.log.port import Compaction
from hermes.log.reader import SqliteReader
from hermes.log.segment import is_sealed_file, remove_files
from hermes.log.shrinking import Shrinking
from hermes.log.space import Space

_log = logging.getLogger(__name__)

_SEAL_WAIT_SECS: Final = 0.2
_NS: Final = 1_000_000_000


class _Stopped(Exception):  # noqa: N818  # not an error
    """The log is being closed; the next open goes on."""


class _Work(msgspec.Struct):
    """One segment's compaction, waiting or under way."""

    told: Compaction
    due_ns: int = 0  # monotonic
    again: bool = False  # something more was announced while it was under way


class Compactor:
    """Made with the log; its thread begins with the first work. Closed by `stop`."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        reader: Callable[[], SqliteReader],
        connections: Connections,
        shrinking: Shrinking,
        space: Space,
        clock: Clock,
        vfs: str = "",
    ) -> None:
        self._catalog = catalog
        self._reader = reader
        self._connections = connections
        self._shrinking = shrinking
        self._space = space
        self._clock = clock
        self._vfs = vfs
        self.exchanging = threading.Lock()
        self._changed = threading.Condition()
        self._work: dict[int, _Work] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._rested_ns = 0

    def put(self, segments: Iterable[int]) -> None:
        """Something is announced for these segments, named by their first lsns."""
        with self._changed:
            for first_lsn in segments:
                work = self._work.setdefault(first_lsn, _Work(Compaction(first_lsn)))
                if work.told.stuck:
                    work.told = Compaction(first_lsn)
                work.again = True
                work.due_ns = 0
            if self._work and self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="hermes-log-compactor", daemon=True
                )
                self._thread.start()
            self._changed.notify()

    @property
    def compactions(self) -> tuple[Compaction, ...]:
        with self._changed:
            return tuple(work.told for work in self._work.values())

    def stop(self) -> None:
        """End the thread; what is half done is thrown away. Idempotent."""
        self._stopping.set()
        with self._changed:
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        while (first_lsn := self._next()) is not None:
            entry = self._entry(first_lsn)
            try:
                outcome = None if entry is None else self._attempt(entry)
            except _Stopped:
                return
            except Exception as error:  # noqa: BLE001  # whatever it is, the log goes on
                outcome = self._failure(first_lsn, error)
            self._settle(first_lsn, outcome)

    def _next(self) -> int | None:
        """Wait for work that is due; None when the log is closed."""
        with self._changed:
            while not self._stopping.is_set():
                now_ns = self._clock.monotonic_ns()
                open_work = [work for work in self._work.values() if not work.told.stuck]
                work = min(open_work, key=lambda work: work.due_ns, default=None)
                if work is not None and work.due_ns <= now_ns:
                    work.again = False
                    return work.told.first_lsn
                self._changed.wait(None if work is None else (work.due_ns - now_ns) / _NS)
        return None

    def _settle(self, first_lsn: int, outcome: Compaction | None) -> None:
        with self._changed:
            work = self._work[first_lsn]
            if outcome is not None:
                work.told = outcome
                wait_secs = limits.COMPACTION_RETRY_SECS if outcome.error else _SEAL_WAIT_SECS
                if not work.again:
                    work.due_ns = self._clock.monotonic_ns() + int(wait_secs * _NS)
            elif not work.again:
                del self._work[first_lsn]

    def _failure(self, first_lsn: int, error: Exception) -> Compaction:
        told = explain(error, "compaction") if isinstance(error, (apsw.Error, OSError)) else error
        expected = isinstance(told, StoreError)
        if not isinstance(told, StoreError):
            told = StoreError(f"compaction failed: {type(error).__name__}: {error}")
        stuck = isinstance(told, StoreDamagedError) or not expected
        before = self._work[first_lsn].told.error
        if before is None or str(before) != str(told):
            _log.warning(
                "segment %d is not compacted%s: %s",
                first_lsn,
                "" if stuck else " yet",
                told,
                exc_info=None if expected else error,
            )
        return Compaction(first_lsn, told, stuck=stuck)

    # ---------------------------------------------------------------- one segment

    def _attempt(self, entry: Entry) -> Compaction | None:
        """Compact a segment; None when nothing is left to do, else why it is not done.

        Raises _Stopped, StoreError, apsw.Error, OSError.
        """
        if not is_sealed_file(entry.path):
            return Compaction(entry.first_lsn)
        reader = self._reader()
        todo = announcement(reader, entry, held_in(reader, entry))
        if todo is None or entry.facts is None:
            return None
        cut = reader.look(entry, lambda db: first_cut(db, todo.retired))
        if cut is not None:
            raise StoreDamagedError(
                f"{cut[0]}..{cut[1]} are not whole batches of segment {entry.first_lsn}",
                hint="its payloads stay; this is a fault of what announced the compaction",
            )
        old_bytes = entry.path.stat().st_size
        if not self._space.holds(old_bytes):
            raise StoreFullError(
                f"no room to compact {entry.path.name}: a copy takes up to {old_bytes:,} bytes",
                hint="it is tried again; free some disk space",
            )
        began_ns = self._rested_ns = self._clock.monotonic_ns()
        new, _ = rewrite(Source(entry.path, entry.facts), todo, rest=self._rest, vfs=self._vfs)
        new_bytes = new.stat().st_size
        if self._exchange(entry, new):
            _log.info(
                "segment %d compacted: %d bytes, now %d, in %.1f s",
                entry.first_lsn,
                old_bytes,
                new_bytes,
                (self._clock.monotonic_ns() - began_ns) / _NS,
            )
        return None

    def _exchange(self, entry: Entry, new: Path) -> bool:
        """Give the new file the old one's name, unless the segment was dropped. Raises OSError."""
        with self.exchanging:
            if self._entry(entry.first_lsn) is None:
                remove_files(new)
                return False
            try:
                self._shrinking.take_replaced(entry.path, new)
            except BaseException:
                remove_files(new)
                raise
        self._connections.forget(entry.path)
        sync_folder(entry.path.parent)
        return True

    def _entry(self, first_lsn: int) -> Entry | None:
        """The segment as the log lists it now; None when it was dropped."""
        entries = self._catalog.entries()
        return next((entry for entry in entries if entry.first_lsn == first_lsn), None)

    def _rest(self, times: int) -> None:
        """Rest so many times as long as the last piece took. Raises _Stopped, StoreFullError."""
        if self._space.low:
            raise StoreFullError(
                "the disk runs low while a segment is compacted",
                hint="it is tried again; free some disk space",
            )
        worked_ns = self._clock.monotonic_ns() - self._rested_ns
        if self._stopping.wait(times * worked_ns / _NS):
            raise _Stopped
        self._rested_ns = self._clock.monotonic_ns()
