"""Consume: one member of a durable consumer.

The member is registered before anything is read after the open, and the stream's end,
however it comes, takes it away again: its leases go back. Deliveries, confirmations and
stale answers are handed over by the engine at commit; the writer merges what is there
into frames. How much can wait here is bounded by the member's credit.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial

from hermes import limits
from hermes.broker.dispatch import Assignment
from hermes.broker.membership import Joined
from hermes.broker.ranges import flatten, unflatten_pairs
from hermes.broker.settling import Settle, Verdict
from hermes.broker.v1 import broker_pb2
from hermes.errors import HermesError, InvalidArgumentError
from hermes.server.frames import Deliveries
from hermes.server.host import Host
from hermes.server.opening import (
    Credit,
    Started,
    check_credit,
    check_duration_ns,
    open_consumer,
    resolve_start,
)
from hermes.server.sessions import Stream

_VERDICTS = frozenset(int(verdict) for verdict in Verdict)


class Consume:
    """One Consume stream. It is the member's port."""

    def __init__(self, host: Host, stream: Stream, frame_bytes_max: int) -> None:
        self._host = host
        self._members = host.engine.members
        self._stream = stream
        self._joined: Joined | None = None
        self._opened: broker_pb2.ConsumeOpened | None = None  # ready to be sent
        self._opened_sent = False
        self._deliveries = Deliveries(frame_bytes_max)
        self._confirmed: list[int] = []
        self._stale: list[broker_pb2.Stale] = []
        self._unconfirmed = 0  # requests whose answers wait for a commit
        self._heartbeat = 0
        self._done = False  # the client gets nothing more
        self._sent = asyncio.Event()

    async def run(self, requests: AsyncIterator[broker_pb2.ConsumeRequest]) -> None:
        lost = False
        try:
            await self._stream.pump(self._read(requests), self._take, self._busy)
        except HermesError:
            raise
        except BaseException:  # the connection or the client is gone
            lost = True
            raise
        finally:
            self._leave(lost=lost and self._stream.error is None)

    def _leave(self, *, lost: bool) -> None:
        joined, self._joined = self._joined, None
        if joined is not None:
            reason = "connection lost" if lost else "closed"
            self._members.leave(joined.seat, lost=lost, reason=reason)

    # ---------------------------------------------------------------- reading

    async def _read(self, requests: AsyncIterator[broker_pb2.ConsumeRequest]) -> None:
        async for request in requests:
            if request.HasField("open"):
                await self._open(request)
            self._accept(request)
            while len(self._confirmed) + len(self._stale) > limits.ANSWERS_WAITING_MAX:
                self._sent.clear()
                await self._sent.wait()
        self._done = True

    async def _open(self, request: broker_pb2.ConsumeRequest) -> None:
        if self._joined is not None:
            raise InvalidArgumentError("`open` belongs in the first request of a stream only")
        self._host.require_store("a durable consumer")
        asked = request.open
        open_consumer(asked, 0)  # what is wrong is said before anything is read
        start = await resolve_start(self._host, asked.start)
        credit = check_credit(asked.credit)
        command = open_consumer(asked, start.offset)
        joined = self._members.join(
            self._stream.session, command, credit.messages, credit.bytes, self
        )
        self._joined = joined
        opened = self._describe(joined, start, credit)
        self._host.engine.journal.after_commit(partial(self._say_opened, opened))
        self._stream.registered()

    def _describe(self, joined: Joined, start: Started, credit: Credit) -> broker_pb2.ConsumeOpened:
        held = self._host.first_held
        missed = start.missed if joined.created else held(joined.position) - joined.position
        policy = joined.policy
        return broker_pb2.ConsumeOpened(
            created=joined.created,
            position=joined.position,
            oldest_offset=held(0),
            missed=missed,
            ack_timeout_ns=policy.ack_timeout_ns,
            max_attempts=policy.max_attempts,
            backoff=broker_pb2.Backoff(
                initial_ns=policy.backoff_initial_ns, max_ns=policy.backoff_max_ns
            ),
            credit=broker_pb2.Credit(messages=credit.messages, bytes=credit.bytes),
            filters=policy.filters,
            member=joined.seat.member,
        )

    def _say_opened(self, opened: broker_pb2.ConsumeOpened) -> None:
        self._opened = opened
        self._stream.wake()

    def _accept(self, request: broker_pb2.ConsumeRequest) -> None:
        if self._joined is None:
            raise InvalidArgumentError(
                "the first request of a Consume stream has no `open`",
                hint="send ConsumeOpen first",
            )
        seat = self._joined.seat
        if request.settlements:
            self._settle(request.settlements)
        if request.HasField("credit"):
            credit = check_credit(request.credit)
            self._members.credit(seat, credit.messages, credit.bytes)
        if request.heartbeat:
            if not self._deliveries:  # else it speaks and does not read: no room is made
                self._members.heard(seat)
            self._heartbeat = request.heartbeat
            self._stream.wake()

    def _settle(self, settlements: Sequence[broker_pb2.Settlement]) -> None:
        tokens: list[int] = []
        stale: list[broker_pb2.Stale] = []
        try:
            for settlement in settlements:
                self._settle_one(settlement, stale)
                if settlement.token:
                    tokens.append(settlement.token)
        finally:
            # What was taken before a bad one stays taken.
            if tokens or stale:
                self._unconfirmed += 1
                after_commit = self._host.engine.journal.after_commit
                after_commit(partial(self._confirm, tokens, stale))

    def _settle_one(self, settlement: broker_pb2.Settlement, stale: list[broker_pb2.Stale]) -> None:
        assert self._joined is not None
        seat = self._joined.seat
        if settlement.verdict not in _VERDICTS:
            raise InvalidArgumentError(
                f"verdict {settlement.verdict} is none of ACK, NACK, REJECT, EXTEND, RELEASE"
            )
        if len(settlement.reason.encode()) > limits.REASON_BYTES_MAX:
            raise InvalidArgumentError(
                f"a reason has more than {limits.REASON_BYTES_MAX} bytes", hint="shorten it"
            )
        delay_ns = None
        if settlement.HasField("delay_ns"):
            delay_ns = check_duration_ns("delay_ns", settlement.delay_ns)
        ranges = unflatten_pairs(settlement.ranges)
        # Else a client that acks blindly makes room for ever more, unread, in our memory.
        unsent = self._deliveries.unsent(ranges)
        if unsent is not None:
            raise InvalidArgumentError(
                f"offset {unsent} is settled, but it was not sent yet",
                hint="settle only what was received",
            )
        command = Settle(
            seat.member,
            seat.session,
            Verdict(settlement.verdict),
            ranges,
            settlement.attempt,
            delay_ns,
            settlement.reason,
        )
        missed = self._members.settle(seat, command)
        if missed:
            stale.append(
                broker_pb2.Stale(
                    verdict=settlement.verdict, ranges=flatten(missed), token=settlement.token
                )
            )

    def _confirm(self, tokens: Sequence[int], stale: Sequence[broker_pb2.Stale]) -> None:
        self._unconfirmed -= 1
        self._confirmed += tokens
        self._stale += stale
        self._stream.wake()

    # --------------------------------------------------- from the engine (port)

    def deliver(self, assignments: Sequence[Assignment]) -> None:
        """Committed deliveries for this member."""
        self._deliveries.add(assignments)
        self._stream.wake()

    def end(self, error: HermesError) -> None:
        """The consumer is gone."""
        self._stream.end(error)

    # ---------------------------------------------------------------- writing

    def _busy(self) -> bool:
        return self._unconfirmed > 0

    def _take(self) -> broker_pb2.ConsumeResponse | None:
        response = broker_pb2.ConsumeResponse()
        some = False
        if not self._opened_sent:
            if self._opened is None:
                return None
            response.opened.CopyFrom(self._opened)
            self._opened_sent = some = True
        drain = self._stream.take_drain()
        if drain is not None:
            response.drain.CopyFrom(drain)
            some = True
            # What is leased and not sent goes back, for free, when the member leaves.
            self._done = True
        if self._confirmed or self._stale:
            response.confirmed.extend(self._confirmed)
            response.stale.extend(self._stale)
            self._confirmed.clear()
            self._stale.clear()
            self._sent.set()
            some = True
        if self._heartbeat:
            response.heartbeat, self._heartbeat = self._heartbeat, 0
            some = True
        if self._deliveries and not self._done:
            self._deliveries.take(response.deliveries)
            some = True
        return response if some else None
