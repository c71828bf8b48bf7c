"""[P] What the runner tells a worker, and what it is told: one JSON line each."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

Ranges = list[tuple[int, int]]


class Role(StrEnum):
    """What a worker does."""

    PRODUCE = "produce"  # publish all, pipelined
    CONSUME = "consume"  # consume and ack all
    AWAIT = "await"  # publish, awaiting each
    PACED = "paced"  # publish at a fixed rate
    PUBLISH_LIVE = "publish-live"
    SUBSCRIBE = "subscribe"  # receive live
    HOLD = "hold"  # keep idle consumers and subscriptions open


class Job(msgspec.Struct, frozen=True):
    """One worker's part. `rate` is messages/s, `idle_after_s` ends a live receiver."""

    driver: str
    role: Role
    address: str
    messages: int
    size_bytes: int
    batch: int
    concurrency: int = 1
    subjects: int = 1
    rate: float = 0.0
    by_message: bool = False
    consumer: str = "bench"


class Outcome(msgspec.Struct):
    """What a worker did. Instants are readings of the machine's monotonic clock.

    `messages` counts what was acknowledged (publishing) or received and acked. `ranges`
    are the offsets, where the system has any the client learns of. `latencies_ns` may be
    a sample.
    """

    messages: int = 0
    started_ns: int = 0
    ended_ns: int = 0
    bytes: int = 0
    ranges: Ranges = []
    latencies_ns: list[int] = []
    error: str = ""

    @property
    def seconds(self) -> float:
        return (self.ended_ns - self.started_ns) / 1e9


class Sample(msgspec.Struct):
    """One contender's figure on one workload in one round, checked or with a reason."""

    workload: str
    contender: str
    round: int
    value: float = 0.0
    extras: dict[str, float] = {}
    error: str = ""


def extend_ranges(ranges: Ranges, first: int, last: int) -> None:
    """Add first..last; joins the last range where it continues it."""
    if ranges and ranges[-1][1] + 1 == first:
        ranges[-1] = (ranges[-1][0], last)
    else:
        ranges.append((first, last))


def union(ranges: Ranges) -> Ranges:
    """The same offsets as ascending ranges that neither touch nor overlap."""
    joined: Ranges = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return joined


def total(ranges: Ranges) -> int:
    """How many offsets the ranges name, each counted as often as it is named."""
    return sum(last - first + 1 for first, last in ranges)


encode: Final = msgspec.json.encode
