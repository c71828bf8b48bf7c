"""The hash chain against its description, written out by hand."""

from __future__ import annotations

from hashlib import sha256

import pytest

from hermes.log.chain import genesis, hash_payload, link

STORE_ID = "6f0d1c9e-0000-4000-8000-000000000001"


def test_genesis_is_the_label_and_the_store() -> None:
    assert genesis(STORE_ID) == sha256(b"hermes.log.v1 genesis\n" + STORE_ID.encode()).digest()
    assert genesis(STORE_ID) != genesis(STORE_ID.replace("1", "2"))


def test_a_link_with_everything() -> None:
    previous, payload_hash = b"p" * 32, hash_payload(b"salt and content")
    assert payload_hash == sha256(b"salt and content").digest()
    by_hand = (
        previous
        + bytes.fromhex("0000000000000007")  # lsn
        + bytes.fromhex("fffffffffffffffe")  # at_ns -2
        + bytes.fromhex("0000000000000001")  # kind
        + bytes.fromhex("0000000000000004")  # four bytes of UTF-8
        + "жa.".encode()
        + bytes.fromhex("0000000000000100")  # first
        + bytes.fromhex("0000000000000101")  # last
        + sha256(b"body").digest()
        + payload_hash
    )
    expected = sha256(by_hand).digest()
    assert link(previous, 7, -2, 1, "жa.", 256, 257, b"body", payload_hash) == expected


def test_a_link_with_nulls() -> None:
    null = b"\xff" * 8
    by_hand = b"p" * 32 + (1).to_bytes(8, "big") * 3 + null + null + null
    by_hand += sha256(b"").digest() + null
    assert link(b"p" * 32, 1, 1, 1, None, None, None, b"", None) == sha256(by_hand).digest()


def test_golden() -> None:
    """The format is on disk: this value never changes."""
    chain = link(genesis(STORE_ID), 1, 2, 3, "orders", 4, 5, b"body", b"h" * 32)
    assert chain.hex() == "24172ff7556e438853652eb510b25ad96a055a51bae7d6bc25ee4152820e6de6"


BASE = (b"p" * 32, 1, 2, 3, "k", 4, 5, b"b", b"h" * 32)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (0, b"q" * 32),
        (1, 2),
        (2, 3),
        (3, 4),
        (4, "l"),
        (4, None),
        (4, ""),
        (5, 5),
        (5, None),
        (6, 6),
        (6, None),
        (7, b"c"),
        (7, b""),
        (8, b"i" * 32),
        (8, None),
    ],
)
def test_every_field_counts(field: int, value: object) -> None:
    changed = list(BASE)
    changed[field] = value
    assert link(*changed) != link(*BASE)  # type: ignore[arg-type]
