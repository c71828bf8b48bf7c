"""Backups of small stores, living and at rest: what is in them, and what is copied again."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from hermes import limits
from hermes.errors import (
    StoreDamagedError,
    StoreError,
    StoreFullError,
    StoreLockedError,
    UnavailableError,
)
from hermes.log import backup_files
from hermes.log.backup import Progress
from hermes.log.backup_folder import read_manifest
from hermes.log.database import connect_to_read
from hermes.log.facts import Mark
from hermes.log.head import create_head
from hermes.log.log import open_log
from hermes.log.restore import restore_backup
from hermes.log.segment import file_name
from tests.contract.records import Outcomes, dropped, snapshot
from tests.support.backups import (
    add,
    at_rest,
    backup,
    grown,
    holds_only_what_it_names,
    living,
    records_of,
    roll,
    until,
)


def restored(folder: Path, store: Path) -> Path:
    restore_backup(folder, store)
    return store


def test_a_living_store_is_backed_up_to_its_last_commit(tmp_path: Path) -> None:
    store, folder = tmp_path / "store", tmp_path / "backup"
    with living(store, segments=3) as (log, outcomes):
        done = backup(store, folder)
        manifest = done.manifest
        assert (manifest.first_lsn, manifest.last_lsn) == (1, log.committed.lsn)
        assert manifest.end == log.committed
        assert manifest.store_id == log.store_id
        assert done.copied_segments == len(manifest.segments) == 3
        assert done.copied_bytes == manifest.bytes
        assert [s.source_mtime_ns is None for s in manifest.segments] == [False, False, True]
        add(log, outcomes, 2)
    assert holds_only_what_it_names(folder)
    again = restored(folder, tmp_path / "again")
    assert records_of(again) == records_of(store, manifest.last_lsn)
    log = open_log(again, Outcomes())
    assert (log.next_lsn, log.store_id) == (manifest.last_lsn + 1, manifest.store_id)
    assert not log.report.warnings
    log.close()


def test_a_store_at_rest_is_left_as_it_is(tmp_path: Path) -> None:
    store = at_rest(tmp_path / "store")
    before = {p.name: (p.stat().st_mtime_ns, p.stat().st_size) for p in store.iterdir()}
    done = backup(store, tmp_path / "backup")
    after = {p.name: (p.stat().st_mtime_ns, p.stat().st_size) for p in store.iterdir()}
    assert {name: after[name] for name in before} == before
    assert records_of(restored(tmp_path / "backup", tmp_path / "again")) == records_of(store)
    assert done.manifest.checkpoint is None


def test_a_new_store_without_a_record(tmp_path: Path) -> None:
    open_log(tmp_path / "store", Outcomes()).close()
    done = backup(tmp_path / "store", tmp_path / "backup")
    assert (done.manifest.first_lsn, done.manifest.last_lsn) == (1, 0)
    log = open_log(restored(tmp_path / "backup", tmp_path / "again"), Outcomes())
    assert (log.next_lsn, log.store_id) == (1, done.manifest.store_id)
    log.close()


def test_only_what_is_new_is_copied(tmp_path: Path) -> None:
    store, folder = tmp_path / "store", tmp_path / "backup"
    with living(store, segments=3) as (log, outcomes):
        first = backup(store, folder).manifest
        unchanged = backup(store, folder)
        assert (unchanged.copied_segments, unchanged.copied_bytes) == (0, 0)
        inodes = {s.file: (folder / s.file).stat().st_ino for s in first.segments}
        add(log, outcomes, 1)
        roll(log, outcomes)
        add(log, outcomes, 1)
        second = backup(store, folder)
    kept = {s.file: s for s in second.manifest.segments if s.file in inodes}
    assert set(kept.values()) == set(first.segments[:2])
    assert all((folder / name).stat().st_ino == inodes[name] for name in kept)
    # The segment that was sealed since, and the new last one; the earlier copy of it is gone.
    assert second.copied_segments == 2
    assert second.copied_bytes == sum(s.bytes for s in second.manifest.segments[2:])
    assert holds_only_what_it_names(folder)


def test_a_restored_store_knows_its_backup(tmp_path: Path) -> None:
    """What was restored need not be copied again: sealed files keep the time of the original."""
    backup(at_rest(tmp_path / "store"), tmp_path / "backup")
    again = restored(tmp_path / "backup", tmp_path / "again")
    grown(again, segments=0)
    done = backup(again, tmp_path / "backup")
    assert (done.copied_segments, len(done.manifest.segments)) == (1, 3)


def test_a_segment_that_was_rewritten_is_copied_again(tmp_path: Path) -> None:
    """As by a compaction: the same records, without some payloads."""
    store, folder = at_rest(tmp_path / "store"), tmp_path / "backup"
    backup(store, folder)
    os.utime(store / file_name(1), ns=(1, 1))
    assert backup(store, folder).copied_segments == 1
    (folder / backup(store, folder).manifest.segments[0].file).unlink()
    assert backup(store, folder).copied_segments == 1, "a file that is missing is made again"


def test_a_segment_that_is_not_sealed_yet(tmp_path: Path) -> None:
    """A reader holds it open, so it keeps its WAL after the roll."""
    store, folder = tmp_path / "store", tmp_path / "backup"
    with living(store) as (log, outcomes):
        db = connect_to_read(store / file_name(1))
        outcomes.wait_for(log.roll(snapshot(), log.next_lsn))
        add(log, outcomes, 1)
        done = backup(store, folder, seal_wait_secs=0.1)
        assert [s.source_mtime_ns for s in done.manifest.segments] == [None, None]
        db.close()
        until(lambda: not (store / file_name(1)).stat().st_mode & 0o200)
        assert backup(store, folder).manifest.segments[0].source_mtime_ns is not None
        expected = records_of(store)
    assert records_of(restored(folder, tmp_path / "again")) == expected


def is_gone(path: Path) -> bool:
    return not path.exists()


def test_segments_that_are_dropped_meanwhile(tmp_path: Path) -> None:
    store, folder = tmp_path / "store", tmp_path / "backup"
    with living(store, segments=4) as (log, outcomes):
        ends = [(s.first_lsn, s.last_lsn) for s in log.segments()[:2]]
        before = records_of(store)

        def drop_two(_: Progress) -> None:
            while ends:
                first_lsn, last_lsn = ends.pop(0)
                outcomes.wait_for(log.append([dropped(first_lsn, last_lsn)], log.next_lsn))
                log.drop(first_lsn)
                until(partial(is_gone, store / file_name(first_lsn)))

        done = backup(store, folder, told=drop_two)
    assert len(done.manifest.segments) == 2
    assert holds_only_what_it_names(folder)
    again = restored(folder, tmp_path / "again")
    log = open_log(again, Outcomes())
    assert log.next_lsn == done.manifest.last_lsn + 1
    held = log.reader().read(1, limit=999, limit_bytes=limits.MIB)
    log.close()
    assert held[0].lsn == done.manifest.first_lsn
    assert [r for r in held if r.lsn <= before[-1].lsn] == before[held[0].lsn - 1 :]


def test_links_share_the_file_until_it_is_restored(tmp_path: Path) -> None:
    store, folder = at_rest(tmp_path / "store"), tmp_path / "backup"
    done = backup(store, folder, link=True)
    first = folder / done.manifest.segments[0].file
    assert first.samefile(store / file_name(1))
    assert backup(store, folder, link=True).copied_bytes == 0
    again = restored(folder, tmp_path / "again")
    assert not (again / file_name(1)).samefile(first)
    assert records_of(again) == records_of(store)


def test_files_of_the_store_are_carried_along(tmp_path: Path) -> None:
    store, folder = at_rest(tmp_path / "store", segments=1), tmp_path / "backup"
    (store / "checkpoint.key").write_text("secret")
    (store / "checkpoint.key").chmod(0o600)
    done = backup(store, folder, carry=("checkpoint.pub", "checkpoint.key"))
    (key,) = done.manifest.carried
    assert (key.name, key.mode) == ("checkpoint.key", 0o600)
    assert (folder / key.file).stat().st_mode & 0o777 == 0o600
    again = restored(folder, tmp_path / "again")
    assert (again / "checkpoint.key").read_text() == "secret"
    assert (again / "checkpoint.key").stat().st_mode & 0o777 == 0o600
    # Not asked for, not kept.
    assert backup(store, folder, carry=("checkpoint.pub",)).manifest.carried == ()
    assert not (folder / key.file).exists()


# -------------------------------------------------------------------- refusals


def test_what_is_no_place_for_a_backup(tmp_path: Path) -> None:
    store, other = at_rest(tmp_path / "store", 1), at_rest(tmp_path / "other", 1)
    backup(other, tmp_path / "backup")
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "letter").touch()
    for folder, words in (
        (tmp_path / "papers", "holds other files"),
        (tmp_path / "papers" / "letter", "is a file"),
        (tmp_path / "backup", "another store"),
        (other, "holds other files"),
        (store / "backup", "one within the other"),
        (tmp_path, "one within the other"),
    ):
        with pytest.raises(StoreError, match=words):
            backup(store, folder)
    assert read_manifest(tmp_path / "backup") is not None
    assert [p.name for p in (tmp_path / "papers").iterdir()] == ["letter"]


def test_what_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for store in (tmp_path / "empty", tmp_path / "missing"):
        with pytest.raises(StoreError, match="holds no store"):
            backup(store, tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


def test_one_backup_at_a_time_in_a_folder(tmp_path: Path) -> None:
    store, folder = at_rest(tmp_path / "store", 1), tmp_path / "backup"
    folder.mkdir()
    lock = backup_files.FolderLock(folder)
    with pytest.raises(StoreLockedError, match="another backup"):
        backup(store, folder)
    lock.release()
    backup(store, folder)


def test_a_log_that_ends_before_head_takes_no_good_backups_place(tmp_path: Path) -> None:
    store, folder = at_rest(tmp_path / "store"), tmp_path / "backup"
    manifest = backup(store, folder).manifest
    end = manifest.end
    create_head(store / "HEAD", manifest.store_id, Mark(end.lsn + 2, end.next_offset, end.chain))
    with pytest.raises(StoreDamagedError, match=f"records {end.lsn + 1}..{end.lsn + 2}"):
        backup(store, folder)
    assert read_manifest(folder) == manifest


def test_a_missing_segment_is_named(tmp_path: Path) -> None:
    store, folder = at_rest(tmp_path / "store"), tmp_path / "backup"
    second = backup(store, folder).manifest.segments[1]
    (store / file_name(second.first_lsn)).unlink()
    with pytest.raises(StoreDamagedError, match=f"{second.first_lsn}..{second.last_lsn} are miss"):
        backup(store, folder)
    assert second in backup_of(folder)


def backup_of(folder: Path) -> tuple[object, ...]:
    manifest = read_manifest(folder)
    assert manifest is not None
    return manifest.segments


def test_a_backup_that_is_stopped_leaves_the_old_one(tmp_path: Path) -> None:
    store, folder = at_rest(tmp_path / "store"), tmp_path / "backup"
    manifest = backup(store, folder).manifest
    grown(store, segments=2)
    told: list[Progress] = []
    with pytest.raises(UnavailableError, match="stopped"):
        backup(store, folder, told=told.append, stopped=lambda: len(told) > 4)
    assert read_manifest(folder) == manifest
    assert records_of(restored(folder, tmp_path / "old")) == records_of(store, manifest.last_lsn)
    backup(store, folder)
    assert holds_only_what_it_names(folder)


def test_no_room_is_seen_before_anything_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = at_rest(tmp_path / "store")
    # On the disk of the store itself a backup must leave it the room that it needs.
    monkeypatch.setattr(backup_files, "free_bytes", lambda _: limits.LOW_SPACE_BYTES + 1_000)
    with pytest.raises(StoreFullError, match="are needed and 134,217,728 are to stay free"):
        backup(store, tmp_path / "backup")
    assert [p.name for p in (tmp_path / "backup").iterdir()] == ["LOCK"]


def test_progress_ends_at_what_was_announced(tmp_path: Path) -> None:
    told: list[Progress] = []
    done = backup(at_rest(tmp_path / "store"), tmp_path / "backup", told=told.append)
    assert [p.copied_bytes for p in told] == sorted(p.copied_bytes for p in told)
    assert told[-1] == Progress(done.copied_bytes, done.copied_bytes, 3)


def test_what_is_sealed_is_copied_at_a_pace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paced: list[int] = []

    class Pace:
        def __init__(self, bytes_per_sec: int | None, _clock: object) -> None:
            assert bytes_per_sec == 1_000_000

        def rest_secs(self, moved_bytes: int) -> float:
            paced.append(moved_bytes)
            return 0.001

    monkeypatch.setattr("hermes.log.backup.Pace", Pace)
    store = at_rest(tmp_path / "store")
    report = backup(store, tmp_path / "backup", bytes_per_sec=1_000_000)
    # The last segment is read in a transaction, which must not be long.
    assert sum(paced) == sum(copy.bytes for copy in report.manifest.segments[:-1])


def test_a_resting_backup_stops_at_once(tmp_path: Path) -> None:
    store = at_rest(tmp_path / "store")
    asked = iter([False] * 3)
    with pytest.raises(UnavailableError, match="stopped"):
        # At one byte per second it would take hours.
        backup(store, tmp_path / "backup", bytes_per_sec=1, stopped=lambda: next(asked, True))
