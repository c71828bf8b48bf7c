"""[P] One consumer's state, and the only code that changes it: the fold of its events.

A message is, for one consumer, in one of five states. Two need no memory: an offset at
or above `position` is *unseen*, one below that is in none of the three maps is
*settled* (or never matched). The maps hold ranges, so memory grows with what is
unsettled, not with what was ever sent.

    unseen ── Delivered ──▶ leased ── Acked ───────────────────────────▶ settled
                              │ ▲ └── Extended ─▶ leased                    ▲
        Nacked, Expired,      ▼ │ Delivered (attempt + 1)                   │
        Released, Rejected  waiting ── Acked (late) ────────────────────────┤
                              │ ▲                                           │
                 DeadLettered ▼ │ Replayed                                  │
                             dead ── Discarded ─────────────────────────────┘
                                         settled ── Reopened ─▶ waiting

`TRANSITIONS` is that picture as a table. An event that is not in it for the state an
offset is in raises IllegalTransitionError and changes nothing.

`failures` counts verdicts against a message, `releases` the times it came back because
a member was lost; `attempt` counts deliveries. What to decide on them stands in settling.py,
redelivery.py and dispatch.py, not here.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any

import msgspec

from hermes import limits
from hermes.broker import events as ev
from hermes.broker.due import DueQueue
from hermes.broker.ranges import Range, RangeMap, count
from hermes.errors import HermesError

NEVER_NS = 2**63 - 1


class IllegalTransitionError(HermesError):
    """An event does not fit the state of the message: a bug, or a damaged log."""


class MessageState(Enum):
    UNSEEN = "unseen"
    LEASED = "leased"
    WAITING = "waiting"
    DEAD = "dead"
    SETTLED = "settled"


S = MessageState
TRANSITIONS: dict[tuple[MessageState, type[ev.Event]], MessageState] = {
    (S.UNSEEN, ev.Delivered): S.LEASED,
    (S.WAITING, ev.Delivered): S.LEASED,
    (S.LEASED, ev.Acked): S.SETTLED,
    (S.WAITING, ev.Acked): S.SETTLED,
    (S.LEASED, ev.Extended): S.LEASED,
    (S.LEASED, ev.Nacked): S.WAITING,
    (S.LEASED, ev.Expired): S.WAITING,
    (S.LEASED, ev.Released): S.WAITING,
    (S.LEASED, ev.Rejected): S.WAITING,
    (S.WAITING, ev.DeadLettered): S.DEAD,
    (S.DEAD, ev.Replayed): S.WAITING,
    (S.DEAD, ev.Discarded): S.SETTLED,
    (S.SETTLED, ev.Reopened): S.WAITING,
}
SOURCES: dict[type[ev.Event], list[MessageState]] = {}
for _state, _event in TRANSITIONS:
    SOURCES.setdefault(_event, []).append(_state)


class Lease(msgspec.Struct, frozen=True, gc=False):
    """A delivered, unsettled message."""

    member: int
    attempt: int
    failures: int
    releases: int
    deadline_ns: int
    mean_bytes: int = 0

    @property
    def alone(self) -> bool:
        """Came back for free too often: it gets a member for itself."""
        return self.releases >= limits.RELEASES_BEFORE_ALONE


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """A message that is to be delivered again, not before `due_ns`."""

    attempt: int  # deliveries so far
    failures: int
    releases: int
    due_ns: int


class Dead(msgspec.Struct, frozen=True, gc=False):
    """A message given up on. Its copy, once published, is at offset + copy_shift."""

    attempts: int
    failures: int
    cause: ev.DeadCause
    reason: str
    at_ns: int
    copy_shift: int | None = None


class Member(msgspec.Struct):
    """One connection working for the consumer, and what it holds."""

    session: int
    credit_messages: int
    credit_bytes: int
    in_flight: int = 0
    in_flight_bytes: int = 0
    alone: int = 0  # leases that want the member for themselves


class Consumer:
    """A durable, named position in the message line. Changed by `fold` only."""

    __slots__ = (
        "created_at_ns",
        "created_lsn",
        "dead",
        "deadlines",
        "dues",
        "last_active_ns",
        "leases",
        "members",
        "name",
        "paused",
        "policy",
        "position",
        "waiting",
    )

    def __init__(
        self, name: str, created_lsn: int, created_at_ns: int, policy: ev.Policy, position: int
    ) -> None:
        self.name = name
        self.created_lsn = created_lsn
        self.created_at_ns = created_at_ns
        self.policy = policy
        self.position = position
        self.last_active_ns = 0
        self.paused = False
        self.members: dict[int, Member] = {}
        self.leases: RangeMap[Lease] = RangeMap()
        self.waiting: RangeMap[Waiting] = RangeMap()
        self.dead: RangeMap[Dead] = RangeMap()
        self.deadlines = DueQueue()  # of leases
        self.dues = DueQueue()  # of waiting

    @property
    def unsettled(self) -> int:
        """Offsets below the position that are leased, waiting or dead."""
        return self.leases.count + self.waiting.count + self.dead.count

    @property
    def oldest_unsettled(self) -> int | None:
        """Lowest offset that is leased or waiting."""
        firsts = [f for f in (self.leases.first(), self.waiting.first()) if f is not None]
        return min(firsts, default=None)

    def leases_of(self, member: int) -> list[tuple[int, int, Lease]]:
        """Ranges leased to one member. Costs the consumer's leases."""
        return [entry for entry in self.leases.items() if entry[2].member == member]

    def state_of(self, offset: int) -> MessageState:
        """Where one offset stands, whether or not the filter matches it."""
        if self.leases.at(offset) is not None:
            return S.LEASED
        if self.waiting.at(offset) is not None:
            return S.WAITING
        if self.dead.at(offset) is not None:
            return S.DEAD
        return S.UNSEEN if offset >= self.position else S.SETTLED

    # ------------------------------------------------------------------ fold

    def fold(self, event: ev.RangesEvent) -> None:
        """Apply one event about offsets. Raises IllegalTransitionError, changing nothing."""
        self._check(event)
        self.last_active_ns = event.engine_time_ns
        match event:
            case ev.Delivered():
                self._fold_delivered(event)
            case ev.Acked():
                self._fold_acked(event)
            case ev.Extended():
                self._fold_extended(event)
            case ev.Nacked() | ev.Expired() | ev.Released() | ev.Rejected():
                self._fold_returned(event)
            case ev.DeadLettered():
                self._fold_dead_lettered(event)
            case ev.Replayed() | ev.Reopened():
                self._fold_reopened(event)
            case ev.Discarded():
                for first, last in event.ranges:
                    self.dead.remove(first, last)
            case _:
                raise IllegalTransitionError(f"{type(event).__name__} is not about offsets")

    def _check(self, event: ev.RangesEvent) -> None:
        """Raise unless every offset is in a state that the table lets the event start from."""
        sources = SOURCES[type(event)]
        for first, last in event.ranges:
            missing = last - first + 1
            for state in sources:
                missing -= self._in_state(state, first, last)
                if not missing:
                    break
            if missing:
                self._refuse(event, first, last)

    def _in_state(self, state: MessageState, first: int, last: int) -> int:
        """How many offsets of first..last are in the state."""
        if state is S.UNSEEN:
            return max(0, last - max(first, self.position) + 1)
        if state is S.SETTLED:
            below = max(0, min(last, self.position - 1) - first + 1)
            return below - sum(
                _held(held, first, last) for held in (self.leases, self.waiting, self.dead)
            )
        return _held(self._map_of(state), first, last)

    def _map_of(self, state: MessageState) -> RangeMap[Any]:
        if state is S.LEASED:
            return self.leases
        return self.waiting if state is S.WAITING else self.dead

    def _refuse(self, event: ev.RangesEvent, first: int, last: int) -> None:
        states = {self.state_of(first).value, self.state_of(last).value}
        raise IllegalTransitionError(
            f"{type(event).__name__} of {first}..{last} for consumer {self.name}: "
            f"the messages are {' and '.join(sorted(states))}",
            consumer=self.name,
            first=first,
            last=last,
        )

    def _fold_delivered(self, event: ev.Delivered) -> None:
        for first, last in event.ranges:
            for a, b, waiting in self.waiting.remove(first, last):
                self._lease(a, b, event, waiting.failures, waiting.releases)
            if last >= self.position:
                self._lease(max(first, self.position), last, event, 0, 0)
                self.position = last + 1

    def _lease(
        self, first: int, last: int, event: ev.Delivered, failures: int, releases: int
    ) -> None:
        lease = Lease(
            event.member, event.attempt, failures, releases, event.deadline_ns, event.mean_bytes
        )
        self.restore_lease(first, last, lease)

    def restore_lease(self, first: int, last: int, lease: Lease) -> None:
        """Hold a lease: by a Delivered, or out of a snapshot."""
        self.leases.add(first, last, lease)
        self.deadlines.push(lease.deadline_ns, first, last)
        self._charge(first, last, lease, +1)

    def _charge(self, first: int, last: int, lease: Lease, sign: int) -> None:
        member = self.members.get(lease.member)
        if member is not None:
            messages = sign * (last - first + 1)
            member.in_flight += messages
            member.in_flight_bytes += messages * lease.mean_bytes
            if lease.alone:
                member.alone += messages

    def _take_leases(self, ranges: Sequence[Range]) -> list[tuple[int, int, Lease]]:
        taken = []
        for first, last in ranges:
            for piece in self.leases.remove(first, last):
                self._charge(*piece, -1)
                taken.append(piece)
        self.deadlines.trim(
            len(self.leases), ((v.deadline_ns, f, t) for f, t, v in self.leases.items())
        )
        return taken

    def _fold_acked(self, event: ev.Acked) -> None:
        taken = self._take_leases(event.ranges)
        if count((a, b) for a, b, _ in taken) != count(event.ranges):
            for first, last in event.ranges:
                self.waiting.remove(first, last)

    def _fold_extended(self, event: ev.Extended) -> None:
        for first, last in event.ranges:
            for a, b, lease in self.leases.remove(first, last):
                longer = msgspec.structs.replace(lease, deadline_ns=event.deadline_ns)
                self.leases.add(a, b, longer)
                self.deadlines.push(event.deadline_ns, a, b)

    def _fold_returned(self, event: ev.Nacked | ev.Expired | ev.Released | ev.Rejected) -> None:
        failed = isinstance(event, (ev.Nacked, ev.Expired))
        released = False
        if isinstance(event, ev.Released):
            failed = event.failure
            # A restart, a drain or a hand-back says nothing against the message.
            released = event.cause is ev.ReleaseCause.MEMBER_GONE and not failed
        due_ns = NEVER_NS if isinstance(event, ev.Rejected) else event.due_ns
        for first, last, lease in self._take_leases(event.ranges):
            self.restore_waiting(
                first,
                last,
                Waiting(lease.attempt, lease.failures + failed, lease.releases + released, due_ns),
            )

    def restore_waiting(self, first: int, last: int, waiting: Waiting) -> None:
        """Hold a waiting range: by an event, or out of a snapshot."""
        self.waiting.add(first, last, waiting, merge=True)
        if waiting.due_ns != NEVER_NS:
            self.dues.push(waiting.due_ns, first, last)
        self.dues.trim(len(self.waiting), ((v.due_ns, f, t) for f, t, v in self.waiting.items()))

    def _fold_dead_lettered(self, event: ev.DeadLettered) -> None:
        dead = Dead(event.attempts, event.failures, event.cause, event.reason, event.at_ns)
        for first, last in event.ranges:
            self.waiting.remove(first, last)
            self.dead.add(first, last, dead)

    def _fold_reopened(self, event: ev.Replayed | ev.Reopened) -> None:
        if isinstance(event, ev.Replayed):
            for first, last in event.ranges:
                self.dead.remove(first, last)
        for first, last in event.ranges:
            self.restore_waiting(first, last, Waiting(0, 0, 0, event.due_ns))

    def resurface(self, first: int, last: int) -> None:
        """Let what waits of first..last fall due again: its entries were taken out in vain."""
        for a, b, waiting in self.waiting.overlapping(first, last):
            self.dues.push(waiting.due_ns, a, b)

    def rebuild_dues(self) -> None:
        """Make the due heap whole again after entries were taken out of it in vain."""
        self.dues = DueQueue((v.due_ns, first, last) for first, last, v in self.waiting.items())

    def fold_copied(self, first: int, last: int, copy_first: int) -> None:
        """Dead letters first..last have copies from `copy_first` on."""
        for a, b, dead in self.dead.remove(first, last):
            self.dead.add(a, b, msgspec.structs.replace(dead, copy_shift=copy_first - first))

    def fold_sought(self, position: int) -> None:
        """Forget what is leased or waiting; offsets count again from `position`."""
        for held in (self.leases, self.waiting):
            held.clear()
        for member in self.members.values():
            member.in_flight = member.in_flight_bytes = member.alone = 0
        self.position = position


def _held(held: RangeMap[Any], first: int, last: int) -> int:
    return count((a, b) for a, b, _ in held.overlapping(first, last))
