"""Resting so that no more bytes per second are moved than allowed."""

from __future__ import annotations

from hermes.log.pace import Pace

SEC_NS = 1_000_000_000


class Clock:
    """Goes on by resting."""

    def __init__(self) -> None:
        self.now_ns = 5 * SEC_NS

    def wall_ns(self) -> int:
        raise AssertionError("pace is a matter of monotonic time")

    def monotonic_ns(self) -> int:
        return self.now_ns

    def rest(self, secs: float) -> None:
        self.now_ns += round(secs * SEC_NS)


def test_no_bound_is_no_rest() -> None:
    assert Pace(None, Clock()).rest_secs(1 << 40) == 0


def test_bytes_take_their_time_whatever_the_pieces() -> None:
    for pieces in (1, 7, 1000):
        clock = Clock()
        pace = Pace(1_000_000, clock)
        for _ in range(pieces):
            clock.rest(pace.rest_secs(10_000_000 // pieces))
        passed_secs = (clock.now_ns - 5 * SEC_NS) / SEC_NS
        assert 9.8 <= passed_secs <= 10.0  # up to 0.1 s is made up for


def test_time_that_the_work_itself_took_counts() -> None:
    clock = Clock()
    pace = Pace(1_000_000, clock)
    pace.rest_secs(0)
    clock.rest(0.05)
    assert pace.rest_secs(50_000) == 0


def test_a_pause_is_followed_by_no_burst() -> None:
    clock = Clock()
    pace = Pace(1_000_000, clock)
    clock.rest(3600)
    assert 0.89 <= pace.rest_secs(1_000_000) <= 0.9
