"""The scrub of one segment: it names what `hermes-inspect verify` names, and offsets with it."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from hermes.errors import StoreDamagedError, StoreError
from hermes.log.chain_walk import ChainWalk
from hermes.log.log import open_log
from hermes.log.port import Log
from hermes.log.record import Kind, StoredRecord
from hermes.log.scan import SegmentScan
from hermes.log.schema import PAGE_BYTES
from hermes.log.scrub import Finding, Scrubbed, Sealed, scrub_segment
from hermes.log.segment import file_name
from hermes_inspect.verify_notes import Claims, Keys
from hermes_inspect.verify_store import look, verify_store
from tests.contract.records import Outcomes, compacted, event, publish, snapshot
from tests.support.tampering import rewrite, segment

MESSAGES = 40
LAST_LSN = 2 * MESSAGES  # of the first segment: a publish and an ack for each pair of messages
ALL_OFFSETS = (0, 2 * MESSAGES - 1)
LSN, OFFSETS = 21, (20, 21)  # a publish in its middle


def fill(log: Log, outcomes: Outcomes) -> None:
    """Publishes of two messages each, and their acks; then a second segment."""
    for first in range(0, 2 * MESSAGES, 2):
        group = [
            publish(first, 2, payload=b"content" * 300),
            event(Kind.ACKED, "c", first, first + 1),
        ]
        log.append(group, log.next_lsn)
    log.roll(snapshot(), log.next_lsn)
    outcomes.wait_for(log.next_lsn - 1)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound") / "store"
    outcomes = Outcomes()
    log = open_log(folder, outcomes)
    fill(log, outcomes)
    log.close()
    return folder


@pytest.fixture
def store(sound: Path, tmp_path: Path) -> Path:
    """A copy, to be damaged."""
    return Path(shutil.copytree(sound, tmp_path / "store"))


def seal_of(folder: Path, lsn: int = LAST_LSN + 1) -> StoredRecord:
    log = open_log(folder, Outcomes())
    try:
        return log.reader().read(lsn, limit=1, limit_bytes=1)[0]
    finally:
        log.close()


@pytest.fixture(scope="module")
def seal(sound: Path, tmp_path_factory: pytest.TempPathFactory) -> StoredRecord:
    return seal_of(Path(shutil.copytree(sound, tmp_path_factory.mktemp("seal") / "store")))


def sealed(folder: Path) -> Sealed:
    with SegmentScan(folder / file_name(LAST_LSN + 1)) as scan:
        return Sealed(scan.start().store_id, 1, LAST_LSN, ALL_OFFSETS)


def scrub(
    folder: Path,
    after: StoredRecord | None,
    passed: Callable[[int], None] = lambda _: None,
    vfs: str = "",
) -> Scrubbed | None:
    return scrub_segment(folder, sealed(folder), after, passed, vfs=vfs)


def finding(folder: Path, after: StoredRecord | None, vfs: str = "") -> Finding:
    scrubbed = scrub(folder, after, vfs=vfs)
    assert scrubbed is not None and scrubbed.finding is not None
    return scrubbed.finding


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


class _NoRead(apsw.VFSFile):
    """Refuses to read one place, as a disk with a bad sector does."""

    bad_at = 0
    code = apsw.SQLITE_IOERR_READ

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        if offset <= self.bad_at < offset + amount:
            raise apsw.exception_for(self.code)
        return super().xRead(amount, offset)


class _BadSector(apsw.VFS):
    def __init__(self) -> None:
        self.name = f"bad-sector-{next(_names)}"
        super().__init__(self.name, "")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        return _NoRead("", name, flags)


_names = count()


@pytest.fixture
def bad_sector(sound: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a VFS that does not read the page of record LSN."""
    monkeypatch.setattr(_NoRead, "bad_at", page_of(sound / file_name(1), LSN) * PAGE_BYTES)
    vfs = _BadSector()
    yield vfs.name
    vfs.unregister()


def test_a_bad_sector_is_named_as_one(sound: Path, seal: StoredRecord, bad_sector: str) -> None:
    found = finding(sound, seal, bad_sector)
    assert (found.what, found.unreadable) == ("unreadable", True)
    assert found.first_lsn <= LSN <= found.last_lsn
    assert found.offsets is not None
    assert found.offsets[0] <= OFFSETS[0]


@pytest.mark.parametrize(
    "code", ["SQLITE_IOERR_NOMEM", "SQLITE_NOMEM", "SQLITE_IOERR_ACCESS", "SQLITE_CANTOPEN"]
)
@pytest.mark.parametrize("at", ["in a page", "at the opening"])
def test_what_the_process_lacks_is_no_damage(
    sound: Path,
    seal: StoredRecord,
    bad_sector: str,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    at: str,
) -> None:
    """No memory, no permission, no descriptor: the bytes may be as sound as ever."""
    monkeypatch.setattr(_NoRead, "code", getattr(apsw, code))
    if at == "at the opening":
        monkeypatch.setattr(_NoRead, "bad_at", 0)
    with pytest.raises(StoreError) as caught:
        scrub(sound, seal, vfs=bad_sector)
    assert not isinstance(caught.value, StoreDamagedError)


def test_a_fault_of_our_own_is_no_damage(
    sound: Path, seal: StoredRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = TypeError("None + 1")

    def faulty(*_: object) -> None:
        raise error

    monkeypatch.setattr(ChainWalk, "take", faulty)
    with pytest.raises(TypeError) as caught:
        scrub(sound, seal)
    assert caught.value is error


def test_a_payload_that_was_erased_on_record_is_fine(store: Path, seal: StoredRecord) -> None:
    with segment(store / file_name(1)) as db:
        db.execute(f"UPDATE records SET payload = NULL WHERE lsn = {LSN}")
    asked: list[int] = []

    def is_erased(lsn: int) -> bool:
        asked.append(lsn)
        return True

    known = sealed(store)
    scrubbed = scrub_segment(store, known, seal, lambda _: None, is_erased=is_erased)
    assert (scrubbed, asked) == (Scrubbed(LAST_LSN, None), [LSN])


def test_retired_payloads_are_fine(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    outcomes = Outcomes()
    log = open_log(folder, outcomes)
    fill(log, outcomes)
    log.append([compacted(1, LAST_LSN, (10, 29))], log.next_lsn)
    outcomes.wait_for(log.next_lsn - 1)
    seal = log.reader().read(LAST_LSN + 1, limit=1, limit_bytes=1)[0]
    log.compact(1)
    while under_way := log.compactions:
        assert under_way[0].error is None
    assert log.segments()[0].retired == ((10, 29),)
    log.close()
    assert scrub(folder, seal) == Scrubbed(LAST_LSN, None)
    with segment(folder / file_name(1)) as db:
        db.execute("UPDATE records SET payload = NULL WHERE first = 30 AND kind = 1")
    assert finding(folder, seal).offsets == (30, 31)


def test_a_file_that_is_replaced_or_gone_meanwhile_is_no_damage(
    store: Path, seal: StoredRecord
) -> None:
    path = store / file_name(1)
    with segment(path) as db:
        db.execute("UPDATE records SET body = x'00' WHERE lsn = 1")

    new = Path(shutil.copy(path, path.with_suffix(".new")))

    def replace(_: int) -> None:
        if new.exists():
            new.replace(path)

    assert scrub(store, seal, replace) is None
    assert scrub(store, seal, lambda _: path.unlink(missing_ok=True)) is None
    assert scrub(store, seal) is None


def test_it_can_be_ended_after_every_read(sound: Path, seal: StoredRecord) -> None:
    class EndedError(Exception):
        pass

    def end(_: int) -> None:
        raise EndedError

    with pytest.raises(EndedError):
        scrub(sound, seal, end)


# ------------------------------------------------------------------------ helpers


def page_of(path: Path, lsn: int) -> int:
    """The number, from 0, of the leaf page that holds a row."""
    with sqlite3.connect(path) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name='records'").fetchone()
        (body,) = db.execute("SELECT chain FROM records WHERE lsn = ?", (lsn,)).fetchone()
    db.close()
    page: int = path.read_bytes().index(body) // PAGE_BYTES
    assert page != root - 1
    return page


def assert_verify_says_so(folder: Path, found: Finding) -> None:
    verdict = verify_store(look(folder), Keys((), given=False), Claims(), lambda _: None, workers=0)
    first = verdict.breaks[0]
    assert (first.lsn, first.last_lsn or first.lsn) == (found.first_lsn, found.last_lsn)
    assert first.segment == found.segment or found.what == "missing"
