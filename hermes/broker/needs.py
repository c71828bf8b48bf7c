"""[P] Who still needs what of a segment.

`needs_in` takes from the state what each consumer has not settled within a segment's
offsets: at and after its position whatever matches its filter, and below it what is leased,
waiting or dead. `Examiner` holds the segment's batches against that, one page after the
other, on whatever thread: its memory grows with the runs of what may go, not with the
batches. The batch is the unit: one needed message keeps all of its batch.

What follows for the segment is decided in retention.py.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from operator import attrgetter, itemgetter
from typing import Any

import msgspec

from hermes.broker.consumer import Consumer
from hermes.broker.ranges import Range, RangeMap, count, intersect, normalize
from hermes.broker.state import State
from hermes.broker.subject import matcher
from hermes.log.port import Batch

# What one compaction retires at most: its events are written in one go.
RETIRED_RANGES_MAX = 20_000

_FIRST = itemgetter(0)
_OFFSET = attrgetter("offset")


class Need(msgspec.Struct, frozen=True):
    """What one consumer has not settled within a range of offsets.

    From `position` on it is whatever `filters` match. Leases, waiting messages and dead
    letters (those within their retention) are ranges, ascending, clipped.
    """

    consumer: str
    created_lsn: int
    filters: tuple[str, ...]
    position: int
    leased: tuple[Range, ...] = ()
    waiting: tuple[Range, ...] = ()
    dead: tuple[Range, ...] = ()


class Pin(msgspec.Struct, frozen=True):
    """One reason why a payload stays: the first offset that a consumer needs."""

    consumer: str
    offset: int
    what: str = ""  # how it stands there; empty: not considered yet

    @property
    def text(self) -> str:
        what = f", {self.what}" if self.what else ""
        return f"consumer {self.consumer!r} still needs offset {self.offset}{what}"


class Examined(msgspec.Struct, frozen=True):
    """What was found in a segment: what may go, what stays for whom.

    `retired` are offsets of whole batches, `messages` how many; batches retired earlier
    are in neither count. `lost` says per consumer how many messages go that it has not
    settled: never any unless the segment is overdue.
    """

    needs: tuple[Need, ...]
    retired: tuple[Range, ...]
    messages: int
    kept_messages: int
    pins: tuple[Pin, ...] = ()
    lost: tuple[tuple[str, int], ...] = ()

    @property
    def why_kept(self) -> str:
        """Why what stays does."""
        return self.pins[0].text if self.pins else "the rest goes in another round"


def needs_in(
    state: State, first: int, last: int, *, dead_since_ns: int | None = None
) -> tuple[Need, ...]:
    """What each consumer needs of first..last; those that need nothing are left out.

    Dead letters from before `dead_since_ns` (Unix time) are past their retention.
    """
    found = (
        needs_of(consumer, [(first, last)], dead_since_ns=dead_since_ns).get(0)
        for consumer in state.consumers.values()
    )
    return tuple(need for need in found if need is not None)


def needs_of(
    consumer: Consumer, bounds: Sequence[Range], *, dead_since_ns: int | None = None
) -> dict[int, Need]:
    """What one consumer needs of each of many segments, by their index.

    `bounds` are their offsets, ascending. O(log ranges) plus what is found: a consumer that
    is near the end of the line costs next to nothing, however many old segments there are.
    """
    low, high = bounds[0][0], bounds[-1][1]
    lasts = [last for _, last in bounds]
    dead = [
        (a, b)
        for a, b, entry in consumer.dead.overlapping(low, high)
        if dead_since_ns is None or entry.at_ns >= dead_since_ns
    ]
    leased = _by_segment(_within(consumer.leases, low, high), bounds, lasts)
    waiting = _by_segment(_within(consumer.waiting, low, high), bounds, lasts)
    given_up = _by_segment(dead, bounds, lasts)
    unseen = range(bisect_left(lasts, consumer.position), len(bounds))
    return {
        n: Need(
            consumer.name,
            consumer.created_lsn,
            consumer.policy.filters,
            max(bounds[n][0], min(consumer.position, bounds[n][1] + 1)),
            tuple(leased.get(n, ())),
            tuple(waiting.get(n, ())),
            tuple(given_up.get(n, ())),
        )
        for n in sorted({*unseen, *leased, *waiting, *given_up})
    }


def _within(held: RangeMap[Any], first: int, last: int) -> list[Range]:
    return normalize((a, b) for a, b, _ in held.overlapping(first, last)) if held else []


def _by_segment(
    ranges: Sequence[Range], bounds: Sequence[Range], lasts: Sequence[int]
) -> dict[int, list[Range]]:
    """Ranges, cut at the segments' bounds, by the segments' index."""
    found: dict[int, list[Range]] = {}
    for first, last in ranges:
        n = bisect_left(lasts, first)
        while n < len(bounds) and bounds[n][0] <= last:
            cut = (max(first, bounds[n][0]), min(last, bounds[n][1]))
            found.setdefault(n, []).append(cut)
            n += 1
    return found


class Examiner:
    """Holds the batches of one segment against what is needed of it."""

    def __init__(
        self, needs: Sequence[Need], retired: Sequence[Range], *, overdue: bool = False
    ) -> None:
        """`retired` went earlier. `overdue`: what is only waiting, or not yet considered, is
        no reason to stay."""
        self._needs = tuple(needs)
        self._gone = retired
        self._overdue = overdue
        held = [r for need in needs for r in (*need.leased, *need.dead)]
        if not overdue:
            held += [r for need in needs for r in need.waiting]
        self._held = normalize(held)
        self._unseen: dict[str, tuple[tuple[int, int], ...]] = {}  # key -> (position, need)
        self._wanted = [matcher(need.filters) for need in needs]
        self._going: list[Range] = []
        self._messages = 0
        self._kept = 0
        self._pins: dict[int, int] = {}  # need -> first offset not considered
        self._lost = [0] * len(needs)

    def take(self, batches: Iterable[Batch]) -> None:
        """The next batches of the segment, in order."""
        going = self._going
        for batch in batches:
            first, last = batch.first, batch.last
            if _overlaps(self._gone, first, last):
                continue
            messages = last - first + 1
            unseen = self._unseen.get(batch.key)
            if unseen is None:
                unseen = self._unseen[batch.key] = self._wanting(batch.key)
            stays = _overlaps(self._held, first, last)
            if unseen and not self._overdue and last >= unseen[0][0]:
                stays = True
                for position, need in unseen:
                    if last >= position and need not in self._pins:
                        self._pins[need] = max(first, position)
            if not stays and len(going) >= RETIRED_RANGES_MAX and going[-1][1] != first - 1:
                stays = True
            if stays:
                self._kept += messages
                continue
            self._messages += messages
            for position, need in unseen if self._overdue else ():
                self._lost[need] += max(0, last - max(first, position) + 1)
            if going and going[-1][1] == first - 1:
                going[-1] = (going[-1][0], last)
            else:
                going.append((first, last))

    def _wanting(self, key: str) -> tuple[tuple[int, int], ...]:
        """Those who have yet to consider messages of this key, the furthest behind first."""
        return tuple(
            sorted((need.position, n) for n, need in enumerate(self._needs) if self._wanted[n](key))
        )

    def result(self) -> Examined:
        going = tuple(self._going)
        if self._overdue:
            for n, need in enumerate(self._needs):
                self._lost[n] += count(intersect(need.waiting, going))
        return Examined(
            self._needs,
            going,
            self._messages,
            self._kept,
            self._all_pins() if self._kept else (),
            tuple((need.consumer, n) for need, n in zip(self._needs, self._lost, strict=True) if n),
        )

    def _all_pins(self) -> tuple[Pin, ...]:
        pins = []
        for n, need in enumerate(self._needs):
            own = held_pins(need, overdue=self._overdue)
            if n in self._pins:
                own.append(Pin(need.consumer, self._pins[n]))
            if own:
                pins.append(min(own, key=_OFFSET))
        return tuple(sorted(pins, key=_OFFSET))


def held_pins(need: Need, *, overdue: bool = False) -> list[Pin]:
    """What a consumer needs of what it has had: the first of each kind."""
    kinds = (
        ("in flight", need.leased),
        ("waiting", () if overdue else need.waiting),
        ("a dead letter", need.dead),
    )
    return [Pin(need.consumer, ranges[0][0], what) for what, ranges in kinds if ranges]


def oldest_pin(consumer: Consumer, *, lag: int) -> Pin | None:
    """The oldest message that a consumer needs, wherever it is; None: it needs nothing.

    `lag` is how many matching messages lie at or after its position: the first of them is
    somewhere from the position on.
    """
    held = (
        (consumer.leases.first(), "in flight"),
        (consumer.waiting.first(), "waiting"),
        (consumer.dead.first(), "a dead letter"),
        (consumer.position if lag else None, ""),
    )
    pins = [Pin(consumer.name, offset, what) for offset, what in held if offset is not None]
    return min(pins, key=_OFFSET, default=None)


def _overlaps(ranges: Sequence[Range], first: int, last: int) -> bool:
    """Whether normal ranges share an offset with first..last. O(log ranges)."""
    at = bisect_right(ranges, last, key=_FIRST)
    return at > 0 and ranges[at - 1][1] >= first


def what_changed(before: Sequence[Need], now: Sequence[Need], going: Sequence[Range]) -> str:
    """Why payloads that were planned to go may not go any more; empty when they may.

    Needs only shrink by themselves (messages are delivered and settled); what makes them
    grow is a new consumer, another filter, a replay. What was not considered when the plan
    was made is covered by the filter, however it stands now.
    """
    planned = {need.consumer: need for need in before}
    for need in now:
        earlier = planned.get(need.consumer)
        if (
            earlier is None
            or (earlier.created_lsn, earlier.filters) != (need.created_lsn, need.filters)
            or earlier.position > need.position
        ):
            return f"consumer {need.consumer!r} came, or moved, meanwhile"
        if need == earlier:
            continue
        # What waited and was to go all the same may be on its way to a member by now, or dead.
        known = set(earlier.waiting)
        held = (*need.leased, *need.dead, *(r for r in need.waiting if r not in known))
        for first, last in held:
            if _overlaps(going, first, last):
                return f"consumer {need.consumer!r} needs offset {first} again"
    return ""
