"""Members, feeds and the rounds that turn what is due into deliveries.

Each consumer with members has a Feed (what could be sent) and Seats (who could get it).
A consumer is *ready* when something changed that may allow a delivery: a publish, a
settlement, credit, a member, a due time. `run` visits the ready ones once per turn,
expires leases, plans (dispatch.py), records Delivered, and hangs the frames on the
commit. A consumer in which nothing changed costs nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from functools import partial
from heapq import heapify, heappop, heappush
from itertools import chain

import msgspec

from hermes import limits
from hermes.broker import events as ev
from hermes.broker.batch import LineBatch
from hermes.broker.consumer import Consumer
from hermes.broker.dead_letters import decide_gone
from hermes.broker.dispatch import Assignment, Delivery, Slot, plan
from hermes.broker.due import REBUILD_MIN, SLACK
from hermes.broker.feed import Feed
from hermes.broker.journal import Journal
from hermes.broker.ports import Fetch, FetchAhead, Fetched, FetchRanges, Host, MemberPort
from hermes.broker.ranges import Range, normalize, subtract
from hermes.broker.redelivery import Piece, decide_expiry, decide_postpone, due_leases, hulls
from hermes.broker.ring import Ring
from hermes.broker.router import Route
from hermes.broker.subject import matcher

READ_AHEAD_BATCHES = limits.WINDOW_BATCHES_MAX // 2
READ_AHEAD_BYTES = limits.WINDOW_BYTES_MAX // 2
UNREADABLE_REASON = "its payload is retired or cannot be read"


class Seat(msgspec.Struct):
    """A member's place at its consumer, as long as its stream lasts."""

    member: int
    consumer: str
    created_lsn: int  # of the consumer: a namesake made later is another one
    session: int
    port: MemberPort
    credit_messages: int
    credit_bytes: int
    served: int = 0
    overdue: int = 0  # messages expired at this member, which has sent nothing since
    overdue_bytes: int = 0
    # What waits for its commit: when it was delivered (engine time), and what; oldest first.
    unsent: deque[tuple[int, list[Range]]] = msgspec.field(default_factory=deque)

    def unsent_ranges(self) -> list[Range]:
        """Offsets leased to the member that it cannot know of yet."""
        return normalize(chain.from_iterable(ranges for _, ranges in self.unsent))


class Deliveries:
    """Everything between consumers' state and members' streams."""

    def __init__(
        self, journal: Journal, ring: Ring, host: Host, redelivery_batch_size: int
    ) -> None:
        self.seats: dict[int, Seat] = {}
        self.ready: dict[str, None] = {}  # a set in order of arrival
        self.died: list[tuple[Consumer, ev.Ranges]] = []  # given up on in this turn
        self._journal = journal
        self._state = journal.state
        self._ring = ring
        self._host = host
        self._batch_size = redelivery_batch_size
        self._feeds: dict[str, Feed] = {}
        self._by_consumer: dict[str, list[Seat]] = {}
        self._alarms: list[tuple[int, str]] = []  # heap: (engine time, consumer)
        self._alarm_of: dict[str, int] = {}
        self._expire_from_ns = 0  # engine time; no lease expires before
        self._unreadable: list[tuple[str, int, int]] = []  # consumer, first, last

    # --------------------------------------------------------------- members

    def join(self, consumer: Consumer, seat: Seat) -> None:
        self.seats[seat.member] = seat
        self._by_consumer.setdefault(consumer.name, []).append(seat)
        if consumer.name not in self._feeds:
            self._feeds[consumer.name] = Feed(consumer.position, self._state.next_offset)
            consumer.rebuild_dues()  # entries that surfaced for an earlier feed
        self.mark(consumer.name)

    def leave(self, seat: Seat) -> None:
        """Forget a member. Its events are the caller's."""
        if self.seats.pop(seat.member, None) is None:
            return
        seats = self._by_consumer[seat.consumer]
        seats.remove(seat)
        if not seats:
            self.forget(seat.consumer)
        else:
            self.mark(seat.consumer)

    def forget(self, name: str) -> list[Seat]:
        """Forget a consumer; returns the members it still had."""
        seats = self._by_consumer.pop(name, [])
        for seat in seats:
            self.seats.pop(seat.member, None)
        self._feeds.pop(name, None)
        self.ready.pop(name, None)
        self._alarm_of.pop(name, None)
        return seats

    def mark(self, name: str) -> None:
        """Something changed for this consumer."""
        if name in self._feeds and name not in self.ready:
            self.ready[name] = None
            self._host.wake()

    def published(self, route: Route, batch: LineBatch) -> None:
        """A batch entered the line. Costs the matching consumers with members only."""
        for name in route.consumers:
            feed = self._feeds.get(name)
            if feed is not None:
                if feed.tailing:
                    feed.published(batch)
                self.mark(name)

    # ---------------------------------------------------------------- rounds

    def run(self, now_ns: int, at_ns: int) -> None:
        """Visit every consumer that is ready or has something due."""
        self._bury_unreadable(now_ns, at_ns)
        self._ring_alarms(now_ns)
        ready, self.ready = self.ready, {}
        for name in ready:
            consumer, feed = self._state.consumers.get(name), self._feeds.get(name)
            if consumer is not None and feed is not None:
                self._visit(consumer, feed, now_ns, at_ns)

    def _bury_unreadable(self, now_ns: int, at_ns: int) -> None:
        """What waits and has no payload any more is settled by an event, not tried for ever."""
        unreadable, self._unreadable = self._unreadable, []
        for name, first, last in unreadable:
            consumer = self._state.consumers.get(name)
            if consumer is None or name not in self._feeds:
                continue
            for event in decide_gone(
                consumer, [(first, last)], UNREADABLE_REASON, now_ns=now_ns, at_ns=at_ns
            ):
                self._journal.record(event)

    def hold_expiry(self, until_ns: int) -> None:
        """Let no lease expire before `until_ns`: this process did not run for a while, and
        what members sent meanwhile is not read yet."""
        self._expire_from_ns = until_ns

    def _visit(self, consumer: Consumer, feed: Feed, now_ns: int, at_ns: int) -> None:
        if now_ns >= self._expire_from_ns:
            self._expire(consumer, now_ns, at_ns)
        self._surface_due(consumer, feed, now_ns)
        self._refill(consumer, feed)
        slots = [self._slot(consumer, seat) for seat in self._by_consumer[consumer.name]]
        deliveries = plan(consumer, feed, slots, now_ns)
        if deliveries:
            self._deliver(consumer, deliveries, now_ns)
        if deliveries or self._more_due(consumer, feed, now_ns):
            self.mark(consumer.name)  # until a round finds nothing to do
        for slot in slots:
            self.seats[slot.member].served = slot.served
        self._set_alarm(consumer, now_ns)

    def _slot(self, consumer: Consumer, seat: Seat) -> Slot:
        member = consumer.members[seat.member]
        return Slot(
            seat.member,
            seat.credit_messages,
            seat.credit_bytes,
            member.in_flight + seat.overdue,
            member.in_flight_bytes + seat.overdue_bytes,
            member.alone > 0,
            seat.served,
            seat.overdue > 0,
        )

    def _deliver(self, consumer: Consumer, deliveries: list[Delivery], now_ns: int) -> None:
        deadline_ns = now_ns + consumer.policy.ack_timeout_ns
        for delivery in deliveries:
            seat = self.seats[delivery.member]
            mean_bytes = -(-delivery.bytes // delivery.messages)
            for ranges in hulls(delivery.ranges):
                self._journal.record(
                    ev.Delivered(
                        engine_time_ns=now_ns,
                        consumer=consumer.name,
                        ranges=ranges,
                        session=seat.session,
                        member=delivery.member,
                        attempt=delivery.attempt,
                        deadline_ns=deadline_ns,
                        mean_bytes=mean_bytes,
                    )
                )
            seat.unsent.append((now_ns, delivery.ranges))
            self._journal.after_commit(partial(_send, seat, delivery.assignments))

    # --------------------------------------------------- expiry, redelivery

    def _expire(self, consumer: Consumer, now_ns: int, at_ns: int) -> None:
        pieces = due_leases(consumer, now_ns, self._batch_size)
        unsent = [piece for piece in pieces if self._is_unsent(consumer, piece)]
        if unsent:
            pieces = [piece for piece in pieces if piece not in unsent]
            for event in decide_postpone(consumer, unsent, now_ns=now_ns):
                self._journal.record(event)
            self.mark(consumer.name)
        for first, last, lease in pieces:
            seat = self.seats.get(lease.member)
            if seat is not None:
                seat.overdue += last - first + 1
                seat.overdue_bytes += (last - first + 1) * lease.mean_bytes
        for event in decide_expiry(consumer, pieces, now_ns=now_ns, at_ns=at_ns):
            self._journal.record(event)
            if isinstance(event, ev.DeadLettered):
                self.died.append((consumer, event.ranges))
        if pieces:
            self.mark(consumer.name)  # there may be more than one round of them

    def _is_unsent(self, consumer: Consumer, piece: Piece) -> bool:
        """Whether a due lease may still wait for its commit: nobody has had it yet."""
        seat = self.seats.get(piece[2].member)
        return (
            seat is not None
            and bool(seat.unsent)
            and piece[2].deadline_ns >= seat.unsent[0][0] + consumer.policy.ack_timeout_ns
        )

    def _surface_due(self, consumer: Consumer, feed: Feed, now_ns: int) -> None:
        if not feed.takes_redeliveries(self._batch_size):
            return
        missing: list[Range] = []
        for due_ns, first, last in consumer.dues.pop_due(now_ns):
            for a, b, waiting in consumer.waiting.overlapping(first, last):
                if waiting.due_ns == due_ns:
                    missing += self._redeliver(feed, a, b)
            if len(feed.redeliveries) + len(missing) >= self._batch_size:
                break
        if missing:
            feed.awaited = FetchRanges(
                consumer.name, consumer.created_lsn, tuple(normalize(missing)), for_copies=False
            )
            # A reader sees what is committed; a message may be delivered, handed back and
            # out of the ring before that.
            self._journal.after_commit(partial(self._host.fetch, feed.awaited))

    def _more_due(self, consumer: Consumer, feed: Feed, now_ns: int) -> bool:
        """Whether the next round would surface something (see `_surface_due`)."""
        due_ns = consumer.dues.next_due_ns()
        if due_ns is None or due_ns > now_ns:
            return False
        return feed.takes_redeliveries(self._batch_size)

    def _redeliver(self, feed: Feed, first: int, last: int) -> list[Range]:
        """Queue what the ring has of first..last; returns what must be read."""
        while first <= last:
            batch = self._ring.find(first)
            if batch is None:
                return [(first, last)]
            upto = min(last, batch.last)
            feed.redeliveries.append((batch, first, upto))
            first = upto + 1
        return []

    # ---------------------------------------------------------------- feeds

    def _refill(self, consumer: Consumer, feed: Feed) -> None:
        if feed.tailing or feed.fetching or feed.pinned or not feed.low:
            return
        oldest = self._state.oldest_offset  # of what was dropped, nothing was wanted
        if feed.scanned_to < oldest and feed.fill((), oldest, self._state.next_offset):
            return
        if not self._ring.holds(feed.scanned_to):
            feed.fetching = FetchAhead(
                consumer.name,
                consumer.created_lsn,
                feed.scanned_to,
                consumer.policy.filters,
                READ_AHEAD_BATCHES,
                READ_AHEAD_BYTES,
            )
            self._host.fetch(feed.fetching)
            return
        wanted = matcher(consumer.policy.filters)
        found = self._ring.since(feed.scanned_to, READ_AHEAD_BATCHES)
        for batch in found:
            feed.fill(
                (batch,) if wanted(batch.subject) else (), batch.last + 1, self._state.next_offset
            )
            if feed.full:
                break
        if feed.hungry:
            self.mark(consumer.name)

    def fetched(self, answer: Fetched) -> None:
        """A reader's answer. One that this feed did not ask for is dropped: the feed before
        it did, for a consumer that is gone or has other filters now."""
        request: Fetch = answer.request
        consumer = self._state.consumers.get(request.consumer)
        feed = self._feeds.get(request.consumer)
        if consumer is None or feed is None or consumer.created_lsn != request.created_lsn:
            return
        if isinstance(request, FetchRanges):
            if feed.awaited == request:
                self._fetched_due(feed, request.ranges, answer.batches)
                for first, last in answer.unread:
                    consumer.resurface(first, last)
                read = [(batch.first, batch.last) for batch in answer.batches]
                read += [*answer.unread, *answer.withheld]
                self._unreadable += [
                    (consumer.name, *missing)
                    for missing in subtract(request.ranges, normalize(read))
                ]
        elif feed.fetching == request:
            feed.fetching = None
            feed.pinned = answer.pinned
            feed.fill(answer.batches, answer.scanned_to, self._state.next_offset)
            if feed.pinned:
                return  # until the damage is mended and the log opened again
            if answer.scanned_to == request.from_offset and not feed.tailing:
                # What follows is not committed yet, and too much for the ring.
                self._journal.after_commit(partial(self.mark, consumer.name))
                return
        self.mark(consumer.name)

    @staticmethod
    def _fetched_due(feed: Feed, ranges: Iterable[Range], batches: Iterable[LineBatch]) -> None:
        feed.awaited = None
        held = list(batches)
        for first, last in ranges:
            for batch in held:
                a, b = max(first, batch.first), min(last, batch.last)
                if a <= b:
                    feed.redeliveries.append((batch, a, b))

    # ---------------------------------------------------------------- alarms

    def _set_alarm(self, consumer: Consumer, now_ns: int) -> None:
        # What is overdue already waits for room, and room marks the consumer ready.
        deadline_ns, due_ns = consumer.deadlines.next_due_ns(), consumer.dues.next_due_ns()
        if deadline_ns is not None:
            deadline_ns = max(deadline_ns, self._expire_from_ns)
        times = [at for at in (deadline_ns, due_ns) if at is not None and at > now_ns]
        if not times:
            return
        alarm_ns = min(times)
        set_for = self._alarm_of.get(consumer.name)
        if set_for is None or alarm_ns < set_for or set_for <= now_ns:
            self._alarm_of[consumer.name] = alarm_ns
            heappush(self._alarms, (alarm_ns, consumer.name))
            if len(self._alarms) > SLACK * len(self._alarm_of) + REBUILD_MIN:
                # Mostly alarms that an earlier one made needless, or of consumers left.
                self._alarms = [(at_ns, name) for name, at_ns in self._alarm_of.items()]
                heapify(self._alarms)

    def _ring_alarms(self, now_ns: int) -> None:
        while self._alarms and self._alarms[0][0] <= now_ns:
            _, name = heappop(self._alarms)
            self._alarm_of.pop(name, None)
            if name in self._feeds:
                self.ready[name] = None

    def next_alarm_ns(self) -> int | None:
        """Engine time at which something falls due; None when nothing will."""
        return self._alarms[0][0] if self._alarms else None

    def has_caught_up(self, consumer: Consumer) -> bool:
        """Whether nothing that it was never sent is known to match; False where that is open."""
        if consumer.position >= self._state.next_offset:
            return True
        feed = self._feeds.get(consumer.name)
        return feed is not None and feed.tailing and not feed.window

    @property
    def behind(self) -> int:
        """Consumers with members that are not tailing: they read from ring or disk."""
        return sum(not feed.tailing for feed in self._feeds.values())


def _send(seat: Seat, assignments: list[Assignment]) -> None:
    """At the commit: what was delivered goes out."""
    seat.unsent.popleft()
    seat.port.deliver(assignments)
