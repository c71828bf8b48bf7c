"""What must become of each message of one consumer: a dict of offsets, and no ranges.

The model reads the log, one event after the other, and raises AssertionError for whatever
may not follow. It knows nothing of the engine's code: states are words, times are compared
as they stand in the events, credit is counted message by message.
"""

from __future__ import annotations

import msgspec

from hermes import limits
from hermes.broker import events as ev

UNSEEN, LEASED, WAITING, DEAD, SETTLED = "unseen", "leased", "waiting", "dead", "settled"


class Message(msgspec.Struct):
    """One message, as the consumer sees it."""

    state: str = UNSEEN
    member: int = 0
    attempt: int = 0
    failures: int = 0
    releases: int = 0
    deadline_ns: int = 0
    due_ns: int = 0
    acked: bool = False


class ConsumerModel:
    """The messages that match one consumer's filter, by offset, and its members' credit."""

    def __init__(self, consumer: str, subject: str, max_attempts: int) -> None:
        self.consumer = consumer
        self.messages: dict[int, Message] = {}
        self.position = 0
        self.credit: dict[int, int] = {}
        self._subject = subject
        self._max_attempts = max_attempts

    def held_by(self, member: int) -> list[int]:
        """Offsets leased to a member, ascending."""
        return [
            o for o, m in sorted(self.messages.items()) if m.state == LEASED and m.member == member
        ]

    def in_state(self, *states: str) -> list[int]:
        return [o for o, m in sorted(self.messages.items()) if m.state in states]

    # ------------------------------------------------------------------ events

    def apply(self, event: ev.Event) -> None:
        """Take the next event of the log."""
        if isinstance(event, ev.Published) and event.subject == self._subject:
            for offset in range(event.first, event.last + 1):
                self.messages[offset] = Message()
        elif isinstance(event, ev.MemberLeft) and event.consumer == self.consumer:
            assert self.held_by(event.member) == [], "a member left with leases"
        elif isinstance(event, ev.RangesEvent) and event.consumer == self.consumer:
            for first, last in event.ranges:
                for offset in range(first, last + 1):
                    # A hull may pass over what does not match; a range may not hold it.
                    self._apply(event, offset)
            if isinstance(event, ev.Delivered):
                self._check_credit(event)

    def _apply(self, event: ev.RangesEvent, offset: int) -> None:
        message = self.messages[offset]
        match event:
            case ev.Delivered():
                self._delivered(event, offset, message)
            case ev.Acked():
                assert message.state in {LEASED, WAITING}, f"{offset} acked, was {message.state}"
                message.state, message.acked = SETTLED, True
            case ev.Nacked() | ev.Expired() | ev.Released() | ev.Rejected():
                self._returned(event, offset, message)
            case ev.Extended():
                self._holds(event, offset, message)
                message.deadline_ns = event.deadline_ns
            case ev.DeadLettered():
                self._dead(event, offset, message)
            case ev.Replayed():
                assert message.state == DEAD, f"{offset} replayed, was {message.state}"
                self.messages[offset] = Message(state=WAITING, due_ns=event.due_ns)
            case ev.Discarded():
                assert message.state == DEAD, f"{offset} discarded, was {message.state}"
                message.state = SETTLED

    def _delivered(self, event: ev.Delivered, offset: int, message: Message) -> None:
        assert not message.acked, f"{offset} delivered after its ack"
        if message.state == UNSEEN:
            earlier = [o for o in self.in_state(UNSEEN) if o < offset]
            assert offset >= self.position and not earlier, f"{offset} overtook {earlier}"
            self.position = offset + 1
        else:
            assert message.state == WAITING, f"{offset} delivered, was {message.state}"
            assert message.due_ns <= event.engine_time_ns, f"{offset} delivered before it was due"
        assert event.attempt == message.attempt + 1, f"{offset}: attempts do not grow by one"
        held = [self.messages[o] for o in self.held_by(event.member)]
        alone = message.releases >= limits.RELEASES_BEFORE_ALONE
        assert not (alone and held), f"{offset} is to be alone"
        assert not any(m.releases >= limits.RELEASES_BEFORE_ALONE for m in held), "not alone"
        message.state = LEASED
        message.member, message.attempt = event.member, event.attempt
        message.deadline_ns = event.deadline_ns

    def _check_credit(self, event: ev.Delivered) -> None:
        held = len(self.held_by(event.member))
        assert held <= max(1, self.credit[event.member]), "more in flight than the credit"

    @staticmethod
    def _holds(
        event: ev.Nacked | ev.Rejected | ev.Extended | ev.Expired | ev.Released,
        offset: int,
        message: Message,
    ) -> None:
        what = f"{type(event).__name__} of {offset}"
        assert message.state == LEASED, f"{what}, was {message.state}"
        assert (message.member, message.attempt) == (event.member, event.attempt), what

    def _returned(
        self,
        event: ev.Nacked | ev.Expired | ev.Released | ev.Rejected,
        offset: int,
        message: Message,
    ) -> None:
        self._holds(event, offset, message)
        message.state = WAITING
        match event:
            case ev.Expired():
                assert message.deadline_ns <= event.engine_time_ns, f"{offset} expired too early"
                message.failures += 1
            case ev.Nacked():
                message.failures += 1
            case ev.Released(failure=True):
                assert self.held_by(event.member) == [], "not the only lease of a lost member"
                message.failures += 1
            case ev.Released():
                message.releases += event.cause == ev.ReleaseCause.MEMBER_GONE
                assert event.due_ns == event.engine_time_ns, "a free release is due at once"
        message.due_ns = 0 if isinstance(event, ev.Rejected) else event.due_ns

    def _dead(self, event: ev.DeadLettered, offset: int, message: Message) -> None:
        assert message.state == WAITING, f"{offset} dead, was {message.state}"
        assert (event.attempts, event.failures) == (message.attempt, message.failures)
        if event.cause is ev.DeadCause.TOO_MANY_FAILURES:
            assert message.failures == self._max_attempts
        message.state = DEAD
