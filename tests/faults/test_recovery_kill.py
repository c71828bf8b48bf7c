"""A start that is killed: at each call that changes the disk, before it and after it.

The opening runs in a child process that exits at the n-th such call, without any clean-up;
n grows until the opening comes through. After each kill the store is opened again and must
be what an undisturbed opening makes of the same folder.
"""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hermes.log import head as head_file
from hermes.log.facts import Mark
from hermes.log.head import BLOCK_BYTES, create_head, read_head
from hermes.log.log import open_log
from hermes.log.segment import file_name
from tests.contract.records import BIG, Outcomes, dropped, publish
from tests.contract.store import put
from tests.faults.opening_child import KILLED, OPENED, open_until
from tests.support.folders import StoreFolder, three_segments

CALLS_MAX = 200
# Forked from a process without threads: a fork of this one, in which other tests have left
# some, may inherit a lock that nobody will give back.
CHILDREN = multiprocessing.get_context("forkserver")
CHILDREN.set_forkserver_preload(["tests.faults.opening_child"])


def make_nothing(_folder: Path) -> None:
    """There is no store yet."""


def make_drop_and_wal(folder: Path) -> None:
    """A WAL to copy, a drop to finish, leftovers to clear, a bad slot to mend."""
    three_segments(folder, dropped(1, 3), killed=True)
    (folder / (file_name(10) + ".new")).write_bytes(b"half a segment")
    (folder / (file_name(99) + "-wal")).write_bytes(b"a wal without a file")
    with (folder / head_file.FILE_NAME).open("r+b") as file:
        file.seek(BLOCK_BYTES + 40)
        file.write(b"\xff" * 8)


def make_short(folder: Path) -> None:
    """HEAD knows three records more than there are."""
    three_segments(folder, dropped(1, 3), killed=True)
    path = folder / head_file.FILE_NAME
    head = read_head(path)
    assert head is not None
    create_head(path, head.store_id, Mark(head.mark.lsn + 3, 9, bytes(32)))


def make_unfinished(folder: Path) -> None:
    """A HEAD that knows nothing, and no segment: a new store whose segment was lost."""
    open_log(folder, Outcomes()).close()
    (folder / file_name(1)).unlink()


def killed_opening(folder: Path, number: int, *, accept_loss: bool) -> bool:
    """Open in a child that dies at the number-th place; whether it died."""
    child = CHILDREN.Process(target=open_until, args=(folder, number, accept_loss))
    child.start()
    child.join()
    assert child.exitcode in (OPENED, KILLED), "the opening failed by itself"
    return child.exitcode == KILLED


def state(folder: Path, *, accept_loss: bool) -> tuple[object, ...]:
    """Open; everything that is there then, and which files."""
    opened = open_log(folder, Outcomes(), accept_loss=accept_loss)
    records = [
        (r.lsn, r.kind, r.first, r.last, r.body if r.lsn < 10 else b"")
        for r in opened.reader().read(1, limit=100, limit_bytes=BIG)
    ]
    facts = (opened.next_lsn, opened.next_offset, opened.oldest_offset)
    opened.close()
    again = open_log(folder, Outcomes())
    assert (again.report.rule, again.report.warnings) == ("sound", ())
    again.close()
    return *facts, records, sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("make", "accept_loss", "least"),
    [
        (make_nothing, False, 12),
        (make_unfinished, False, 10),
        (make_drop_and_wal, False, 12),
        (make_short, True, 14),
    ],
)
def test_a_killed_start_ends_where_an_undisturbed_one_does(
    make: Callable[[Path], None], accept_loss: bool, least: int, tmp_path: Path
) -> None:
    origin = tmp_path / "origin"
    make(origin)

    def copy(name: str) -> Path:
        folder = tmp_path / name
        if origin.exists():
            shutil.copytree(origin, folder)
        return folder

    expected = state(copy("undisturbed"), accept_loss=accept_loss)
    kills = 0
    for number in range(1, CALLS_MAX):
        folder = copy(f"cut-{number}")
        if not killed_opening(folder, number, accept_loss=accept_loss):
            break
        kills += 1
        # A loss that was accepted and begun is not to be accepted again, but may be.
        assert state(folder, accept_loss=accept_loss) == expected, f"killed at place {number}"
        shutil.rmtree(folder)
    else:
        raise AssertionError("the opening never came through")
    assert kills >= least


def test_an_unfinished_creation_is_finished_under_one_id(tmp_path: Path) -> None:
    """A creation that found an old HEAD used to take a new id: killed
    between segment and HEAD it left two ids in one folder, refused for ever."""
    folder = tmp_path / "store"
    make_unfinished(folder)
    head = read_head(folder / head_file.FILE_NAME)
    assert head is not None
    store = StoreFolder(folder)
    log = store.open()
    assert log.store_id == head.store_id
    put(store, log, publish(0))
    log.close()
    log = store.open()
    assert log.report.rule == "sound"
    log.close()
