"""[P] Engine time: the only time that decisions use.

Monotonic within a run; at open it goes on from the last time in the log plus the gap
that the wall clock shows, clipped, so that a clock set wrong moves no lease by more
than the clip and never backwards.
"""

from __future__ import annotations

GAP_NS_MAX = 24 * 3600 * 10**9
STEP_NS_MIN = 10**9  # a wall clock that moves by more than this against the monotonic one


def resume_at(last_engine_ns: int, last_wall_ns: int, wall_ns: int) -> int:
    """Engine time at open. A log without records has no wall clock to compare with."""
    if not last_wall_ns:
        return last_engine_ns
    return last_engine_ns + min(max(wall_ns - last_wall_ns, 0), GAP_NS_MAX)


class EngineTime:
    """Maps monotonic readings to engine time, and notices steps of the wall clock."""

    __slots__ = ("_base_ns", "_monotonic_ns", "_wall_lead_ns")

    def __init__(self, resumed_ns: int, monotonic_ns: int, wall_ns: int) -> None:
        self._base_ns = resumed_ns
        self._monotonic_ns = monotonic_ns
        self._wall_lead_ns = wall_ns - monotonic_ns

    def at(self, monotonic_ns: int) -> int:
        return self._base_ns + monotonic_ns - self._monotonic_ns

    def monotonic_at(self, engine_ns: int) -> int:
        """The monotonic reading at which engine time gets there."""
        return engine_ns - self._base_ns + self._monotonic_ns

    def step(self, monotonic_ns: int, wall_ns: int) -> int:
        """How far the wall clock stepped since the last call; 0 for less than a second."""
        lead = wall_ns - monotonic_ns
        step = lead - self._wall_lead_ns
        if abs(step) < STEP_NS_MIN:
            return 0
        self._wall_lead_ns = lead
        return step
