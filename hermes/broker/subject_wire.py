"""[P] The three encodings of a subject in the v1 RPCs, and the dot text they stand for.

| encoding | `orders.42.*` is | spoken by |
|---|---|---|
| text     | `orders.42.*` | anybody |
| JSON     | `["orders",42,"*"]` | Rust clients 0.2 and 0.3 |
| bincode  | a list of segments, bincode 2 "standard" | Rust clients 0.4 |

Bincode: varint count; per segment a varint variant and its content: 0 string (varint
length, UTF-8), 1 signed integer (zigzag varint), 2 `*`, 3 `>`. A varint below 251 is one
byte; 251, 252 and 253 announce 2, 4 and 8 bytes, little-endian.

They are told apart by their first bytes: a second byte of 0..3 (the first variant) is in
no text and no JSON; `[` begins JSON. So in v1 no subject in text form begins with `[`.

Rules
- A string with dots is several tokens. Wildcards are segments of their own: a string
  that holds one is refused, not taken for a wildcard.
- Integers are decimal text; back in JSON or bincode, a token that is the canonical
  decimal of a 64-bit signed integer becomes an integer.
- Whether the text is a valid subject or pattern is asked of `subject.py` by the caller.
- Nothing is believed: input is bounded before it is read, lengths before they are used.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum
from functools import lru_cache
from typing import Final, NoReturn

import msgspec

from hermes import limits
from hermes.broker.subject import ANY, REST
from hermes.errors import InvalidArgumentError


class Encoding(Enum):
    """How a subject is written in the v1 RPCs."""

    TEXT = "text"
    JSON = "json"
    BINCODE = "bincode"


_STRING: Final = 0
_INTEGER: Final = 1
_ANY: Final = 2
_REST: Final = 3

_I64_MIN: Final = -(2**63)
_I64_MAX: Final = 2**63 - 1
_CANONICAL_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]{0,18}", re.ASCII)
# A token more than a plain subject may have: the reserved prefix of a dead letter.
_SEGMENTS_MAX: Final = limits.SUBJECT_TOKENS_MAX + 1


@lru_cache(maxsize=limits.SUBJECT_CACHE_MAX)
def decode(data: bytes) -> tuple[str, Encoding]:
    """The dot text of a subject or pattern, and how it was written.

    Raises InvalidArgumentError that says what was expected.
    """
    if data in (b"", b"\0", b"[]"):  # no text, no segments
        raise InvalidArgumentError("the subject is empty; expected tokens like orders.created")
    if len(data) > limits.SUBJECT_WIRE_BYTES_MAX:
        raise InvalidArgumentError(
            f"the subject has {len(data)} bytes; expected at most {limits.SUBJECT_BYTES_MAX} "
            "bytes of text",
            bytes=len(data),
        )
    if len(data) > 1 and data[1] <= _REST:
        return ".".join(_tokens_of_bincode(data)), Encoding.BINCODE
    if data.startswith(b"["):
        return ".".join(_tokens_of_json(data)), Encoding.JSON
    try:
        return data.decode(), Encoding.TEXT
    except UnicodeDecodeError as error:
        raise InvalidArgumentError(
            f"the subject is not UTF-8 at byte {error.start}; expected UTF-8 text, a JSON "
            "array or a bincode list of segments"
        ) from None


@lru_cache(maxsize=limits.SUBJECT_CACHE_MAX)
def encode(subject: str, encoding: Encoding) -> bytes:
    """A valid subject or pattern in one of the encodings."""
    if encoding is Encoding.TEXT:
        return subject.encode()
    segments = [_segment(token) for token in subject.split(".")]
    if encoding is Encoding.JSON:
        return msgspec.json.encode(segments)
    return _bincode(segments)


def _segment(token: str) -> str | int:
    if _CANONICAL_INTEGER.fullmatch(token):
        number = int(token)
        if _I64_MIN <= number <= _I64_MAX:
            return number
    return token


def _split(text: str, form: str) -> list[str]:
    """The tokens of a string segment; raises unless each is there and no wildcard."""
    tokens = text.split(".")
    if not all(tokens):
        _refuse(form, f"the string segment {text[:80]!r} has an empty token")
    if ANY in text or REST in text:
        _refuse(form, f"the string segment {text[:80]!r} holds a wildcard; it stands alone")
    return tokens


def _refuse(form: str, problem: str) -> NoReturn:
    expected = (
        'an array of strings, integers, "*" and ">"'
        if form == "JSON"
        else "a list of segments: 0 string, 1 integer, 2 any, 3 rest"
    )
    raise InvalidArgumentError(f"the subject is not valid {form}: {problem}; expected {expected}")


# -------------------------------------------------------------------------- JSON


def _tokens_of_json(data: bytes) -> list[str]:
    try:
        segments = msgspec.json.decode(data)
    # RecursionError: a subject's 4 KiB can nest deeper than the decoder goes.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _refuse("JSON", str(error))
    if not segments:
        _refuse("JSON", "it is empty")
    tokens: list[str] = []
    for segment in segments:
        # The exact types: True is an int, 1.0 is a float.
        if type(segment) is int:
            if not _I64_MIN <= segment <= _I64_MAX:
                _refuse("JSON", "an integer does not fit 64 bits, signed")
            tokens.append(str(segment))
        elif type(segment) is not str:
            _refuse("JSON", f"it holds {type(segment).__name__}")
        elif segment in (ANY, REST):
            tokens.append(segment)
        else:
            tokens += _split(segment, "JSON")
    return tokens


# ----------------------------------------------------------------------- bincode


def _tokens_of_bincode(data: bytes) -> list[str]:
    segments, at = _read_varint(data, 0)
    if not 1 <= segments <= _SEGMENTS_MAX:
        _refuse("bincode", f"it has {segments} segments instead of 1 to {_SEGMENTS_MAX}")
    tokens: list[str] = []
    for _ in range(segments):
        variant, at = _read_varint(data, at)
        if variant == _STRING:
            length, at = _read_varint(data, at)
            if length > len(data) - at:
                _refuse("bincode", f"a string of {length} bytes ends after the subject does")
            try:
                text = data[at : at + length].decode()
            except UnicodeDecodeError:
                _refuse("bincode", f"the string at byte {at} is not UTF-8")
            tokens += _split(text, "bincode")
            at += length
        elif variant == _INTEGER:
            zigzag, at = _read_varint(data, at)
            tokens.append(str((zigzag >> 1) ^ -(zigzag & 1)))
        elif variant == _ANY:
            tokens.append(ANY)
        elif variant == _REST:
            tokens.append(REST)
        else:
            _refuse("bincode", f"there is no segment variant {variant}")
    if at != len(data):
        _refuse("bincode", f"{len(data) - at} bytes follow the last segment")
    return tokens


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of at most 64 bits, and where it ends."""
    width = {251: 2, 252: 4, 253: 8}.get(data[at], 0) if at < len(data) else 0
    end = at + 1 + width
    if end > len(data) or data[at] > 253:
        _refuse("bincode", f"there is no number at byte {at}")
    return (int.from_bytes(data[at + 1 : end], "little") if width else data[at]), end


def _bincode(segments: Sequence[str | int]) -> bytes:
    parts = [_varint(len(segments))]
    for segment in segments:
        if isinstance(segment, int):
            zigzag = segment << 1 if segment >= 0 else (-segment << 1) - 1
            parts += (_varint(_INTEGER), _varint(zigzag))
        elif segment == ANY:
            parts.append(_varint(_ANY))
        elif segment == REST:
            parts.append(_varint(_REST))
        else:
            text = segment.encode()
            parts += (_varint(_STRING), _varint(len(text)), text)
    return b"".join(parts)


def _varint(number: int) -> bytes:
    if number < 251:
        return bytes((number,))
    if number < 2**16:
        return b"\xfb" + number.to_bytes(2, "little")
    if number < 2**32:
        return b"\xfc" + number.to_bytes(4, "little")
    return b"\xfd" + number.to_bytes(8, "little")
