"""`hermes`, with a wall clock that a test sets: `python -m tests.support.faults.wrong_clock serve`.

The file that WALL_CLOCK_AHEAD names holds by how many seconds it is ahead, at any moment.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from hermes.cli.main import main
from hermes.clock import SystemClock

_AHEAD = Path(os.environ["WALL_CLOCK_AHEAD"])


def _wall_ns(_: SystemClock) -> int:
    return time.time_ns() + int(_AHEAD.read_text(encoding="ascii") or 0) * 10**9


if __name__ == "__main__":
    SystemClock.wall_ns = _wall_ns  # type: ignore[assignment, method-assign]
    sys.argv[0] = "hermes"
    main()
