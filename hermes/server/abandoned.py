"""Consumers that keep old segments, and those of them that nobody serves.

A consumer is called abandoned when it needs something of a segment past its retention and
has had no member for a day, or for the retention if that is shorter. It is told once; what
ends it is a person, or an inactivity limit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

import msgspec

from hermes.broker.retention import RetentionPolicy, SegmentPlan
from hermes.server.host import Host
from hermes.server.logs import get_logger
from hermes.server.settings import DAY_SECS, NS_PER_SEC

_ABANDONED_AFTER_NS: Final = DAY_SECS * NS_PER_SEC

_log = get_logger("hermes.server")


class Pinning(msgspec.Struct, frozen=True):
    """A consumer that keeps payloads past their retention. `idle_ns` is 0 with members."""

    name: str
    created_lsn: int
    members: int
    idle_ns: int
    segments: int
    bytes: int  # of payloads, about
    inactivity_limit_ns: int  # in force; 0: none
    abandoned: bool


class Abandoned:
    """Finds them in a plan, and tells each once."""

    def __init__(self, host: Host, policy: RetentionPolicy) -> None:
        self._host = host
        self._after_ns = min(policy.retention_ns, _ABANDONED_AFTER_NS)
        self._told: set[tuple[str, int]] = set()

    def pinning(self, plans: Iterable[SegmentPlan]) -> list[Pinning]:
        """Who keeps what, the most bytes first."""
        segments: Counter[str] = Counter()
        sizes: Counter[str] = Counter()
        for plan in plans:
            found = plan.examined
            if found is None or not found.kept_messages:
                continue
            held = plan.segment.payload_bytes * found.kept_messages
            for pin in found.pins:
                segments[pin.consumer] += 1
                sizes[pin.consumer] += held // (found.kept_messages + found.messages)
        pinning = [self._describe(name, segments[name], sizes[name]) for name in segments]
        return sorted(
            (one for one in pinning if one is not None), key=lambda one: (-one.bytes, one.name)
        )

    def _describe(self, name: str, segments: int, size_bytes: int) -> Pinning | None:
        engine = self._host.engine
        consumer = engine.state.consumers.get(name)
        if consumer is None:
            return None
        idle_ns = 0
        if not consumer.members:
            idle_ns = max(0, engine.core.now_ns() - consumer.last_active_ns)
        default_ns = engine.settings.consumer_inactivity_ns
        return Pinning(
            name,
            consumer.created_lsn,
            len(consumer.members),
            idle_ns,
            segments,
            size_bytes,
            consumer.policy.inactivity_limit_ns or default_ns,
            not consumer.members and idle_ns >= self._after_ns,
        )

    def look_at(self, plans: Iterable[SegmentPlan]) -> None:
        """Warn of each abandoned consumer, once."""
        for one in self.pinning(plans):
            if one.abandoned and (one.name, one.created_lsn) not in self._told:
                self._told.add((one.name, one.created_lsn))
                _log.warning(
                    "a consumer that nobody serves keeps old segments",
                    consumer=one.name,
                    idle_secs=one.idle_ns // NS_PER_SEC,
                    segments=one.segments,
                    bytes=one.bytes,
                    hint=f"hermes consumers delete {one.name}; or set HERMES_CONSUMER_INACTIVITY",
                )
