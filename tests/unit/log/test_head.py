"""HEAD's slots: what is written, what is read, what damage does."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from hermes.errors import StoreDamagedError, StoreVersionError
from hermes.log.facts import Mark
from hermes.log.head import (
    BLOCK_BYTES,
    SLOT_BYTES,
    HeadFile,
    create_head,
    decode_slot,
    encode_slot,
    read_head,
)

STORE_ID = "6f0d1c9e-0000-4000-8000-000000000001"
FIRST = Mark(0, 0, b"g" * 32)
SECOND = Mark(7, 5, b"c" * 32)


def test_a_slot_is_as_documented() -> None:
    slot = encode_slot(STORE_ID, SECOND)
    assert len(slot) == SLOT_BYTES == 100
    front = (
        b"HERMESHD"
        + (1).to_bytes(4, "big")
        + bytes.fromhex(STORE_ID.replace("-", ""))
        + (7).to_bytes(8, "big")
        + (5).to_bytes(8, "big")
        + b"c" * 32
        + bytes(20)
    )
    assert slot == front + zlib.crc32(front).to_bytes(4, "big")
    assert decode_slot(slot) == (STORE_ID, SECOND)


@pytest.mark.parametrize("bit", range(0, SLOT_BYTES * 8, 7))
def test_a_flipped_bit_spoils_a_slot(bit: int) -> None:
    slot = bytearray(encode_slot(STORE_ID, SECOND))
    slot[bit // 8] ^= 1 << bit % 8
    assert decode_slot(bytes(slot)) is None


def test_a_slot_that_is_cut_or_zero_is_bad() -> None:
    assert decode_slot(b"") is None
    assert decode_slot(encode_slot(STORE_ID, SECOND)[:-1]) is None
    assert decode_slot(bytes(BLOCK_BYTES)) is None


def test_a_newer_format_is_refused() -> None:
    front = bytearray(encode_slot(STORE_ID, SECOND)[:-4])
    front[8:12] = (2).to_bytes(4, "big")
    with pytest.raises(StoreVersionError, match="format 2"):
        decode_slot(bytes(front) + zlib.crc32(front).to_bytes(4, "big"))


def test_slots_are_written_alternately(tmp_path: Path) -> None:
    path = tmp_path / "HEAD"
    create_head(path, STORE_ID, FIRST)
    assert path.stat().st_size == 2 * BLOCK_BYTES
    assert path.stat().st_mode & 0o777 == 0o600
    head = HeadFile(path, STORE_ID, 0)
    marks = [Mark(lsn, lsn, b"c" * 32) for lsn in (1, 2, 3)]
    for n, mark in enumerate(marks):
        head.write(mark)
        read = read_head(path)
        assert read is not None
        assert (read.store_id, read.mark, read.slot, read.bad_slots) == (STORE_ID, mark, n % 2, ())
    head.close()
    head.close()
    data = path.read_bytes()
    assert decode_slot(data[:BLOCK_BYTES]) == (STORE_ID, marks[2])
    assert decode_slot(data[BLOCK_BYTES:]) == (STORE_ID, marks[1])


def spoil(path: Path, *slots: int) -> None:
    data = bytearray(path.read_bytes())
    for slot in slots:
        data[slot * BLOCK_BYTES + 30] ^= 0x10
    path.write_bytes(data)


@pytest.mark.parametrize("bad", [0, 1])
def test_one_bad_slot_is_named_and_the_other_used(tmp_path: Path, bad: int) -> None:
    path = tmp_path / "HEAD"
    create_head(path, STORE_ID, FIRST)
    HeadFile(path, STORE_ID, 0).write(SECOND)
    spoil(path, bad)
    read = read_head(path)
    assert read is not None
    assert (read.mark, read.bad_slots) == ((FIRST, SECOND)[bad], (bad,))


def test_two_bad_slots_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "HEAD"
    create_head(path, STORE_ID, FIRST)
    spoil(path, 0, 1)
    with pytest.raises(StoreDamagedError, match="both slots"):
        read_head(path)
    path.write_bytes(b"")
    with pytest.raises(StoreDamagedError, match="both slots"):
        read_head(path)


def test_no_head_is_none(tmp_path: Path) -> None:
    assert read_head(tmp_path / "HEAD") is None
