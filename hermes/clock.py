"""The only user of `time`. Everything else gets a Clock, or the time itself."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two readings, both in nanoseconds."""

    def wall_ns(self) -> int:
        """Unix time: for people and audits. May jump."""
        ...

    def monotonic_ns(self) -> int:
        """Never goes back; counts from an arbitrary instant. For decisions."""
        ...


class SystemClock:
    """The machine's clocks."""

    def wall_ns(self) -> int:
        return time.time_ns()

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()


def thread_cpu_ns() -> int:
    """What the calling thread has had of a processor."""
    return time.thread_time_ns()
