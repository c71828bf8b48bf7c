"""How text on the command line is read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from hermes.cli.options import (
    UsageError,
    check_server,
    parse_duration,
    parse_headers,
    parse_start,
)

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


class FixedClock:
    def wall_ns(self) -> int:
        return int(NOW.timestamp()) * 1_000_000_000

    def monotonic_ns(self) -> int:
        return 0


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("all", "all"),
        ("new", "new"),
        ("0", 0),
        ("1042", 1042),
        ("-1h", NOW - timedelta(hours=1)),
        ("-1.5d", NOW - timedelta(hours=36)),
        ("-250ms", NOW - timedelta(milliseconds=250)),
        ("2026-01-01T13:00:00+01:00", NOW),
        ("2026-01-01T12:00Z", NOW),
    ],
)
def test_start(text: str, start: str | int | datetime) -> None:
    assert parse_start(text, clock=FixedClock()) == start


def test_a_time_without_a_zone_is_local_and_aware() -> None:
    start = parse_start("2026-01-01T12:00")
    assert isinstance(start, datetime)
    assert start.tzinfo is not None
    assert start.replace(tzinfo=None) == datetime(2026, 1, 1, 12)  # noqa: DTZ001 - local by intent


@pytest.mark.parametrize(
    "text", ["", "yesterday", "-1", "-1y", "1h", "\u0661", "-" + "9" * 30 + "w"]
)
def test_a_wrong_start_names_what_is_expected(text: str) -> None:
    with pytest.raises(UsageError, match="expected all, new, an offset"):
        parse_start(text, clock=FixedClock())


def test_durations() -> None:
    assert parse_duration("--x", None) is None
    assert parse_duration("--x", "90") == timedelta(seconds=90)
    assert parse_duration("--x", "1.5m") == timedelta(seconds=90)
    for wrong in ("", "-1s", "5 minutes", "1y", "9" * 30 + "w"):
        with pytest.raises(UsageError, match=r"--x .* expected a duration"):
            parse_duration("--x", wrong)


def test_headers() -> None:
    assert parse_headers(["a:1", "b: two words", "c:d:e", "empty:"]) == {
        "a": "1",
        "b": "two words",
        "c": "d:e",
        "empty": "",
    }
    for wrong in (["a"], [":1"], [" a:1"], ["a:1", "a:2"]):
        with pytest.raises(UsageError):
            parse_headers(wrong)


@pytest.mark.parametrize(
    "addr", ["127.0.0.1:4222", "broker.lan:1", "[::1]:65535", "unix:/run/h", "dns:///broker:4222"]
)
def test_addresses_of_a_broker(addr: str) -> None:
    assert check_server(addr) == addr


@pytest.mark.parametrize(
    "addr", ["", "broker", ":4222", "broker:", "broker:x", "broker:0", "b:65536"]
)
def test_what_is_no_address_is_told_at_once(addr: str) -> None:
    with pytest.raises(UsageError, match="expected HOST:PORT"):
        check_server(addr)
