"""What goes on beside the commits: checkpoints, sealing, readers in other processes."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hermes import limits
from hermes.errors import LogClosedError, StoreError
from hermes.log import housekeeper
from hermes.log.database import connect_to_read
from hermes.log.log import SqliteLog, open_log
from hermes.log.reader import open_reader
from hermes.log.record import Kind
from hermes.log.segment import file_name, is_sealed_file
from tests.contract.records import BIG, Outcomes, dropped, event, publish, snapshot
from tests.support.permissions import public_folder, reading_only

READER = Path(__file__).with_name("reader_child.py")
WRITER = Path(__file__).with_name("log_child.py")


@pytest.fixture(autouse=True)
def _quick_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeper, "TICK_SECONDS", 0.01)


@pytest.fixture
def outcomes() -> Outcomes:
    return Outcomes()


@pytest.fixture
def log(tmp_path: Path, outcomes: Outcomes) -> Iterator[SqliteLog]:
    log = open_log(tmp_path / "store", outcomes)
    yield log
    log.close()


def until(condition: Callable[[], bool]) -> None:
    waiting = threading.Event()
    for _ in range(500):
        if condition():
            return
        waiting.wait(0.01)
    raise AssertionError("it did not happen")


def wal_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def test_the_wal_stays_bounded_under_load(
    tmp_path: Path, log: SqliteLog, outcomes: Outcomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found in design: a PASSIVE checkpoint beside a busy writer never lets the WAL start over."""
    monkeypatch.setattr(limits, "WAL_CHECKPOINT_BYTES", 256 * 1024)
    monkeypatch.setattr(limits, "WAL_BYTES_MAX", 1024 * 1024)
    wal = wal_of(tmp_path / "store" / file_name(1))
    longest = 0
    lsn = 1
    for n in range(600):
        lsn = log.append([publish(n, payload=b"x" * 16_000)], lsn) + 1
        if n % 4 == 0:
            outcomes.wait_for(lsn - 1)
            longest = max(longest, wal.stat().st_size)
    outcomes.wait_for(lsn - 1)
    assert (tmp_path / "store" / file_name(1)).stat().st_size > 4 * 1024 * 1024
    assert longest < 5 * 1024 * 1024


def test_a_rolled_segment_becomes_a_plain_read_only_file(
    tmp_path: Path, log: SqliteLog, outcomes: Outcomes
) -> None:
    outcomes.wait_for(log.append([publish(0)], 1))
    reader = log.reader()
    assert len(reader.read(1, limit=9, limit_bytes=BIG)) == 1
    outcomes.wait_for(log.roll(snapshot(), 2))
    old = tmp_path / "store" / file_name(1)
    until(lambda: is_sealed_file(old))
    assert not wal_of(old).exists()
    assert old.stat().st_mode & 0o777 == 0o400
    # The readers' idle connections did not stand in the way, and still work.
    assert [record.lsn for record in reader.read(1, limit=9, limit_bytes=BIG)] == [1, 2, 3]
    db = connect_to_read(old)
    assert db.pragma("journal_mode") == "delete"
    db.close()


def test_sealing_waits_for_readers(tmp_path: Path, log: SqliteLog, outcomes: Outcomes) -> None:
    outcomes.wait_for(log.append([publish(0)], 1))
    old = tmp_path / "store" / file_name(1)
    foreign = connect_to_read(old)
    outcomes.wait_for(log.roll(snapshot(), 2))
    for n in range(1, 20):
        outcomes.wait_for(log.append([publish(n)], log.next_lsn))
    assert not is_sealed_file(old)
    assert foreign.execute("SELECT count(*) FROM records").fetchone() == (1,)
    foreign.close()
    until(lambda: is_sealed_file(old))


def test_an_unsealed_segment_with_a_wal_is_legal_at_open(
    tmp_path: Path, outcomes: Outcomes
) -> None:
    log = open_log(tmp_path / "store", outcomes)
    outcomes.wait_for(log.append([publish(0)], 1))
    old = tmp_path / "store" / file_name(1)
    foreign = connect_to_read(old)
    # In a transaction: the WAL can neither be removed nor cut.
    foreign.execute("BEGIN")
    assert foreign.execute("SELECT count(*) FROM records").fetchone() == (1,)
    outcomes.wait_for(log.roll(snapshot(), 2))
    subprocess.run(["cp", "-r", str(tmp_path / "store"), str(tmp_path / "copy")], check=True)
    foreign.close()
    log.close()
    copied = tmp_path / "copy" / file_name(1)
    assert wal_of(copied).stat().st_size > 0
    log = open_log(tmp_path / "copy", Outcomes())
    assert [r.lsn for r in log.reader().read(1, limit=9, limit_bytes=BIG)] == [1, 2, 3]
    until(lambda: is_sealed_file(copied))
    log.close()


def test_a_clean_stop_leaves_plain_files(tmp_path: Path, outcomes: Outcomes) -> None:
    log = open_log(tmp_path / "store", outcomes)
    log.append([publish(0)], 1)
    log.roll(snapshot(), 2)
    log.append([publish(1)], 4)
    log.close()
    names = sorted(path.name for path in (tmp_path / "store").iterdir())
    assert names == [file_name(1), file_name(2), "HEAD", "LOCK", "RESERVE"]


def test_another_process_reads_beside_the_server(
    tmp_path: Path, log: SqliteLog, outcomes: Outcomes, repository: Path
) -> None:
    """Through appends, rolls and drops; what it sees has gaps only where a segment went."""
    outcomes.wait_for(log.append([publish(0)], 1))
    # 1 record, then 39 rounds of a record, 12 rolls of 2 and 6 announcements of drops.
    last = 1 + 39 + 12 * 2 + 6
    child = subprocess.Popen(
        [sys.executable, READER, tmp_path / "store", str(last)],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(repository)},
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    rolls = 0
    for n in range(1, 40):
        outcomes.wait_for(log.append([publish(n)], log.next_lsn))
        if n % 3 == 0 and rolls < 12:
            outcomes.wait_for(log.roll(snapshot(), log.next_lsn))
            rolls += 1
            if rolls % 2 == 0:
                oldest = log.segments()[0]
                announcement = dropped(oldest.first_lsn, oldest.last_lsn)
                outcomes.wait_for(log.append([announcement], log.next_lsn))
                log.drop(oldest.first_lsn)
    assert log.next_lsn - 1 == last
    assert child.wait(timeout=30) == 0
    child.stdout.close()


def test_a_reader_from_outside_changes_nothing(tmp_path: Path, outcomes: Outcomes) -> None:
    log = open_log(tmp_path / "store", outcomes)
    log.append([publish(0), event(Kind.ACKED, "c", 0)], 1)
    log.roll(snapshot(), 3)
    log.append([publish(1)], 5)
    log.close()
    before = {path.name: path.read_bytes() for path in (tmp_path / "store").iterdir()}
    reader = open_reader(tmp_path / "store")
    assert [r.lsn for r in reader.read(1, limit=9, limit_bytes=BIG)] == [1, 2, 3, 4, 5]
    assert [r.lsn for r in reader.touching(0, limit=9)] == [1, 2]
    assert reader.count_messages(0) == 2
    reader.close()
    after = {path.name: path.read_bytes() for path in (tmp_path / "store").iterdir()}
    assert {name: after[name] for name in before} == before
    with pytest.raises(LogClosedError):
        reader.read(1, limit=9, limit_bytes=BIG)


def test_a_reader_needs_a_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no store"):
        open_reader(tmp_path)
    with pytest.raises(StoreError, match="cannot be read"):
        open_reader(tmp_path / "nowhere")


def test_a_dropped_file_goes_soon_and_at_the_latest_at_close(
    tmp_path: Path, outcomes: Outcomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log(tmp_path / "store", outcomes)
    for n in range(2):
        log.append([publish(n)], log.next_lsn)
        log.roll(snapshot(), log.next_lsn)
    files = [tmp_path / "store" / file_name(first_lsn) for first_lsn in (1, 2)]
    outcomes.wait_for(log.append([dropped(1, 1)], log.next_lsn))
    log.drop(1)
    until(lambda: not files[0].exists())
    assert log.reader().publish_of(0) is None
    outcomes.wait_for(log.append([dropped(2, 4)], log.next_lsn))
    monkeypatch.setattr(log._keeper, "_round", lambda: None)
    log.drop(2)
    assert files[1].exists()
    log.close()
    assert not files[1].exists()


def test_a_filter_is_remembered_across_readers(log: SqliteLog, outcomes: Outcomes) -> None:
    asked: list[str] = []

    def wanted(key: str) -> bool:
        asked.append(key)
        return key == "a"

    outcomes.wait_for(log.append([publish(0, key="a"), publish(1, key="b")], 1))
    for _ in range(3):
        page, _ = log.reader().publishes(0, limit=9, limit_bytes=BIG, keys=wanted)
        assert [record.first for record in page] == [0]
    outcomes.wait_for(log.append([publish(2, key="c"), publish(3, key="a")], 3))
    assert log.reader().count_messages(0, wanted) == 2
    assert sorted(asked) == ["a", "b", "c"]


def test_idle_connections_are_bounded(
    tmp_path: Path, outcomes: Outcomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log(tmp_path / "store", outcomes)
    log._connections._idle_max = 3
    for n in range(8):
        log.append([publish(n)], log.next_lsn)
        log.roll(snapshot(), log.next_lsn)
    outcomes.wait_for(log.next_lsn - 1)
    assert log.reader().count_messages(0) == 8
    assert len(log._connections._idle) == 3
    reader = log.reader()
    log.close()
    assert len(log._connections._idle) == 0
    with pytest.raises(LogClosedError):
        reader.read(1, limit=1, limit_bytes=1)


def test_closing_a_reader_leaves_the_pool(log: SqliteLog, outcomes: Outcomes) -> None:
    outcomes.wait_for(log.append([publish(0)], 1))
    log.reader().close()
    assert log.reader().publish_of(0) is not None


def test_readers_in_threads_see_whole_groups(log: SqliteLog, outcomes: Outcomes) -> None:
    """Groups of three are committed together; no look-up shows a part of one."""
    torn: list[int] = []
    seen = threading.Event()
    stop = threading.Event()

    def watch() -> None:
        reader = log.reader()
        while not stop.is_set():
            records = reader.read(1, limit=10_000, limit_bytes=BIG, payloads=False)
            if len(records) % 3:
                torn.append(len(records))
            if len(records) > 30:
                seen.set()

    watchers = [threading.Thread(target=watch) for _ in range(2)]
    for watcher in watchers:
        watcher.start()
    at = 0
    while not seen.is_set():
        outcomes.wait_for(log.append([publish(at), publish(at + 1), publish(at + 2)], log.next_lsn))
        at += 3
    stop.set()
    for watcher in watchers:
        watcher.join()
    assert torn == []


def read_without_permission(folder: Path) -> list[int]:
    """The lsns that a user sees who may read the store's files, and write nothing."""
    with reading_only(folder):
        reader = open_reader(folder)
        lsns = [record.lsn for record in reader.read(1, limit=9, limit_bytes=BIG)]
        reader.close()
    return lsns


@pytest.fixture
def public() -> Iterator[Path]:
    with public_folder() as folder:
        yield folder / "store"


def test_reading_needs_no_write_permission(public: Path, outcomes: Outcomes) -> None:
    log = open_log(public, outcomes)
    log.append([publish(0)], 1)
    log.roll(snapshot(), 2)
    log.append([publish(1)], 4)
    log.close()
    before = sorted(path.name for path in public.iterdir())
    assert read_without_permission(public) == [1, 2, 3, 4]
    assert sorted(path.name for path in public.iterdir()) == before


def test_reading_beside_a_server_needs_no_write_permission(public: Path, repository: Path) -> None:
    server = subprocess.Popen(
        [sys.executable, WRITER, public, str(10**9)],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(repository)},
    )
    assert server.stdout is not None
    told = int(server.stdout.readline())
    while told < 9:
        told = int(server.stdout.readline())
    lsns = read_without_permission(public)
    server.kill()
    server.wait()
    server.stdout.close()
    assert lsns == list(range(1, 10))


def test_a_wal_is_never_ignored(public: Path, outcomes: Outcomes) -> None:
    """Without write permission SQLite cannot recover a WAL; the file alone would be shorter."""
    log = open_log(public, outcomes)
    outcomes.wait_for(log.append([publish(0)], 1))
    copy = public.with_name("copy")
    subprocess.run(["cp", "-r", str(public), str(copy)], check=True)
    log.close()
    for scratch in copy.glob("*-shm"):
        scratch.unlink()
    with pytest.raises(StoreError, match="-wal cannot be read"):
        read_without_permission(copy)


def test_a_store_without_its_newest_segment_can_go_on_from_a_backup(
    tmp_path: Path, outcomes: Outcomes
) -> None:
    """The last segment of a backup may be one that was sealed since."""
    log = open_log(tmp_path / "store", outcomes)
    outcomes.wait_for(log.append([publish(0)], 1))
    head = (tmp_path / "store" / "HEAD").read_bytes()
    log.roll(snapshot(), 2)
    log.close()
    (tmp_path / "store" / file_name(2)).unlink()
    (tmp_path / "store" / "HEAD").write_bytes(head)
    assert is_sealed_file(tmp_path / "store" / file_name(1))
    outcomes = Outcomes()
    log = open_log(tmp_path / "store", outcomes)
    outcomes.wait_for(log.append([publish(1)], 2))
    assert not is_sealed_file(tmp_path / "store" / file_name(1))
    log.close()
