"""[P] A member of a durable consumer: deliveries in, verdicts out, leases kept alive.

Rules
- What is in flight is bounded by the credit given at open; nothing is dropped here.
- A lost connection takes its leases along. Messages still in the inbox are forgotten
  (they come again, at no cost); those in the user's hands are reported as lost, and
  can still be acked over the next connection.
- Closing sends the verdicts given before and half-closes: the broker then releases what
  is unsettled. Releasing it message by message would have it delivered here again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from hermes.broker.v1 import broker_pb2 as pb
from hermes.client.core.inbox import Inbox
from hermes.client.core.leases import LOST, SETTLED, Leased, LeaseTable
from hermes.client.core.settlements import (
    ACK,
    Settlements,
    Terms,
    settlement,
    stale_error,
    to_ranges,
)
from hermes.client.core.stream import Waiter, fail, resolve
from hermes.errors import ClosedError, HermesError


class ConsumerInfo(msgspec.Struct, frozen=True):
    """The consumer as the broker has it. Times in nanoseconds.

    `created` tells whether this open created it; `missed` counts offsets between the
    asked start and the oldest message still held.
    """

    created: bool
    position: int
    oldest_offset: int
    missed: int
    ack_timeout_ns: int
    max_attempts: int
    filters: tuple[str, ...]
    member: int


def _ignore() -> None:
    """Nobody to wake yet."""


def _report_nothing(_leased: Leased, _indexes: list[int]) -> None:
    """Nobody asked for lost leases yet."""


class ConsumeCore:
    """One member over any number of connections.

    `options` is the opening request without `update`, which holds for the first
    connection only.
    """

    def __init__(self, options: pb.ConsumeOpen, *, max_lease_ns: int) -> None:
        self.wake: Callable[[], None] = _ignore
        self.lease_lost: Callable[[Leased, list[int]], None] = _report_nothing
        self.inbox: Inbox[Leased] = Inbox()
        self.info: ConsumerInfo | None = None
        self.last_error: HermesError | None = None
        self._options = options
        self._leases = LeaseTable(max_lease_ns)
        self._settlements = Settlements()
        self._extensions: list[pb.Settlement] = []
        self._opened_waiters: list[Waiter] = []
        self._confirm_waiters: list[Waiter] = []
        self._is_open = False
        self._draining = False
        self._closing = False
        self._overdue = False  # leases ran out: the broker holds their credit till it hears us
        self._heartbeat = 0
        self._failed: HermesError | None = None

    # ------------------------------------------------------------------ the user

    def wait_opened(self, waiter: Waiter) -> None:
        """`waiter` gets None once the broker has registered this member."""
        if self._failed is not None:
            fail(waiter, self._failed)
        elif self.info is not None:
            resolve(waiter, None)
        else:
            self._opened_waiters.append(waiter)

    def wait_confirmed(self, waiter: Waiter) -> None:
        """`waiter` gets None once every verdict given so far is committed."""
        self._confirm_waiters.append(waiter)
        self._tell_confirmed()

    @property
    def in_hand(self) -> int:
        """Messages handed out and not settled."""
        return self._leases.unsettled - self.inbox.buffered

    def ask(self) -> None:
        """The user waits for a message: tell the broker that this member is alive."""
        if self._overdue and self._is_open:
            self._overdue = False
            self._heartbeat = 1
            self.wake()

    @property
    def max_in_flight(self) -> int:
        return self._options.credit.messages

    def is_settled(self, leased: Leased, index: int) -> bool:
        return leased.states[index] == SETTLED

    def settle(
        self, leased: Leased, index: int, terms: Terms, waiter: Waiter | None = None
    ) -> None:
        """Give a verdict on one message; it leaves with the next frame.

        A second verdict on the same message is ignored (an ack may be repeated):
        its `waiter` gets StaleError. Raises `ClosedError` after close, and what ended
        the stream after it has failed.
        """
        if self._closing or self._failed is not None:
            self._check_usable()
        offset = leased.first_offset + index
        if terms is ACK and waiter is None:
            if self._leases.settle(leased, index) and self._settlements.add_ack(offset):
                self.wake()
            return
        if terms.verdict == pb.VERDICT_EXTEND:
            if leased.states[index] == SETTLED:
                fail(waiter, stale_error(offset))
                return
        else:
            if leased.states[index] == SETTLED and (terms != ACK or waiter is None):
                fail(waiter, stale_error(offset))
                return
            self._leases.close(leased, index, SETTLED)
        self._settlements.add(terms, (offset,), waiter)
        self.wake()

    def settle_all(
        self,
        leased: Leased,
        indexes: range | list[int],
        terms: Terms,
        waiter: Waiter | None = None,
    ) -> None:
        """Give one verdict, which settles, on many messages of a delivery.

        Those that have a verdict already keep it; if all have, `waiter` gets StaleError,
        but for an ack. `waiter` gets StaleError too if one of them does not count.
        Raises as `settle` does.
        """
        if len(indexes) == 1 and terms is ACK and waiter is None:
            self.settle(leased, indexes[0], terms)
            return
        self._check_usable()
        states, first = leased.states, leased.first_offset
        if not isinstance(indexes, range) or states.find(SETTLED, indexes.start, indexes.stop) >= 0:
            left = [index for index in indexes if states[index] != SETTLED]
            if not left and (terms != ACK or waiter is None):
                fail(waiter, stale_error(first + indexes[0]))
                return
            flat = to_ranges(left or list(indexes))
            runs = list(zip(flat[::2], flat[1::2], strict=True))
        else:
            runs = [(indexes.start, indexes.stop - 1)]
        for start, last in runs:
            self._leases.settle_run(leased, start, last + 1)
            self._settlements.add_run(terms, first + start, first + last, waiter)
        self.wake()

    def _check_usable(self) -> None:
        if self._closing:
            raise ClosedError("the consumer was left; its unsettled messages are released")
        if self._failed is not None:
            raise self._failed

    def close(self) -> None:
        """Leave, after all verdicts given before; the inbox ends."""
        if self._closing:
            return
        self._closing = True
        self.inbox.clear()
        self.inbox.end()
        for leased in self._leases.clear():
            for index in leased.open_indexes():
                leased.states[index] = SETTLED
        self._extensions.clear()
        self.wake()

    # ------------------------------------------------------------------- driver

    @property
    def is_open(self) -> bool:
        return self._is_open

    @property
    def is_finished(self) -> bool:
        if not (self._closing or self._draining) or not self._settlements.is_empty:
            return False
        return self._closing or self._leases.unsettled == 0

    @property
    def is_ahead(self) -> bool:
        return False  # what can be under way is bounded

    def opening(self) -> pb.ConsumeRequest:
        """Acks that were not confirmed come along, before they cause redeliveries."""
        self._draining = False
        return pb.ConsumeRequest(open=self._options, settlements=self._settlements.take())

    def on_response(self, response: pb.ConsumeResponse, now_ns: int) -> None:
        if response.HasField("opened"):
            self._on_opened(response.opened)
        for stale in response.stale:
            self._on_stale(stale)
        self._settlements.on_confirmed(response.confirmed)
        if not self._closing:
            for delivery in response.deliveries:
                self._on_delivery(delivery, now_ns)
        if response.HasField("drain"):
            self._draining = True
            self.wake()
        if response.confirmed or response.stale:
            self._tell_confirmed()

    def next_request(self) -> pb.ConsumeRequest | None:
        if not self._is_open:
            return None
        extensions, self._extensions = self._extensions, []
        settlements = extensions + self._settlements.take()
        heartbeat, self._heartbeat = self._heartbeat, 0
        if not settlements and not heartbeat:
            return None
        return pb.ConsumeRequest(settlements=settlements, heartbeat=heartbeat)

    def next_timer_ns(self) -> int | None:
        return self._leases.next_due_ns() if self._is_open else None

    def on_timer(self, now_ns: int) -> None:
        extend, run_out = self._leases.due(now_ns)
        by_attempt: dict[int, list[int]] = {}
        for leased in extend:
            offsets = by_attempt.setdefault(leased.attempt, [])
            offsets.extend(leased.first_offset + index for index in leased.open_indexes())
        for attempt, offsets in by_attempt.items():
            terms = Terms(pb.VERDICT_EXTEND, attempt)
            self._extensions.append(settlement(terms, to_ranges(offsets)))
        self._overdue = self._overdue or bool(run_out)
        for leased in run_out:
            self._lose(leased, set(leased.open_indexes()))
        if by_attempt:
            self.wake()

    def on_lost(self, error: HermesError, _now_ns: int) -> None:
        self._is_open = self._overdue = False
        self.last_error = error
        self._options.update = self._options.update and self.info is None
        self._extensions.clear()
        self._settlements.on_lost()
        buffered = {leased.serial: indexes for leased, indexes in self.inbox.clear()}
        for leased in self._leases.clear():
            waiting = set(buffered.get(leased.serial, ()))
            in_hand = [index for index in leased.open_indexes() if index not in waiting]
            for index in leased.open_indexes():
                leased.states[index] = LOST
            if in_hand and not self._closing:
                self.lease_lost(leased, in_hand)
        self._tell_confirmed()

    def on_failed(self, error: HermesError) -> None:
        self._failed = self._failed or error
        self._is_open = False
        self._settlements.on_failed(error)
        self._leases.clear()
        self.inbox.clear()
        self.inbox.end(None if self._closing else error)
        for waiter in self._opened_waiters:
            fail(waiter, error)
        self._opened_waiters.clear()
        self._tell_confirmed()

    # ------------------------------------------------------------------ details

    def _on_opened(self, opened: pb.ConsumeOpened) -> None:
        self._is_open = True
        self._leases.set_ack_timeout(opened.ack_timeout_ns)
        if self.info is None:
            self.info = ConsumerInfo(
                created=opened.created,
                position=opened.position,
                oldest_offset=opened.oldest_offset,
                missed=opened.missed,
                ack_timeout_ns=opened.ack_timeout_ns,
                max_attempts=opened.max_attempts,
                filters=tuple(opened.filters),
                member=opened.member,
            )
        for waiter in self._opened_waiters:
            resolve(waiter, None)
        self._opened_waiters.clear()
        self.wake()

    def _on_delivery(self, delivery: pb.Delivery, now_ns: int) -> None:
        leased = self._leases.add(delivery, now_ns)
        self.inbox.put(leased, leased.indexes)

    def _on_stale(self, stale: pb.Stale) -> None:
        self._settlements.on_stale(stale)
        ranges = list(zip(stale.ranges[::2], stale.ranges[1::2], strict=True))
        if stale.verdict == pb.VERDICT_EXTEND:
            for leased, indexes in self._leases.holding(ranges):
                self._lose(leased, indexes)

    def _lose(self, leased: Leased, indexes: Iterable[int]) -> None:
        lost = set(indexes)
        for index in lost:
            self._leases.close(leased, index, LOST)
        in_hand = sorted(lost - self.inbox.discard(leased, lost))
        if in_hand:
            self.lease_lost(leased, in_hand)

    def _tell_confirmed(self) -> None:
        if self._settlements.is_confirmed or self._failed is not None:
            for waiter in self._confirm_waiters:
                resolve(waiter, None)
            self._confirm_waiters.clear()
