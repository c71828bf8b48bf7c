"""A segment written anew without retired payloads, and who notices the exchange."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hermes.errors import StoreFullError
from hermes.log.compaction import RANGES_AT_ONCE
from hermes.log.log import SqliteLog
from hermes.log.reader import open_reader
from hermes.log.record import Kind
from hermes.log.restore import restore_backup
from hermes.log.scan import SegmentScan
from hermes.log.segment import file_name, is_sealed_file
from hermes.log.shrinking import STEP_BYTES
from hermes.log.space import Space
from tests.contract.records import BIG, Outcomes, compacted, dropped
from tests.support.backups import add, backup, living, records_of, roll, until

# Each segment of `living` begins with so many batches of three messages.
LAST_OFFSET = 14

READER = """
import sys
from hermes.log.reader import open_reader
reader = open_reader(sys.argv[1])
for _ in sys.stdin:
    records = reader.read(1, limit=5, limit_bytes=1 << 20)
    print(sum(record.payload is None for record in records), flush=True)
"""


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[tuple[SqliteLog, Outcomes]]:
    """A store of three segments, at tmp_path / store."""
    with living(tmp_path / "store", segments=3) as opened:
        yield opened


def announce(log: SqliteLog, outcomes: Outcomes, *ranges: tuple[int, int]) -> None:
    first = log.segments()[0]
    record = compacted(first.first_lsn, first.last_lsn, *ranges)
    outcomes.wait_for(log.append([record], log.next_lsn))


def compact(log: SqliteLog, outcomes: Outcomes, *ranges: tuple[int, int]) -> None:
    """Announce for the oldest segment, and wait until it is done."""
    announce(log, outcomes, *ranges)
    log.compact(log.segments()[0].first_lsn)
    until(lambda: not log.compactions)


def test_the_new_file_is_a_segment_like_any_other(
    tmp_path: Path, opened: tuple[SqliteLog, Outcomes]
) -> None:
    log, outcomes = opened
    path = tmp_path / "store" / file_name(1)
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        schema = db.execute("SELECT sql FROM sqlite_schema ORDER BY name").fetchall()
    compact(log, outcomes, (0, LAST_OFFSET))
    assert is_sealed_file(path)
    assert sorted(p.name for p in path.parent.glob(f"{path.stem}*")) == [path.name]
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        assert db.execute("SELECT sql FROM sqlite_schema ORDER BY name").fetchall() == schema
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("PRAGMA journal_mode").fetchall() == [("delete",)]
        meta = dict(db.execute("SELECT name, value FROM meta"))
        assert meta["retired"] == f"[0,{LAST_OFFSET}]"
        assert (meta["payload_bytes"], meta["compacted_lsn"]) == (0, log.committed.lsn)


def test_more_ranges_than_are_taken_over_at_once(tmp_path: Path) -> None:
    batches = 2 * RANGES_AT_ONCE + 2
    retired = [(first, first + 2) for first in range(0, 3 * batches, 6)]
    with living(tmp_path / "store") as (log, outcomes):
        add(log, outcomes, batches, payload=b"x")
        roll(log, outcomes)
        compact(log, outcomes, *retired)
        assert log.segments()[0].retired == tuple(retired)
    published = [r for r in records_of(tmp_path / "store") if r.kind == Kind.PUBLISHED]
    gone = [record.first for record in published if record.payload is None]
    assert gone == [first for first, _ in retired]


def test_space_comes_back(tmp_path: Path) -> None:
    with living(tmp_path / "store") as (log, outcomes):
        add(log, outcomes, 40, payload=os.urandom(50_000))
        roll(log, outcomes)
        before = log.segments()[0].bytes
        compact(log, outcomes, (0, 20 * 3 - 1))
        after = log.segments()[0]
        assert before > 2_000_000
        assert after.bytes < 0.7 * before
        assert after.payload_bytes == 25 * (50_000 + 16)
        assert is_sealed_file(tmp_path / "store" / file_name(1))


def test_readers_in_other_processes_see_the_new_file(
    tmp_path: Path, opened: tuple[SqliteLog, Outcomes]
) -> None:
    log, outcomes = opened
    child = subprocess.Popen(
        [sys.executable, "-c", READER, tmp_path / "store"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdin is not None and child.stdout is not None

        def retired() -> int:
            assert child.stdin is not None and child.stdout is not None
            print(file=child.stdin, flush=True)
            return int(child.stdout.readline())

        assert retired() == 0
        compact(log, outcomes, (0, LAST_OFFSET))
        assert retired() == 5
        child.stdin.close()
        assert child.wait() == 0


def test_what_is_being_read_goes_on(tmp_path: Path, opened: tuple[SqliteLog, Outcomes]) -> None:
    log, outcomes = opened
    path = tmp_path / "store" / file_name(1)
    # A connection inside a transaction reads the old file to its end, a scan the new one.
    with (
        closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db,
        SegmentScan(path) as scan,
        closing(open_reader(path.parent)) as reader,
    ):
        db.execute("BEGIN")
        rows = db.execute("SELECT payload FROM records WHERE kind = 1 ORDER BY lsn")
        first = [rows.fetchone()]
        scanned = scan.rows(1, 2, limit_bytes=BIG)
        page = reader.read(1, limit=2, limit_bytes=BIG)
        compact(log, outcomes, (0, LAST_OFFSET))
        assert len([row for row in first + rows.fetchall() if row[0] is not None]) == 5
        scanned += scan.rows(3, 5, limit_bytes=BIG)
        assert [row[7] is None for row in scanned] == [False, False, True, True, True]
        page += reader.read(3, limit=3, limit_bytes=BIG)
        assert [r.payload is None for r in page] == [False, False, True, True, True]
        assert reader.segments()[0].retired == ((0, LAST_OFFSET),)


def test_a_backup_copies_the_new_file_and_no_other(
    tmp_path: Path, opened: tuple[SqliteLog, Outcomes]
) -> None:
    log, outcomes = opened
    store, folder = tmp_path / "store", tmp_path / "backup"
    backup(store, folder)
    compact(log, outcomes, (0, LAST_OFFSET))
    done = backup(store, folder)
    assert done.copied_segments == 2, "the compacted one, and the active one that grew"
    restore_backup(folder, tmp_path / "again")
    assert records_of(tmp_path / "again") == records_of(store)


def test_a_backup_by_links_keeps_what_it_links(tmp_path: Path) -> None:
    store, folder = tmp_path / "store", tmp_path / "backup"
    with living(store) as (log, outcomes):
        add(log, outcomes, 3, payload=os.urandom(2 * STEP_BYTES))
        roll(log, outcomes)
        linked = backup(store, folder, link=True).manifest.segments[0]
        before = (folder / linked.file).stat()
        compact(log, outcomes, (0, log.next_offset - 1))
        # Found: the space of a dropped file was given back although a backup had linked it.
        assert not log._keeper.shrinking
        assert (folder / linked.file).stat().st_mode == before.st_mode
    restore_backup(folder, tmp_path / "again")
    held = records_of(tmp_path / "again", last_lsn=linked.last_lsn)
    assert all(record.payload is not None for record in held)


def test_a_restored_backup_goes_on_with_the_compaction(tmp_path: Path) -> None:
    store, folder, again = tmp_path / "store", tmp_path / "backup", tmp_path / "again"
    with living(store, segments=3) as (log, outcomes):
        announce(log, outcomes, (0, LAST_OFFSET))
        backup(store, folder)
    restore_backup(folder, again)
    with living(again) as (log, _):
        until(lambda: not log.compactions)
        assert log.segments()[0].retired == ((0, LAST_OFFSET),)


def test_without_room_it_waits(
    tmp_path: Path, opened: tuple[SqliteLog, Outcomes], monkeypatch: pytest.MonkeyPatch
) -> None:
    log, outcomes = opened
    monkeypatch.setattr("hermes.limits.COMPACTION_RETRY_SECS", 0.05)
    with monkeypatch.context() as full:
        full.setattr(Space, "holds", lambda *_: False)
        assert not log.room_to_compact(1)
        announce(log, outcomes, (0, LAST_OFFSET))
        log.compact(1)
        until(lambda: any(work.error for work in log.compactions))
        (work,) = log.compactions
        assert isinstance(work.error, StoreFullError)
        assert not work.stuck
        assert log.segments()[0].compacted_lsn == 0
    until(lambda: not log.compactions)
    assert log.segments()[0].retired == ((0, LAST_OFFSET),)


def test_a_segment_dropped_meanwhile_does_not_come_back(
    tmp_path: Path, opened: tuple[SqliteLog, Outcomes], monkeypatch: pytest.MonkeyPatch
) -> None:
    log, outcomes = opened
    first, second, _ = log.segments()
    announce(log, outcomes, (0, LAST_OFFSET))
    outcomes.wait_for(log.append([dropped(first.first_lsn, first.last_lsn)], log.next_lsn))
    rest = log._compactor._rest
    raced: list[bool] = []

    def drop_it(times: int) -> None:
        if not raced:
            raced.append(True)
            log.drop(first.first_lsn)
        rest(times)

    monkeypatch.setattr(log._compactor, "_rest", drop_it)
    log.compact(first.first_lsn)
    until(lambda: not log.compactions)
    assert raced
    until(lambda: not (tmp_path / "store" / file_name(1)).exists())
    assert [path.name for path in (tmp_path / "store").glob("*.new")] == []
    assert log.segments()[0].first_lsn == second.first_lsn
