"""Leaving the processor to a server that is being watched.

Theory: whoever reads a log beside its server takes nothing from it that it locks, but the
processor, its caches and the disk are shared. A low priority alone gives little back: what
runs on a core that the server leaves for a moment still slows it down, by a good twentieth
on two cores, however low it ranks. So a reader also rests. Whether it must, it sees from
itself: when it wanted to run and did not, somebody else needed the processor.

Rules
- Only beside a server that writes: HEAD is written with each commit. A log at rest is read
  as fast as it goes.
- Only where it is short: on a machine with cores to spare nothing is given away.
- Not below niceness: a reader that is starved (SCHED_IDLE) in the middle of a look-up keeps
  its transaction open, and the WAL cannot start over.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Final

from hermes.clock import SystemClock, thread_cpu_ns
from hermes.log.head import FILE_NAME as HEAD_NAME

NICENESS: Final = 10
# So long is worked before it is looked at, and what is less than this share of it was taken
# by others: the processor, or the disk.
STRETCH_NS: Final = 20_000_000
UNDISTURBED_SHARE: Final = 0.9
# Then so many times as long is rested: what is taken is a tenth of one core.
REST_FACTOR: Final = 9
# The server is writing if it did within so long.
WRITING_NS: Final = 1_000_000_000


def rest_ns(wall_ns: int, cpu_ns: int) -> int:
    """How long to rest after a stretch of work that took so long and got so much."""
    return 0 if cpu_ns >= wall_ns * UNDISTURBED_SHARE else wall_ns * REST_FACTOR


def be_nice() -> None:
    """Give this process the niceness of a reader, if it has less."""
    os.nice(max(0, NICENESS - os.nice(0)))


def yield_to(store: Path) -> Yielding:
    """For a command that reads a store: from now on it is nice where a server writes to it."""
    yielding = Yielding(store)
    if yielding.beside_writer():
        be_nice()
    return yielding


class Yielding:
    """One thread that reads, a step at a time, and between steps holds nothing.

    `store` is the store's folder.
    """

    def __init__(self, store: Path) -> None:
        self._head = store / HEAD_NAME
        self._clock = SystemClock()
        self._pause = threading.Event()
        self.begin()

    def begin(self) -> None:
        """Work begins: what was waited for until now does not count."""
        self._wall_ns = self._clock.monotonic_ns()
        self._cpu_ns = thread_cpu_ns()

    def between_steps(self) -> None:
        """To be called between steps; returns when the next one may begin."""
        if self._clock.monotonic_ns() - self._wall_ns >= STRETCH_NS:
            self.rest()

    def rest(self, least_seconds: float = 0.0) -> None:
        """Rest as long as what was done since `begin` asks for, or longer; then begin."""
        wall_ns = self._clock.monotonic_ns() - self._wall_ns
        due_ns = rest_ns(wall_ns, thread_cpu_ns() - self._cpu_ns)
        due_seconds = due_ns / 1e9 if due_ns and self.beside_writer() else 0.0
        if pause_seconds := max(least_seconds, due_seconds):
            self._pause.wait(pause_seconds)
        self.begin()

    def beside_writer(self) -> bool:
        """Whether a server wrote to the store just now."""
        try:
            written_ns = self._head.stat().st_mtime_ns
        except OSError:
            return False
        return self._clock.wall_ns() - written_ns < WRITING_NS
