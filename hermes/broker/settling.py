"""[P] Decide on what a member says about messages: ack, nack, reject, extend, release.

An ack is idempotent and counts from whoever held the message, however late, unless it
was settled otherwise. Every other verdict counts only from the present holder and
attempt; what does not count is reported back as stale. An offset that the consumer was
never delivered is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import msgspec

from hermes.broker import events as ev
from hermes.broker.consumer import Consumer
from hermes.broker.ranges import Range, subtract
from hermes.broker.redelivery import Piece, decide_release, fail, hulls
from hermes.errors import InvalidArgumentError


class Verdict(IntEnum):
    """Numbers of the wire (hermes.broker.v1.Verdict)."""

    ACK = 1
    NACK = 2
    REJECT = 3
    EXTEND = 4
    RELEASE = 5


class Settle(msgspec.Struct, frozen=True, gc=False):
    """A verdict of `member` on ranges of offsets (normal: ascending, disjoint)."""

    member: int
    session: int
    verdict: Verdict
    ranges: Sequence[Range]
    attempt: int = 0
    delay_ns: int | None = None
    reason: str = ""


class Settled(msgspec.Struct, frozen=True):
    """What follows. `stale` ranges did not count."""

    events: list[ev.Event]
    stale: list[Range]


def decide_settle(
    consumer: Consumer,
    command: Settle,
    *,
    now_ns: int,
    at_ns: int,
    unsent: Sequence[Range] = (),
) -> Settled:
    """What a verdict leads to.

    `unsent` (normal) is leased to the member and waits for its commit: but for an ack, a
    verdict on it speaks of an earlier delivery, which a replay let begin again at the
    same attempt. Raises InvalidArgumentError if an offset was never delivered to this
    consumer.
    """
    if command.ranges and command.ranges[-1][1] >= consumer.position:
        raise InvalidArgumentError(
            f"offset {command.ranges[-1][1]} was never delivered to consumer {consumer.name!r}",
            hint="settle only what was received",
            offset=command.ranges[-1][1],
        )
    if command.verdict is Verdict.ACK:
        return _ack(consumer, command, now_ns)
    pieces = [
        piece
        for first, last in subtract(command.ranges, unsent)
        for piece in consumer.leases.overlapping(first, last)
        if piece[2].member == command.member and piece[2].attempt == command.attempt
    ]
    stale = subtract(command.ranges, [(first, last) for first, last, _ in pieces])
    if not pieces:
        return Settled([], stale)
    return Settled(_hold_verdict(consumer, command, pieces, now_ns, at_ns), stale)


def _ack(consumer: Consumer, command: Settle, now_ns: int) -> Settled:
    counted: list[Range] = []
    dead: list[Range] = []
    for first, last in command.ranges:
        leased = [(a, b) for a, b, _ in consumer.leases.overlapping(first, last)]
        counted += leased
        if leased == [(first, last)]:
            continue
        counted += [(a, b) for a, b, _ in consumer.waiting.overlapping(first, last)]
        dead += [(a, b) for a, b, _ in consumer.dead.overlapping(first, last)]
    events: list[ev.Event] = [
        ev.Acked(
            engine_time_ns=now_ns,
            consumer=consumer.name,
            ranges=ranges,
            session=command.session,
            member=command.member,
        )
        for ranges in hulls(counted)
    ]
    return Settled(events, dead)


def _hold_verdict(
    consumer: Consumer, command: Settle, pieces: Sequence[Piece], now_ns: int, at_ns: int
) -> list[ev.Event]:
    match command.verdict:
        case Verdict.NACK:
            return _nack(consumer, command, pieces, now_ns, at_ns)
        case Verdict.REJECT:
            return _reject(consumer, command, pieces, now_ns, at_ns)
        case Verdict.RELEASE:
            return decide_release(
                consumer,
                pieces,
                ev.ReleaseCause.HANDED_BACK,
                session=command.session,
                now_ns=now_ns,
            )
        case _:
            return _extend(consumer, command, pieces, now_ns)


def _nack(
    consumer: Consumer, command: Settle, pieces: Sequence[Piece], now_ns: int, at_ns: int
) -> list[ev.Event]:
    def nacked(attempt: int, due_ns: int, ranges: ev.Ranges) -> ev.Event:
        return ev.Nacked(
            engine_time_ns=now_ns,
            consumer=consumer.name,
            ranges=ranges,
            session=command.session,
            member=command.member,
            attempt=attempt,
            due_ns=due_ns,
            reason=command.reason,
        )

    return fail(
        consumer,
        pieces,
        nacked,
        now_ns=now_ns,
        at_ns=at_ns,
        session=command.session,
        reason=command.reason or "nack",
        delay_ns=command.delay_ns,
    )


def _reject(
    consumer: Consumer, command: Settle, pieces: Sequence[Piece], now_ns: int, at_ns: int
) -> list[ev.Event]:
    events: list[ev.Event] = []
    for failures in {lease.failures for _, _, lease in pieces}:
        found = [(a, b) for a, b, lease in pieces if lease.failures == failures]
        for ranges in hulls(found):
            rejected = ev.Rejected(
                engine_time_ns=now_ns,
                consumer=consumer.name,
                ranges=ranges,
                session=command.session,
                member=command.member,
                attempt=command.attempt,
                reason=command.reason,
            )
            dead = ev.DeadLettered(
                engine_time_ns=now_ns,
                consumer=consumer.name,
                ranges=ranges,
                session=command.session,
                cause=ev.DeadCause.REJECTED_BY_MEMBER,
                attempts=command.attempt,
                failures=failures,
                at_ns=at_ns,
                reason=command.reason or "rejected",
            )
            events += [rejected, dead]
    return events


def _extend(
    consumer: Consumer, command: Settle, pieces: Sequence[Piece], now_ns: int
) -> list[ev.Event]:
    return [
        ev.Extended(
            engine_time_ns=now_ns,
            consumer=consumer.name,
            ranges=ranges,
            session=command.session,
            member=command.member,
            attempt=command.attempt,
            deadline_ns=now_ns + consumer.policy.ack_timeout_ns,
        )
        for ranges in hulls((a, b) for a, b, _ in pieces)
    ]
