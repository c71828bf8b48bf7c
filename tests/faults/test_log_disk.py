"""A disk that is full, or that fails: through a VFS that refuses what it is told to."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import apsw
import pytest

from hermes import limits
from hermes.errors import LogClosedError, StoreError, StoreFullError
from hermes.log import housekeeper
from hermes.log.log import SqliteLog, open_log
from hermes.log.segment import file_name
from hermes.log.space import RESERVE_NAME, Space
from tests.contract.records import BIG, Outcomes, publish, snapshot

VFS = "hermes-faults"


class Faults:
    """What goes wrong next. `writes` and `syncs` map a file's ending to an error and how
    often it strikes."""

    def __init__(self) -> None:
        self.writes: dict[str, tuple[type[apsw.Error], int]] = {}
        self.syncs: dict[str, tuple[type[apsw.Error], int]] = {}
        self.synced: list[str] = []
        self.struck = threading.Event()

    def strike(self, plan: dict[str, tuple[type[apsw.Error], int]], name: str) -> None:
        for ending, (error, left) in plan.items():
            if name.endswith(ending) and left > 0:
                plan[ending] = (error, left - 1)
                self.struck.set()
                raise error("injected")


FAULTS = Faults()


class FaultyFile(apsw.VFSFile):
    def __init__(self, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._name = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        FAULTS.strike(FAULTS.writes, self._name)
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        FAULTS.strike(FAULTS.syncs, self._name)
        super().xSync(flags)
        FAULTS.synced.append(Path(self._name).name)


class FaultyVFS(apsw.VFS):
    def __init__(self) -> None:
        super().__init__(VFS, base="")

    def xOpen(  # noqa: N802
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> apsw.VFSFile:
        return FaultyFile(name, flags)


_vfs = FaultyVFS()


@pytest.fixture
def faults() -> Iterator[Faults]:
    FAULTS.__init__()  # type: ignore[misc]
    yield FAULTS
    FAULTS.__init__()  # type: ignore[misc]


@pytest.fixture
def outcomes() -> Outcomes:
    return Outcomes()


@pytest.fixture
def log(tmp_path: Path, faults: Faults, outcomes: Outcomes) -> Iterator[SqliteLog]:
    log = open_log(tmp_path / "store", outcomes, vfs=VFS)
    outcomes.wait_for(log.append([publish(0)], 1))
    yield log
    log.close()


def reopened(tmp_path: Path) -> list[int]:
    """The lsns that are there when the store is opened again, on a sound disk."""
    log = open_log(tmp_path / "store", Outcomes())
    lsns = [record.lsn for record in log.reader().read(1, limit=99, limit_bytes=BIG)]
    assert log.next_lsn == len(lsns) + 1
    log.close()
    return lsns


@pytest.mark.parametrize("times", [1, 10**9], ids=["once", "for ever"])
def test_a_failed_sync_is_final(
    tmp_path: Path, log: SqliteLog, faults: Faults, outcomes: Outcomes, times: int
) -> None:
    faults.syncs["-wal"] = (apsw.IOError, times)
    log.append([publish(1)], 2)
    log.append([publish(2)], 3)
    error = outcomes.wait_for_failure()
    assert isinstance(error, StoreError)
    assert outcomes.committed_lsn == 1
    with pytest.raises(LogClosedError, match="failed"):
        log.append([publish(3)], 4)
    with pytest.raises(LogClosedError):
        log.roll(snapshot(), 4)
    log.close()
    assert sum(outcome is outcomes.all[-1] for outcome in outcomes.all) == 1
    faults.syncs.clear()
    # Unknown outcome: the group is there or not, but never a part or a gap.
    assert reopened(tmp_path) in ([1], [1, 2], [1, 2, 3])


def test_a_failed_checkpoint_stops_the_log(
    log: SqliteLog,
    faults: Faults,
    outcomes: Outcomes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a failed sync of the file nobody knows what it holds; the WAL must not start over."""
    monkeypatch.setattr(limits, "WAL_CHECKPOINT_BYTES", 64 * 1024)
    faults.syncs[".segment"] = (apsw.IOError, 1)
    log.append([publish(1, payload=b"x" * 200_000)], 2)
    error = outcomes.wait_for_failure()
    assert isinstance(error, StoreError)
    log.close()
    assert reopened(tmp_path) == [1, 2]


def test_a_full_disk_frees_the_reserve_and_tries_again(
    tmp_path: Path, log: SqliteLog, faults: Faults, outcomes: Outcomes
) -> None:
    reserve = tmp_path / "store" / RESERVE_NAME
    assert reserve.stat().st_size == limits.RESERVE_BYTES
    faults.writes["-wal"] = (apsw.FullError, 1)
    # A key that is new in the group that is rolled back and written again.
    outcomes.wait_for(log.append([publish(1, key="new.key"), publish(2)], 2))
    assert faults.struck.is_set()
    outcomes.wait_for(log.append([publish(3, key="new.key")], 4))
    assert [r.key for r in log.reader().read(2, limit=9, limit_bytes=BIG)] == [
        "new.key",
        "orders.created",
        "new.key",
    ]
    log.close()
    assert reopened(tmp_path) == [1, 2, 3, 4]


def test_a_full_disk_at_the_writers_checkpoint_stops_nothing(
    tmp_path: Path, log: SqliteLog, faults: Faults, outcomes: Outcomes
) -> None:
    """Found in review: what the WAL holds is durable, so a copy that fails may wait."""
    outcomes.wait_for(log.append([publish(1, payload=b"x" * 200_000)], 2))
    faults.writes[".segment"] = (apsw.FullError, 1)
    log._writer.ask_for_checkpoint()
    outcomes.wait_for(log.append([publish(2)], 3))
    assert faults.struck.is_set()
    log.close()
    assert reopened(tmp_path) == [1, 2, 3]


def test_a_disk_that_stays_full_is_final(
    tmp_path: Path, log: SqliteLog, faults: Faults, outcomes: Outcomes
) -> None:
    faults.writes["-wal"] = (apsw.FullError, 2)
    log.append([publish(1)], 2)
    error = outcomes.wait_for_failure()
    assert isinstance(error, StoreFullError)
    assert "space" in error.hint
    log.close()
    assert reopened(tmp_path) == [1]


def test_the_reserve_is_not_for_queued_publishes(
    log: SqliteLog, faults: Faults, outcomes: Outcomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would leave nothing of it to the acks that follow once the log is open again."""
    monkeypatch.setattr(limits, "RESERVE_BYTES", 4_000)
    faults.writes["-wal"] = (apsw.FullError, 1)
    log.append([publish(1, payload=b"x" * 2_000)], 2)
    assert isinstance(outcomes.wait_for_failure(), StoreFullError)
    assert outcomes.committed_lsn == 1
    assert log.low_space


def test_opening_on_a_full_disk_uses_the_reserve(
    tmp_path: Path, log: SqliteLog, faults: Faults, outcomes: Outcomes
) -> None:
    faults.syncs["-wal"] = (apsw.IOError, 1)
    log.append([publish(1, payload=b"x" * 200_000)], 2)
    outcomes.wait_for_failure()
    log.close()
    reserve = tmp_path / "store" / RESERVE_NAME
    assert reserve.exists()
    faults.writes[".segment"] = (apsw.FullError, 1)
    again = open_log(tmp_path / "store", Outcomes(), vfs=VFS, low_space_bytes=1 << 60)
    assert faults.struck.is_set()
    assert again.next_lsn == 3
    assert not reserve.exists()
    again.close()
    faults.writes[".segment.new"] = (apsw.FullError, 1)
    with pytest.raises(StoreFullError, match="no space left"):
        open_log(tmp_path / "other", Outcomes(), vfs=VFS)
    # The lock was let go: the next try is not refused as a second server.
    open_log(tmp_path / "other", Outcomes(), vfs=VFS).close()


def test_a_quota_is_a_full_disk(log: SqliteLog, outcomes: Outcomes) -> None:
    """SQLITE_FULL from SQLite itself: by a limit on the file's pages."""
    db = log._writer.active._db
    db.pragma("max_page_count", int(str(db.pragma("page_count"))) + 2)
    log.append([publish(1, payload=b"x" * 100_000)], 2)
    assert isinstance(outcomes.wait_for_failure(), StoreFullError)


@pytest.mark.parametrize(
    ("times", "outcome"), [(1, "rolled"), (2, "failed")], ids=["once", "twice"]
)
def test_a_full_disk_at_a_roll(
    tmp_path: Path, log: SqliteLog, faults: Faults, outcomes: Outcomes, times: int, outcome: str
) -> None:
    faults.writes[".segment.new"] = (apsw.FullError, times)
    lsn = log.roll(snapshot(), 2)
    if outcome == "rolled":
        outcomes.wait_for(lsn)
        assert len(log.segments()) == 2
    else:
        assert isinstance(outcomes.wait_for_failure(), StoreFullError)
    log.close()
    assert reopened(tmp_path) == ([1, 2, 3] if outcome == "rolled" else [1])
    assert not list((tmp_path / "store").glob("*.new*"))


def test_a_new_segment_is_synced_before_it_has_its_name(
    tmp_path: Path, log: SqliteLog, faults: Faults, outcomes: Outcomes
) -> None:
    faults.synced.clear()
    outcomes.wait_for(log.roll(snapshot(), 2))
    assert file_name(2) + ".new" in faults.synced
    faults.syncs[".segment.new"] = (apsw.IOError, 1)
    log.roll(snapshot(), 4)
    outcomes.wait_for_failure()
    assert not (tmp_path / "store" / file_name(4)).exists()
    log.close()
    assert reopened(tmp_path) == [1, 2, 3]


def test_an_unexpected_error_is_final(
    log: SqliteLog, outcomes: Outcomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(log._writer.active, "commit", broken)
    log.append([publish(1)], 2)
    error = outcomes.wait_for_failure()
    assert "a bug" in str(error)
    assert isinstance(error.__cause__, RuntimeError)
    with pytest.raises(LogClosedError):
        log.append([publish(2)], 3)


def test_a_failed_head_write_is_final(
    tmp_path: Path, log: SqliteLog, outcomes: Outcomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(log._head, "write", broken)
    log.append([publish(1)], 2)
    outcomes.wait_for_failure()
    assert outcomes.committed_lsn == 1
    log.close()
    assert reopened(tmp_path) == [1, 2], "it was committed, though nobody was told"


def until(condition: Callable[[], bool]) -> None:
    """Wait for the keeper's rounds, at most some seconds."""
    waiting = threading.Event()
    for _ in range(500):
        if condition():
            return
        waiting.wait(0.01)
    raise AssertionError("it did not happen")


def test_low_space_comes_and_goes(
    tmp_path: Path, outcomes: Outcomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeper, "TICK_SECONDS", 0.01)
    log = open_log(tmp_path / "store", outcomes)
    until(lambda: not log.low_space)
    assert log.free_bytes > 0
    log._space._low_bytes = 1 << 60
    until(lambda: log.low_space)
    outcomes.wait_for(log.append([publish(0)], 1))
    log._space._low_bytes = 1
    until(lambda: not log.low_space)
    log.close()


def test_the_writer_sees_that_space_runs_low(tmp_path: Path, outcomes: Outcomes) -> None:
    """A look every second lets a fast publisher write past the whole margin in between."""
    log = open_log(tmp_path / "store", outcomes, low_space_bytes=0)
    seen = [log.low_space]
    log._space._low_bytes = 1 << 60
    outcomes.wait_for(log.append([publish(0)], 1))
    seen.append(log.low_space)
    assert seen == [False, True]
    log.close()


def test_low_space_ends_well_above_the_watermark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free_bytes = limits.LOW_SPACE_BYTES
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=free_bytes, f_frsize=1))
    (tmp_path / RESERVE_NAME).touch()
    space = Space(tmp_path, limits.LOW_SPACE_BYTES)
    seen = []
    for step_bytes in (-1, 0, limits.RESERVE_BYTES - limits.MIB, limits.RESERVE_BYTES, 0):
        free_bytes = limits.LOW_SPACE_BYTES + step_bytes
        space.refresh()
        seen.append(space.low)
    assert seen == [True, True, True, False, False]


def test_the_reserve_is_made_again(tmp_path: Path) -> None:
    space = Space(tmp_path, low_bytes=1)
    reserve = tmp_path / RESERVE_NAME

    def state() -> tuple[bool, bool]:
        """(is there a reserve, is space low)"""
        return reserve.exists(), space.low

    assert state() == (True, False)
    assert reserve.stat().st_size == limits.RESERVE_BYTES
    space.release_reserve()
    assert state() == (False, True)
    space.refresh()
    assert state() == (True, False)
    # Not while that would leave less than the watermark.
    space.release_reserve()
    space._low_bytes = space.free_bytes + limits.RESERVE_BYTES
    space.refresh()
    assert state() == (False, True)
