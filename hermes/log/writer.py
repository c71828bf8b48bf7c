"""The writer: one thread, one queue, one transaction per round.

The owner's thread puts groups of records into the queue; the writer takes everything
that is there, up to the limits of a transaction, commits it, notes it in HEAD, and then
tells the outcome. While one transaction syncs, the next fills: that is the whole of
group commit, and needs no timer.

Rules
- A group is never split over two transactions.
- A roll ends a transaction: what was queued before it is committed to the old segment.
- A full disk has a known outcome (nothing written): the reserve is freed and the same
  transaction tried once more, if what is queued leaves most of the reserve to the acks
  that are to come. Any other exception is final: `Failed` is told once, and the thread
  ends. Nothing is retried, nothing later is written.
- The queue has no bound of its own: what must be bounded is publishes, and whoever reads
  them looks at `queued_bytes`.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import TypeVar

import apsw
import msgspec

from hermes import limits
from hermes.errors import StoreFullError
from hermes.log.bodies import seal_record
from hermes.log.catalog import Catalog
from hermes.log.database import explain
from hermes.log.head import HeadFile
from hermes.log.port import Committed, Failed, Listener
from hermes.log.record import Record
from hermes.log.segment import ActiveSegment, create_segment
from hermes.log.space import Space, is_full

_log = logging.getLogger(__name__)

_Written = TypeVar("_Written")


class Group(msgspec.Struct, frozen=True, gc=False):
    """Records that are committed together or not at all. Nobody changes them any more."""

    records: Sequence[Record]
    size_bytes: int


class Roll(msgspec.Struct, frozen=True, gc=False):
    """Seal the active segment; begin the next one with SegmentSealed and this snapshot."""

    snapshot: Record


class Writer:
    """Owns the active segment and HEAD from `start` until the thread has ended."""

    def __init__(
        self,
        *,
        folder: Path,
        store_id: str,
        active: ActiveSegment,
        head: HeadFile,
        catalog: Catalog,
        space: Space,
        listener: Listener,
        vfs: str = "",
    ) -> None:
        self._folder = folder
        self._store_id = store_id
        self.active = active
        # What HEAD names. Replaced as a whole, so that any thread may read it.
        self.committed = active.end
        self._head = head
        self._catalog = catalog
        self._space = space
        self._listener = listener
        self._vfs = vfs
        self.on_rolled: Callable[[Path], None] = lambda _path: None
        self.on_long_wal: Callable[[], None] = lambda: None
        self._queue: deque[Group | Roll] = deque()
        self._wake = threading.Event()
        # Each counter has one writing thread; their difference is what is queued.
        self._bytes_in = 0
        self._bytes_out = 0
        self._closing = False
        self._checkpoint_wanted = False
        self._doom: Exception | None = None
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="hermes-log-writer", daemon=True)

    # ------------------------------------------------------ the owner's thread

    @property
    def queued_bytes(self) -> int:
        return self._bytes_in - self._bytes_out

    def start(self) -> None:
        self._thread.start()

    def put(self, item: Group | Roll) -> None:
        """Queue a group or a roll. Never blocks."""
        self._bytes_in += _size_bytes(item)
        self._queue.append(item)
        # Already set: the writer has not yet looked, and will see the item.
        if not self._wake.is_set():
            self._wake.set()

    def ask_for_checkpoint(self) -> None:
        """Copy the last pages of the WAL before the next commit. From any thread."""
        self._checkpoint_wanted = True

    def doom(self, error: Exception) -> None:
        """Stop with this error before anything else is committed. From any thread."""
        self._doom = error
        self._wake.set()

    def finish(self) -> None:
        """Commit what is queued and end the thread. Not from the listener. Idempotent."""
        self._closing = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    # ------------------------------------------------------ the writer's thread

    def _run(self) -> None:
        try:
            while True:
                if self._doom is not None:
                    raise self._doom
                closing = self._closing
                item = self._take()
                if isinstance(item, Roll):
                    self._roll(item)
                elif item is not None:
                    self._commit(item)
                elif closing:
                    return
                else:
                    self._wait()
        except Exception as error:  # noqa: BLE001  # any exception is a failed log, and is told
            self._fail(error)

    def _wait(self) -> None:
        self._wake.clear()
        # Whatever came between the last look and the clear is seen here.
        if not self._queue and not self._closing and self._doom is None:
            self._wake.wait()

    def _take(self) -> Group | Roll | None:
        """Everything that is queued and fits one transaction; a roll comes alone."""
        queue = self._queue
        if not queue:
            return None
        item = queue.popleft()
        if isinstance(item, Roll) or not queue:
            return item
        groups = [item.records]
        records, size_bytes = len(item.records), item.size_bytes
        while queue:
            item = queue[0]
            if isinstance(item, Roll):
                break
            records += len(item.records)
            size_bytes += item.size_bytes
            too_many = records > limits.TRANSACTION_RECORDS_MAX
            if too_many or size_bytes > limits.TRANSACTION_BYTES_MAX:
                size_bytes -= item.size_bytes
                break
            groups.append(item.records)
            queue.popleft()
        return Group(list(chain.from_iterable(groups)), size_bytes)

    def _commit(self, group: Group) -> None:
        if self._checkpoint_wanted:
            self._checkpoint_wanted = False
            self._checkpoint()
        self._with_reserve(lambda: self.active.commit(group.records, group.size_bytes))
        self._tell(group)
        if self.active.wants_checkpoint:
            self.on_long_wal()

    def _checkpoint(self) -> None:
        try:
            self.active.checkpoint()
        except (apsw.FullError, OSError) as error:
            if not is_full(error):
                raise
            # Nothing is lost: the WAL keeps what could not be copied, and grows on.
            _log.debug("no space for a checkpoint: %s", error)

    def _roll(self, roll: Roll) -> None:
        old = self.active
        facts = old.facts()
        records = (seal_record(facts, roll.snapshot), roll.snapshot)
        path = self._with_reserve(
            lambda: create_segment(self._folder, self._store_id, old.end, records, vfs=self._vfs)
        )
        self.active = ActiveSegment(path, vfs=self._vfs)
        self._catalog.rolled(facts, self._folder)
        old.close()
        self._tell(roll)
        self.on_rolled(old.path)

    def _with_reserve(self, write: Callable[[], _Written]) -> _Written:
        """Write; on a full disk free the reserve and write once more."""
        try:
            return write()
        except (apsw.FullError, OSError) as error:
            if not is_full(error):
                raise
            full = error
        self._space.release_reserve()
        if self.queued_bytes > limits.RESERVE_BYTES // 4:
            # Publishes that were accepted a moment ago would use it up.
            raise self._full_error() from full
        try:
            return write()
        except (apsw.FullError, OSError) as error:
            if not is_full(error):
                raise
            raise self._full_error() from error

    def _full_error(self) -> StoreFullError:
        return StoreFullError(
            f"{self._folder}: no space left for the log",
            hint="free some disk space; the log is opened again then",
            path=str(self._folder),
        )

    def _tell(self, item: Group | Roll) -> None:
        end = self.active.end
        self._head.write(end)
        self.committed = end
        size_bytes = _size_bytes(item)
        self._bytes_out += size_bytes
        self._space.wrote(size_bytes)
        self._listener(Committed(end.lsn, self.active.content_bytes, self.queued_bytes))

    def _fail(self, error: Exception) -> None:
        # The listener is the one who says it: one failure, one line.
        _log.debug("the log failed and is closed: %s", error)
        known = explain(error, str(self.active.path))
        if known is not error:
            known.__cause__ = error
        self.error = known
        try:
            self._listener(Failed(known))
        except Exception:  # noqa: BLE001  # it was told; its own trouble goes to the journal
            _log.exception("the listener raised on a failed log")


def _size_bytes(item: Group | Roll) -> int:
    return item.size_bytes if isinstance(item, Group) else len(item.snapshot.body)
