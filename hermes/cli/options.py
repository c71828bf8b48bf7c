"""What several commands take: options, and how their text is read.

Only parsing lives here. A text that cannot be read raises UsageError, which `main`
prints as one line with exit code 2.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import typer

from hermes.clock import Clock, SystemClock

DEFAULT_SERVER: Final = "127.0.0.1:4222"


class UsageError(typer.TyperException):
    """The invocation is wrong; nothing was done. `lines`: when there is more than one reason."""

    exit_code = 2

    def __init__(self, message: str, lines: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.lines = tuple(lines)


_HOST_PORT: Final = re.compile(r"(?:\[[^\]]+\]|[^\[\]:/\s]+):(\d{1,5})", re.ASCII)
_TARGET: Final = re.compile(r"(?:unix|unix-abstract|vsock|dns|ipv4|ipv6):")


def check_server(addr: str) -> str:
    """HOST:PORT, or a target with a scheme that gRPC knows, such as unix:/run/hermes."""
    port = _HOST_PORT.fullmatch(addr)
    if (port and 0 < int(port[1]) < 1 << 16) or _TARGET.match(addr):
        return addr
    raise UsageError(
        f"--server (HERMES_SERVER) is {addr!r}: expected HOST:PORT such as {DEFAULT_SERVER}"
    )


Server = Annotated[
    str,
    typer.Option(
        "--server",
        "-s",
        envvar="HERMES_SERVER",
        help="Address of the broker.",
        metavar="HOST:PORT",
        callback=check_server,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object per line.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Count = Annotated[
    int | None,
    typer.Option("--count", "-n", min=1, metavar="N", help="Stop after so many messages."),
]
From = Annotated[
    str,
    typer.Option(
        "--from",
        metavar="START",
        help="all, new, an offset, a time (2026-01-31T12:00Z) or how long ago (-1h).",
    ),
]


_AGO: Final = re.compile(r"-(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)?")
_UNITS: Final = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}


def parse_start(text: str, *, clock: Clock | None = None) -> str | int | datetime:
    """`all`, `new`, an offset, or an aware datetime. A time without a zone is local."""
    if text in ("all", "new"):
        return text
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        if ago := _AGO.fullmatch(text):
            now = datetime.fromtimestamp((clock or SystemClock()).wall_ns() / 1e9, UTC)
            return now - float(ago[1]) * _UNITS[ago[2]]
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise UsageError(
            f"--from {text!r}: expected all, new, an offset, a time such as "
            "2026-01-31T12:00:00Z, or an age such as -1h (ms, s, m, h, d, w)"
        ) from None


def parse_duration(option: str, text: str | None) -> timedelta | None:
    """`90`, `90s`, `1.5m`, `2h`. Without a unit: seconds. None stays None."""
    if text is None:
        return None
    match = _DURATION.fullmatch(text)
    try:
        if match:
            return float(match[1]) * _UNITS[match[2] or "s"]
    except OverflowError:
        pass
    raise UsageError(f"{option} {text!r}: expected a duration such as 30s, 5m or 1h")


def parse_headers(texts: Iterable[str]) -> dict[str, str]:
    """`key:value` each; blanks after the colon are dropped."""
    headers: dict[str, str] = {}
    for text in texts:
        key, colon, value = text.partition(":")
        if not colon or not key or key != key.strip():
            raise UsageError(f"-H {text!r}: expected key:value")
        if key in headers:
            raise UsageError(f"-H {text!r}: {key} is given twice")
        headers[key] = value.lstrip()
    return headers


def stdin_is_terminal() -> bool:
    """Is a person there to ask, or to type? Not when stdin is closed."""
    return sys.stdin is not None and sys.stdin.isatty()


def confirm(question: str, *, yes: bool) -> None:
    """Ask on the terminal. Raises typer.Exit on no, UsageError when nobody can answer."""
    if yes:
        return
    if not stdin_is_terminal():
        raise UsageError(f"{question} Say --yes to go ahead without a terminal.")
    if not typer.confirm(question, err=True):
        raise typer.Exit(1)
