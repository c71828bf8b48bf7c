"""Opening a store: what is refused with which code, what opens in spite of damage."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from hermes.cli.options import UsageError
from hermes.errors import StoreDamagedError, StoreError, StoreVersionError
from hermes.log.log import SqliteLog, open_log
from hermes.log.record import Kind
from hermes.log.segment import file_name
from hermes_inspect import store as opening
from hermes_inspect.store import Store, open_store, store_path
from tests.contract.records import BIG, Outcomes, event, publish
from tests.contract.store import put, roll
from tests.support.permissions import NOBODY, public_folder, reading_only


class Folder:
    """A log that a test fills: segments 1..3, 4..6, 7..9."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.outcomes = Outcomes()

    def open(self) -> SqliteLog:
        self.outcomes = Outcomes()
        return open_log(self.path, self.outcomes)

    def fill(self) -> SqliteLog:
        log = self.open()
        put(self, log, publish(0), publish(1), event(Kind.ACKED, "c", 0))
        roll(self, log)
        put(self, log, publish(2))
        roll(self, log)
        put(self, log, publish(3))
        return log


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = Folder(tmp_path / "store")
    folder.fill().close()
    return folder.path


@pytest.fixture
def public() -> Iterator[Path]:
    with public_folder() as folder:
        yield folder / "store"


def lsns(store: Store) -> list[int]:
    return [record.lsn for record in store.reader.read(1, limit=99, limit_bytes=BIG)]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ----------------------------------------------------------------------- it opens


def test_at_rest(folder: Path) -> None:
    with open_store(folder) as store:
        assert lsns(store) == list(range(1, 10))
        assert (store.first_lsn, store.last_lsn, store.head_lsn) == (1, 9, 9)
        assert store.damage == () and store.notes == ()
        assert len(store.store_id) == 36
        assert [s.sealed for s in store.segments()] == [True, True, False]


def test_beside_a_live_log(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "store")
    log = folder.fill()
    try:
        with open_store(folder.path) as store:
            assert lsns(store) == list(range(1, 10))
            put(folder, log, publish(4))
            roll(folder, log)
            assert store.last_lsn == 12
            assert lsns(store) == list(range(1, 13))
    finally:
        log.close()


def test_another_user_with_read_permission_only(public: Path) -> None:
    Folder(public).fill().close()
    before = contents(public)
    with reading_only(public), open_store(public) as store:
        assert lsns(store) == list(range(1, 10))
        assert store.notes == ()
    assert contents(public) == before


def test_another_user_beside_a_live_log(public: Path) -> None:
    """What is only in the WAL yet is read as well."""
    folder = Folder(public)
    log = folder.open()
    put(folder, log, publish(0), publish(1))
    try:
        assert public.joinpath(file_name(1) + "-wal").stat().st_size > 0
        with reading_only(public), open_store(public) as store:
            assert lsns(store) == [1, 2]
    finally:
        log.close()


def test_a_copy_with_a_wal_that_cannot_be_read_is_refused(public: Path) -> None:
    """A copy holds no -shm, and without write permission none can be made."""
    folder = Folder(public)
    log = folder.open()
    put(folder, log, publish(0), publish(1))
    copy = public.with_name("copy")
    shutil.copytree(public, copy, ignore=shutil.ignore_patterns("*-shm"))
    log.close()
    with reading_only(copy), pytest.raises(StoreError, match="-wal cannot be read") as caught:
        open_store(copy).__enter__()
    assert opening.code_of(caught.value) == opening.EXIT_UNREADABLE
    with open_store(copy) as store:  # with write permission SQLite recovers it
        assert lsns(store) == [1, 2]


def test_without_head_it_is_said_that_completeness_is_unknown(public: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to become a user who may not read HEAD")
    Folder(public).fill().close()
    with reading_only(public):
        os.seteuid(0)
        (public / "HEAD").chmod(0o600)
        os.seteuid(NOBODY)
        with open_store(public) as store:
            assert "whether the log is whole" in store.notes[0]
            assert store.head_lsn is None


# ---------------------------------------------------------------------- it refuses


def refused(path: Path) -> tuple[int, str]:
    with pytest.raises(StoreError) as caught:
        open_store(path).__enter__()
    return opening.code_of(caught.value), str(caught.value)


def test_what_is_not_a_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for name in ("nothing", "file", "folder"):
        assert refused(tmp_path / name)[0] == opening.EXIT_NO_STORE


def test_a_newer_format(folder: Path) -> None:
    path = folder / file_name(7)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 2")
    db.close()
    with pytest.raises(StoreVersionError, match="newer version") as caught:
        open_store(folder).__enter__()
    assert opening.code_of(caught.value) == opening.EXIT_NEWER


def test_empty_stores(tmp_path: Path) -> None:
    open_log(tmp_path / "store", Outcomes()).close()
    assert refused(tmp_path / "store")[0] == opening.EXIT_EMPTY
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "LOCK").touch()
    assert refused(tmp_path / "begun")[0] == opening.EXIT_EMPTY


def test_a_user_who_may_not_read(public: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to become a user who may read nothing of it")
    Folder(public).fill().close()
    os.seteuid(NOBODY)
    try:
        code, text = refused(public)
        assert code == opening.EXIT_UNREADABLE
        assert "cannot be read by this user" in text
    finally:
        os.seteuid(0)
    public.chmod(0o755)
    os.seteuid(NOBODY)
    try:
        code, text = refused(public)
        assert code == opening.EXIT_UNREADABLE
        assert text.startswith(f"{public / file_name(1)} cannot be read by this user")
    finally:
        os.seteuid(0)


# ------------------------------------------------------------------------- damaged


def test_only_head_is_left(folder: Path) -> None:
    for path in folder.glob("*.segment*"):
        path.unlink()
    code, text = refused(folder)
    assert code == opening.EXIT_DAMAGED
    assert "every segment is missing" in text


def test_nothing_can_be_read(folder: Path) -> None:
    for path in folder.glob("*.segment"):
        path.chmod(0o600)
        path.write_bytes(b"not a database" * 1000)
    assert refused(folder)[0] == opening.EXIT_DAMAGED


def test_a_missing_segment_is_named_and_the_rest_is_read(folder: Path) -> None:
    (folder / file_name(4)).unlink()
    with open_store(folder) as store:
        assert "records 4..6 are missing" in store.damage[0]
        assert lsns(store) == [1, 2, 3, 7, 8, 9]


def test_an_overwritten_segment_is_named_and_the_rest_is_read(folder: Path) -> None:
    path = folder / file_name(4)
    path.chmod(0o600)
    path.write_bytes(b"\0" * path.stat().st_size)
    with open_store(folder) as store:
        assert "records 4..6 cannot be read" in store.damage[0]
        assert lsns(store) == [1, 2, 3, 7, 8, 9]
        assert list(store.reader.damage) == [4]


def test_a_log_that_ends_before_head(folder: Path) -> None:
    with sqlite3.connect(folder / file_name(7)) as db:
        db.execute("DELETE FROM records WHERE lsn = 9")
    db.close()
    with open_store(folder) as store:
        assert store.damage[0].startswith("records 9..9 are missing: they were committed")
        assert lsns(store) == list(range(1, 9))


def test_a_damaged_head_is_told(folder: Path) -> None:
    (folder / "HEAD").write_bytes(b"\0" * 8192)
    with open_store(folder) as store:
        assert "both slots are damaged" in store.damage[0]
        assert lsns(store) == list(range(1, 10))


def test_a_record_changed_at_the_end(folder: Path) -> None:
    with sqlite3.connect(folder / file_name(7)) as db:
        db.execute("UPDATE records SET chain = zeroblob(32) WHERE lsn = 9")
    db.close()
    with open_store(folder) as store:
        assert "record 9 is not the one that was committed" in store.damage[0]


# -------------------------------------------------------------------------- options


def test_where_the_store_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert store_path(None) == Path("hermes-data")
    monkeypatch.setenv("HERMES_STORE_PATH", "there")
    assert store_path(None) == Path("there")
    assert store_path(None, Path("here")) == Path("here")
    assert store_path(Path("here")) == Path("here")
    with pytest.raises(UsageError, match="given twice"):
        store_path(Path("here"), Path("there"))


def test_codes_differ() -> None:
    codes = [code for _, code in opening.EXIT_CODES]
    assert len(set(codes)) == len(codes)
    assert opening.code_of(StoreDamagedError("x")) == opening.EXIT_DAMAGED
