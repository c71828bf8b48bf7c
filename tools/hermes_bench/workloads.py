"""[P] The workloads and the targets, as data. What they do is in scenarios.py.

A workload says what goes in and what is counted; which contenders run it is part of it,
because some of them are about Hermes alone. Sizes are for the fastest contender: each
takes its share of them (`contenders.py`), so that all run for about as long.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec


class Kind(StrEnum):
    """How a workload is run and what its figure counts."""

    END_TO_END = "end-to-end"  # messages/s from the first publish to the last committed ack
    AWAIT = "await"  # publishes/s, each awaited before the next of its task
    FANOUT = "fanout"  # deliveries/s to live subscribers
    PUBLISH = "publish"  # messages/s published and committed, no consumer
    CATCH_UP = "catch-up"  # messages/s consumed and acked from a backlog
    PACED = "paced"  # latency in ms from the planned instant to the ack, at a fixed rate
    IDLE = "idle"  # publish rate beside idle consumers, as a part of the rate without
    RESTART = "restart"  # ms until a server with a full store serves
    EXPORT = "export"  # events/s that hermes-inspect writes to Parquet, its start included
    WATCHED = "watched"  # publish rate beside hermes-inspect, as a part of the rate without
    # publishers' p99 meanwhile, as a multiple of p99 at other times
    GC_DROP = "gc-drop"
    GC_COMPACT = "gc-compact"


class Against(StrEnum):
    """What a target compares the contender's figure with."""

    FIGURE = "figure"  # nothing: an absolute bound
    PEER = "peer"  # the better of the named contenders' figures on the same workload
    WORKLOAD = "workload"  # the same contender's figure on another workload
    FLOOR = "floor"  # a rate of the bare machine


class Target(msgspec.Struct, frozen=True):
    """`bound` times the reference (or `bound` itself) is the least, or the most, allowed.

    `extra` names a figure beside the main one, such as p99_ms. `full_only`: the sizes it
    speaks of are those of the full run, so a short one leaves it open.
    """

    contender: str
    against: Against
    bound: float
    names: tuple[str, ...] = ()
    at_most: bool = False
    extra: str = ""
    full_only: bool = False


class Workload(msgspec.Struct, frozen=True):
    """One line of the table. `messages` and `full_messages` are per round (short, full).

    `batch` is how many messages a producer hands over at once and a consumer takes at
    once; 1 is message by message. `concurrency` is the number of awaiting tasks or of
    subscribers. PACED runs for `seconds` (short) or `full_seconds`; its `rate` is in
    messages/s, or it is `rate_part` of the figure that `peak_of` had in the same round.
    """

    name: str
    title: str
    kind: Kind
    contenders: tuple[str, ...]
    unit: str = "messages/s"
    size_bytes: int = 100
    batch: int = 1000
    concurrency: int = 1
    subjects: int = 1
    messages: int = 0
    full_messages: int = 0
    seconds: float = 3.0
    full_seconds: float = 10.0
    rate: float = 0.0
    rate_part: float = 0.0
    peak_of: str = ""  # the workload whose figure is the peak
    by_message: bool = False  # the consumer takes and acks one message at a time
    targets: tuple[Target, ...] = ()
    full_only: bool = False


PEERS: Final = ("nats", "nats-sync", "redis", "kafka")
_ALL: Final = ("hermes-raw", "hermes", "nats", "nats-pull", "nats-sync", "redis", "kafka")


# A raw driver shows what the wire allows; what users get, and what a target that speaks
# of Python clients means, is the client's figure. Both are judged, each by its name.
_BOTH: Final = ("hermes", "hermes-raw")


def _least(contender: str, times: float, *peers: str) -> Target:
    return Target(contender, Against.PEER, times, peers)


WORKLOADS: Final = (
    Workload(
        "end-to-end",
        "durable end to end, 100 B, by batch",
        Kind.END_TO_END,
        _ALL,
        messages=400_000,
        full_messages=2_000_000,
        targets=(
            *(_least(name, 20, "nats", "nats-pull") for name in _BOTH),
            *(_least(name, 10, "redis") for name in _BOTH),
        ),
    ),
    Workload(
        "end-to-end-100",
        "the same, batches of 100",
        Kind.END_TO_END,
        ("hermes-raw",),
        batch=100,
        messages=200_000,
        full_messages=1_000_000,
    ),
    Workload(
        "by-message",
        "the same, consumer message by message",
        Kind.END_TO_END,
        ("hermes", "nats", "redis", "kafka"),
        by_message=True,
        messages=400_000,
        full_messages=2_000_000,
        targets=(_least("hermes", 8, "nats"),),
    ),
    Workload(
        "end-to-end-1k",
        "the same by batch, 1 KiB",
        Kind.END_TO_END,
        ("hermes-raw", "hermes", "nats", "redis", "kafka"),
        size_bytes=1024,
        batch=250,
        messages=100_000,
        full_messages=500_000,
        targets=tuple(
            Target(name, Against.FLOOR, 0.6, ("apsw, one 256 KiB blob per commit, KiB/s",))
            for name in _BOTH
        ),
    ),
    Workload(
        "own-subject",
        "every message its own subject, durable",
        Kind.END_TO_END,
        ("hermes-raw", "hermes", "nats"),
        batch=1,
        subjects=1_000_000,
        messages=40_000,
        full_messages=200_000,
        targets=tuple(_least(name, 2, "nats") for name in _BOTH),
    ),
    Workload(
        "await-1",
        "await publish(), one by one",
        Kind.AWAIT,
        ("hermes", "nats", "nats-sync", "redis", "kafka"),
        unit="publishes/s",
        batch=1,
        messages=2_000,
        full_messages=10_000,
        targets=(_least("hermes", 1, "redis"),),
    ),
    Workload(
        "await-64",
        "await publish() from 64 tasks",
        Kind.AWAIT,
        ("hermes", "nats", "nats-sync", "redis", "kafka"),
        unit="publishes/s",
        batch=1,
        concurrency=64,
        messages=20_000,
        full_messages=100_000,
        targets=(Target("hermes", Against.WORKLOAD, 10, ("await-1",)),),
    ),
    Workload(
        "fanout",
        "live, 1 publisher to 100 subscribers",
        Kind.FANOUT,
        ("hermes-raw", "hermes", "nats"),
        unit="deliveries/s",
        batch=100,
        concurrency=100,
        messages=4_000,
        full_messages=8_000,
        targets=(_least("hermes-raw", 1, "nats"), _least("hermes", 1, "nats")),
    ),
    Workload(
        "v1-publish",
        "v1 RPCs: PublishDurable, one message per frame",
        Kind.PUBLISH,
        ("hermes-v1",),
        batch=1,
        messages=30_000,
        full_messages=100_000,
        targets=(Target("hermes-v1", Against.FIGURE, 12_000),),
    ),
    Workload(
        "v1-consume",
        "v1 RPCs: SubscribeDurable, one message and ack per frame",
        Kind.CATCH_UP,
        ("hermes-v1",),
        batch=1,
        messages=20_000,
        full_messages=100_000,
        targets=(Target("hermes-v1", Against.FIGURE, 12_000),),
    ),
    Workload(
        "idle",
        "publish beside 1,000 idle consumers, 10,000 subscriptions",
        Kind.IDLE,
        ("hermes-raw",),
        unit="of the rate without",
        messages=400_000,
        full_messages=1_000_000,
        targets=(Target("hermes-raw", Against.FIGURE, 0.9),),
    ),
    Workload(
        "paced-half",
        "ack latency at half of the peak",
        Kind.PACED,
        ("hermes-raw",),
        unit="ms p50",
        batch=100,
        rate_part=0.5,
        peak_of="end-to-end-100",
        targets=(Target("hermes-raw", Against.FIGURE, 15, at_most=True, extra="p99_ms"),),
    ),
    Workload(
        "paced",
        "ack latency at 2,000 messages/s, one by one",
        Kind.PACED,
        ("hermes", "nats", "nats-sync", "redis", "kafka"),
        unit="ms p50",
        batch=1,
        rate=2_000,
    ),
    Workload(
        "backlog",
        "catch-up from a backlog (10 million in the full run)",
        Kind.CATCH_UP,
        ("hermes-raw",),
        messages=500_000,
        full_messages=10_000_000,
        targets=(
            Target("hermes-raw", Against.FIGURE, 500_000, full_only=True),
            Target("hermes-raw", Against.FIGURE, 300, at_most=True, extra="rss_mb", full_only=True),
        ),
    ),
    Workload(
        "restart",
        "start on a full store (10 GB in the full run)",
        Kind.RESTART,
        ("hermes-raw",),
        unit="ms",
        size_bytes=4096,
        batch=250,
        messages=40_000,
        full_messages=2_500_000,
        targets=(Target("hermes-raw", Against.FIGURE, 1_000, at_most=True, full_only=True),),
    ),
    Workload(
        "export",
        "Parquet export of a store, batches of 10",
        Kind.EXPORT,
        ("hermes-raw",),
        unit="events/s",
        batch=10,
        messages=200_000,
        full_messages=2_000_000,
        targets=(Target("hermes-raw", Against.FIGURE, 500_000, full_only=True),),
    ),
    Workload(
        "watched",
        "publish while hermes-inspect looks at the store",
        Kind.WATCHED,
        ("hermes-raw",),
        unit="× without",
        messages=1_000_000,
        full_messages=3_000_000,
        targets=(
            Target("hermes-raw", Against.FIGURE, 0.95, full_only=True),
            *(
                Target("hermes-raw", Against.FIGURE, 0.95, extra=name, full_only=True)
                for name in ("json", "screen")
            ),
        ),
        full_only=True,
    ),
    Workload(
        "gc",
        "publishers' p99 while a 1 GB segment is dropped",
        Kind.GC_DROP,
        ("hermes-raw",),
        unit="× p99 otherwise",
        size_bytes=4096,
        batch=250,
        messages=260_000,
        full_messages=260_000,
        targets=(Target("hermes-raw", Against.FIGURE, 1.5, at_most=True),),
        full_only=True,
    ),
    Workload(
        "gc-compact",
        "publishers' p99 while a 1 GB segment is compacted",
        Kind.GC_COMPACT,
        ("hermes-raw",),
        unit="× p99 otherwise",
        size_bytes=32_768,
        batch=1,
        subjects=2,
        messages=32_000,
        full_messages=32_000,
        targets=(Target("hermes-raw", Against.FIGURE, 1.5, at_most=True),),
        full_only=True,
    ),
)


def select(names: list[str] | None, *, full: bool) -> tuple[Workload, ...]:
    """The workloads of those names in table order; by default all that the run allows.

    Raises ValueError that names the unknown ones.
    """
    known = {workload.name: workload for workload in WORKLOADS}
    if names:
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ValueError(f"no workload {', '.join(unknown)}; there are {', '.join(known)}")
        return tuple(workload for name, workload in known.items() if name in names)
    return tuple(workload for workload in WORKLOADS if full or not workload.full_only)
