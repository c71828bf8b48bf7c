"""Tell of damaged segments that are left out: which bytes, which messages, whose, what helps.

Whoever finds the damage (opening, a read, the scrub) marks the segment in the log; here each
mark becomes one line at ERROR, within a second, once per process. What is left out stays in
its file, untouched. Nothing is decided here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from hermes.broker.consumer import Consumer
from hermes.log.port import Quarantined
from hermes.server.host import Host
from hermes.server.logs import get_logger

EVENT: Final = "a damaged segment is left out"
# Names in one line; how many more there are is said.
_NAMES_MAX: Final = 20

_log = get_logger("hermes.server")


class QuarantineWatch:
    """Looks at one host's log for marks that were not told yet."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._told: set[int] = set()

    def look(self) -> None:
        """Tell of each segment that was marked since the last look."""
        for damaged in self._host.log.quarantined:
            if damaged.first_lsn not in self._told:
                self._told.add(damaged.first_lsn)
                self._tell(damaged)

    def _tell(self, damaged: Quarantined) -> None:
        consumers = self._host.engine.state.consumers.values()
        unread = [c.name for c in consumers if is_unread(c, damaged)]
        unsettled = [c.name for c in consumers if is_unsettled(c, damaged)]
        _log.error(
            EVENT,
            segment=Path(damaged.path).name,
            path=damaged.path,
            first_lsn=damaged.first_lsn,
            last_lsn=damaged.last_lsn,
            first_offset=damaged.first_offset,
            last_offset=damaged.last_offset,
            reason=damaged.reason,
            pinned=_some(unread),
            unsettled=_some(unsettled),
            works="everything else: publishing, acks, and reading in front of it and behind it; "
            "pinned consumers get what lies in front of it and wait there",
            remedy="restore this file from a backup and start the server again",
        )


def is_unread(consumer: Consumer, damaged: Quarantined) -> bool:
    """Whether messages in it may still have to be offered to the consumer for the first time."""
    return damaged.last_offset is not None and consumer.position <= damaged.last_offset


def is_unsettled(consumer: Consumer, damaged: Quarantined) -> bool:
    """Whether messages in it are leased, waiting or dead letters of the consumer."""
    first, last = damaged.first_offset, damaged.last_offset
    if first is None or last is None:
        return False
    held = (consumer.leases, consumer.waiting, consumer.dead)
    return any(some.overlapping(first, last) for some in held)


def _some(names: list[str]) -> list[str]:
    more = len(names) - _NAMES_MAX
    return names if more <= 0 else [*names[:_NAMES_MAX], f"and {more:,} more"]
