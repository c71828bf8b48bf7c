"""The window over the log, against a log that is a list: what is seen, and what is held."""

from __future__ import annotations

import pytest

from hermes.log.record import Kind, StoredRecord
from hermes_inspect.model import view_of
from hermes_inspect.tui.rows import Row
from hermes_inspect.tui.window import PAGE_ROWS, ROWS_MAX, Need, Part, Way, Window

HEIGHT = 10


def row(lsn: int) -> Row:
    kind = Kind.SESSION_CLOSED
    record = StoredRecord(lsn, lsn, kind, None, None, None, b"", None, None, bytes(32))
    return Row(view_of(record))


class Log:
    """Records 1..`last`, of which every `step`-th is wanted; a read looks at `walk` of them."""

    def __init__(self, last: int, *, step: int = 1, walk: int = PAGE_ROWS) -> None:
        self.last, self.step, self.walk = last, step, walk
        self.reads: list[Way] = []

    def part(self, need: Need) -> Part:
        end = self.last + 1
        if need.way in {Way.FROM, Way.NEWER}:
            low, high = need.lsn, min(end, need.lsn + self.walk)
        else:
            high = end if need.way is Way.NEWEST else need.lsn
            low = max(1, high - self.walk)
        forwards = need.way in {Way.FROM, Way.NEWER}
        done = high >= end if forwards else low <= 1
        rows = [row(lsn) for lsn in range(low, high) if lsn % self.step == 0]
        return Part(rows, low, high, done)

    def settle(self, window: Window) -> None:
        """Read until nothing is needed."""
        window.saw(self.last + 1)
        for _ in range(1_000):
            need = window.need()
            if need is None:
                return
            self.reads.append(need.way)
            window.take(need, self.part(need))
            assert len(window.rows) <= ROWS_MAX + PAGE_ROWS
        pytest.fail("the window is never satisfied")


def lsns(window: Window) -> list[int]:
    return [one.lsn for one in window.visible]


def held(window: Window) -> list[int]:
    return [one.lsn for one in window.rows]


def opened(log: Log) -> Window:
    window = Window(HEIGHT)
    log.settle(window)
    return window


def test_it_opens_at_the_newest_and_reads_one_page() -> None:
    log = Log(10_000_000)
    window = opened(log)
    assert lsns(window) == list(range(9_999_991, 10_000_001))
    assert window.following and window.selected is window.rows[-1]
    assert log.reads == [Way.NEWEST]


def test_following_shows_what_comes_and_lets_go_of_the_rest() -> None:
    log = Log(100)
    window = opened(log)
    for _ in range(100):
        log.last += 50
        log.settle(window)
        assert lsns(window) == list(range(log.last - 9, log.last + 1))
    assert len(window.rows) <= ROWS_MAX
    assert held(window) == list(range(window.low, log.last + 1))
    assert not window.at_start


def test_who_follows_a_log_that_is_too_fast_skips_to_its_end() -> None:
    log = Log(100)
    window = opened(log)
    log.last += 100_000
    log.settle(window)
    assert lsns(window)[-1] == log.last
    assert log.reads[-2:] == [Way.NEWER, Way.NEWEST]


def test_paused_nothing_moves_and_little_is_read() -> None:
    log = Log(1_000)
    window = opened(log)
    window.toggle()
    seen = lsns(window)
    for _ in range(50):
        log.last += 1_000
        log.settle(window)
        assert lsns(window) == seen
    assert window.unseen == 50_000
    assert len(window.rows) <= ROWS_MAX
    window.toggle()
    log.settle(window)
    assert (window.following, window.unseen, lsns(window)[-1]) == (True, 0, log.last)


def test_going_up_pauses_and_past_the_newest_follows_again() -> None:
    log = Log(1_000)
    window = opened(log)
    window.move(-3)
    assert not window.following
    assert window.selected is not None and window.selected.lsn == 997
    window.move(3)
    assert window.selected is window.rows[-1]
    assert not window.following  # on the newest, but nobody asked to follow
    window.move(1)
    assert window.following


def test_it_pages_back_to_the_first_record_and_forth_with_a_bounded_window() -> None:
    log = Log(20_000)
    window = opened(log)
    seen: set[int] = set(lsns(window))
    while not (window.selected is not None and window.selected.lsn == 1):
        window.page(-1)
        log.settle(window)
        assert held(window) == list(range(held(window)[0], held(window)[-1] + 1))
        seen |= set(lsns(window))
    assert seen == set(range(1, 20_001))
    assert window.at_start
    forth: set[int] = set()
    while not window.following:
        forth |= set(lsns(window))
        window.page(1)
        log.settle(window)
    assert forth == set(range(1, 20_001))


def test_home_reads_the_beginning_alone_and_end_goes_back() -> None:
    log = Log(10_000_000)
    window = opened(log)
    window.home()
    assert lsns(window)[-1] == 10_000_000  # what was there stays until the rest is read
    log.settle(window)
    assert lsns(window) == list(range(1, 11))
    assert window.cursor == 0 and not window.following
    assert len(log.reads) <= 4
    window.follow()
    log.settle(window)
    assert lsns(window)[-1] == 10_000_000


def test_a_rare_filter_takes_several_reads_and_finds_a_screen() -> None:
    log = Log(100_000, step=1_000, walk=500)
    window = opened(log)
    assert lsns(window) == list(range(91_000, 100_001, 1_000))
    window.home()
    log.settle(window)
    assert lsns(window) == list(range(1_000, 10_001, 1_000))


def test_a_filter_that_nothing_fits_ends() -> None:
    log = Log(5_000, step=10_000)
    window = opened(log)
    assert window.settled and window.at_start
    assert (window.rows, window.selected, window.visible) == ([], None, [])
    window.move(-1)
    window.page(1)
    window.select(3)
    window.home()
    log.settle(window)
    assert window.selected is None
    log.last, log.step = 10_000, 10_000
    window.follow()
    log.settle(window)
    assert lsns(window) == [10_000]


def test_what_was_read_for_another_place_is_left_out() -> None:
    log = Log(10_000)
    window = opened(log)
    window.move(-5)
    stale = window.need() or Need(Way.OLDER, window.low, window.epoch)
    part = log.part(stale)
    window.home()
    before = held(window)
    window.take(stale, part)
    assert held(window) == before
    need = window.need()
    assert need is not None and need.way is Way.FROM
    window.reset()
    window.take(need, log.part(need))
    assert window.rows == [] and window.following


def test_pausing_drops_a_jump_to_the_newest() -> None:
    log = Log(1_000)
    window = opened(log)
    window.move(-1)
    log.last += 10_000
    window.saw(log.last + 1)
    window.follow()
    need = window.need()
    assert need is not None and need.way is Way.NEWEST
    window.pause()
    window.take(need, log.part(need))
    assert lsns(window)[-1] <= 1_000


def test_a_click_selects_and_pauses_but_on_the_newest() -> None:
    log = Log(1_000)
    window = opened(log)
    window.select(HEIGHT - 1)
    assert window.following
    window.select(2)
    assert window.selected is not None
    assert (window.selected.lsn, window.following) == (993, False)
    window.select(99)
    assert window.selected.lsn == 993


@pytest.mark.parametrize("height", [1, 5, 30, 500])
def test_it_can_be_resized(height: int) -> None:
    log = Log(10_000)
    window = opened(log)
    window.resize(height)
    log.settle(window)
    assert lsns(window) == list(range(10_001 - height, 10_001))
    window.move(-height)
    window.resize(HEIGHT)
    log.settle(window)
    assert 10_000 - height in lsns(window)
    assert window.rows[window.cursor].lsn == 10_000 - height


def test_a_log_shorter_than_the_screen() -> None:
    log = Log(3)
    window = opened(log)
    assert lsns(window) == [1, 2, 3]
    window.home()
    assert window.cursor == 0
    window.move(-1)
    assert window.cursor == 0
    assert window.settled
