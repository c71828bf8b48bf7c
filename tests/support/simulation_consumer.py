"""One consumer as the simulation's checker sees it: a small machine per message.

It walks offsets where the broker works on ranges, and says of each event only whether it
was allowed for the message it names. What is not allowed raises `Violation`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from hermes.broker import events as ev
from hermes.broker.ranges import Range
from hermes.broker.subject import matches

# The naive matcher is slow and always answers the same.
matching = lru_cache(maxsize=4_096)(matches)

LEASED, WAITING, REJECTED, DEAD = "leased", "waiting", "rejected", "dead"


class Violation(AssertionError):  # noqa: N818 - it is one, not an error of ours
    """The broker did what it must never do."""


def require(holds: object, *said: object) -> None:
    """Raise Violation unless it holds."""
    if not holds:
        raise Violation(" ".join(map(str, said)))


@dataclass
class Line:
    """The message line, by offset."""

    subjects: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    lsns: list[int] = field(default_factory=list)
    oldest_offset: int = 0  # what lies below was dropped with its segment
    retired: dict[int, int] = field(default_factory=dict)  # -> lsn of what announced it
    durable_lsn: Callable[[], int] | None = None

    def is_gone(self, offset: int) -> bool:
        """Whether the payload is announced as gone."""
        return offset < self.oldest_offset or offset in self.retired

    def may_skip(self, offset: int) -> bool:
        """Whether the payload may be gone by now."""
        if offset < self.oldest_offset:
            return True
        lsn = self.retired.get(offset)
        return lsn is not None and (self.durable_lsn is None or lsn <= self.durable_lsn())


@dataclass
class Message:
    """One unsettled message of one consumer."""

    state: str
    attempt: int = 0
    failures: int = 0
    releases: int = 0
    member: int = 0
    time_ns: int = 0  # deadline of a lease, due time of a waiting one, Unix time of a death
    copied: bool = False
    forsaken: bool = False  # it died because its payload is gone


@dataclass
class Place:
    """One member: what it holds, and what expired at it since it was last heard."""

    holds: set[int] = field(default_factory=set)
    overdue: int = 0


@dataclass
class ConsumerModel:
    """One consumer, from its creation to its deletion."""

    name: str
    created_lsn: int
    line: Line
    policy: ev.Policy
    position: int
    messages: dict[int, Message] = field(default_factory=dict)
    settled_lsn: dict[int, int] = field(default_factory=dict)
    delivered_lsn: dict[tuple[int, int, int], int] = field(default_factory=dict)
    members: dict[int, Place] = field(default_factory=dict)
    condemned: set[int] = field(default_factory=set)  # must be dead when the group ends
    forsaken: set[int] = field(default_factory=set)  # must be retired when the group ends
    pinned_from: int | None = None  # damage lies there, and its members know

    def wants(self, subject: str) -> bool:
        for pattern in self.policy.filters:  # noqa: SIM110 - the hottest line of the checker
            if matching(pattern, subject):
                return True
        return False

    def is_settled(self, offset: int) -> bool:
        """Acked or discarded; also true of what never matched."""
        return offset < self.position and offset not in self.messages

    def waiting_in(self, ranges: Sequence[Range]) -> int:
        """How many messages wait within ranges of offsets."""
        return sum(
            message.state == WAITING and any(first <= offset <= last for first, last in ranges)
            for offset, message in self.messages.items()
        )

    # ------------------------------------------------------------- transitions

    def step(self, event: ev.RangesEvent, offset: int, lsn: int) -> None:
        """One message's transition."""
        match event:
            case ev.Delivered():
                self._delivered(event, offset, lsn)
            case ev.Acked():
                message = self._take(event, offset, LEASED, WAITING)
                self._let_go(offset, message)
                del self.messages[offset]
                self.settled_lsn[offset] = lsn
            case ev.Extended():
                message = self._held(event, offset, event.member, event.attempt)
                require(event.deadline_ns >= message.time_ns, "a shorter lease")
                message.time_ns = event.deadline_ns
            case ev.Nacked() | ev.Expired() | ev.Released() | ev.Rejected():
                self._returned(event, offset)
            case ev.DeadLettered():
                self._died(event, offset)
            case ev.Replayed():
                self._take(event, offset, DEAD)
                self.messages[offset] = Message(WAITING, time_ns=event.due_ns)
            case ev.Discarded():
                self._take(event, offset, DEAD)
                del self.messages[offset]
                self.settled_lsn[offset] = lsn
            case _:
                raise Violation(f"unexpected {event}")

    def _delivered(self, event: ev.Delivered, offset: int, lsn: int) -> None:
        require(event.member in self.members, "no member", event.member)
        if offset >= self.position:
            wanted = self.wants(self.line.subjects[offset])
            require(wanted, "not wanted:", self.line.subjects[offset], self.name, offset)
            for skipped in range(max(self.position, self.line.oldest_offset), offset):
                if self.wants(self.line.subjects[skipped]):
                    require(
                        self.line.may_skip(skipped), self.name, "skipped", skipped, "for", offset
                    )
            if self.pinned_from is not None:
                require(offset < self.pinned_from, self.name, "went on past the damage:", offset)
            require(event.attempt == 1, "first attempt is", event.attempt)
            message = self.messages[offset] = Message(LEASED)
            self.position = offset + 1
        else:
            message = self._take(event, offset, WAITING)
            require(event.attempt == message.attempt + 1, "attempt", event.attempt, message)
            require(message.time_ns <= event.engine_time_ns, "too early:", message)
            message.state = LEASED
        deadline_ns = event.engine_time_ns + self.policy.ack_timeout_ns
        require(event.deadline_ns == deadline_ns, "deadline", event.deadline_ns)
        message.attempt, message.member = event.attempt, event.member
        message.time_ns = event.deadline_ns
        self.members[event.member].holds.add(offset)
        self.delivered_lsn[event.member, offset, event.attempt] = lsn

    def _returned(
        self,
        event: ev.Nacked | ev.Expired | ev.Released | ev.Rejected,
        offset: int,
    ) -> None:
        message = self._held(event, offset, event.member, event.attempt)
        self._let_go(offset, message)
        message.member = 0
        if isinstance(event, ev.Rejected):
            message.state = REJECTED
            self.condemned.add(offset)
            return
        if isinstance(event, ev.Expired):
            require(message.time_ns <= event.engine_time_ns, "expired early:", message)
            if event.member in self.members:
                self.members[event.member].overdue += 1
        message.state, message.time_ns = WAITING, event.due_ns
        if isinstance(event, ev.Released) and not event.failure:
            require(event.due_ns <= event.engine_time_ns, "a release is due at once")
            message.releases += event.cause == ev.ReleaseCause.MEMBER_GONE
            return
        if self.line.durable_lsn is not None:
            lsn = self.delivered_lsn[event.member, offset, event.attempt]
            sent = lsn <= self.line.durable_lsn()
            require(sent, self.name, offset, "failed before it was sent")
        message.failures += 1
        if self.policy.max_attempts and message.failures >= self.policy.max_attempts:
            self.condemned.add(offset)

    def _died(self, event: ev.DeadLettered, offset: int) -> None:
        rejected = event.cause is ev.DeadCause.REJECTED_BY_MEMBER
        message = self._take(event, offset, REJECTED if rejected else WAITING)
        message.forsaken = event.cause is ev.DeadCause.PAYLOAD_GONE
        if message.forsaken:
            if not self.line.may_skip(offset):
                self.forsaken.add(offset)
        else:
            require(offset in self.condemned, "killed without reason:", message)
            self.condemned.remove(offset)
        counted = (message.attempt, message.failures)
        require(counted == (event.attempts, event.failures), event, "but", counted)
        message.state, message.copied, message.time_ns = DEAD, False, event.at_ns

    def _take(self, event: ev.Event, offset: int, *states: str) -> Message:
        message = self.messages.get(offset)
        what = type(event).__name__
        settled = self.settled_lsn.get(offset)
        require(message is not None, what, "of", offset, "settled at", settled, self.name)
        assert message is not None
        require(message.state in states, what, "of", offset, message)
        return message

    def _held(self, event: ev.Event, offset: int, member: int, attempt: int) -> Message:
        message = self._take(event, offset, LEASED)
        require((message.member, message.attempt) == (member, attempt), event, "but", message)
        return message

    def _let_go(self, offset: int, message: Message) -> None:
        place = self.members.get(message.member)
        if message.state == LEASED and place is not None:
            place.holds.remove(offset)
