"""[P] Pauses between reconnects: exponential, capped, with full jitter.

Pure: randomness is an argument, so the schedule can be tested.
"""

from __future__ import annotations

BACKOFF_FIRST_S = 0.05
BACKOFF_MAX_S = 2.0


class Backoff:
    """The state of one series of attempts. `reset` after a success."""

    __slots__ = ("_failures",)

    def __init__(self) -> None:
        self._failures = 0

    def reset(self) -> None:
        self._failures = 0

    def next_delay_s(self, random_unit: float) -> float:
        """Seconds to wait before the next attempt; `random_unit` is in [0, 1)."""
        ceiling: float = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(self._failures, 10))
        self._failures += 1
        return ceiling / 2 + random_unit * ceiling / 2
