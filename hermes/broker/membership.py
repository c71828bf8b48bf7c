"""Consumers and their members: join, settle, leave, delete; replay and discard.

Commands of the engine; what they decide stands in the pure modules consumers.py,
settling.py and dead_letters.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import msgspec

from hermes.broker import events as ev
from hermes.broker.consumers import (
    OpenConsumer,
    decide_inactive,
    decide_leave,
    decide_open,
    find_consumer,
)
from hermes.broker.copying import Copying
from hermes.broker.core import Core
from hermes.broker.dead_letters import decide_discard, decide_replay
from hermes.broker.delivery import Deliveries, Seat
from hermes.broker.ports import MemberPort
from hermes.broker.ranges import Range, count
from hermes.broker.router import Router
from hermes.broker.session import Session, Sessions
from hermes.broker.settling import Settle, Verdict, decide_settle
from hermes.errors import NotFoundError


class Joined(msgspec.Struct, frozen=True):
    """A member's place, and what its consumer is like."""

    seat: Seat
    created: bool
    position: int
    policy: ev.Policy


class Membership:
    """Commands about consumers."""

    def __init__(
        self,
        core: Core,
        router: Router,
        sessions: Sessions,
        deliveries: Deliveries,
        copying: Copying,
    ) -> None:
        self._core = core
        self._state = core.state
        self._journal = core.journal
        self._router = router
        self._sessions = sessions
        self._deliveries = deliveries
        self._copying = copying

    def join(
        self,
        session: Session,
        command: OpenConsumer,
        credit_messages: int,
        credit_bytes: int,
        port: MemberPort,
    ) -> Joined:
        """Open (create, update, check) a consumer and become a member of it.

        Raises what decide_open raises. Frames reach the port only after the commit.
        """
        now_ns = self._core.begin()
        session_lsn = self._sessions.lsn(session, now_ns)
        events = decide_open(
            self._state,
            command,
            self._core.settings.default_policy,
            session=session_lsn,
            now_ns=now_ns,
            at_ns=self._journal.wall_ns,
        )
        for event in events:
            self._journal.record(event)
        consumer = self._state.consumers[command.name]
        created = any(isinstance(event, ev.ConsumerCreated) for event in events)
        if events and not created:
            self._router.remove_consumer(command.name)
        if events:
            self._router.add_consumer(command.name, consumer.policy.filters)
        member = self._journal.record(
            ev.MemberJoined(
                engine_time_ns=now_ns,
                consumer=command.name,
                session=session_lsn,
                credit_messages=credit_messages,
                credit_bytes=credit_bytes,
            )
        )
        seat = Seat(
            member,
            command.name,
            consumer.created_lsn,
            session_lsn,
            port,
            credit_messages,
            credit_bytes,
        )
        self._deliveries.join(consumer, seat)
        return Joined(seat, created, consumer.position, consumer.policy)

    def settle(self, seat: Seat, command: Settle) -> list[Range]:
        """Apply a verdict; returns the ranges for which it did not count (stale).

        Raises InvalidArgumentError for offsets never delivered, NotFoundError when the
        consumer is gone.
        """
        now_ns = self._core.begin()
        consumer = find_consumer(self._state, seat.consumer)
        if consumer.created_lsn != seat.created_lsn:
            raise _deleted(seat.consumer)  # a namesake made since
        unsent: Sequence[Range] = ()
        if seat.unsent and command.verdict is not Verdict.ACK:
            unsent = seat.unsent_ranges()
        settled = decide_settle(
            consumer, command, now_ns=now_ns, at_ns=self._journal.wall_ns, unsent=unsent
        )
        for event in settled.events:
            self._journal.record(event)
            if isinstance(event, ev.DeadLettered):
                self._copying.add(consumer, event.ranges)
        self.heard(seat)
        return settled.stale

    def heard(self, seat: Seat) -> None:
        """The member has sent something: what expired at it no longer holds its credit."""
        seat.overdue = seat.overdue_bytes = 0
        self._deliveries.mark(seat.consumer)

    def credit(self, seat: Seat, messages: int, bytes_: int) -> None:
        """Replace the member's credit."""
        seat.credit_messages, seat.credit_bytes = messages, bytes_
        self.heard(seat)

    def leave(
        self,
        seat: Seat,
        *,
        lost: bool,
        cause: ev.ReleaseCause | None = None,
        reason: str = "",
    ) -> None:
        """A member's stream ended; `lost` when it broke. Idempotent."""
        if seat.member not in self._deliveries.seats:
            return
        if self._core.failure is None:
            now_ns = self._core.begin()
            consumer = self._state.consumers[seat.consumer]
            for event in decide_leave(
                consumer,
                seat.member,
                session=seat.session,
                lost=lost and not seat.unsent,  # it cannot fail on what it never had
                cause=cause or _leave_cause(lost=lost),
                reason=reason,
                now_ns=now_ns,
                at_ns=self._journal.wall_ns,
            ):
                self._journal.record(event)
                if isinstance(event, ev.DeadLettered):
                    self._copying.add(consumer, event.ranges)
        self._deliveries.leave(seat)

    def delete(self, session: Session, name: str) -> int:
        """End a consumer and its members' streams; returns how many offsets below its
        position were unsettled. Raises NotFoundError."""
        now_ns = self._core.begin()
        unsettled = find_consumer(self._state, name).unsettled
        event = ev.ConsumerDeleted(
            engine_time_ns=now_ns,
            consumer=name,
            session=self._sessions.lsn(session, now_ns),
            cause=ev.DeleteCause.BY_REQUEST,
        )
        self._delete(event)
        return unsettled

    def _delete(self, event: ev.ConsumerDeleted) -> None:
        self._journal.record(event)
        self._router.remove_consumer(event.consumer)
        error = _deleted(event.consumer)
        for seat in self._deliveries.forget(event.consumer):
            self._journal.after_commit(partial(seat.port.end, error))

    def delete_inactive(self, now_ns: int) -> None:
        """End consumers that had no member for longer than their limit."""
        limit_ns = self._core.settings.consumer_inactivity_ns
        for event in decide_inactive(self._state, now_ns, limit_ns):
            self._delete(event)

    # ----------------------------------------------------------- dead letters

    def replay(
        self, session: Session, name: str, ranges: Sequence[Range], messages_per_second: int = 0
    ) -> int:
        """Dead letters back to their consumer; returns how many. Raises NotFoundError."""
        now_ns = self._core.begin()
        consumer = find_consumer(self._state, name)
        events = decide_replay(
            consumer,
            ranges,
            session=self._sessions.lsn(session, now_ns),
            now_ns=now_ns,
            messages_per_second=messages_per_second,
        )
        return self._record_ranges(name, events)

    def discard(self, session: Session, name: str, ranges: Sequence[Range]) -> int:
        """Give dead letters up for good; returns how many. Raises NotFoundError."""
        now_ns = self._core.begin()
        consumer = find_consumer(self._state, name)
        session_lsn = self._sessions.lsn(session, now_ns)
        events = decide_discard(consumer, ranges, session=session_lsn, now_ns=now_ns)
        return self._record_ranges(name, events)

    def _record_ranges(self, name: str, events: Sequence[ev.Event]) -> int:
        changed = 0
        for event in events:
            assert isinstance(event, ev.RangesEvent)
            self._journal.record(event)
            changed += count(event.ranges)
        self._deliveries.mark(name)
        return changed


def _deleted(name: str) -> NotFoundError:
    return NotFoundError(f"consumer {name!r} was deleted", consumer=name)


def _leave_cause(*, lost: bool) -> ev.ReleaseCause:
    return ev.ReleaseCause.MEMBER_GONE if lost else ev.ReleaseCause.HANDED_BACK
