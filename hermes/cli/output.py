"""How things look: for a person, or as JSON for a pipe.

JSON: `payload` when it is UTF-8, else `payload_base64`; times as RFC 3339 in UTC
plus the same as `_ns`. Text: a title line per message, headers and payload indented
beneath it, so that no payload can pass for a title. What is not printable in either
is escaped (`text.py`).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hermes.cli.text import json_line, local_time, one_line, payload_fields, printable, rfc3339

BINARY_BYTES_SHOWN: Final = 64
PIPE_COLUMNS: Final = 100_000
CUT_COLUMNS_MIN: Final = 10


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


# ---------------------------------------------------------------------- messages


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
        self._out.write(json_line(fields))

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
