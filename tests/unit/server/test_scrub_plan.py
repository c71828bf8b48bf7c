"""The order in which a pass comes to segments."""

from __future__ import annotations

from hermes.server.scrub_plan import left_to_check

SEGMENTS = (1, 50, 90, 140)


def test_the_first_pass_begins_where_it_is_told_and_wraps() -> None:
    assert left_to_check(SEGMENTS, {}, 1, begin_at=1) == [1, 50, 90, 140]
    assert left_to_check(SEGMENTS, {}, 1, begin_at=90) == [90, 140, 1, 50]
    assert left_to_check(reversed(SEGMENTS), {}, 1, begin_at=91) == [140, 1, 50, 90]


def test_a_pass_that_was_left_goes_on() -> None:
    assert left_to_check(SEGMENTS, {90: 1, 140: 1}, 1, begin_at=90) == [1, 50]
    assert left_to_check(SEGMENTS, dict.fromkeys(SEGMENTS, 1), 1, begin_at=90) == []


def test_what_was_never_checked_goes_first_then_what_is_longest_ago() -> None:
    checked = {1: 2, 50: 1, 90: 2}
    assert left_to_check(SEGMENTS, checked, 3, begin_at=1) == [140, 50, 1, 90]
    assert left_to_check(SEGMENTS, checked, 3, begin_at=90) == [140, 50, 90, 1]


def test_every_segment_is_come_to_in_each_pass() -> None:
    checked: dict[int, int] = {}
    for number in (1, 2, 3):
        came_to = []
        while left := left_to_check(SEGMENTS, checked, number, begin_at=60):
            came_to.append(left[0])
            checked[left[0]] = number
        assert came_to == [90, 140, 1, 50]
