"""[P] Text for people and for pipes: escaping, times, counts, durations, JSON lines.

Bytes from messages are not trusted: whatever is not printable is escaped before it
is written (also in JSON, where an escape is the same string), so no payload moves
the cursor, recolours the screen or reverses the text.

Nothing here writes, and nothing here knows a terminal: that is `output.py`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import msgspec

_JSON: Final = msgspec.json.Encoder()


def printable(text: str) -> str:
    """`text` with everything unprintable written as an escape: \\x1b, \\u202e, \\n."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    if character in "\n\r\t":
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}[character]
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def one_line(text: str) -> str:
    """For error messages, which may quote anything."""
    return printable(" ".join(text.split()))


# Messages of one batch share their time: so it is written once for them all.
@lru_cache(maxsize=16)
def rfc3339(unix_ns: int) -> str:
    """`2026-01-31T12:00:00.000000123Z`: UTC with all nine digits."""
    seconds, nanos = divmod(unix_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanos:09d}Z"


@lru_cache(maxsize=16)
def local_time(unix_ns: int) -> str:
    """`2026-01-31 13:00:00.000`: where the reader is, to the millisecond."""
    seconds, nanos = divmod(unix_ns, 1_000_000_000)
    when = datetime.fromtimestamp(seconds, UTC).astimezone()
    return f"{when:%Y-%m-%d %H:%M:%S}.{nanos // 1_000_000:03d}"


def counted(number: int, noun: str) -> str:
    """`1 message`, `1,200 messages`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def duration(ns: int) -> str:
    """`1.5s`, `2m`, `1h 30m`: short, for a person."""
    if ns < 60_000_000_000:
        return f"{ns / 1e9:.3f}".rstrip("0").rstrip(".") + "s"
    parts = []
    rest = ns // 1_000_000_000
    for unit, seconds in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        amount, rest = divmod(rest, seconds)
        if amount:
            parts.append(f"{amount}{unit}")
    return " ".join(parts[:2])


def payload_fields(payload: bytes) -> dict[str, str]:
    """The one field of a JSON object that carries a payload."""
    try:
        return {"payload": payload.decode()}
    except UnicodeDecodeError:
        return {"payload_base64": base64.b64encode(payload).decode()}


_JSON_ESCAPED: Final = re.compile(r"[^ -~]")


def json_line(fields: Mapping[str, Any]) -> str:
    """One JSON object and its newline; every character in it is printable."""
    text = _JSON.encode(fields).decode()
    if not text.isprintable():
        # Outside of strings JSON is ASCII, so whatever is unprintable is inside one,
        # where an escape means the same.
        text = _JSON_ESCAPED.sub(lambda found: _json_escape(found[0]), text)
    return text + "\n"


def _json_escape(character: str) -> str:
    if character.isprintable():
        return character
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
