"""A dropped file: its name goes at once, its space by and by, what is read stays whole."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from hermes.log.shrinking import REST_NS, STEP_BYTES, Shrinking
from tests.support.world import VirtualClock

SIZE_BYTES = 3 * STEP_BYTES

READER = """
import sys, apsw
db = apsw.Connection(sys.argv[1], flags=apsw.SQLITE_OPEN_READONLY)
db.execute("BEGIN")
db.execute("SELECT count(*) FROM rows").fetchall()
print("reading", flush=True)
sys.stdin.read()
print(sum(len(row[0]) for row in db.execute("SELECT body FROM rows")))
"""


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "00000000000000000001.segment"
    db = apsw.Connection(str(path))
    db.execute("CREATE TABLE rows (body BLOB)")
    db.execute("INSERT INTO rows VALUES (zeroblob(?))", (SIZE_BYTES,))
    db.close()
    path.chmod(0o400)
    return path


@pytest.fixture
def shrinking(clock: VirtualClock) -> Iterator[Shrinking]:
    shrinking = Shrinking(clock)
    yield shrinking
    shrinking.close()


def test_the_name_goes_at_once_and_the_space_in_steps(
    path: Path, shrinking: Shrinking, clock: VirtualClock
) -> None:
    watched = os.open(path, os.O_RDONLY)
    try:
        whole_bytes = os.fstat(watched).st_size
        shrinking.take(path)
        assert not path.exists()
        shrinking.step()
        assert os.fstat(watched).st_size == whole_bytes, "a look-up may still be at it"
        clock.advance(REST_NS / 1e9)
        sizes = []
        while len(shrinking):
            shrinking.step()
            sizes.append(os.fstat(watched).st_size)
        assert sizes == [max(0, whole_bytes - n * STEP_BYTES) for n in range(1, len(sizes) + 1)]
        assert sizes[-1] == 0
    finally:
        os.close(watched)


def test_a_small_file_is_just_removed(tmp_path: Path, shrinking: Shrinking) -> None:
    path = tmp_path / "small.segment"
    path.write_bytes(b"x")
    shrinking.take(path)
    assert not path.exists() and not len(shrinking)
    shrinking.take(path)  # and again: it is gone already
    assert not len(shrinking)


def test_what_another_process_reads_stays_whole(
    path: Path, shrinking: Shrinking, clock: VirtualClock
) -> None:
    """An audit that is at the segment must not find it damaged."""
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert reader.stdout is not None
    assert reader.stdout.readline() == "reading\n"
    shrinking.take(path)
    assert not path.exists() and not len(shrinking)
    clock.advance(2 * REST_NS / 1e9)
    shrinking.step()
    said, _ = reader.communicate("")
    assert reader.returncode == 0
    assert int(said) == SIZE_BYTES


def test_a_replaced_file_shrinks_as_a_dropped_one(
    path: Path, shrinking: Shrinking, clock: VirtualClock
) -> None:
    new = path.with_name("new")
    new.write_bytes(b"new")
    watched = os.open(path, os.O_RDONLY)
    try:
        shrinking.take_replaced(path, new)
        assert path.read_bytes() == b"new" and not new.exists()
        clock.advance(REST_NS / 1e9)
        while len(shrinking):
            shrinking.step()
        assert os.fstat(watched).st_size == 0
    finally:
        os.close(watched)


def test_a_replaced_file_stays_whole_for_who_reads_it_after_its_rest(
    path: Path, shrinking: Shrinking, clock: VirtualClock
) -> None:
    new = path.with_name("new")
    new.write_bytes(b"new")
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert reader.stdout is not None
    assert reader.stdout.readline() == "reading\n"
    shrinking.take_replaced(path, new)
    clock.advance(REST_NS / 1e9)
    shrinking.step()
    assert not len(shrinking)
    said, _ = reader.communicate("")
    assert reader.returncode == 0
    assert int(said) == SIZE_BYTES


@pytest.mark.parametrize("replaced", [True, False])
def test_what_has_another_name_is_left_alone(
    path: Path, shrinking: Shrinking, replaced: bool
) -> None:
    other, new = path.with_name("backup"), path.with_name("new")
    other.hardlink_to(path)
    before = other.stat()
    new.write_bytes(b"new")
    if replaced:
        shrinking.take_replaced(path, new)
    else:
        shrinking.take(path)
    assert not len(shrinking)
    assert (other.stat().st_size, other.stat().st_mode) == (before.st_size, before.st_mode)
