"""Says in the log when the store's disk runs low, and when it has room again: once each.

What then happens (publishes are refused) is the engine's own doing, and is in force whether
somebody says so or not.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from hermes import limits
from hermes.log.port import Log
from hermes.server.logs import get_logger

LOOK_SECS: Final = 0.25

_log = get_logger("hermes.server")


class DiskWatch:
    """Watches one log. `was_low` is what was said before it was opened."""

    def __init__(self, log: Log, path: Path, *, was_low: bool = False) -> None:
        self._log = log
        self._path = path
        self.low = was_low

    async def run(self) -> None:
        """For ever; cancel it to stop."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_SECS)

    def look(self) -> None:
        """Tell of a change since the last look."""
        if self._log.low_space == self.low:
            return
        self.low = not self.low
        if self.low:
            needed_bytes = limits.LOW_SPACE_BYTES + 2 * limits.RESERVE_BYTES
            _log.warning(
                "the disk is nearly full: publishing is refused",
                path=str(self._path),
                free_bytes=self._log.free_bytes,
                works="acks, deliveries and reads",
                remedy=f"free space until {needed_bytes:,} bytes are free: "
                "publishing goes on by itself within seconds",
            )
        else:
            _log.info(
                "the disk has room again: publishing goes on",
                path=str(self._path),
                free_bytes=self._log.free_bytes,
            )
