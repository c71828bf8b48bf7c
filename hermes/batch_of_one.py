"""[P] The wire form of the smallest batch: one message without id, key, time or headers.

Where every message has its own subject, each is a batch of its own, and building and
parsing protobuf objects would be most of its cost. The bytes are those of protobuf:
`BatchHead` with a count of one, `BatchContent` with one payload. What is not exactly that
form is left to protobuf, by whoever asks.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

# count, field 1, varint; payloads, field 1, length-delimited.
HEAD_OF_ONE: Final = b"\x08\x01"
_PAYLOAD_TAG: Final = 0x0A
# ids, field 2, length-delimited, behind the count.
_ID_FRONT: Final = HEAD_OF_ONE + b"\x12"
_ID_BYTES_MAX: Final = 0x7F
# Two bytes of varint: longer payloads make parsing cheap by comparison.
_PAYLOAD_BYTES_MAX: Final = 0x3FFF


def content_of_one(payload: bytes) -> bytes | None:
    """A BatchContent of this payload alone; None when it is too long for the short way."""
    size = len(payload)
    return _front(size) + payload if size <= _PAYLOAD_BYTES_MAX else None


@lru_cache(maxsize=1024)
def _front(size: int) -> bytes:
    length = (size,) if size < 0x80 else (size & 0x7F | 0x80, size >> 7)
    return bytes((_PAYLOAD_TAG, *length))


def only_payload_bytes(content: bytes) -> int:
    """The payload's length, if BatchContent is one payload below 16 KiB and nothing else.

    -1 if it is something else, or must be parsed to be known.
    """
    size = len(content)
    if size < 2 or content[0] != _PAYLOAD_TAG:
        return -1
    low = content[1]
    if low < 0x80:
        return low if low == size - 2 else -1
    if size < 3 or not 0 < content[2] < 0x80:
        return -1
    payload_bytes = low & 0x7F | content[2] << 7
    return payload_bytes if payload_bytes == size - 3 else -1


def only_payload(content: bytes) -> bytes | None:
    """That payload; None where its length would be -1."""
    size = only_payload_bytes(content)
    return content[len(content) - size :] if size >= 0 else None


def id_of_one(head: bytes) -> str | None:
    """The id in a BatchHead of one message that says nothing else; "" for none.

    None if it says more, or must be parsed to be known.
    """
    if head == HEAD_OF_ONE:
        return ""
    front = len(_ID_FRONT)
    if head[:front] != _ID_FRONT or len(head) <= front or head[front] > _ID_BYTES_MAX:
        return None
    if head[front] != len(head) - front - 1:
        return None
    try:
        return head[front + 1 :].decode()
    except UnicodeDecodeError:
        return None
