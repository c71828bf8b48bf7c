"""[P] Dead letters: the copy for others to see, replay, discard.

A message given up on for one consumer is an event (DeadLettered) and a durable message
on `_dead_letter.<subject>` with headers that tell where it came from. The copy is
published after the event, from the stored batch; an event without its copy (a crash in
between) is made good at the next start. Dead letters of dead letters get no copy.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from hermes.broker import events as ev
from hermes.broker.batch import IncomingBatch, LineBatch, views
from hermes.broker.consumer import Consumer, Dead
from hermes.broker.ranges import Range, intersect
from hermes.broker.redelivery import hulls
from hermes.broker.state import State
from hermes.broker.subject import dead_letter_subject
from hermes.broker.v1 import broker_pb2

SECOND_NS = 10**9


def without_copy(state: State) -> Iterator[tuple[Consumer, Range]]:
    """Dead letters whose copy was never published: after a crash, or from a dead letter."""
    for consumer in state.consumers.values():
        for first, last, dead in consumer.dead.items():
            if dead.copy_shift is None:
                yield consumer, (first, last)


def copies(consumer: Consumer, batch: LineBatch, first: int, last: int) -> list[ev.Published]:
    """Published events (their offsets yet to be set) for dead letters of one batch.

    Empty when they are no longer dead, have their copy, or are dead letters themselves.
    """
    subject = dead_letter_subject(batch.subject)
    if subject is None:
        return []
    events = []
    for a, b, dead in consumer.dead.overlapping(max(first, batch.first), min(last, batch.last)):
        if dead.copy_shift is None:
            incoming = _copy(consumer.name, subject, batch, a, b, dead)
            events.append(
                ev.Published(
                    engine_time_ns=0,
                    subject=subject,
                    first=0,
                    last=incoming.count - 1,
                    head=incoming.head,
                    content=incoming.content,
                    sizes=incoming.sizes,
                    dead_letter_consumer=consumer.name,
                    dead_letter_offset=a,
                )
            )
    return events


def _copy(
    consumer: str, subject: str, batch: LineBatch, first: int, last: int, dead: Dead
) -> IncomingBatch:
    messages = views(batch, [(first, last)])
    content = broker_pb2.BatchContent(payloads=[view.payload for _, view in messages])
    for offset, view in messages:
        content.headers.add().entries.update(
            view.headers
            | {
                "hermes-original-offset": str(offset),
                "hermes-original-subject": batch.subject,
                "hermes-original-id": view.id,
                "hermes-consumer": consumer,
                "hermes-attempts": str(dead.attempts),
                "hermes-failures": str(dead.failures),
                "hermes-reason": dead.reason,
            }
        )
    head = broker_pb2.BatchHead(
        count=len(messages), timestamps_ns=[view.timestamp_ns for _, view in messages]
    )
    return IncomingBatch(
        subject,
        head.SerializeToString(),
        content.SerializeToString(),
        len(messages),
        tuple(len(view.payload) for _, view in messages),
    )


def dead_ranges(consumer: Consumer, ranges: Sequence[Range]) -> list[Range]:
    """The part of `ranges` that is dead."""
    return [(a, b) for first, last in ranges for a, b, _ in consumer.dead.overlapping(first, last)]


def decide_replay(
    consumer: Consumer,
    ranges: Sequence[Range],
    *,
    session: int,
    now_ns: int,
    messages_per_second: int = 0,
) -> list[ev.Event]:
    """Back to waiting, counters at 0, due now or spread at the rate. What is not dead is
    passed over, so a repeated replay does nothing."""
    events: list[ev.Event] = []
    replayed = 0
    for first, last in dead_ranges(consumer, ranges):
        at = first
        while at <= last:
            room = last - at + 1
            due_ns = now_ns
            if messages_per_second:
                second, done = divmod(replayed, messages_per_second)
                room = min(room, messages_per_second - done)
                due_ns += second * SECOND_NS
            for group in hulls([(at, at + room - 1)]):
                events.append(  # noqa: PERF401 - the loop reads better
                    ev.Replayed(
                        engine_time_ns=now_ns,
                        consumer=consumer.name,
                        ranges=group,
                        session=session,
                        due_ns=due_ns,
                    )
                )
            replayed += room
            at += room
    return events


def decide_discard(
    consumer: Consumer, ranges: Sequence[Range], *, session: int, now_ns: int
) -> list[ev.Event]:
    """Given up for good. What is not dead is passed over."""
    return [
        ev.Discarded(engine_time_ns=now_ns, consumer=consumer.name, ranges=group, session=session)
        for group in hulls(dead_ranges(consumer, ranges))
    ]


def decide_gone(
    consumer: Consumer, ranges: Sequence[Range], reason: str, *, now_ns: int, at_ns: int
) -> list[ev.Event]:
    """DeadLettered for what waits of these (normal) ranges and has no payload any more."""
    groups: defaultdict[tuple[int, int], list[Range]] = defaultdict(list)
    if ranges:
        for first, last, waiting in consumer.waiting.overlapping(ranges[0][0], ranges[-1][1]):
            groups[waiting.attempt, waiting.failures] += intersect([(first, last)], ranges)
    return [
        ev.DeadLettered(
            engine_time_ns=now_ns,
            consumer=consumer.name,
            ranges=group,
            session=0,
            cause=ev.DeadCause.PAYLOAD_GONE,
            attempts=attempts,
            failures=failures,
            at_ns=at_ns,
            reason=reason,
        )
        for (attempts, failures), found in groups.items()
        for group in hulls(found)
    ]


def decide_retention(state: State, *, now_ns: int, at_ns: int, retention_ns: int) -> list[ev.Event]:
    """Discard dead letters older than `retention_ns` by the wall clock."""
    return [
        event
        for consumer in state.consumers.values()
        for event in decide_discard(
            consumer,
            [(a, b) for a, b, dead in consumer.dead.items() if dead.at_ns < at_ns - retention_ns],
            session=0,
            now_ns=now_ns,
        )
    ]
