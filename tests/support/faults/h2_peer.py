"""A bare HTTP/2 peer: frames made by hand, for what no honest client library sends.

It blocks; a test calls it on a thread or in a process of its own. It counts what comes
back by kind of frame, and decodes nothing.
"""

from __future__ import annotations

import select
import socket
import struct
from collections import Counter
from collections.abc import Iterable
from typing import Self

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0x0, 0x1, 0x3, 0x4, 0x6, 0x7
END_STREAM, END_HEADERS, ACK = 0x1, 0x4, 0x1

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_FRAME_HEADER_BYTES = 9
_CANCEL = 8


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    """One frame. `payload` is at most 16 KiB, unless it is to be refused."""
    length = struct.pack(">I", len(payload))[1:]
    return length + struct.pack(">BBI", kind, flags, stream) + payload


def request_headers(path: str, extra: Iterable[tuple[str, str]] = ()) -> bytes:
    """The header block of a gRPC call, without compression or state."""
    fields = (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        *extra,
    )
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in fields)


def _text(text: str) -> bytes:
    """A string literal, not Huffman-coded: its length with a prefix of 7 bits."""
    data = text.encode()
    if len(data) < 127:
        return bytes((len(data),)) + data
    rest, length = len(data) - 127, bytearray((127,))
    while rest >= 128:
        length.append(rest % 128 | 128)
        rest //= 128
    return bytes(length) + bytes((rest,)) + data


class H2Peer:
    """One connection. `answers` counts the frames that came, by kind."""

    def __init__(self, address: str, *, timeout_secs: float = 20.0) -> None:
        """What cannot be sent for `timeout_secs` counts as a broken connection."""
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=timeout_secs)
        self._received = bytearray()
        self.answers: Counter[int] = Counter()
        self.told_to_go: int | None = None  # the code of its GOAWAY
        self.closed = False
        self._next_stream = 1
        self.send(_PREFACE + frame(SETTINGS))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Frames, or anything else. A connection that broke is `closed` from then on."""
        try:
            self._socket.sendall(data)
        except (ConnectionError, TimeoutError):
            self.closed = True

    def open(self, path: str, extra: Iterable[tuple[str, str]] = ()) -> int:
        """Begin a call; the number of its stream."""
        stream = self.next_stream()
        self.send(frame(HEADERS, request_headers(path, extra), flags=END_HEADERS, stream=stream))
        return stream

    def next_stream(self) -> int:
        self._next_stream += 2
        return self._next_stream - 2

    def resets(self, block: bytes, count: int) -> bytes:
        """Frames of `count` calls that are begun and cancelled at once."""
        cancel = struct.pack(">I", _CANCEL)
        return b"".join(
            frame(HEADERS, block, flags=END_HEADERS, stream=stream)
            + frame(RST_STREAM, cancel, stream=stream)
            for stream in (self.next_stream() for _ in range(count))
        )

    def take(self, timeout_secs: float = 0.0) -> None:
        """Read what has come, waiting so long for the first of it; acknowledge settings."""
        while not self.closed and select.select([self._socket], [], [], timeout_secs)[0]:
            timeout_secs = 0.0
            try:
                data = self._socket.recv(65_536)
            except ConnectionError:
                data = b""
            if not data:
                self.closed = True
            self._received += data
            self._parse()

    def _parse(self) -> None:
        while len(self._received) >= _FRAME_HEADER_BYTES:
            size = _FRAME_HEADER_BYTES + int.from_bytes(self._received[:3], "big")
            if len(self._received) < size:
                return
            kind, flags = self._received[3], self._received[4]
            payload = bytes(self._received[_FRAME_HEADER_BYTES:size])
            del self._received[:size]
            self.answers[kind] += 1
            if kind == SETTINGS and not flags & ACK:
                self.send(frame(SETTINGS, flags=ACK))
            if kind == GOAWAY:
                self.told_to_go = int.from_bytes(payload[4:8], "big")
