"""The window of one consumer: tailing, full, refilled."""

from __future__ import annotations

import pytest

from hermes import limits
from hermes.broker.batch import LineBatch
from hermes.broker.feed import Feed


def line(first: int, last: int, size: int = 1) -> LineBatch:
    return LineBatch(first, last, "a", b"", bytes(size), 0, 0)


def test_a_feed_at_the_end_of_the_line_is_tailing() -> None:
    assert Feed(5, 5).tailing
    assert not Feed(4, 5).tailing


def test_a_tailing_feed_takes_what_is_published() -> None:
    feed = Feed(0, 0)
    feed.published(line(0, 3))
    feed.published(line(4, 4))
    assert [feed.pop().first, feed.pop().first] == [0, 4]
    assert feed.tailing


def test_a_full_feed_stops_tailing_where_it_missed_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "WINDOW_BATCHES_MAX", 2)
    feed = Feed(0, 0)
    for offset in (0, 1, 7):
        feed.published(line(offset, offset))
    assert feed.full and not feed.tailing
    assert feed.scanned_to == 7
    assert len(feed.window) == 2


def test_a_feed_is_full_by_bytes_too() -> None:
    feed = Feed(0, 0)
    feed.published(line(0, 0, limits.WINDOW_BYTES_MAX))
    assert (feed.full, feed.low) == (True, False)
    feed.pop()
    assert (feed.full, feed.low) == (False, True)


def test_filling_goes_on_until_the_end_of_the_line() -> None:
    feed = Feed(0, 10)
    feed.fill([line(0, 3)], 6, 10)
    assert (feed.hungry, feed.scanned_to) == (True, 6)
    feed.fill([line(8, 9)], 10, 10)
    assert (feed.tailing, feed.hungry) == (True, False)
    assert len(feed.window) == 2


def test_filling_again_adds_nothing_twice() -> None:
    feed = Feed(0, 10)
    feed.fill([line(0, 3)], 4, 10)
    feed.fill([line(0, 3), line(4, 5)], 6, 10)
    assert [batch.first for batch in feed.window] == [0, 4]


def test_a_batch_that_holds_the_position_is_taken() -> None:
    feed = Feed(2, 10)
    feed.fill([line(0, 3)], 4, 10)
    assert len(feed.window) == 1
