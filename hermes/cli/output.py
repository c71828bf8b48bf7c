"""How things look: for a person, or as JSON for a pipe.

JSON: `payload` when it is UTF-8, else `payload_base64`; times as RFC 3339 in UTC
plus the same as `_ns`. Text: a title line per message, headers and payload indented
beneath it, so that no payload can pass for a title.

Bytes from messages are not trusted: whatever is not printable is escaped before it
is written (also in JSON, where an escape is the same string), so no payload moves
the cursor, recolours the screen or reverses the text.
"""

from __future__ import annotations

import base64
import logging
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, Protocol

import msgspec
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

BINARY_BYTES_SHOWN: Final = 64
PIPE_COLUMNS: Final = 100_000
CUT_COLUMNS_MIN: Final = 10

_JSON: Final = msgspec.json.Encoder()


class Shown(Protocol):
    """What is shown of a message, whichever command received it."""

    @property
    def subject(self) -> str: ...
    @property
    def payload(self) -> bytes: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def id(self) -> str | None: ...
    @property
    def offset(self) -> int | None: ...
    @property
    def attempt(self) -> int: ...
    @property
    def published_at_ns(self) -> int: ...


# -------------------------------------------------------------------- plain text


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


# ---------------------------------------------------------------------- messages


def payload_fields(payload: bytes) -> dict[str, str]:
    """The one field of a JSON object that carries a payload."""
    try:
        return {"payload": payload.decode()}
    except UnicodeDecodeError:
        return {"payload_base64": base64.b64encode(payload).decode()}


def message_fields(message: Shown) -> dict[str, Any]:
    """A message as one flat JSON object. `attempt` only where there is one."""
    fields: dict[str, Any] = {
        "offset": message.offset,
        "subject": message.subject,
        "id": message.id or None,
        "published_at": rfc3339(message.published_at_ns),
        "published_at_ns": message.published_at_ns,
    }
    if message.attempt:
        fields["attempt"] = message.attempt
    fields["headers"] = dict(message.headers)
    fields.update(payload_fields(message.payload))
    return fields


def message_parts(message: Shown) -> list[tuple[str, str]]:
    """A message for a person, over several lines, as (text, style) to be joined."""
    parts = []
    if message.offset is not None:
        parts.append((f"{message.offset} ", "cyan"))
    parts.append((printable(message.subject), "bold"))
    parts.append((f"  {local_time(message.published_at_ns)}", "dim"))
    if message.id:
        parts.append((f"  id {printable(message.id)}", "dim"))
    if message.attempt > 1:
        parts.append((f"  attempt {message.attempt}", "yellow"))
    for key, value in message.headers.items():
        parts.append((f"\n  {printable(key)}: {printable(value)}", "green"))
    parts += [(f"\n  {line}", "") for line in payload_lines(message.payload)]
    return parts


def payload_lines(payload: bytes) -> list[str]:
    if not payload:
        return []
    try:
        lines = payload.decode().removesuffix("\n").split("\n")
    except UnicodeDecodeError:
        more = " …" if len(payload) > BINARY_BYTES_SHOWN else ""
        return [f"({len(payload):,} bytes) {payload[:BINARY_BYTES_SHOWN].hex(' ')}{more}"]
    return [printable(line.expandtabs()) for line in lines]


# ----------------------------------------------------------------------- printing


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise  # rich would exit with 1; main has a code of its own for it  # noqa: PLE0704


class Printer:
    """Writes results to stdout, as JSON lines or for a person.

    `flush=True` in the calls makes the result visible before they return: whoever
    acks what was shown must know that it was.
    """

    def __init__(self, *, json: bool) -> None:
        self.json = json
        self._out = sys.stdout
        # A pipe has no width: never fold there.
        width = None if sys.stdout.isatty() else PIPE_COLUMNS
        self._console = _Console(
            file=sys.stdout, highlight=False, markup=False, emoji=False, soft_wrap=True, width=width
        )
        self._is_terminal = self._console.is_terminal  # asked once, not per message

    def message(self, message: Shown, *, flush: bool = True, **more: Any) -> None:
        """One message. `more` are fields for the JSON object."""
        if self.json:
            self.fields(more | message_fields(message))
        elif self._is_terminal:
            self._console.print(Text.assemble(*message_parts(message)))
        else:
            self._out.write("".join(text for text, _ in message_parts(message)) + "\n")
        if flush:
            self._out.flush()

    def fields(self, fields: Mapping[str, Any]) -> None:
        """One JSON object on one line."""
        self._out.write(_json_line(fields))

    def line(self, text: str) -> None:
        """One line for a person. The caller escapes what came from elsewhere."""
        self._console.print(Text(text))

    def table(self, columns: Sequence[str], rows: Iterable[Iterable[str]]) -> None:
        """A table for a person, folded where the terminal is too narrow.

        The first character of a column's name can be a mark: `#` right-aligned,
        `=` never folded, `~` cut with an ellipsis, for what is shown in full elsewhere.
        """
        cells = [[printable(cell) for cell in row] for row in rows]
        titles = [column.lstrip("#=~") for column in columns]
        widths = [max(map(cell_len, column)) for column in zip(titles, *cells, strict=True)]
        marks = [column[0] if column[0] in "#=~" else "" for column in columns]
        # What the others leave to a column that is cut, with two blanks between any two.
        spare = self._console.width - sum(widths) - 2 * (len(widths) - 1)
        kept = {"=": widths, "~": [CUT_COLUMNS_MIN] * len(widths)}
        if 2 * sum(kept[m][i] for i, m in enumerate(marks) if m in kept) > self._console.width:
            marks = [mark if mark == "#" else "" for mark in marks]  # too narrow to insist
        table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
        for mark, title, width in zip(marks, titles, widths, strict=True):
            room = max(CUT_COLUMNS_MIN, width + spare) if mark == "~" else None
            table.add_column(
                title,
                justify="right" if mark == "#" else "left",
                overflow="ellipsis" if room else "fold",
                no_wrap=bool(room),
                min_width=width if mark == "=" else None,
                max_width=room,
            )
        for row in cells:
            table.add_row(*map(Text, row))
        self._console.print(table, soft_wrap=False)

    def flush(self) -> None:
        self._out.flush()


_JSON_ESCAPED: Final = re.compile(r"[^ -~]")


def _json_line(fields: Mapping[str, Any]) -> str:
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


def note(text: str) -> None:
    """One line beside the result: on stderr, escaped."""
    sys.stderr.write(one_line(text) + "\n")
    sys.stderr.flush()


class ClientNotes(logging.Handler):
    """What the client logs (reconnecting, missed messages, lost leases), as notes.

    A broker that stays away is told once, not at each attempt.
    """

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._last = ""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text != self._last:
            note(text)
        self._last = text


@contextmanager
def client_notes() -> Iterator[None]:
    """What `hermes.client` logs goes to stderr meanwhile. Enter it last: closing is no news."""
    log = logging.getLogger("hermes.client")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.handlers = [ClientNotes()]
    try:
        yield
    finally:
        log.handlers = [logging.NullHandler()]
