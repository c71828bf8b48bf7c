"""What a scrub meets and must not take for damage: want of memory, retired payloads, new files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import apsw
import pytest

from hermes.errors import StoreDamagedError, StoreError
from hermes.log.chain_walk import ChainWalk
from hermes.log.log import open_log
from hermes.log.record import StoredRecord
from hermes.log.schema import PAGE_BYTES
from hermes.log.scrub import Scrubbed, scrub_segment
from hermes.log.segment import file_name
from tests.contract.records import Outcomes, compacted
from tests.support.scrubbing import (
    LAST_LSN,
    LSN,
    OFFSETS,
    fill,
    finding,
    page_of,
    scrub,
    sealed,
)
from tests.support.tampering import segment


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
