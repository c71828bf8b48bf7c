"""[P] All that the broker knows, as a fold over its events.

`fold(event, lsn)` is the only way the state changes, live and at recovery alike; so
what is in memory is by construction what the log says, and any past moment can be
computed again. A snapshot is the whole state as one more record (snapshot.py), and
fold(all) == fold(snapshot + tail).

Nothing here knows sockets, credit left, buffers or readers: what dies with the process
is not state. Nothing here decides.
"""

from __future__ import annotations

import msgspec

from hermes.broker import events as ev
from hermes.broker.consumer import Consumer, IllegalTransitionError, Member
from hermes.broker.dedup import IdWindow, Producers, Stored


class Session(msgspec.Struct, frozen=True):
    """A client's connection, as far as it has caused events."""

    principal: str
    peer: str
    client_name: str
    client_version: str
    client_id: str


class Subscription(msgspec.Struct, frozen=True):
    """A live receiver."""

    session: int
    pattern: str
    queue_groups: tuple[str, ...]


class State:
    """The fold. Fields are read by deciders and never written by them."""

    __slots__ = (
        "clean_stop",
        "consumers",
        "engine_time_ns",
        "ids",
        "next_lsn",
        "next_offset",
        "oldest_offset",
        "producers",
        "sessions",
        "subscriptions",
    )

    def __init__(self) -> None:
        self.next_lsn = 1
        self.next_offset = 0
        self.oldest_offset = 0
        self.engine_time_ns = 0
        self.clean_stop = True  # whether the last run ended with ServerStopped
        self.ids = IdWindow()
        self.producers = Producers()
        self.consumers: dict[str, Consumer] = {}
        self.sessions: dict[int, Session] = {}
        self.subscriptions: dict[int, Subscription] = {}

    def fold(self, event: ev.Event | None, lsn: int) -> None:
        """Apply the event of record `lsn`; None is a record that changes no state.

        Only Lost may come later than the next lsn: it says what is missing in between.
        Raises IllegalTransitionError for an event that cannot follow from this state.
        """
        if lsn != self.next_lsn and not isinstance(event, ev.Lost):
            raise IllegalTransitionError(f"record {lsn} folded, expected {self.next_lsn}")
        if event is not None:
            self._apply(event, lsn)
            if event.engine_time_ns > self.engine_time_ns:
                self.engine_time_ns = event.engine_time_ns
        self.next_lsn = lsn + 1

    def consumer(self, name: str) -> Consumer:
        """Raises IllegalTransitionError if it does not exist: events name existing ones."""
        try:
            return self.consumers[name]
        except KeyError:
            raise IllegalTransitionError(f"no consumer {name!r} to fold an event into") from None

    def _apply(self, event: ev.Event, lsn: int) -> None:
        match event:
            case ev.Published():
                self._fold_published(event)
            case ev.RangesEvent():
                self.consumer(event.consumer).fold(event)
            case ev.ConsumerEvent():
                self._fold_consumer(event, lsn)
            case ev.SessionOpened():
                self.sessions[lsn] = Session(
                    event.principal,
                    event.peer,
                    event.client_name,
                    event.client_version,
                    event.client_id,
                )
            case ev.SessionClosed():
                self.sessions.pop(event.session, None)
            case ev.SubscriptionOpened():
                self.subscriptions[lsn] = Subscription(
                    event.session, event.pattern, event.queue_groups
                )
            case ev.SubscriptionClosed():
                self.subscriptions.pop(event.subscription, None)
            case ev.SegmentDropped():
                if event.last_offset is not None:
                    self.oldest_offset = max(self.oldest_offset, event.last_offset + 1)
            case ev.Lost():
                self.next_offset = max(self.next_offset, event.next_offset)
            case ev.ServerStarted():
                self._fold_started(event)
            case ev.ServerStopped():
                self.clean_stop = True

    def _fold_published(self, event: ev.Published) -> None:
        if event.first != self.next_offset:
            raise IllegalTransitionError(
                f"batch published at offset {event.first}, expected {self.next_offset}"
            )
        self.next_offset = event.last + 1
        if event.ids:
            self.ids.remember(event.subject, event.ids, event.first, event.engine_time_ns)
        if event.producer_id:
            stored = Stored(event.producer_sequence, event.first, event.last - event.first + 1)
            self.producers.remember(event.producer_id, stored)
        if event.dead_letter_consumer:
            consumer = self.consumers.get(event.dead_letter_consumer)
            if consumer is not None:
                first = event.dead_letter_offset
                consumer.fold_copied(first, first + event.last - event.first, event.first)

    def _fold_consumer(self, event: ev.ConsumerEvent, lsn: int) -> None:
        name = event.consumer
        if isinstance(event, ev.ConsumerCreated):
            consumer = Consumer(name, lsn, event.at_ns, event.policy, event.position)
            consumer.last_active_ns = event.engine_time_ns
            self.consumers[name] = consumer
            return
        consumer = self.consumer(name)
        consumer.last_active_ns = event.engine_time_ns
        match event:
            case ev.ConsumerUpdated():
                consumer.policy = event.policy
            case ev.ConsumerPaused():
                consumer.paused = True
            case ev.ConsumerResumed():
                consumer.paused = False
            case ev.ConsumerSought():
                consumer.fold_sought(event.position)
            case ev.ConsumerDeleted():
                del self.consumers[name]
            case ev.MemberJoined():
                consumer.members[lsn] = Member(
                    event.session, event.credit_messages, event.credit_bytes
                )
            case ev.MemberLeft():
                consumer.members.pop(event.member, None)

    def _fold_started(self, event: ev.ServerStarted) -> None:
        self.clean_stop = False
        self.ids.resize(event.dedup_window_ns, event.dedup_ids_max, event.engine_time_ns)
        self.sessions.clear()
        self.subscriptions.clear()
        for consumer in self.consumers.values():
            consumer.members.clear()
            # Nobody can be active while the server is down.
            consumer.last_active_ns = event.engine_time_ns
