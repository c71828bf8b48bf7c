"""What a host reads for the engine: bounded, each batch once."""

from __future__ import annotations

import pytest

from hermes import limits
from hermes.broker.ports import FetchRanges
from hermes.broker.ranges import Range
from hermes.server.reads import fetched
from tests.support.world import World, messages


def asked(*ranges: Range) -> FetchRanges:
    return FetchRanges("c", 1, ranges, for_copies=False)


def test_ranges_that_share_a_batch_read_it_once() -> None:
    world = World()
    world.publish(messages(10), messages(10))
    answer = fetched(world.log.reader(), asked((0, 2), (5, 6), (8, 11), (19, 19)))
    assert [batch.first for batch in answer.batches] == [0, 10]
    assert answer.unread == ()


def test_what_is_beyond_the_bytes_of_one_read_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    # Found by it: after a restart all that had been in flight was read into memory at once.
    monkeypatch.setattr(limits, "WINDOW_BYTES_MAX", 150)
    world = World()
    for _ in range(5):
        world.publish(messages(2, size=50))
    answer = fetched(world.log.reader(), asked((0, 5), (8, 9)))
    assert [batch.first for batch in answer.batches] == [0, 2]
    assert answer.unread == ((4, 5), (8, 9))
    assert [b.first for b in fetched(world.log.reader(), asked(*answer.unread)).batches] == [4, 8]


def test_what_is_in_quarantine_is_left_out_and_the_rest_of_its_range_read() -> None:
    world = World()
    for _ in range(3):
        world.publish(messages(2))
    answer = fetched(world.log.reader(), asked((0, 5)), [(2, 3)])
    assert [batch.first for batch in answer.batches] == [0, 4]
    # Named apart: what is neither read nor withheld has no payload, and becomes a dead letter.
    assert (answer.unread, answer.withheld) == ((), ((2, 3),))


def test_what_was_dropped_takes_nothing_else_of_its_range_along() -> None:
    # Found by the simulation: replayed dead letters waited in one range, of which the first
    # segment had been dropped. Nothing behind the gap was read, so that all of it was taken
    # for gone: messages died although they were in the log.
    world = World()
    for _ in range(2):
        world.publish(messages(2), messages(2))
        world.engine.roll()
        world.run()
    world.engine.drop_segment(world.log.segments()[0])
    world.run()
    answer = fetched(world.log.reader(), asked((1, 1), (3, 6)))
    assert [batch.first for batch in answer.batches] == [4, 6]
    assert answer.unread == ()
    assert fetched(world.log.reader(), asked((0, 3))).batches == []
