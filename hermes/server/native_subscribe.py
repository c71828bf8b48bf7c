"""SubscribeBatches: any number of live subscriptions on one stream, by number.

Each subscription has its own bounded buffer in the broker; this is only where they meet
the wire. A batch that several subscriptions of the stream get is sent once, naming them
all, as long as that keeps the order each of them sees.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from hermes.broker.batch import LiveBatch
from hermes.broker.live import LiveBuffer
from hermes.broker.subject import validate_pattern
from hermes.broker.v1 import broker_pb2
from hermes.errors import HermesError, InvalidArgumentError
from hermes.limits import ANSWERS_WAITING_MAX, DELIVERY_OVERHEAD_BYTES
from hermes.server.host import Host
from hermes.server.opening import check_groups
from hermes.server.sessions import Stream
from hermes.server.status import refusal


class _Subscription:
    """One number of the stream. It is the buffer's port."""

    def __init__(self, number: int, owner: SubscribeBatches) -> None:
        self.number = number
        self.identity = 0
        self.buffer: LiveBuffer | None = None
        self._held: LiveBatch | None = None  # taken out, but did not fit the frame
        self._owner = owner

    def pop(self) -> LiveBatch | None:
        """The next batch; None when there is none."""
        assert self.buffer is not None
        held, self._held = self._held, None
        return held or self.buffer.pop()

    def put_back(self, batch: LiveBatch) -> None:
        self._held = batch

    def take_dropped(self) -> int:
        """Messages lost since the last call."""
        assert self.buffer is not None
        return self.buffer.take_dropped()

    def wake(self) -> None:
        self._owner.ready(self)

    def end(self, error: HermesError) -> None:
        self._owner.closed_by_broker(self, error)


class SubscribeBatches:
    """One SubscribeBatches stream."""

    def __init__(self, host: Host, stream: Stream, frame_bytes_max: int) -> None:
        self._host = host
        self._stream = stream
        self._budget_bytes = frame_bytes_max - DELIVERY_OVERHEAD_BYTES
        self._subscriptions: dict[int, _Subscription] = {}
        self._ready: dict[int, _Subscription] = {}  # by number, in order of arrival
        self._answer = broker_pb2.SubscribeBatchesResponse()  # what is not a delivery
        self._answered = False

    async def run(self, requests: AsyncIterator[broker_pb2.SubscribeBatchesRequest]) -> None:
        try:
            await self._stream.pump(self._read(requests), self._take, lambda: False)
        finally:
            for subscription in list(self._subscriptions.values()):
                self._close(subscription)

    # ---------------------------------------------------------------- reading

    async def _read(self, requests: AsyncIterator[broker_pb2.SubscribeBatchesRequest]) -> None:
        self._stream.registered()
        async for request in requests:
            for asked in request.open:
                self._open(asked)
            for number in request.close:
                self._close_number(number)
            if request.heartbeat:
                self._answer.heartbeat = request.heartbeat
            self._say()
            waiting = len(self._answer.opened) + len(self._answer.closed)
            if waiting > ANSWERS_WAITING_MAX:
                raise InvalidArgumentError("the stream's answers are not read")

    def _open(self, asked: broker_pb2.SubscriptionOpen) -> None:
        number = asked.number
        if not number or number in self._subscriptions:
            raise InvalidArgumentError(
                f"subscription number {number} is in use or 0",
                hint="number the subscriptions of a stream from 1, each once",
            )
        subscription = _Subscription(number, self)
        try:
            validate_pattern(asked.pattern)
            groups = check_groups(asked.queue_groups)
            subscription.identity, subscription.buffer = self._host.engine.subscribe(
                self._stream.session, asked.pattern, groups, subscription
            )
        except HermesError as error:
            self._refuse(number, error)
            return
        self._subscriptions[number] = subscription
        self._answer.opened.append(number)

    def _refuse(self, number: int, error: HermesError) -> None:
        code, message, hint = refusal(error)
        refused = broker_pb2.Refusal(code=code, message=message, hint=hint)
        self._answer.closed.add(number=number, refusal=refused)

    def _close_number(self, number: int) -> None:
        subscription = self._subscriptions.get(number)
        if subscription is None:
            raise InvalidArgumentError(f"subscription {number} is not open in this stream")
        self._close(subscription)
        self._answer.closed.add(number=number)

    def _close(self, subscription: _Subscription) -> None:
        self._subscriptions.pop(subscription.number, None)
        self._ready.pop(subscription.number, None)
        self._host.engine.unsubscribe(subscription.identity)

    # --------------------------------------------------- from the engine (ports)

    def ready(self, subscription: _Subscription) -> None:
        """The subscription's buffer has something."""
        self._ready[subscription.number] = subscription
        self._stream.wake()

    def closed_by_broker(self, subscription: _Subscription, error: HermesError) -> None:
        self._subscriptions.pop(subscription.number, None)
        self._ready.pop(subscription.number, None)
        self._refuse(subscription.number, error)
        self._say()

    def _say(self) -> None:
        self._answered = True
        self._stream.wake()

    # ---------------------------------------------------------------- writing

    def _take(self) -> broker_pb2.SubscribeBatchesResponse | None:
        drain = self._stream.take_drain()
        if not (self._answered or self._ready or drain):
            return None
        response = self._answer
        self._answer = broker_pb2.SubscribeBatchesResponse()
        self._answered = False
        if drain is not None:
            response.drain.CopyFrom(drain)
        _Filler(response, self._budget_bytes).fill(self._ready)
        return response


class _Filler:
    """Moves what is ready into one response."""

    def __init__(self, response: broker_pb2.SubscribeBatchesResponse, budget_bytes: int) -> None:
        self._response = response
        self._budget_bytes = budget_bytes
        self._left_bytes = budget_bytes
        # id(batch) -> (place in the frame, batch): the reference keeps the id meaningful.
        self._places: dict[int, tuple[int, LiveBatch]] = {}

    def fill(self, ready: dict[int, _Subscription]) -> None:
        """Take from each in turn until the frame is full; what is emptied leaves `ready`."""
        for number, subscription in list(ready.items()):
            dropped = subscription.take_dropped()
            if dropped:
                self._response.lags.add(subscription=number, dropped=dropped)
            del ready[number]
            if not self._drain(number, subscription):
                ready[number] = subscription  # at the end: the others' turn is next
                return

    def _drain(self, number: int, subscription: _Subscription) -> bool:
        """Whether it has nothing left."""
        place = -1  # of this subscription's last batch in the frame
        while True:
            batch = subscription.pop()
            if batch is None:
                return True
            known, _ = self._places.get(id(batch), (-1, None))
            if known > place:
                self._response.deliveries[known].subscriptions.append(number)
                place = known
            elif batch.bytes > self._left_bytes and self._places:
                subscription.put_back(batch)
                return False
            else:
                place = self._add(number, batch)

    def _add(self, number: int, batch: LiveBatch) -> int:
        place = len(self._response.deliveries)
        delivery = self._response.deliveries.add(
            subscriptions=[number], published_at_ns=batch.published_at_ns
        )
        if batch.base_offset is not None:
            delivery.base_offset = batch.base_offset
        target = delivery.batch
        target.subject, target.head, target.content = batch.subject, batch.head, batch.content
        self._places[id(batch)] = (place, batch)
        self._left_bytes -= batch.bytes + len(batch.subject) + 64
        return place
