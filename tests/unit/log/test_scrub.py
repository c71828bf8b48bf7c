"""The scrub of one segment: it names what `hermes-inspect verify` names, and offsets with it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hermes.errors import StoreError
from hermes.log.record import StoredRecord
from hermes.log.schema import PAGE_BYTES
from hermes.log.scrub import Finding, Scrubbed
from hermes.log.segment import file_name
from tests.support.faults.seeds import seed_of_run, tell_seed
from tests.support.scrubbing import (
    ALL_OFFSETS,
    LAST_LSN,
    LSN,
    MESSAGES,
    OFFSETS,
    finding,
    page_of,
    scrub,
    verify,
)
from tests.support.tampering import rewrite, segment

FLIPS = 100


def test_a_sound_segment(sound: Path, seal: StoredRecord) -> None:
    sizes: list[int] = []
    assert scrub(sound, seal, sizes.append) == Scrubbed(LAST_LSN, None)
    assert len(sizes) > 1
    assert sum(sizes) > MESSAGES * 2100


EDITS = {
    "payload": f"payload = CAST(zeroblob(20) AS BLOB) WHERE lsn = {LSN}",
    "lost payload": f"payload = NULL WHERE lsn = {LSN}",
    "body": f"body = x'00' WHERE lsn = {LSN}",
    "time": f"at_ns = at_ns + 1 WHERE lsn = {LSN}",
    "link": f"chain = zeroblob(32) WHERE lsn = {LSN}",
    "hash": f"payload_hash = zeroblob(32) WHERE lsn = {LSN}",
    "no hash": f"payload_hash = NULL WHERE lsn = {LSN}",
}


@pytest.mark.parametrize("what", EDITS)
def test_a_changed_record(store: Path, seal: StoredRecord, what: str) -> None:
    with segment(store / file_name(1)) as db:
        db.execute(f"UPDATE records SET {EDITS[what]}")
    found = finding(store, seal)
    assert (found.segment, found.unreadable) == (file_name(1), False)
    assert (found.first_lsn, found.last_lsn, found.offsets) == (LSN, LSN, OFFSETS)
    assert f"record {LSN} (offset {OFFSETS[0]})" in found.text
    if what != "lost payload":  # of which more is known here than there
        assert_verify_says_so(store, found)


@pytest.mark.parametrize(
    ("first", "last", "offsets"),
    [(LSN, LSN, OFFSETS), (LSN, LSN + 3, (20, 23)), (LSN + 1, LSN + 1, None), (79, 80, (78, 79))],
)
def test_missing_rows(
    store: Path, seal: StoredRecord, first: int, last: int, offsets: tuple[int, int] | None
) -> None:
    with segment(store / file_name(1)) as db:
        db.execute("DELETE FROM records WHERE lsn BETWEEN ? AND ?", (first, last))
    found = finding(store, seal)
    assert found.what == "missing"
    assert (found.first_lsn, found.last_lsn, found.offsets) == (first, last, offsets)
    assert_verify_says_so(store, found)


def test_a_damaged_page(store: Path, seal: StoredRecord) -> None:
    """The rows of a page are one range, and its offsets are told though no row is left."""
    page = page_of(store / file_name(1), LSN)
    data = bytearray((store / file_name(1)).read_bytes())
    data[page * PAGE_BYTES : (page + 1) * PAGE_BYTES] = b"\xff" * PAGE_BYTES
    (store / file_name(1)).chmod(0o600)
    (store / file_name(1)).write_bytes(data)
    found = finding(store, seal)
    assert (found.what, found.unreadable) == ("unreadable", False)
    assert found.first_lsn <= LSN <= found.last_lsn
    assert found.offsets is not None
    assert found.offsets[0] <= OFFSETS[0] <= OFFSETS[1] <= found.offsets[1]
    assert_verify_says_so(store, found)


def test_a_file_that_is_no_segment(store: Path, seal: StoredRecord) -> None:
    path = store / file_name(1)
    path.chmod(0o600)
    path.write_bytes(b"\xff" * path.stat().st_size)
    found = finding(store, seal)
    assert (found.first_lsn, found.last_lsn, found.unreadable) == (1, LAST_LSN, False)
    assert found.offsets == ALL_OFFSETS


META = {
    "another store": "value = 'x' WHERE name = 'store_id'",
    "another place": "value = 7 WHERE name = 'first_lsn'",
    "no number": "value = 'x' WHERE name = 'next_offset'",
    "no link": "value = 0 WHERE name = 'chain'",
    "no facts": "name = 'x' WHERE name = 'chain'",
}


@pytest.mark.parametrize("what", META)
def test_a_meta_table_that_says_another_thing(store: Path, seal: StoredRecord, what: str) -> None:
    with segment(store / file_name(1)) as db:
        db.execute(f"UPDATE meta SET {META[what]}")
    found = finding(store, seal)
    assert found.first_lsn == 1
    if what != "another place":  # that names the record
        assert (found.last_lsn, found.offsets) == (LAST_LSN, ALL_OFFSETS)


def test_another_offset_in_meta(store: Path, seal: StoredRecord) -> None:
    with segment(store / file_name(1)) as db:
        db.execute("UPDATE meta SET value = 9 WHERE name = 'next_offset'")
    found = finding(store, seal)
    assert (found.what, found.first_lsn, found.offsets) == ("offsets", 1, (0, 1))


@pytest.mark.parametrize(
    "change", ["PRAGMA user_version = 99", "ALTER TABLE records RENAME COLUMN body TO bodx"]
)
def test_a_header_or_a_table_that_was_never_written(
    store: Path, seal: StoredRecord, change: str
) -> None:
    """A flipped bit makes a newer version of it, or a statement of ours fail."""
    with segment(store / file_name(1)) as db:
        db.execute(change)
    found = finding(store, seal)
    assert (found.first_lsn, found.last_lsn, found.offsets) == (1, LAST_LSN, ALL_OFFSETS)


def test_a_seal_that_says_another_thing(sound: Path, store: Path, seal: StoredRecord) -> None:
    """A history that was rewritten so that all of it fits: only the seal tells."""
    edited = 0

    def edit(row: dict[str, Any]) -> None:
        nonlocal edited
        if row["lsn"] == LSN:
            row["body"], edited = b"other", 1

    rewrite(store, edit)
    assert edited
    found = finding(store, seal)  # the seal as it was, from before
    assert (found.what, found.first_lsn, found.last_lsn) == ("seal", 1, LAST_LSN)
    assert found.offsets == ALL_OFFSETS
    changed = msgspec.structs.replace(seal, chain=bytes(32))
    assert scrub(sound, changed) == Scrubbed(LAST_LSN, None), "a seal that is itself changed"


def test_random_flips_are_found_where_verify_finds_them(
    store: Path, sound: Path, seal: StoredRecord
) -> None:
    """Bits anywhere in the file: what neither finds is in an index or is free."""
    seed = seed_of_run()
    tell_seed(seed, "tests/unit/log/test_scrub.py")
    chosen = random.Random(seed)
    path, found = store / file_name(1), 0
    path.chmod(0o600)
    whole = path.read_bytes()
    for _ in range(FLIPS):
        at, bit = chosen.randrange(len(whole)), chosen.randrange(8)
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
        scrubbed = scrub(store, seal)
        assert scrubbed is not None
        damage = scrubbed.finding
        try:
            breaks = verify(store)
        except StoreError:
            breaks = None  # it refuses the store as a newer one
        assert (damage is not None) == (breaks is None or bool(breaks)), (at, bit, breaks)
        found += damage is not None
    assert found > FLIPS // 4


def test_it_can_be_ended_after_every_read(sound: Path, seal: StoredRecord) -> None:
    class EndedError(Exception):
        pass

    def end(_: int) -> None:
        raise EndedError

    with pytest.raises(EndedError):
        scrub(sound, seal, end)


# ------------------------------------------------------------------------ helpers


def assert_verify_says_so(folder: Path, found: Finding) -> None:
    first = verify(folder)[0]
    assert (first.lsn, first.last_lsn or first.lsn) == (found.first_lsn, found.last_lsn)
    assert first.segment == found.segment or found.what == "missing"
