"""Tell of damaged segments that are left out: which bytes, which messages, whose, what helps.

Whoever finds the damage (opening, a read, the scrub) marks the segment in the log. Here each
mark becomes one line at ERROR, within a second, once per process, and what the admin RPCs
answer about it. What is left out stays in its file, untouched. Nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from hermes.admin.v1 import admin_pb2
from hermes.broker.consumer import Consumer
from hermes.log.port import Quarantined
from hermes.server.host import Host
from hermes.server.logs import get_logger

EVENT: Final = "a damaged segment is left out"
# Names in one line; how many more there are is said.
_NAMES_MAX: Final = 20
# Segments in one answer of an RPC.
SEGMENTS_TOLD_MAX: Final = 100

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
        unread, unsettled = concerned(damaged, self._host.engine.state.consumers.values())
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


def concerned(damaged: Quarantined, consumers: Iterable[Consumer]) -> tuple[list[str], list[str]]:
    """Names of the consumers that have not considered all of it, and of those that hold
    messages of it."""
    unread, unsettled = [], []
    for consumer in consumers:
        if is_unread(consumer, damaged):
            unread.append(consumer.name)
        if is_unsettled(consumer, damaged):
            unsettled.append(consumer.name)
    return unread, unsettled


def quarantined_segment(
    damaged: Quarantined, consumers: Iterable[Consumer]
) -> admin_pb2.QuarantinedSegment:
    """One damaged segment, and whom it concerns, for GetServer."""
    unread, unsettled = concerned(damaged, consumers)
    return admin_pb2.QuarantinedSegment(
        first_lsn=damaged.first_lsn,
        last_lsn=damaged.last_lsn,
        first_offset=damaged.first_offset,
        last_offset=damaged.last_offset,
        reason=damaged.reason,
        path=damaged.path,
        pinned_consumers=len(unread),
        pinned=sorted(unread)[:_NAMES_MAX],
        unsettled_consumers=len(unsettled),
        unsettled=sorted(unsettled)[:_NAMES_MAX],
    )


def withheld_from(
    consumer: Consumer, quarantined: Iterable[Quarantined]
) -> list[admin_pb2.Withheld]:
    """What damaged segments keep from one consumer, in order, the first SEGMENTS_TOLD_MAX."""
    told: list[admin_pb2.Withheld] = []
    for damaged in quarantined:
        first, last = damaged.first_offset, damaged.last_offset
        if first is None or last is None:
            continue
        held = (consumer.leases, consumer.waiting, consumer.dead)
        unsettled = sum(
            min(b, last) - max(a, first) + 1
            for some in held
            for a, b, _ in some.overlapping(first, last)
        )
        unread = max(0, last - max(first, consumer.position) + 1)
        if (unread or unsettled) and len(told) < SEGMENTS_TOLD_MAX:
            told.append(
                admin_pb2.Withheld(
                    first_lsn=damaged.first_lsn,
                    first_offset=first,
                    last_offset=last,
                    unread=unread,
                    unsettled=unsettled,
                )
            )
    return told


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
