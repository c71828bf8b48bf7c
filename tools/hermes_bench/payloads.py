"""[P] Payloads that tell their place: made once, before any clock starts.

A payload begins with its number modulo `RING`, so that a consumer can check order with
one look per batch; the rest is filler. A ring keeps memory bounded in long runs.
"""

from __future__ import annotations

from typing import Final

# Divisible by every batch size in use: a batch is a slice of the ring.
RING: Final = 10_000
_NUMBER_BYTES: Final = 8


def ring(size_bytes: int) -> list[bytes]:
    """`RING` payloads of a size, at least 8 bytes."""
    if size_bytes < _NUMBER_BYTES:
        raise ValueError(f"a payload has at least {_NUMBER_BYTES} bytes, not {size_bytes}")
    filler = bytes(range(32, 127)) * (size_bytes // 95 + 1)
    filler = filler[: size_bytes - _NUMBER_BYTES]
    return [number.to_bytes(_NUMBER_BYTES, "big") + filler for number in range(RING)]


def number_of(payload: bytes) -> int:
    """The number that a payload begins with."""
    return int.from_bytes(payload[:_NUMBER_BYTES], "big")


def check_order(payload: bytes, index: int) -> None:
    """Raise ValueError if this is not the payload of the message with that index."""
    if number_of(payload) != index % RING:
        raise ValueError(f"message {index} is number {number_of(payload)} of the ring")
