"""A bound on bytes per second, for copying that must leave the disk to others.

Whoever moves bytes says how many, and is told how long to rest. What was not used in the
last moment may be made up for, no more: after a pause there is no burst.
"""

from __future__ import annotations

from typing import Final

from hermes.clock import Clock

_NS_PER_SEC: Final = 1_000_000_000
_MADE_UP_NS: Final = 100_000_000


class Pace:
    """So many bytes per second on average; None: as fast as it goes."""

    def __init__(self, bytes_per_sec: int | None, clock: Clock) -> None:
        self._bytes_per_sec = bytes_per_sec
        self._clock = clock
        self._free_ns = 0  # when the bytes so far have had their time

    def rest_secs(self, moved_bytes: int) -> float:
        """Seconds to rest after having moved so many bytes more; 0 when there is no hurry."""
        if self._bytes_per_sec is None:
            return 0.0
        now_ns = self._clock.monotonic_ns()
        began_ns = max(self._free_ns, now_ns - _MADE_UP_NS)
        self._free_ns = began_ns + moved_bytes * _NS_PER_SEC // self._bytes_per_sec
        return max(0, self._free_ns - now_ns) / _NS_PER_SEC
