"""[P] How messages look: their headers, and the payload as text, pretty JSON or hex."""

from __future__ import annotations

import json
from typing import Final

from rich.text import Text

from hermes.cli.text import printable
from hermes_inspect.model import Message
from hermes_inspect.times import size

HEX_ROW_BYTES: Final = 16
PAYLOAD_BYTES_SHOWN: Final = 64 * 1024
PAYLOAD_MODES: Final = ("auto", "text", "json", "hex")


def message_lines(message: Message, mode: str = "auto") -> list[Text]:
    """A message beneath its record: where and what it is, headers, payload."""
    place = f"{message.index}" if message.offset is None else f"{message.offset}"
    title = Text(f"{place}", "cyan")
    if message.id:
        title.append(f" id {printable(message.id)}", "bold")
    title.append(f" {size(len(message.payload))}", "dim")
    lines = [title]
    for name, value in message.headers.items():
        lines.append(Text(f"  {printable(name)}: {printable(value)}", "green"))
    lines += [Text(f"  {line}") for line in payload_lines(message.payload, mode)]
    return lines


def payload_lines(payload: bytes, mode: str = "auto") -> list[str]:
    """A payload as text, pretty JSON or hex; `auto` is the first of JSON, text, hex that fits.

    Cut after `PAYLOAD_BYTES_SHOWN`. Every line is printable.
    """
    if not payload:
        return []
    shown = payload[:PAYLOAD_BYTES_SHOWN]
    if mode in {"auto", "json"} and len(payload) <= PAYLOAD_BYTES_SHOWN:
        pretty = _pretty(payload)
        if pretty is not None:
            return pretty
    if mode in {"auto", "text", "json"}:
        lines: list[str] | None
        try:
            lines = shown.decode().removesuffix("\n").split("\n")
        except UnicodeDecodeError:
            lines = None if mode == "auto" else shown.decode(errors="backslashreplace").split("\n")
        if lines is not None:
            return [printable(line.expandtabs()) for line in lines] + _cut(payload)
    return _hex(shown) + _cut(payload)


def _pretty(payload: bytes) -> list[str] | None:
    try:
        value = json.loads(payload)
        if not isinstance(value, dict | list):
            return None
        text = json.dumps(value, indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return None
    return [printable(line) for line in text.split("\n")]


def _hex(data: bytes) -> list[str]:
    lines = []
    for at in range(0, len(data), HEX_ROW_BYTES):
        row = data[at : at + HEX_ROW_BYTES]
        letters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{at:08x}  {row.hex(' '):<{HEX_ROW_BYTES * 3 - 1}}  {letters}")
    return lines


def _cut(payload: bytes) -> list[str]:
    more = len(payload) - PAYLOAD_BYTES_SHOWN
    return [f"… {size(more)} more"] if more > 0 else []
