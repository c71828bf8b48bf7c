"""What is remembered of publishing: ids in a window, sequences of producers."""

from __future__ import annotations

import pytest

from hermes import limits
from hermes.broker.dedup import IdWindow, Producers, Stored


def test_an_id_is_known_until_the_window_ends() -> None:
    ids = IdWindow(100, 10)
    ids.remember("a", ("x", "", "y"), 5, now_ns=1_000)
    assert (ids.find("a", "x", 1_100), ids.find("a", "y", 1_100)) == (5, 7)
    assert ids.find("a", "x", 1_101) is None
    assert ids.find("b", "x", 1_000) is None
    assert len(ids) == 2


def test_no_more_ids_than_allowed_the_oldest_go() -> None:
    ids = IdWindow(100, 2)
    ids.remember("a", ("1", "2", "3"), 0, 0)
    assert [entry[1] for entry in ids.items()] == ["2", "3"]


def test_old_ids_are_forgotten_when_new_ones_come() -> None:
    ids = IdWindow(100, 10)
    ids.remember("a", ("old",), 0, 0)
    ids.remember("a", ("new",), 1, 101)
    assert [entry[1] for entry in ids.items()] == ["new"]


def test_an_id_published_again_counts_from_then() -> None:
    ids = IdWindow(100, 10)
    ids.remember("a", ("x",), 0, 0)
    ids.remember("a", ("y",), 1, 50)
    ids.remember("a", ("x",), 2, 90)
    assert ids.items() == [("a", "y", 1, 50), ("a", "x", 2, 90)]


def test_a_smaller_window_forgets_at_once() -> None:
    ids = IdWindow(100, 10)
    ids.remember("a", ("x",), 0, 0)
    ids.remember("a", ("y",), 1, 60)
    ids.resize(20, 10, 80)
    assert [entry[1] for entry in ids.items()] == ["y"]


def test_no_window_remembers_nothing() -> None:
    ids = IdWindow(0, 10)
    ids.remember("a", ("x",), 0, 0)
    assert ids.find("a", "x", 0) is None


def test_sequences_are_found_while_they_are_kept() -> None:
    producers = Producers()
    kept = limits.PRODUCER_SEQUENCES_KEPT
    for sequence in range(1, kept + 3):
        producers.remember(b"p", Stored(sequence, sequence * 10, 1))
    assert producers.last_sequence(b"p") == kept + 2
    assert producers.find(b"p", 2) is None
    assert producers.find(b"p", 3) == Stored(3, 30, 1)
    assert producers.find(b"p", kept + 3) is None
    assert (producers.last_sequence(b"q"), producers.find(b"q", 1)) == (0, None)


def test_a_sequence_left_out_is_not_found() -> None:
    producers = Producers()
    producers.remember(b"p", Stored(1, 0, 1))
    producers.remember(b"p", Stored(3, 1, 1))
    assert producers.find(b"p", 2) is None


def test_the_least_recent_producer_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PRODUCERS_MAX", 2)
    producers = Producers()
    for name in (b"a", b"b", b"a", b"c"):
        producers.remember(name, Stored(producers.last_sequence(name) + 1, 0, 1))
    assert [name for name, _ in producers.items()] == [b"a", b"c"]
