"""What opening a store decides: which damage is named, which refusal touches nothing."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import apsw
import pytest

from hermes.errors import StoreDamagedError, StoreError, StoreLockedError, StoreVersionError
from hermes.log import opening
from hermes.log.head import BLOCK_BYTES
from hermes.log.log import SqliteLog, open_log
from hermes.log.record import Kind
from hermes.log.segment import file_name
from hermes.log.v1 import log_pb2
from tests.contract.records import BIG, Outcomes, dropped, event, publish
from tests.contract.store import put, roll


class Folder:
    """A store of three segments (1..3, 4..6, 7..9), closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.outcomes = Outcomes()

    def open(self, *, accept_loss: bool = False) -> SqliteLog:
        self.outcomes = Outcomes()
        return open_log(self.path, self.outcomes, accept_loss=accept_loss)

    def fill(self) -> None:
        log = self.open()
        put(self, log, publish(0), publish(1), event(Kind.ACKED, "c", 0))
        roll(self, log)
        put(self, log, publish(2))
        roll(self, log)
        put(self, log, publish(3))
        log.close()

    def segment(self, first_lsn: int) -> Path:
        return self.path / file_name(first_lsn)

    @property
    def head(self) -> Path:
        return self.path / "HEAD"

    def contents(self) -> dict[str, bytes]:
        """Every file that matters, byte for byte. Reading makes a -shm and an empty -wal."""
        return {
            path.name: path.read_bytes()
            for path in self.path.iterdir()
            if not path.name.endswith("-shm")
            and path.name not in {"LOCK", "RESERVE"}
            and not (path.name.endswith("-wal") and path.stat().st_size == 0)
        }

    def refuses(self, kind: type[StoreError], match: str) -> StoreError:
        """Opening is refused, and nothing was touched."""
        before = self.contents()
        with pytest.raises(kind, match=match) as caught:
            self.open()
        assert self.contents() == before
        # The lock is free again: the same refusal, not a locked store.
        with pytest.raises(kind, match=match):
            self.open()
        return caught.value


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path / "store")
    folder.fill()
    return folder


def flip(path: Path, position: int, bit: int = 3) -> None:
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(data)


# ------------------------------------------------------------------- new stores


def test_a_new_store_is_private_and_reports_it(tmp_path: Path) -> None:
    log = open_log(tmp_path / "a" / "b", Outcomes())
    assert log.report.created
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    names = {path.name for path in (tmp_path / "a" / "b").iterdir()}
    assert {"LOCK", "HEAD", "RESERVE", file_name(1)} <= names
    assert (tmp_path / "a" / "b" / file_name(1)).stat().st_mode & 0o777 == 0o600
    log.close()
    log = open_log(tmp_path / "a" / "b", Outcomes())
    assert not log.report.created
    log.close()


def test_an_empty_folder_or_a_fresh_volume_becomes_a_store(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    log = open_log(tmp_path, Outcomes())
    assert log.report.created
    log.close()


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(StoreError, match="holds other files"):
        open_log(tmp_path, Outcomes())
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(StoreError, match="is a file"):
        open_log(path, Outcomes())
    with pytest.raises(StoreError, match="cannot be made"):
        open_log(path / "below", Outcomes())
    assert path.read_text() == "mine"


@pytest.mark.parametrize("path", ["/proc/hermes-store", "/sys/hermes-store"])
def test_a_folder_that_cannot_be_made_is_refused(path: str) -> None:
    with pytest.raises(StoreError, match="cannot be made"):
        open_log(path, Outcomes())


def test_a_folder_without_write_permission_is_refused() -> None:
    """/proc/self/fdinfo: nobody, not even root, may create a file there."""
    with pytest.raises(StoreError):
        open_log("/proc/self/fdinfo", Outcomes())


@pytest.mark.parametrize("kept", ["folder", "segment", "building"])
def test_an_interrupted_creation_is_finished(tmp_path: Path, kept: str) -> None:
    open_log(tmp_path / "s", Outcomes()).close()
    (tmp_path / "s" / "HEAD").unlink()
    segment = tmp_path / "s" / file_name(1)
    if kept != "segment":
        segment.unlink()
    if kept == "building":
        (tmp_path / "s" / (file_name(1) + ".new")).write_bytes(b"half")
    folder = Folder(tmp_path / "s")
    log = folder.open()
    put(folder, log, publish(0))
    log.close()
    assert not (tmp_path / "s" / (file_name(1) + ".new")).exists()


# --------------------------------------------------------------- one server only


def test_a_second_server_is_refused_and_harms_nothing(folder: Folder) -> None:
    log = folder.open()
    before = folder.contents()
    with pytest.raises(StoreLockedError, match="process"):
        open_log(folder.path, Outcomes())
    assert folder.contents() == before
    put(folder, log, publish(4))
    log.close()
    folder.open().close()


# ---------------------------------------------------------------- other versions


def test_a_newer_segment_is_refused(folder: Folder) -> None:
    db = apsw.Connection(str(folder.segment(7)))
    db.pragma("user_version", 2)
    db.close()
    error = folder.refuses(StoreVersionError, "format 2")
    assert "newer version" in error.hint


def test_a_segment_of_another_store_is_refused(folder: Folder, tmp_path: Path) -> None:
    other = Folder(tmp_path / "other")
    other.fill()
    folder.segment(4).unlink()
    shutil.copy(other.segment(4), folder.segment(4))
    folder.refuses(StoreError, "another store")


# -------------------------------------------------------------- missing and broken


@pytest.mark.parametrize(("gone", "named"), [(1, (1, 3)), (4, (4, 6))])
def test_a_missing_segment_is_named(folder: Folder, gone: int, named: tuple[int, int]) -> None:
    folder.segment(gone).unlink()
    error = folder.refuses(StoreDamagedError, f"{named[0]}..{named[1]} are missing")
    assert (error.fields["first_lsn"], error.fields["last_lsn"]) == named


def test_the_missing_newest_segment_is_named(folder: Folder) -> None:
    folder.segment(7).unlink()
    error = folder.refuses(StoreDamagedError, "7..9 were committed and are lost")
    assert (error.fields["first_lsn"], error.fields["last_lsn"]) == (7, 9)


def test_all_segments_missing_is_named(folder: Folder) -> None:
    for first_lsn in (1, 4, 7):
        folder.segment(first_lsn).unlink()
    folder.refuses(StoreDamagedError, "1..9 were committed and are lost")


def test_a_renamed_segment_is_refused(folder: Folder) -> None:
    folder.segment(4).rename(folder.segment(5))
    folder.refuses(StoreDamagedError, "was renamed")


def test_a_broken_active_file_is_named(folder: Folder) -> None:
    """A sealed one is left out: test_log_left_out.py."""
    folder.segment(7).write_bytes(b"not a database" * 1000)
    error = folder.refuses(StoreDamagedError, "records 7 on cannot be read")
    assert error.fields["first_lsn"] == 7


def execute(path: Path, sql: str) -> None:
    path.chmod(0o600)
    db = apsw.Connection(str(path))
    db.execute(sql)
    if path.with_name(path.name + "-wal").exists():
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    db.close()


def test_a_changed_record_at_the_tail_is_named(folder: Folder) -> None:
    execute(folder.segment(7), "UPDATE records SET body = x'00' WHERE lsn = 8")
    error = folder.refuses(StoreDamagedError, "record 8 does not hash")
    assert error.fields["first_lsn"] == 8


def test_a_rewritten_tail_is_not_what_head_knows(folder: Folder) -> None:
    execute(folder.segment(7), "UPDATE records SET chain = zeroblob(32) WHERE lsn = 9")
    folder.refuses(StoreDamagedError, "record 9 is not the one that was committed")


# ------------------------------------------------------------------------- HEAD


@pytest.mark.parametrize("slot", [0, 1])
def test_one_bad_slot_is_warned_of_and_mended(folder: Folder, slot: int) -> None:
    flip(folder.head, slot * BLOCK_BYTES + 40)
    log = folder.open()
    assert [f"slot {slot}" in warning for warning in log.report.warnings] == [True]
    assert log.next_lsn == 10
    log.close()
    log = folder.open()
    assert log.report.warnings == ()
    log.close()


def test_two_bad_slots_are_refused(folder: Folder) -> None:
    flip(folder.head, 40)
    flip(folder.head, BLOCK_BYTES + 40)
    folder.refuses(StoreDamagedError, "both slots")
    log = folder.open(accept_loss=True)
    assert log.next_lsn == 10
    assert len(log.report.warnings) == 1
    log.close()
    folder.open().close()


def test_a_missing_head_is_refused(folder: Folder) -> None:
    folder.head.unlink()
    folder.refuses(StoreDamagedError, "HEAD is missing")


def test_head_may_lag_behind(folder: Folder) -> None:
    """After a power loss HEAD may show an older commit than the log."""
    before = folder.head.read_bytes()
    log = folder.open()
    put(folder, log, publish(4), publish(5))
    log.close()
    folder.head.write_bytes(before)
    log = folder.open()
    assert (log.next_lsn, log.next_offset) == (12, 6)
    assert log.report.lost is None
    log.close()


def lose_the_tail(folder: Folder) -> None:
    """Records 10 and 11 (offset 4) are committed, known to HEAD, and gone from the log."""
    saved = folder.segment(7).read_bytes()
    log = folder.open()
    put(folder, log, event(Kind.ACKED, "c", 3))
    put(folder, log, publish(4))
    log.close()
    folder.segment(7).write_bytes(saved)


def test_a_log_that_ends_before_head_is_refused(folder: Folder) -> None:
    lose_the_tail(folder)
    error = folder.refuses(StoreDamagedError, "10..11 were committed and are lost")
    assert (error.fields["first_lsn"], error.fields["last_lsn"]) == (10, 11)


def test_an_accepted_loss_is_recorded_and_numbers_go_on(folder: Folder) -> None:
    lose_the_tail(folder)
    log = folder.open(accept_loss=True)
    assert log.report.lost == (10, 11)
    assert (log.next_lsn, log.next_offset) == (13, 5), "neither lsns nor offsets are reused"
    (lost,) = log.reader().read(10, limit=9, limit_bytes=BIG)
    assert (lost.lsn, lost.kind) == (12, Kind.LOST)
    body = log_pb2.Lost.FromString(lost.body)
    assert (body.first_lsn, body.last_lsn, body.first_offset, body.next_offset) == (10, 11, 4, 5)
    assert log.reader().latest(Kind.LOST) == lost
    put(folder, log, publish(5, 2))
    reader = log.reader()
    page, upto = reader.publishes(3, limit=9, limit_bytes=BIG)
    assert ([record.first for record in page], upto) == ([3, 5], 7)
    assert reader.publish_of(4) is None
    assert reader.count_messages(0) == 6
    log.close()
    log = folder.open()
    assert log.report.lost is None
    assert [info.first_lsn for info in log.segments()] == [1, 4, 7, 12]
    assert (log.next_lsn, log.next_offset) == (14, 7)
    log.close()


def test_losing_everything_can_be_accepted(folder: Folder) -> None:
    for first_lsn in (1, 4, 7):
        folder.segment(first_lsn).unlink()
    log = folder.open(accept_loss=True)
    assert (log.next_lsn, log.next_offset, log.oldest_offset) == (11, 4, 4)
    log.close()
    log = folder.open()
    assert log.next_lsn == 11
    log.close()


# ------------------------------------------------------------------------- drops


def test_an_announced_drop_is_finished(folder: Folder) -> None:
    log = folder.open()
    put(folder, log, dropped(1, 3))
    log.close()
    assert folder.segment(1).exists()
    log = folder.open()
    assert [info.first_lsn for info in log.segments()] == [4, 7]
    assert not folder.segment(1).exists()
    assert log.oldest_offset == 2
    log.close()
    folder.open().close()


def test_a_dropped_segment_is_not_missing_but_the_next_one_is(folder: Folder) -> None:
    log = folder.open()
    put(folder, log, dropped(1, 3))
    log.drop(1)
    log.close()
    folder.open().close()
    folder.segment(4).unlink()
    folder.refuses(StoreDamagedError, "4..6 are missing")


def test_leftovers_are_cleared(folder: Folder) -> None:
    building = folder.path / (file_name(10) + ".new")
    building.write_bytes(b"half a segment")
    orphan = folder.path / (file_name(99) + "-wal")
    orphan.write_bytes(b"a wal without a file")
    folder.open().close()
    assert not building.exists()
    assert not orphan.exists()


def test_an_opening_that_fails_at_its_end_leaves_no_file_open(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Found by refused calls: HEAD could not be opened, and the connection to the active segment
    # stayed. A server tries again while its disk fails: each attempt took three descriptors.
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "refused")

    with monkeypatch.context() as patched:
        patched.setattr(opening, "HeadFile", refuse)
        with pytest.raises((OSError, StoreError)):
            folder.open()
    assert not [db.filename for db in apsw.connections() if str(folder.path) in db.filename]
    folder.open().close()
