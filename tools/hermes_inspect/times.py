"""[P] Moments and spans as people write and read them.

Moments are Unix times in nanoseconds, shown in UTC unless a person asks for local time;
which zone that is, the caller brings (`Zone`), for nothing here looks at the machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from hermes.errors import InvalidArgumentError

Zone = Callable[[datetime], datetime]

SECOND_NS: Final = 10**9
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_AGO: Final = re.compile(r"-(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_FRACTION: Final = re.compile(r"(?<=:\d\d)[.,](\d{1,9})(?!\d)", re.ASCII)
_UNITS_NS: Final = {
    "ms": 10**6,
    "s": SECOND_NS,
    "m": 60 * SECOND_NS,
    "h": 3_600 * SECOND_NS,
    "d": 86_400 * SECOND_NS,
    "w": 7 * 86_400 * SECOND_NS,
}
EXPECTED: Final = "a time such as 2026-01-31T12:00:00Z, or how long ago, such as -1h"


def utc(moment: datetime) -> datetime:
    """The zone that is shown unless asked otherwise."""
    return moment.astimezone(UTC)


class Clockface(msgspec.Struct, frozen=True):
    """How moments are shown: in which zone."""

    zone: Zone = utc
    name: str = "UTC"

    def moment(self, at_ns: int) -> str:
        """`2026-01-31 12:00:00.123`."""
        return f"{self.date(at_ns)} {self.time(at_ns)}"

    def date(self, at_ns: int) -> str:
        """`2026-01-31`."""
        return f"{self.zone(_datetime(at_ns)):%Y-%m-%d}"

    def time(self, at_ns: int) -> str:
        """`12:00:00.123`."""
        millis = at_ns // 10**6 % 1_000
        return f"{self.zone(_datetime(at_ns)):%H:%M:%S}.{millis:03d}"


def _datetime(at_ns: int) -> datetime:
    # Whole seconds: a float would round the rest.
    return _EPOCH + timedelta(seconds=at_ns // SECOND_NS)


def parse_moment(text: str, *, now_ns: int, zone: Zone = utc) -> int:
    """A time or an age (`-90s`, `-1h`) as Unix nanoseconds.

    A time without an offset is in `zone`. Raises InvalidArgumentError.
    """
    if ago := _AGO.fullmatch(text):
        return now_ns - round(float(ago[1]) * _UNITS_NS[ago[2]])
    # A datetime has microseconds only; what was copied from a record has nanoseconds.
    fraction = _FRACTION.search(text)
    rest_ns = int(fraction[1].ljust(9, "0")) if fraction else 0
    try:
        said = datetime.fromisoformat(_FRACTION.sub("", text))
        if said.tzinfo is None:
            # The zone's own offset at that moment.
            offset = zone(said.replace(tzinfo=UTC)).utcoffset() or timedelta()
            said = (said - offset).replace(tzinfo=UTC)
        since = said - _EPOCH
    except (ValueError, OverflowError):
        raise InvalidArgumentError(f"{text!r} is no moment: expected {EXPECTED}") from None
    whole = since.days * 86_400 + since.seconds
    return whole * SECOND_NS + rest_ns


def span(ns: int) -> str:
    """How long, for a person: `850 µs`, `2.1 ms`, `1.53 s`, `2m 03s`, `5h 12m`, `3d 4h`."""
    if ns < 0:
        return f"-{span(-ns)}"
    if ns < 10**6:
        return f"{ns / 1_000:.0f} µs"
    if ns < SECOND_NS:
        return f"{ns / 10**6:.1f}".removesuffix(".0") + " ms"
    seconds = ns // SECOND_NS
    if seconds < 60:
        return f"{ns / SECOND_NS:.2f}".rstrip("0").rstrip(".") + " s"
    if seconds < 3_600:
        return f"{seconds // 60}m {seconds % 60:02d}s"
    if seconds < 86_400:
        return f"{seconds // 3_600}h {seconds // 60 % 60:02d}m"
    return f"{seconds // 86_400}d {seconds // 3_600 % 24}h"


def size(count: int) -> str:
    """How many bytes, for a person: `812 B`, `1.2 KiB`, `3.4 GiB`."""
    if count < 1024:
        return f"{count} B"
    value = float(count)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        value /= 1024
        if value < 1024 or unit == "TiB":
            break
    return f"{value:.1f} {unit}"
