"""Moments and spans as typed and as shown."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from hermes.errors import InvalidArgumentError
from hermes_inspect.times import SECOND_NS, Clockface, parse_moment, size, span

NOW_NS = 1_795_617_962_927_210_965  # 2026-11-25T14:46:02.927210965Z


def east(moment: datetime) -> datetime:
    return moment.astimezone(timezone(timedelta(hours=2)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-25T14:46:02.927210965Z", NOW_NS),
        ("2026-11-25 14:46:02.927", NOW_NS // 10**6 * 10**6),
        ("2026-11-25T14:46:02", NOW_NS // SECOND_NS * SECOND_NS),
        ("2026-11-25T16:46:02+02:00", NOW_NS // SECOND_NS * SECOND_NS),
        ("1970-01-01", 0),
        ("-1.5h", NOW_NS - 5_400 * SECOND_NS),
        ("-250ms", NOW_NS - 250 * 10**6),
    ],
)
def test_moments_are_read_to_the_nanosecond(text: str, expected: int) -> None:
    assert parse_moment(text, now_ns=NOW_NS) == expected


def test_a_time_without_offset_is_in_the_zone() -> None:
    at_ns = parse_moment("2026-11-25T16:46:02", now_ns=0, zone=east)
    assert at_ns == NOW_NS // SECOND_NS * SECOND_NS
    assert Clockface(zone=east, name="EET").moment(at_ns) == "2026-11-25 16:46:02.000"


@pytest.mark.parametrize("text", ["", "soon", "1h", "-1y", "2026-13-01", "12:00", "99999-01-01"])
def test_what_is_no_moment_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="expected a time such as"):
        parse_moment(text, now_ns=0)


def test_moments_are_shown() -> None:
    face = Clockface()
    assert face.moment(NOW_NS) == "2026-11-25 14:46:02.927"
    assert face.time(NOW_NS) == "14:46:02.927"
    assert face.date(0) == "1970-01-01"
    assert face.moment(-1) == "1969-12-31 23:59:59.999"


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0 µs"),
        (850_000, "850 µs"),
        (2_100_000, "2.1 ms"),
        (1_000_000, "1 ms"),
        (1_530_000_000, "1.53 s"),
        (30 * SECOND_NS, "30 s"),
        (123 * SECOND_NS, "2m 03s"),
        (18_720 * SECOND_NS, "5h 12m"),
        (273_600 * SECOND_NS, "3d 4h"),
        (-850_000, "-850 µs"),
    ],
)
def test_spans(ns: int, text: str) -> None:
    assert span(ns) == text


def test_sizes() -> None:
    assert [size(n) for n in (0, 1023, 1024, 3_650_722_201, 1 << 50)] == [
        *("0 B", "1023 B", "1.0 KiB", "3.4 GiB", "1024.0 TiB")
    ]
