"""[P] When a lease ends without an ack: back to waiting, until when, or given up on.

Nack, expiry and the loss of a member all lead here. A *failure* counts against the
message; at `max_attempts` failures it is dead. A free release costs nothing and is due
at once. All functions return events; none changes anything.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from hermes.broker import events as ev
from hermes.broker.consumer import Consumer, Lease
from hermes.broker.ranges import Range, RangeMap, normalize, split_hulls

JITTER_PART = 10  # at most a tenth
Piece = tuple[int, int, Lease]


def backoff_ns(policy: ev.Policy, failures: int, offset: int) -> int:
    """Delay before a message that failed `failures` times is delivered again.

    initial * 2^(failures-1), at most max, less up to a tenth: the jitter spreads what
    failed together, and comes from the offset (Fibonacci hashing, Knuth 6.4) so that a
    replay decides the same.
    """
    if not policy.backoff_initial_ns:
        return 0
    doublings = min(max(failures - 1, 0), 62)
    delay = min(policy.backoff_initial_ns << doublings, policy.backoff_max_ns)
    spread = (offset * 0x9E3779B97F4A7C15) % 2**64 >> 54  # 10 bits
    return delay - (delay // JITTER_PART) * spread // 1024


def hulls(ranges: Iterable[Range]) -> list[ev.Ranges]:
    """Ranges as one record's worth each."""
    return [tuple(group) for group in split_hulls(normalize(ranges))]


def fail(
    consumer: Consumer,
    pieces: Sequence[Piece],
    make: Callable[[int, int, ev.Ranges], ev.Event],
    *,
    now_ns: int,
    at_ns: int,
    session: int,
    reason: str,
    delay_ns: int | None = None,
) -> list[ev.Event]:
    """The failure of leased pieces: `make(attempt, due_ns, ranges)` for each group of them
    that shares both, then DeadLettered for those that failed too often."""
    groups: defaultdict[tuple[int, int], list[Range]] = defaultdict(list)
    dead: defaultdict[tuple[int, int], list[Range]] = defaultdict(list)
    policy = consumer.policy
    for first, last, lease in pieces:
        failures = lease.failures + 1
        delay = backoff_ns(policy, failures, first) if delay_ns is None else delay_ns
        groups[lease.attempt, now_ns + delay].append((first, last))
        if policy.max_attempts and failures >= policy.max_attempts:
            dead[lease.attempt, failures].append((first, last))
    result: list[ev.Event] = [
        make(attempt, due_ns, ranges)
        for (attempt, due_ns), found in groups.items()
        for ranges in hulls(found)
    ]
    return result + [
        ev.DeadLettered(
            engine_time_ns=now_ns,
            consumer=consumer.name,
            ranges=ranges,
            session=session,
            cause=ev.DeadCause.TOO_MANY_FAILURES,
            attempts=attempts,
            failures=failures,
            at_ns=at_ns,
            reason=reason,
        )
        for (attempts, failures), found in dead.items()
        for ranges in hulls(found)
    ]


def due_leases(consumer: Consumer, now_ns: int, limit: int) -> list[Piece]:
    """Leases past their deadline, at most `limit` ranges, earliest deadline first.

    Takes the surfaced entries out of the deadline heap; an entry whose lease was
    settled or extended meanwhile yields nothing. Entries of one deadline may overlap.
    """
    pieces: list[Piece] = []
    due_ns = consumer.deadlines.next_due_ns()
    if due_ns is None or due_ns > now_ns:
        return pieces
    taken: RangeMap[None] = RangeMap()
    for deadline_ns, first, last in consumer.deadlines.pop_due(now_ns):
        for begin, end, lease in consumer.leases.overlapping(first, last):
            if lease.deadline_ns == deadline_ns:
                for a, b in taken.missing(begin, end):
                    taken.add(a, b, None)
                    pieces.append((a, b, lease))
        if len(pieces) >= limit:
            break
    return pieces


def decide_expiry(
    consumer: Consumer, pieces: Sequence[Piece], *, now_ns: int, at_ns: int
) -> list[ev.Event]:
    """Events for leases whose deadline passed."""
    by_member: defaultdict[int, list[Piece]] = defaultdict(list)
    for piece in pieces:
        by_member[piece[2].member].append(piece)
    result: list[ev.Event] = []
    for member, held in by_member.items():

        def expired(attempt: int, due_ns: int, ranges: ev.Ranges, member: int = member) -> ev.Event:
            return ev.Expired(
                engine_time_ns=now_ns,
                consumer=consumer.name,
                ranges=ranges,
                member=member,
                attempt=attempt,
                due_ns=due_ns,
            )

        result += fail(
            consumer,
            held,
            expired,
            now_ns=now_ns,
            at_ns=at_ns,
            session=0,
            reason="ack timeout",
        )
    return result


def decide_postpone(consumer: Consumer, pieces: Sequence[Piece], *, now_ns: int) -> list[ev.Event]:
    """Leases that fell due before their commit let them go out: their time begins anew."""
    groups: defaultdict[tuple[int, int], list[Range]] = defaultdict(list)
    for first, last, lease in pieces:
        groups[lease.member, lease.attempt].append((first, last))
    return [
        ev.Extended(
            engine_time_ns=now_ns,
            consumer=consumer.name,
            ranges=ranges,
            session=0,
            member=member,
            attempt=attempt,
            deadline_ns=now_ns + consumer.policy.ack_timeout_ns,
        )
        for (member, attempt), found in groups.items()
        for ranges in hulls(found)
    ]


def decide_release(
    consumer: Consumer,
    pieces: Sequence[Piece],
    cause: ev.ReleaseCause,
    *,
    session: int,
    now_ns: int,
) -> list[ev.Event]:
    """Leases handed back for free: due at once."""
    groups: defaultdict[tuple[int, int], list[Range]] = defaultdict(list)
    for first, last, lease in pieces:
        groups[lease.member, lease.attempt].append((first, last))
    return [
        ev.Released(
            engine_time_ns=now_ns,
            consumer=consumer.name,
            ranges=ranges,
            session=session,
            member=member,
            attempt=attempt,
            cause=cause,
            due_ns=now_ns,
        )
        for (member, attempt), found in groups.items()
        for ranges in hulls(found)
    ]


def decide_loss(
    consumer: Consumer, member: int, *, session: int, now_ns: int, at_ns: int
) -> list[ev.Event]:
    """A member's stream broke. Its leases are released for free, but a message that was
    its only lease counts a failure: it may be what killed the worker."""
    pieces = consumer.leases_of(member)
    sole = len(pieces) == 1 and pieces[0][0] == pieces[0][1]
    if not sole:
        return decide_release(
            consumer, pieces, ev.ReleaseCause.MEMBER_GONE, session=session, now_ns=now_ns
        )

    def released(attempt: int, due_ns: int, ranges: ev.Ranges) -> ev.Event:
        return ev.Released(
            engine_time_ns=now_ns,
            consumer=consumer.name,
            ranges=ranges,
            session=session,
            member=member,
            attempt=attempt,
            cause=ev.ReleaseCause.MEMBER_GONE,
            due_ns=due_ns,
            failure=True,
        )

    return fail(
        consumer,
        pieces,
        released,
        now_ns=now_ns,
        at_ns=at_ns,
        session=session,
        reason="the member was lost while working on it",
    )
