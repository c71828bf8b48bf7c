"""[P] Who gets what: due redeliveries first, then first attempts in offset order.

Policy. While a due redelivery finds no room, no first attempt goes out: it would take
what the redelivery waits for, again and again. A batch goes whole to one member where it
fits; it is cut when a good part of the member's credit is free, or when the member has
nothing in flight (such a member always gets something, so a batch larger than the credit
does not starve). Among members with room the one with the smallest share of its credit
in use wins, then the one served longest ago. A message that came back for free too often
goes alone to a member that holds nothing else: the member nearest to that is kept free
for it, and the others go on.

`plan` takes from the feed and returns deliveries; the engine turns them into events.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from hermes import limits
from hermes.broker.batch import LineBatch
from hermes.broker.consumer import Consumer, Waiting
from hermes.broker.feed import Feed, Redelivery
from hermes.broker.ranges import Range, RangeMap

ASSIGNMENTS_MAX = 256  # per turn and consumer; the rest follows in the next turn
CUT_PART = 4  # a batch is cut when at least a quarter of the credit is free


class Slot(msgspec.Struct):
    """One member's room, as of this turn."""

    member: int
    credit_messages: int
    credit_bytes: int
    in_flight: int
    in_flight_bytes: int
    alone: bool  # holds a message that wants it for itself
    served: int  # higher is more recent
    silent: bool = False  # has let leases expire and sent nothing since

    def room(self, count: int, mean_bytes: int, *, alone: bool) -> int:
        """How many of `count` messages it takes now."""
        if self.alone or (alone and self.in_flight):
            return 0
        if alone:
            return 1
        credit = self.credit_messages
        free = credit - self.in_flight
        if mean_bytes:
            credit = min(credit, self.credit_bytes // mean_bytes)
            free = min(free, (self.credit_bytes - self.in_flight_bytes) // mean_bytes)
        if not self.in_flight:
            return min(count, max(free, 1))
        if free >= count:
            return count
        return free if free > 0 and free * CUT_PART >= credit else 0

    @property
    def load(self) -> float:
        """The share of its credit that is in use."""
        return self.in_flight / (self.credit_messages or 1)

    def before(self, other: Slot) -> bool:
        """Whether it is to be served before the other, if both have room."""
        return (self.load, self.served) < (other.load, other.served)


class Assignment(msgspec.Struct, frozen=True, gc=False):
    """Offsets first..last of a batch for a member, as delivery number `attempt`."""

    member: int
    attempt: int
    batch: LineBatch
    first: int
    last: int


class Delivery(msgspec.Struct):
    """Neighbouring assignments of one member and attempt: what becomes one event.

    Not regrouped beyond that: first attempts must be recorded in offset order.
    `ranges` are those of the assignments, in their order; those that follow each other
    are joined.
    """

    member: int
    attempt: int
    assignments: list[Assignment]
    ranges: list[Range]
    messages: int
    bytes: int


def plan(consumer: Consumer, feed: Feed, slots: Sequence[Slot], now_ns: int) -> list[Delivery]:
    """Assign what the feed holds until it or the members' room is used up."""
    planner = _Planner(slots)
    if consumer.paused or not slots:
        return []
    all_placed = _plan_redeliveries(consumer, feed, planner, now_ns)
    if all_placed and consumer.waiting.count < limits.WAITING_MAX:
        _plan_first_attempts(consumer, feed, planner)
    return planner.deliveries


class _Planner:
    """Finds a member for each piece, and joins neighbours into deliveries."""

    __slots__ = ("_served", "deliveries", "left", "slots")

    def __init__(self, slots: Sequence[Slot]) -> None:
        self.slots = slots
        self.deliveries: list[Delivery] = []
        self.left = ASSIGNMENTS_MAX
        self._served = max((slot.served for slot in slots), default=0)

    def assign(
        self, batch: LineBatch, first: int, last: int, attempt: int, *, alone: bool = False
    ) -> int:
        """Give the head of first..last to the best member; returns how many messages."""
        count, mean_bytes = last - first + 1, batch.mean_bytes
        best: Slot | None = None
        room = 0
        for slot in self.slots:
            offered = slot.room(count, mean_bytes, alone=alone)
            if offered > 0 and (best is None or slot.before(best)):
                best, room = slot, offered
        if best is None:
            return 0
        best.in_flight += room
        best.in_flight_bytes += room * mean_bytes
        best.alone = alone
        self._served = best.served = self._served + 1
        self.left -= 1
        self._append(Assignment(best.member, attempt, batch, first, first + room - 1), room)
        return room

    def _append(self, assignment: Assignment, messages: int) -> None:
        first, last = assignment.first, assignment.last
        size_bytes = messages * assignment.batch.mean_bytes
        if self.deliveries:
            delivery = self.deliveries[-1]
            if delivery.member == assignment.member and delivery.attempt == assignment.attempt:
                delivery.assignments.append(assignment)
                delivery.messages += messages
                delivery.bytes += size_bytes
                ranges = delivery.ranges
                if ranges[-1][1] == first - 1:
                    ranges[-1] = (ranges[-1][0], last)
                else:
                    ranges.append((first, last))
                return
        self.deliveries.append(
            Delivery(
                assignment.member,
                assignment.attempt,
                [assignment],
                [(first, last)],
                messages,
                size_bytes,
            )
        )


def _plan_first_attempts(consumer: Consumer, feed: Feed, planner: _Planner) -> None:
    position = consumer.position
    window = feed.window
    while window and planner.left > 0:
        batch = window[0]
        first, last = batch.first, batch.last
        if first < position:
            first = position
        if first <= last:
            taken = planner.assign(batch, first, last, 1)
            if not taken:
                return
            position = first + taken
        if position > last:
            feed.pop()


def _plan_redeliveries(consumer: Consumer, feed: Feed, planner: _Planner, now_ns: int) -> bool:
    """Whether all that is due was placed, but for what waits for a member of its own."""
    if not feed.redeliveries:
        return True
    planned: RangeMap[None] = RangeMap()  # a feed may hold an offset twice
    alone_later: list[Redelivery] = []
    room = True
    while room and feed.redeliveries and planner.left > 0:
        batch, first, last = feed.redeliveries.popleft()
        for begin, end, waiting in _due(consumer, planned, first, last, now_ns):
            alone = waiting.releases >= limits.RELEASES_BEFORE_ALONE
            at = begin
            while at <= end and (
                taken := planner.assign(batch, at, end, waiting.attempt + 1, alone=alone)
            ):
                planned.add(at, at + taken - 1, None)
                at += taken
            if at <= end and alone:
                if not alone_later:
                    _keep_free(planner.slots)
                alone_later.append((batch, at, end))
            elif at <= end:
                feed.redeliveries.appendleft((batch, at, last))
                room = False
                break
    placed = not feed.redeliveries
    feed.redeliveries.extendleft(reversed(alone_later))
    return placed


def _keep_free(slots: Sequence[Slot]) -> None:
    """Give nothing more to the member that is nearest to holding nothing.

    Not to a silent one, if there is another: what it holds may never come back.
    """
    free = [slot for slot in slots if not slot.alone]
    if free:
        min(free, key=lambda slot: (slot.silent, slot.load)).alone = True


def _due(
    consumer: Consumer, planned: RangeMap[None], first: int, last: int, now_ns: int
) -> list[tuple[int, int, Waiting]]:
    """What of first..last waits, is due and is not planned yet.

    A message that was nacked again meanwhile, and is due later, has its own entry.
    """
    return [
        (a, b, waiting)
        for begin, end, waiting in consumer.waiting.overlapping(first, last)
        if waiting.due_ns <= now_ns
        for a, b in planned.missing(begin, end)
    ]
