"""What is done beside the commits: checkpoints, sealing, unlinking, looking at the disk.

A thread of its own with connections of its own, so that a commit never waits for it.

- Checkpoints are PASSIVE. Under load the WAL always grows while it is copied, so it
  could never start over. So they are repeated until little is left, which the writer is
  asked to copy itself, between two commits; also past `WAL_BYTES_MAX`, however much is
  left. A WAL that starts over early stays short, and appending to a file that need not
  grow is half the price of a sync.
- A segment that was rolled away from is turned into a plain read-only file. Open
  connections to it prevent that, so it is tried again every second.
- An I/O error here is as final as one in a commit: after a failed sync nobody knows
  what the file holds. It goes to `on_error`, which stops the log.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import apsw

from hermes import limits
from hermes.clock import Clock
from hermes.errors import StoreError
from hermes.log.connections import Connections
from hermes.log.database import connect
from hermes.log.head import HeadFile, sync_folder
from hermes.log.schema import PAGE_BYTES
from hermes.log.segment import ActiveSegment, seal_file
from hermes.log.shrinking import STEP_SECONDS, Shrinking
from hermes.log.space import Space, is_full

_log = logging.getLogger(__name__)

TICK_SECONDS: Final = 1.0


class Housekeeper:
    """The thread beside the writer. Started by `start`, ended by `stop`."""

    def __init__(
        self,
        *,
        active: Callable[[], ActiveSegment],
        ask_for_checkpoint: Callable[[], None],
        on_error: Callable[[Exception], None],
        connections: Connections,
        head: HeadFile,
        space: Space,
        unsealed: list[Path],
        clock: Clock,
        vfs: str = "",
    ) -> None:
        self._active = active
        self._ask_for_checkpoint = ask_for_checkpoint
        self._on_error = on_error
        self._connections = connections
        self._head = head
        self._space = space
        self._vfs = vfs
        self._unsealed = unsealed
        self.shrinking = Shrinking(clock)
        self._dropped: deque[Path] = deque()
        self._damaged: set[Path] = set()
        self._wake = threading.Event()
        self._stopping = False
        self._short_of_room = False
        self._thread = threading.Thread(target=self._run, name="hermes-log-keeper", daemon=True)
        # The connection for checkpoints, to the active segment only.
        self._db: apsw.Connection | None = None
        self._path: Path | None = None

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """There is something to do now: the WAL is long, or a segment was rolled."""
        self._wake.set()

    def seal(self, path: Path) -> None:
        """Turn this segment into a plain file as soon as nobody has it open."""
        self._unsealed.append(path)
        self._wake.set()

    def leave_alone(self, path: Path) -> None:
        """Change nothing about this file any more: it is damaged. From any thread."""
        self._damaged.add(path)

    def remove(self, path: Path) -> None:
        """Unlink a dropped segment soon, and give its space back by and by.

        If the process dies before, the next open does.
        """
        self._connections.forget(path)
        self._dropped.append(path)
        self._wake.set()

    def stop(self) -> None:
        """End the thread and close its connection. Idempotent."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self._close()  # who goes its rounds without the thread leaves it open
        self.shrinking.close()

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._wake.wait(STEP_SECONDS if self.shrinking else TICK_SECONDS)
                self._wake.clear()
                if not self._stopping:
                    self._round()
        except Exception as error:  # noqa: BLE001  # whatever it is, it must not pass unseen
            self._on_error(error)
        finally:
            self._close()
            self.shrinking.close()

    def _round(self) -> None:
        self._space.refresh()
        try:
            self._checkpoint()
            self.finish_files()
            self.shrinking.step()
        except (apsw.FullError, OSError) as error:
            if not is_full(error):
                raise
            # The WAL keeps what could not be copied; a later round copies it.
            if not self._short_of_room:
                _log.warning("no space to copy the WAL; tried again every second: %s", error)
            self._short_of_room = True
        else:
            self._short_of_room = False

    def _checkpoint(self) -> None:
        active = self._active()
        if active.path != self._path:
            self._close()
            self._path = active.path
        if not active.wants_checkpoint:
            return
        if self._db is None:
            self._db = connect(active.path, vfs=self._vfs)
        before_bytes = active.wal_uncopied_bytes
        while True:
            try:
                _, copied_pages = self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            except apsw.BusyError:
                # The writer is copying the last pages itself.
                return
            active.wal_copied_bytes = max(0, copied_pages) * PAGE_BYTES
            left_bytes = active.wal_uncopied_bytes
            if left_bytes <= limits.WAL_LEFT_BYTES_MAX or active.wal_bytes >= limits.WAL_BYTES_MAX:
                self._ask_for_checkpoint()
                return
            if left_bytes >= before_bytes:  # a reader stands in the way, or the load is high
                return
            before_bytes = left_bytes

    def finish_files(self) -> None:
        """Unlink what was dropped, seal what nobody holds; by the thread, or after `stop`.

        Raises apsw.Error, OSError; StoreError when a sync failed.
        """
        while self._dropped:
            path = self._dropped[0]
            if path in self._unsealed:
                self._unsealed.remove(path)
            # HEAD may lag after a power loss; never behind what is gone.
            with _syncing():
                self._head.sync()
            self.shrinking.take(path)
            with _syncing():
                sync_folder(path.parent)
            # Only now: one that could not be unlinked is tried again before any newer one, or
            # there would be a gap.
            self._dropped.popleft()
        for path in tuple(self._unsealed):
            if path in self._damaged:
                continue
            self._connections.forget(path)
            if seal_file(path, vfs=self._vfs):
                self._unsealed.remove(path)

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None


@contextmanager
def _syncing() -> Iterator[None]:
    """A failed sync is the log's end, also one that finds the disk full: what the system
    holds of the file is unknown from then on, and a sync that is tried again says nothing."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"a sync failed: {error}") from error
