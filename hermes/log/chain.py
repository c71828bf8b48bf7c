"""[P] The hash chain: what makes the log tamper-evident, and erasable nevertheless.

Each record's link is SHA-256 over the link before it and the record's own fields.
Body and payload enter by their hashes, so a payload can be erased while the chain
still proves that it existed. The bytes hashed, in order:

    previous link            32 bytes
    lsn                      8 bytes, big-endian, as every integer here
    at_ns                    8
    kind                     8
    length of key            8, then the key's UTF-8 bytes
    first, last              8 each
    SHA-256(body)            32
    payload_hash             32

What is NULL (key, first, last, payload_hash) enters as the integer -1 alone. No two
records give the same bytes. The first record's previous link is `genesis(store_id)`.

This format is on disk and final (docs/log-format.md). Verifying, storing and salting
happen elsewhere; here is arithmetic only.
"""

from __future__ import annotations

from hashlib import sha256
from struct import Struct
from typing import Final

DIGEST_BYTES: Final = 32
# Before the content of each payload: an erased payload cannot be guessed back from its hash.
SALT_BYTES: Final = 16

GENESIS_LABEL: Final = b"hermes.log.v1 genesis\n"

_NULL: Final = (-1).to_bytes(8, "big", signed=True)
_pack_front = Struct(">qqqq").pack
_pack_range = Struct(">qq").pack


def genesis(store_id: str) -> bytes:
    """The link before the first record: SHA-256 of a fixed label and the store's UUID text."""
    return sha256(GENESIS_LABEL + store_id.encode("ascii")).digest()


def hash_payload(payload: bytes) -> bytes:
    """SHA-256 of a payload as stored: salt and content."""
    return sha256(payload).digest()


def link(
    previous: bytes,
    lsn: int,
    at_ns: int,
    kind: int,
    key: str | None,
    first: int | None,
    last: int | None,
    body: bytes,
    payload_hash: bytes | None,
) -> bytes:
    """The link of one record, 32 bytes. `previous` is the link of the record before."""
    if key is None:
        front = previous + _pack_front(lsn, at_ns, kind, -1)
    else:
        text = key.encode()
        front = previous + _pack_front(lsn, at_ns, kind, len(text)) + text
    offsets = _pack_range(-1 if first is None else first, -1 if last is None else last)
    # Only None is NULL: what else is false, an empty hash or a 0, is another record.
    covered = _NULL if payload_hash is None else payload_hash
    return sha256(front + offsets + sha256(body).digest() + covered).digest()
