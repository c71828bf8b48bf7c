"""[P] All live subscriptions of a client over one SubscribeBatches stream.

Each subscription has a number, an inbox and a count of what it missed. A message for
many subscriptions of this client comes once and is put into each inbox.

Rules
- One slow user must not hold up the others; so each inbox is bounded, and a full one
  loses its oldest messages. What the broker dropped and what was dropped here count alike.
- A user who is taking messages gets time to do so before more are read: a burst fills
  the broker's buffer and the connection first.
- A lost connection opens all subscriptions again under their numbers.
"""

from __future__ import annotations

from collections.abc import Callable

from hermes.broker.v1 import broker_pb2 as pb
from hermes.client.core.codes import error_from_code
from hermes.client.core.deliveries import Delivered
from hermes.client.core.inbox import Inbox
from hermes.client.core.stream import Waiter, fail, resolve
from hermes.errors import HermesError
from hermes.limits import MIB

INBOX_MESSAGES_MAX = 16_384
INBOX_BYTES_MAX = 16 * MIB
# Above either half, reading gives way to users who are taking.


def _ignore() -> None:
    """Nobody to wake yet."""


def _report_nothing(_dropped: int) -> None:
    """Nobody asked for lag yet."""


class SubscriptionState:
    """One subscription: what was asked for, what has come, what was missed."""

    def __init__(
        self,
        number: int,
        pattern: str,
        queue_groups: tuple[str, ...],
        inbox: Inbox[Delivered] | None = None,
    ) -> None:
        self.number = number
        self.pattern = pattern
        self.queue_groups = queue_groups
        self.inbox: Inbox[Delivered] = Inbox() if inbox is None else inbox
        self.dropped = 0  # messages, over the life of the subscription
        self.lagged: Callable[[int], None] = _report_nothing
        self.opened = False
        self.buffered_before = -1  # at the last look of is_ahead
        self.waiters: list[Waiter] = []

    def put(self, delivered: Delivered, count: int) -> None:
        self.inbox.put(delivered, range(count))
        while self.inbox.buffered > count and self._is_over():
            _, dropped = self.inbox.drop_oldest()
            if dropped:
                self.miss(dropped)

    def _is_over(self) -> bool:
        inbox = self.inbox
        return inbox.buffered > INBOX_MESSAGES_MAX or inbox.buffered_bytes > INBOX_BYTES_MAX

    @property
    def is_filling(self) -> bool:
        inbox = self.inbox
        return (
            inbox.buffered > INBOX_MESSAGES_MAX // 2 or inbox.buffered_bytes > INBOX_BYTES_MAX // 2
        )

    def miss(self, dropped: int) -> None:
        self.dropped += dropped
        self.lagged(dropped)

    def end(self, error: HermesError | None) -> None:
        self.inbox.end(error)
        for waiter in self.waiters:
            if error is None:
                resolve(waiter, None)
            else:
                fail(waiter, error)
        self.waiters.clear()


class SubscribeCore:
    """The stream that holds every live subscription of a client."""

    def __init__(self) -> None:
        self.wake: Callable[[], None] = _ignore
        self.last_error: HermesError | None = None
        self._subscriptions: dict[int, SubscriptionState] = {}
        self._next_number = 1
        self._to_open: list[SubscriptionState] = []
        self._to_close: list[int] = []
        self._filling: set[SubscriptionState] = set()
        self._sending = False  # the opening request has left
        self._answered = False
        self._draining = False
        self._closing = False

    # ------------------------------------------------------------------ the user

    def open(
        self,
        pattern: str,
        queue_groups: tuple[str, ...],
        waiter: Waiter,
        inbox: Inbox[Delivered] | None = None,
    ) -> SubscriptionState:
        """Ask for a subscription; `waiter` gets None once the broker has registered it.

        With `inbox` it shares that of another subscription.
        """
        state = SubscriptionState(self._next_number, pattern, queue_groups, inbox)
        self._next_number += 1
        state.waiters.append(waiter)
        self._subscriptions[state.number] = state
        self._to_open.append(state)
        self.wake()
        return state

    def close_subscription(self, state: SubscriptionState) -> None:
        """The inbox ends at once; the broker is told with the next frame."""
        if self._subscriptions.pop(state.number, None) is not None:
            self._to_close.append(state.number)
            self.wake()
        state.inbox.clear()
        state.end(None)

    def close(self) -> None:
        """Close every subscription, then half-close."""
        for state in list(self._subscriptions.values()):
            self.close_subscription(state)
        self._closing = True
        self.wake()

    # ------------------------------------------------------------------- driver

    @property
    def is_open(self) -> bool:
        return self._answered

    @property
    def is_finished(self) -> bool:
        return self._draining or (self._closing and not self._to_close)

    @property
    def is_ahead(self) -> bool:
        for state in list(self._filling):
            buffered = state.inbox.buffered
            if state.is_filling and buffered != state.buffered_before:
                state.buffered_before = buffered
            else:  # emptied, or its user takes nothing
                state.buffered_before = -1
                self._filling.discard(state)
        return bool(self._filling)

    def opening(self) -> pb.SubscribeBatchesRequest:
        self._draining = False
        self._sending = True
        self._to_open.clear()
        self._to_close.clear()
        return _open_request(list(self._subscriptions.values()))

    def on_response(self, response: pb.SubscribeBatchesResponse, _now_ns: int) -> None:
        self._answered = True
        subscriptions = self._subscriptions
        for number in response.opened:
            if state := subscriptions.get(number):
                state.opened = True
                for waiter in state.waiters:
                    resolve(waiter, None)
                state.waiters.clear()
        for closed in response.closed:
            self._on_closed(closed)
        for live in response.deliveries:
            self._on_delivery(live)
        for lag in response.lags:
            if state := subscriptions.get(lag.subscription):
                state.miss(lag.dropped)
        if response.HasField("drain"):
            self._draining = True
            self.wake()

    def next_request(self) -> pb.SubscribeBatchesRequest | None:
        if not (self._to_open or self._to_close) or not self._sending or self._draining:
            return None
        live = self._subscriptions
        request = _open_request([state for state in self._to_open if state.number in live])
        request.close.extend(self._to_close)
        self._to_open.clear()
        self._to_close.clear()
        return request

    def next_timer_ns(self) -> int | None:
        return None

    def on_timer(self, _now_ns: int) -> None:
        """Live subscriptions have no timers."""

    def on_lost(self, error: HermesError, _now_ns: int) -> None:
        self._sending = self._answered = False
        self.last_error = error

    def on_failed(self, error: HermesError) -> None:
        self._sending = self._answered = False
        states = list(self._subscriptions.values())
        self._subscriptions.clear()
        for state in states:
            state.end(None if self._closing else error)

    # ------------------------------------------------------------------ details

    def _on_closed(self, closed: pb.SubscriptionClosed) -> None:
        state = self._subscriptions.pop(closed.number, None)
        if state is None:
            return
        error = None
        if closed.HasField("refusal"):
            refusal = closed.refusal
            error = error_from_code(refusal.code, refusal.message, refusal.hint)
        state.end(error)

    def _on_delivery(self, live: pb.LiveDelivery) -> None:
        base_offset = live.base_offset if live.HasField("base_offset") else None
        delivered = Delivered(live.batch, base_offset, 0, live.published_at_ns)
        count = delivered.count
        served: list[Inbox[Delivered]] = []  # the patterns of one receiver share an inbox
        for number in live.subscriptions:
            state = self._subscriptions.get(number)
            if state is not None and state.inbox not in served:
                served.append(state.inbox)
                state.put(delivered, count)
                if state.is_filling:
                    self._filling.add(state)


def _open_request(states: list[SubscriptionState]) -> pb.SubscribeBatchesRequest:
    return pb.SubscribeBatchesRequest(
        open=[
            pb.SubscriptionOpen(
                number=state.number, pattern=state.pattern, queue_groups=state.queue_groups
            )
            for state in states
        ]
    )
