"""SubscribeDurable: a member of a durable consumer, one message per frame, acks by id.

The consumer is the same as a native one; what differs is the form. Verdicts name message
ids, so the stream remembers which offset and attempt it sent under which id; an id it
does not remember is looked up in the log. Nothing confirms an ack.

A consumer made here redelivers at once (no backoff), and its filter and ack timeout may
be changed by an open while it has no member: that is what existing clients expect.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Sequence

from hermes import limits
from hermes.broker.batch import views
from hermes.broker.consumers import OpenConsumer
from hermes.broker.delivery import Seat
from hermes.broker.dispatch import Assignment
from hermes.broker.settling import Settle, Verdict
from hermes.broker.subject_wire import Encoding
from hermes.broker.v1 import broker_pb2
from hermes.errors import HermesError, InvalidArgumentError
from hermes.server.config import ServerConfig
from hermes.server.host import Host
from hermes.server.logs import get_logger
from hermes.server.message_ids import find_offset
from hermes.server.opening import check_consumer_name, check_groups
from hermes.server.sessions import Stream
from hermes.server.settings import NS_PER_SEC
from hermes.server.v1_envelopes import envelope_of, pattern_of

GROUP_CONSUMER_PREFIX = "_group."

Requests = AsyncIterator[broker_pb2.DurableClientMessage]
Held = tuple[int, int]  # offset, attempt

_log = get_logger("hermes.server")


class V1Durable:
    """One SubscribeDurable stream. It is the member's port."""

    def __init__(self, host: Host, config: ServerConfig, stream: Stream) -> None:
        self._host = host
        self._config = config
        self._stream = stream
        self._members = host.engine.members
        self._seat: Seat | None = None
        self._encoding = Encoding.TEXT
        self._assignments: deque[Assignment] = deque()
        self._output: deque[broker_pb2.DurableServerMessage] = deque()
        self._held: dict[str, list[Held]] = {}  # sent and not settled, oldest first
        self._done = False

    async def run(self, requests: Requests) -> None:
        self._host.require_store("SubscribeDurable")
        lost = False
        try:
            await self._stream.pump(self._read(requests), self._take, lambda: False)
        except HermesError:
            raise
        except BaseException:  # the connection or the client is gone
            lost = True
            raise
        finally:
            seat, self._seat = self._seat, None
            if seat is not None:
                lost = lost and self._stream.error is None
                self._members.leave(seat, lost=lost, reason="connection lost" if lost else "closed")

    # ---------------------------------------------------------------- reading

    async def _read(self, requests: Requests) -> None:
        async for request in requests:
            match request.WhichOneof("msg"):
                case "subscribe" if self._seat is None:
                    await self._subscribe(request.subscribe)
                case "ack" if self._seat is not None:
                    await self._ack(self._seat, request.ack.message_id)
                case "nack" if self._seat is not None:
                    self._nack(self._seat, request.nack)
                case "subscribe":
                    raise InvalidArgumentError("this stream has subscribed already")
                case None if self._seat is not None:
                    raise InvalidArgumentError("a message is empty; expected ack or nack")
                case _:
                    raise InvalidArgumentError("the first message must be `subscribe`")
        if self._seat is None:
            raise InvalidArgumentError("the stream ended before its first message, `subscribe`")
        self._done = True

    async def _subscribe(self, request: broker_pb2.DurableSubscribeRequest) -> None:
        pattern, self._encoding = pattern_of(request.subject)
        name = self._consumer_name(request)
        await self._host.learn_retired()
        state = self._host.engine.state
        seconds = request.ack_timeout_seconds
        is_new = name not in state.consumers
        command = OpenConsumer(
            name=name,
            filters=(pattern,),
            position=self._host.first_held(0),
            ack_timeout_ns=seconds * NS_PER_SEC if seconds else None,
            backoff_initial_ns=0 if is_new else None,
            backoff_max_ns=0 if is_new else None,
            update_when_idle=True,
        )
        messages = request.max_in_flight or self._config.default_max_in_flight
        joined = self._members.join(
            self._stream.session,
            command,
            min(messages, limits.CREDIT_MESSAGES_MAX),
            limits.CREDIT_BYTES_DEFAULT,
            self,
        )
        self._seat = joined.seat
        self._stream.registered()

    @staticmethod
    def _consumer_name(request: broker_pb2.DurableSubscribeRequest) -> str:
        check_consumer_name(request.consumer_name)
        groups = check_groups(request.queue_groups)
        if len(groups) > 1:
            raise InvalidArgumentError(
                f"{len(groups)} queue groups given; a durable subscription takes one at most",
                hint="members of one group share the consumer _group.NAME",
            )
        return GROUP_CONSUMER_PREFIX + groups[0] if groups else request.consumer_name

    async def _ack(self, seat: Seat, message_id: str) -> None:
        held = self._settled(message_id)
        if held is None:
            offset = await find_offset(self._host, seat.consumer, message_id)
        else:
            offset = held[0]
        self._settle(seat, Verdict.ACK, offset, 0)

    def _nack(self, seat: Seat, request: broker_pb2.Nack) -> None:
        held = self._settled(request.message_id)
        if held is None:
            # Only its present holder may; this stream is not.
            _log.debug("stale nack", consumer=seat.consumer, id=request.message_id)
            self._members.heard(seat)
            return
        offset, attempt = held
        verdict = Verdict.NACK if request.requeue else Verdict.REJECT
        self._settle(seat, verdict, offset, attempt)

    def _settle(self, seat: Seat, verdict: Verdict, offset: int, attempt: int) -> None:
        command = Settle(seat.member, seat.session, verdict, [(offset, offset)], attempt)
        if self._members.settle(seat, command):
            _log.debug("stale verdict", consumer=seat.consumer, offset=offset, verdict=verdict.name)

    def _settled(self, message_id: str) -> Held | None:
        """Forget what was sent under the id, the oldest if several were."""
        held = self._held.get(message_id)
        if not held:
            return None
        oldest = held.pop(0)
        if not held:
            del self._held[message_id]
        return oldest

    # --------------------------------------------------- from the engine (port)

    def deliver(self, assignments: Sequence[Assignment]) -> None:
        """Committed deliveries for this member."""
        self._assignments.extend(assignments)
        self._stream.wake()

    def end(self, error: HermesError) -> None:
        """The consumer is gone."""
        self._stream.end(error)

    # ---------------------------------------------------------------- writing

    def _take(self) -> broker_pb2.DurableServerMessage | None:
        if self._done:
            return None
        if not self._output and self._assignments:
            self._unpack(self._assignments.popleft())
        return self._output.popleft() if self._output else None

    def _unpack(self, assignment: Assignment) -> None:
        batch, attempt = assignment.batch, assignment.attempt
        for offset, view in views(batch, [(assignment.first, assignment.last)]):
            envelope = envelope_of(view, batch.subject, self._encoding)
            self._hold(view.id, offset, attempt)
            if attempt == 1:
                message = broker_pb2.DurableServerMessage(envelope=envelope)
            else:
                redelivery = broker_pb2.Redelivery(envelope=envelope, attempt=attempt)
                message = broker_pb2.DurableServerMessage(redelivery=redelivery)
            self._output.append(message)

    def _hold(self, message_id: str, offset: int, attempt: int) -> None:
        earlier = self._held.pop(message_id, [])
        held = [entry for entry in earlier if entry[0] != offset]
        held.append((offset, attempt))
        self._held[message_id] = held
        if len(self._held) > limits.HELD_IDS_MAX:
            del self._held[next(iter(self._held))]
