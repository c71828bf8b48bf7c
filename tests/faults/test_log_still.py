"""Connections that take a file for one that never changes: only where nothing can be written.

SQLite says "unable to open" both to who lacks the right to make a -shm and to a process that
has no file descriptor left for a moment.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from hermes.errors import StoreError
from hermes.log.log import open_log
from hermes.log.port import LogReader
from hermes.log.reader import open_reader
from tests.contract.records import BIG, Outcomes, publish, snapshot
from tests.support.faults.log_story import make_small
from tests.support.faults.recording import Trouble, recording
from tests.support.permissions import public_folder, reading_only


def lsns(reader: LogReader, from_lsn: int = 1) -> list[int]:
    return [record.lsn for record in reader.read(from_lsn, limit=99, limit_bytes=BIG)]


def test_a_wal_that_cannot_be_opened_for_a_moment_is_not_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment without anything in its WAL yet was opened as one that never changes: the
    connection was kept, and its readers saw nothing of what was committed from then on."""
    make_small(monkeypatch)  # no keeper, whose calls would be counted too
    outcomes = Outcomes()
    with recording(tmp_path / "store") as recorder:
        log = open_log(recorder.folder, outcomes, low_space_bytes=0, vfs=recorder.vfs_name)
        log.append([publish(0)], 1)
        outcomes.wait_for(log.roll(snapshot(), 2))
        reader = log.reader()
        recorder.counts(Trouble(0, errno.EMFILE, kinds=frozenset({"open"})))
        with pytest.raises(StoreError, match="CantOpenError"):
            lsns(reader, 3)
        assert recorder.struck[0].endswith("2.segment-wal")
        recorder.counts(None)
        assert lsns(reader, 3) == [3]
        outcomes.wait_for(log.append([publish(1)], 4))
        assert lsns(reader, 3) == [3, 4]
        log.close()


@pytest.fixture
def public() -> Iterator[Path]:
    with public_folder() as folder:
        yield folder / "store"


def test_a_store_at_rest_that_is_served_later(public: Path) -> None:
    """The connection of a reader without write permission went on showing what there was."""
    outcomes = Outcomes()
    log = open_log(public, outcomes, low_space_bytes=0)
    outcomes.wait_for(log.append([publish(0)], 1))
    log.close()
    with reading_only(public):
        reader = open_reader(public)
        assert lsns(reader) == [1]
    for path in public.iterdir():
        path.chmod(0o600)
    log = open_log(public, outcomes, low_space_bytes=0)
    outcomes.wait_for(log.append([publish(1)], 2))
    with reading_only(public):
        assert lsns(reader) == [1, 2]
    log.close()
    reader.close()
