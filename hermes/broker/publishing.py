"""[P] Decide on a publish: what is new, what was published before, what is refused."""

from __future__ import annotations

import msgspec

from hermes.broker import batch as batches
from hermes.broker import events as ev
from hermes.broker.batch import IncomingBatch
from hermes.broker.state import State
from hermes.errors import HermesError, OutOfRangeError


class Producer(msgspec.Struct, frozen=True, gc=False):
    """Who publishes, and which of its batches this is."""

    id: bytes
    sequence: int


class PublishResult(msgspec.Struct, frozen=True, gc=False):
    """The outcome for one batch.

    `duplicates` are (index in the batch, offset it has already). `duplicate` says that
    the whole batch was committed before under its sequence. With `refusal` nothing of
    it was taken.
    """

    count: int
    base_offset: int | None = None
    duplicates: tuple[tuple[int, int], ...] = ()
    duplicate: bool = False
    refusal: HermesError | None = None


def decide_publish(
    state: State,
    batch: IncomingBatch,
    *,
    session: int,
    now_ns: int,
    producer: Producer | None = None,
) -> tuple[ev.Published | None, PublishResult]:
    """The event of a durable publish (None: nothing new) and its outcome.

    Raises OutOfRangeError for an earlier sequence of the producer of which nothing is
    remembered: it stored nothing then, or too much came after it.
    """
    again = _sent_before(state, producer)
    stored = state.producers.find(again.id, again.sequence) if again is not None else None
    if stored is not None and stored.count == batch.count:
        return None, PublishResult(stored.count, stored.offset, duplicate=True)
    duplicates: tuple[tuple[int, int], ...] = ()
    if batch.ids:
        duplicates = _duplicates(state, batch, now_ns)
        if len(duplicates) == batch.count:
            return None, PublishResult(0, None, duplicates)
    if stored is not None:  # some were duplicates then, and their ids are forgotten
        return None, PublishResult(stored.count, stored.offset, duplicate=True)
    if again is not None:
        raise _forgotten(again)
    if duplicates:
        batch = _without(batch, duplicates)
    first = state.next_offset
    event = ev.Published(
        engine_time_ns=now_ns,
        subject=batch.subject,
        first=first,
        last=first + batch.count - 1,
        head=batch.head,
        content=batch.content,
        sizes=batch.sizes,
        ids=batch.ids,
        session=session,
        producer_id=producer.id if producer else b"",
        producer_sequence=producer.sequence if producer else 0,
    )
    return event, PublishResult(batch.count, first, duplicates)


def _sent_before(state: State, producer: Producer | None) -> Producer | None:
    """The producer, if this sequence is not its next: a retry."""
    if producer is None or producer.sequence > state.producers.last_sequence(producer.id):
        return None
    return producer


def _forgotten(producer: Producer) -> OutOfRangeError:
    """Taking it now would store it after what the producer published later."""
    return OutOfRangeError(
        f"nothing is remembered of sequence {producer.sequence} of this producer: "
        "it stored nothing then, or too much came after it",
        hint="publish it under a new sequence",
        sequence=producer.sequence,
    )


def _duplicates(state: State, batch: IncomingBatch, now_ns: int) -> tuple[tuple[int, int], ...]:
    """(index, offset) of messages seen before, in the line or earlier in this batch."""
    found: dict[int, int] = {}
    new: dict[str, int] = {}  # id -> index among the messages that stay
    repeats: list[tuple[int, int]] = []  # index, index among those that stay
    for i, text in enumerate(batch.ids):
        if not text:
            new[f"\0{i}"] = len(new)
            continue
        if text in new:
            repeats.append((i, new[text]))
            continue
        offset = state.ids.find(batch.subject, text, now_ns)
        if offset is None:
            new[text] = len(new)
        else:
            found[i] = offset
    for i, kept in repeats:
        found[i] = state.next_offset + kept
    return tuple(sorted(found.items()))


def _without(batch: IncomingBatch, duplicates: tuple[tuple[int, int], ...]) -> IncomingBatch:
    known = {i for i, _ in duplicates}
    return batches.cut(batch, [i for i in range(batch.count) if i not in known])
