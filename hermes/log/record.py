"""[P] What the log stores: records, their kinds, and the digests over them.

A record is one row: kind, key, offset range, body, payload. The log gives it an
lsn and links it into the hash chain; what it *means* is the broker's business.
The few kinds the log writes or must recognise itself (it numbers messages, seals
segments, admits losses) are listed in `LOG_KINDS`.

This module holds plain data and arithmetic. No I/O, no SQLite, no protobuf.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from hashlib import blake2b
from typing import Final

import msgspec

from hermes.limits import RECORD_HULL_MAX
from hermes.log.chain import link


class Kind(IntEnum):
    """Numbers on disk: never reused, only added (proto/hermes/log/v1/log.proto)."""

    PUBLISHED = 1
    PUBLISHED_LIVE = 2
    AUDIENCE = 3
    DELIVERED = 4
    DELIVERED_LIVE = 5
    ACKED = 6
    NACKED = 7
    REJECTED = 8
    EXTENDED = 9
    EXPIRED = 10
    RELEASED = 11
    DEAD_LETTERED = 12
    REPLAYED = 13
    DISCARDED = 14
    REOPENED = 15
    DROPPED = 16
    CONSUMER_CREATED = 17
    CONSUMER_UPDATED = 18
    CONSUMER_PAUSED = 19
    CONSUMER_RESUMED = 20
    CONSUMER_SOUGHT = 21
    CONSUMER_DELETED = 22
    SESSION_OPENED = 23
    SESSION_CLOSED = 24
    MEMBER_JOINED = 25
    MEMBER_LEFT = 26
    SUBSCRIPTION_OPENED = 27
    SUBSCRIPTION_CLOSED = 28
    SNAPSHOT = 29
    SEGMENT_SEALED = 30
    SEGMENT_COMPACTED = 31
    SEGMENT_DROPPED = 32
    PAYLOAD_ERASED = 33
    LOST = 34
    CHECKPOINT = 35
    CLOCK_STEPPED = 36
    SERVER_STARTED = 37
    SERVER_STOPPED = 38


LOG_KINDS = frozenset({Kind.PUBLISHED, Kind.SEGMENT_SEALED, Kind.LOST})

# Kinds below travel with messages; those from here on are rare, and the newest of
# each can be looked up.
FIRST_RARE_KIND: Final = 17

_PUBLISHED: Final = int(Kind.PUBLISHED)


class Record(msgspec.Struct, frozen=True, gc=False):
    """A record to append.

    `first`..`last` (both included) is the hull of the offsets it touches.
    `payload` is the retirable content; the log puts a random salt before it.
    `terms` are 63-bit look-up digests (see `look_up_term`), not part of the chain.
    `at_ns` is Unix time in nanoseconds.
    """

    at_ns: int
    kind: int
    key: str | None = None
    first: int | None = None
    last: int | None = None
    body: bytes = b""
    payload: bytes | None = None
    terms: tuple[int, ...] = ()


class StoredRecord(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A record as read back.

    `payload` is the content without its salt; None when there never was one, when
    it is retired, or when the read asked for none. `payload_hash` (32 bytes) tells
    the first case apart: it is None only if the record never had a payload.
    """

    lsn: int
    at_ns: int
    kind: int
    key: str | None
    first: int | None
    last: int | None
    body: bytes
    payload: bytes | None
    payload_hash: bytes | None
    chain: bytes

    def follows(self, previous: bytes) -> bool:
        """Whether it hashes to its link, when `previous` is the link before it."""
        return self.chain == link(
            previous,
            self.lsn,
            self.at_ns,
            self.kind,
            self.key,
            self.first,
            self.last,
            self.body,
            self.payload_hash,
        )


def look_up_term(text: str) -> int:
    """The 63-bit digest under which a record can be found by a text (a message id)."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def admit(records: Sequence[Record], next_offset: int) -> tuple[int, int]:
    """Check a group before it is queued; returns (next offset after it, its size in bytes).

    Raises ValueError for what a log must never hold: a hull wider than
    `RECORD_HULL_MAX` or upside down, a publish that is not numbered densely.
    """
    size_bytes = 0
    for record in records:
        size_bytes += len(record.body)
        if record.payload is not None:
            size_bytes += len(record.payload)
        first, last = record.first, record.last
        if first is None or last is None:
            if first is not last:
                raise ValueError(f"half a range: {first}..{last}")
            if record.kind == _PUBLISHED:
                raise ValueError("a publish without offsets")
            continue
        if not 0 <= last - first < RECORD_HULL_MAX or first < 0:
            raise ValueError(f"hull {first}..{last} is not within {RECORD_HULL_MAX} offsets")
        if record.kind == _PUBLISHED:
            if first != next_offset:
                raise ValueError(f"publish numbered from {first}, the next offset is {next_offset}")
            next_offset = last + 1
    return next_offset, size_bytes
