"""Kills, torn and flipped WALs: nothing that was told as committed is lost unnoticed."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hermes.errors import StoreDamagedError
from hermes.log.head import read_head
from hermes.log.log import open_log
from tests.contract.records import Outcomes, publish
from tests.support.faults.log_story import check_whole

CHILD = Path(__file__).with_name("log_child.py")
FRAME_BYTES = 24 + 8192  # of a WAL: header and page


def run_and_kill(folder: Path, repository: Path, *, lines: int, roll_every: int = 10**9) -> int:
    """Run the child until it has printed so many commits, kill it; returns the last one told."""
    process = subprocess.Popen(
        [sys.executable, CHILD, folder, str(roll_every)],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(repository)},
        text=True,
    )
    assert process.stdout is not None
    told = 0
    for _ in range(lines):
        told = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    # What was printed before the kill was told as well.
    rest = process.stdout.read().split("\n")[:-1]
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    return max([told, *map(int, rest)])


@pytest.mark.parametrize("roll_every", [3, 50])
def test_kills_lose_nothing_that_was_told(
    tmp_path: Path, repository: Path, roll_every: int
) -> None:
    folder = tmp_path / "store"
    picker = random.Random(roll_every)
    told = 0
    for _ in range(4):
        before = told
        told = run_and_kill(folder, repository, lines=picker.randint(1, 40), roll_every=roll_every)
        assert told > before
        log = open_log(folder, Outcomes())
        assert log.next_lsn > told
        check_whole(log)
        log.close()


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """A store whose server was killed, everything still in its WAL."""
    folder = tmp_path_factory.mktemp("killed") / "store"
    run_and_kill(folder, repository, lines=12)
    return folder


def copy_of(killed: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A copy of the killed store, and its WAL."""
    folder = tmp_path / "store"
    shutil.copytree(killed, folder)
    (wal,) = [path for path in folder.glob("*-wal") if path.stat().st_size]
    return folder, wal


def test_a_copied_store_opens(killed: Path, tmp_path: Path) -> None:
    folder, _ = copy_of(killed, tmp_path)
    outcomes = Outcomes()
    log = open_log(folder, outcomes)
    check_whole(log)
    outcomes.wait_for(log.append([publish(log.next_offset)], log.next_lsn))
    check_whole(log)
    log.close()


def ends_of_commits(wal: bytes) -> list[int]:
    """Where each committed transaction ends. What a kill cut short lies behind the last.

    The test below once flipped bits in such a tail, which nobody was told of.
    """
    salts = wal[16:24]
    starts = range(32, len(wal) - FRAME_BYTES + 1, FRAME_BYTES)
    return [
        start + FRAME_BYTES
        for start in starts
        if wal[start + 8 : start + 16] == salts and any(wal[start + 4 : start + 8])
    ]


def test_every_flipped_bit_in_the_wal_is_noticed(killed: Path, tmp_path: Path) -> None:
    """SQLite itself opens such a WAL without a word, and shorter."""
    folder, wal = copy_of(killed, tmp_path)
    head = read_head(folder / "HEAD")
    assert head is not None
    whole = wal.read_bytes()
    picker = random.Random(5)
    # The header, the first frames, frame headers, and anywhere up to the last commit but one:
    # of the very last HEAD may not know yet.
    places = [0, 8, 20, 31, 32, 36, 44, 56, 32 + FRAME_BYTES, 32 + FRAME_BYTES + 5]
    places += [picker.randrange(ends_of_commits(whole)[-2]) for _ in range(25)]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << picker.randrange(8)
        wal.write_bytes(damaged)
        for scratch in folder.glob("*-shm"):
            scratch.unlink()
        with pytest.raises(StoreDamagedError, match=f"{head.mark.lsn} were committed") as caught:
            open_log(folder, Outcomes())
        assert caught.value.fields["last_lsn"] == head.mark.lsn, place
        assert wal.read_bytes() == damaged, "the evidence is left as it was"


def test_a_torn_wal_is_noticed(killed: Path, tmp_path: Path) -> None:
    folder, wal = copy_of(killed, tmp_path)
    with wal.open("r+b") as file:
        file.truncate(wal.stat().st_size // 2)
    with pytest.raises(StoreDamagedError, match="are lost"):
        open_log(folder, Outcomes())
    log = open_log(folder, Outcomes(), accept_loss=True)
    assert log.report.lost is not None
    assert log.report.lost[1] + 2 == log.next_lsn
    log.close()
    open_log(folder, Outcomes()).close()


def test_a_torn_commit_that_nobody_was_told_of_is_cut(tmp_path: Path, repository: Path) -> None:
    """HEAD is written after the commit: what it does not know may be cut silently."""
    folder = tmp_path / "store"
    outcomes = Outcomes()
    log = open_log(folder, outcomes)
    outcomes.wait_for(log.append([publish(0)], 1))
    known = (folder / "HEAD").read_bytes()
    outcomes.wait_for(log.append([publish(1)], 2))
    # By another process: closing a live file here would drop SQLite's locks.
    subprocess.run(["cp", "-r", str(folder), str(tmp_path / "copy")], check=True)
    log.close()
    (tmp_path / "copy" / "HEAD").write_bytes(known)
    (wal,) = (tmp_path / "copy").glob("*-wal")
    with wal.open("r+b") as file:
        file.truncate(wal.stat().st_size - 100)
    log = open_log(tmp_path / "copy", Outcomes())
    assert (log.next_lsn, log.next_offset) == (2, 1)
    check_whole(log)
    log.close()
