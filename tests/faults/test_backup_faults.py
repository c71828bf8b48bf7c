"""Invariant 20 for backups: a kill or a full disk leaves the old backup or the new one."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hermes.errors import StoreError, StoreFullError
from hermes.log import backup_files
from hermes.log.backup_folder import read_manifest
from hermes.log.log import open_log
from hermes.log.restore import restore_backup
from hermes.log.schema import Pragma
from tests.contract.records import Outcomes
from tests.support.backups import at_rest, backup, grown, holds_only_what_it_names, records_of

# Kills itself instead of making a certain system call for the nth time.
CHILD = """
import os, signal, sys
from pathlib import Path
from hermes.log.backup import take_backup
from hermes.log.restore import restore_backup

what, source, target, name, countdown = *sys.argv[1:5], int(sys.argv[5])
real = getattr(os, name)

def call(*arguments, **options):
    global countdown
    countdown -= 1
    if countdown < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **options)

setattr(os, name, call)
if what == "backup":
    take_backup(Path(source), Path(target), taken_at_ns=1)
else:
    restore_backup(Path(source), Path(target))
"""
# System calls and how often each was made before the kill; a run makes a few more of each.
MOMENTS = [
    ("write", 0),
    ("write", 1),
    ("fsync", 0),
    ("fsync", 2),
    ("fsync", 3),
    ("replace", 0),
    ("replace", 2),
    ("replace", 3),
]


def killed(what: str, source: Path, target: Path, call: str, nth: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, what, str(source), str(target), call, str(nth)],
        check=False,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize(("call", "nth"), [*MOMENTS, ("unlink", 0), ("unlink", 4)])
def test_a_kill_leaves_the_old_backup_or_the_new_one(tmp_path: Path, call: str, nth: int) -> None:
    store, folder = at_rest(tmp_path / "store", 2), tmp_path / "backup"
    old = backup(store, folder).manifest
    grown(store, segments=2)
    killed("backup", store, folder, call, nth)
    now = read_manifest(folder)
    assert now is not None
    assert now == old or now.last_lsn == records_of(store)[-1].lsn
    restore_backup(folder, tmp_path / "again")
    assert records_of(tmp_path / "again") == records_of(store, now.last_lsn)
    backup(store, folder)
    assert holds_only_what_it_names(folder)
    restore_backup(folder, tmp_path / "newest")
    assert records_of(tmp_path / "newest") == records_of(store)


@pytest.mark.parametrize(("call", "nth"), MOMENTS)
def test_a_killed_first_backup_is_none(tmp_path: Path, call: str, nth: int) -> None:
    store, folder = at_rest(tmp_path / "store", 4), tmp_path / "backup"
    killed("backup", store, folder, call, nth)
    assert read_manifest(folder) is None
    backup(store, folder)
    assert holds_only_what_it_names(folder)


@pytest.mark.parametrize(("call", "nth"), MOMENTS)
def test_a_killed_restore_is_no_store(tmp_path: Path, call: str, nth: int) -> None:
    store, folder, again = at_rest(tmp_path / "store"), tmp_path / "backup", tmp_path / "again"
    backup(store, folder)
    killed("restore", folder, again, call, nth)
    if (again / "HEAD").exists():
        with pytest.raises(StoreError, match="was not finished"):
            open_log(again, Outcomes())
    restore_backup(folder, again)
    assert records_of(again) == records_of(store)


@pytest.mark.parametrize("nth", [0, 1, 2])
def test_a_disk_that_fills_up_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    store, folder = at_rest(tmp_path / "store", 2), tmp_path / "backup"
    old = backup(store, folder).manifest
    grown(store, segments=2)
    real, left = os.write, [nth]

    def write(fd: int, data: bytes) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data)

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", write)
        with pytest.raises(StoreFullError, match="no space left"):
            backup(store, folder)
    assert read_manifest(folder) == old
    assert not list(folder.glob("*.new"))
    restore_backup(folder, tmp_path / "again")
    backup(store, folder)
    assert holds_only_what_it_names(folder)


def test_a_disk_that_fills_up_under_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last segment is written by SQLite, and its own limit is a full disk to it."""
    store, folder = at_rest(tmp_path / "store", 2), tmp_path / "backup"
    old = backup(store, folder).manifest
    grown(store, segments=0)
    limit = Pragma("max_page_count", 3, 3, "for the test")
    with monkeypatch.context() as patched:
        pragmas = (*backup_files._COPY_PRAGMAS, limit)
        patched.setattr(backup_files, "_COPY_PRAGMAS", pragmas)
        with pytest.raises(StoreFullError, match="no space left"):
            backup(store, folder)
    assert read_manifest(folder) == old
    backup(store, folder)
    assert holds_only_what_it_names(folder)


def test_a_disk_that_fills_up_in_a_restore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, folder = at_rest(tmp_path / "store"), tmp_path / "backup"
    backup(store, folder)
    real, left = os.write, [4]

    def write(fd: int, data: bytes) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data)

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", write)
        with pytest.raises(StoreFullError):
            restore_backup(folder, tmp_path / "again")
    assert not (tmp_path / "again").exists()
    restore_backup(folder, tmp_path / "again")
