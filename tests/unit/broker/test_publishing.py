"""What a publish becomes: new, published before, or refused."""

from __future__ import annotations

import pytest

from hermes.broker.batch import IncomingBatch, check_batch, single
from hermes.broker.publishing import Producer, PublishResult, decide_publish
from hermes.broker.state import State
from hermes.broker.v1 import broker_pb2
from hermes.errors import OutOfRangeError

MINUTE_NS = 60 * 10**9


class Line:
    """A state that publishes are decided on and folded into."""

    def __init__(self) -> None:
        self.state = State()
        self.state.ids.resize(2 * MINUTE_NS, 1_000, 0)

    def publish(self, batch: IncomingBatch, sequence: int) -> PublishResult:
        producer = Producer(b"p", sequence)
        event, result = decide_publish(self.state, batch, session=0, now_ns=1, producer=producer)
        if event is not None:
            self.state.fold(event, self.state.next_lsn)
        return result


def test_a_sequence_sent_again_is_answered_with_what_it_became() -> None:
    line = Line()
    first = line.publish(single("a", b"1"), 1)
    line.publish(single("a", b"2"), 2)
    assert line.publish(single("a", b"1"), 1) == PublishResult(1, first.base_offset, duplicate=True)
    assert line.state.next_offset == 2


def test_a_duplicate_by_id_sent_again_is_a_duplicate_again() -> None:
    # Found by killing the server: a sequence that stored nothing, being a duplicate by
    # id, was refused with OUT_OF_RANGE when it was sent again after a later one had been
    # committed; a message that is in the log was reported as failed.
    line = Line()
    stored = line.publish(single("a", b"1", id="x"), 1)
    assert stored.base_offset == 0
    told = line.publish(single("a", b"1", id="x"), 2)
    line.publish(single("a", b"2"), 3)
    assert line.publish(single("a", b"1", id="x"), 2) == told
    assert told.duplicates == ((0, 0),)
    assert line.state.next_offset == 2


def test_a_sequence_that_stored_nothing_is_not_taken_behind_later_ones() -> None:
    line = Line()
    line.publish(single("a", b"2"), 2)
    with pytest.raises(OutOfRangeError, match="sequence 1"):
        line.publish(single("a", b"1"), 1)
    with pytest.raises(OutOfRangeError, match="sequence 1"):
        line.publish(single("a", b"1", id="new"), 1)
    assert line.state.next_offset == 1


def test_a_batch_that_was_partly_a_duplicate_is_answered_message_by_message() -> None:
    # Sent again after a lost connection it was answered with the one message that had been
    # stored, and the client could not tell which of its messages that was.
    line = Line()
    line.publish(single("a", b"1", id="x"), 1)
    content = broker_pb2.BatchContent(payloads=[b"1", b"2"]).SerializeToString()
    head = broker_pb2.BatchHead(count=2, ids=["x", "y"]).SerializeToString()
    batch = check_batch("a", head, content, 1_000)
    assert line.publish(batch, 2) == PublishResult(1, 1, ((0, 0),))
    assert line.publish(batch, 2) == PublishResult(0, None, ((0, 0), (1, 1)))
    assert line.state.next_offset == 2
