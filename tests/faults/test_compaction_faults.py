"""Compactions that are killed, run out of disk, or meet damage: the old file or the new one."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from hermes.errors import StoreDamagedError, StoreError, StoreFullError
from hermes.log import compactor, schema
from hermes.log.log import SqliteLog, open_log
from hermes.log.record import Kind, StoredRecord
from hermes.log.schema import Pragma
from hermes.log.segment import file_name
from hermes.log.space import Space
from tests.contract.records import Outcomes, compacted, dropped
from tests.support.backups import living, records_of, until
from tests.support.tampering import segment

LAST_OFFSET = 14
CHILD = Path(__file__).with_name("compaction_child.py")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """At rest; a compaction of its first segment (of five batches) is announced."""
    store = tmp_path / "store"
    with living(store, segments=2) as (log, outcomes):
        announce(log, outcomes)
    return store


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hermes.limits.COMPACTION_RETRY_SECS", 0.02)


def announce(log: SqliteLog, outcomes: Outcomes, last_offset: int = LAST_OFFSET) -> None:
    first = log.segments()[0]
    record = compacted(first.first_lsn, first.last_lsn, (0, last_offset))
    outcomes.wait_for(log.append([record], log.next_lsn))


@pytest.fixture
def outcomes() -> Outcomes:
    return Outcomes()


def bare(records: list[StoredRecord]) -> list[tuple[object, ...]]:
    return [(r.lsn, r.kind, r.key, r.body, r.payload_hash, r.chain) for r in records]


def finished(store: Path, before: list[StoredRecord]) -> None:
    """Open it: what was announced is done, every record is there, nothing is left lying about."""
    with closing(open_log(store, Outcomes())) as log:
        until(lambda: not log.compactions)
        assert log.segments()[0].retired == ((0, LAST_OFFSET),)
        after = records_of(store)
        assert bare(after) == bare(before)
        assert [r.lsn for r in after[:5] if r.payload is not None] == []
    assert list(store.glob("*.new*")) == []


@pytest.mark.parametrize("moment", ["0", "1", "2", "3", "verified", "renamed"])
def test_killed_at_any_step_it_is_done_by_the_next_open(store: Path, moment: str) -> None:
    before = records_of(store)
    child = subprocess.run([sys.executable, CHILD, store, moment], check=False, timeout=60)
    assert child.returncode == -signal.SIGKILL
    assert bare(records_of(store)) == bare(before), "readers find the old file or the new"
    retired = [record.payload is None for record in records_of(store)[:5]]
    assert retired == [moment == "renamed"] * 5
    finished(store, before)


def fails_at(what: str, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one step of the work raise."""

    def fail(*_: object, **__: object) -> Iterator[None]:
        raise error

    place = {
        "copying": "compaction._copy_terms",
        "verifying": "compaction._verify",
        "renaming": "shrinking.Shrinking.take_replaced",
        "syncing the folder": "compactor.sync_folder",
    }[what]
    monkeypatch.setattr(f"hermes.log.{place}", fail)


@pytest.mark.parametrize("step", ["copying", "verifying", "renaming", "syncing the folder"])
@pytest.mark.parametrize("error", [apsw.IOError("disk I/O error"), OSError(28, "No space left")])
def test_an_error_of_the_disk_is_told_and_tried_again(
    store: Path,
    step: str,
    error: Exception,
    outcomes: Outcomes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = records_of(store)
    with monkeypatch.context() as failing:
        fails_at(step, error, failing)
        with closing(open_log(store, outcomes)) as log, caplog.at_level(logging.WARNING):
            if step == "syncing the folder":  # it is in its place; a later open would see either
                until(lambda: log.segments()[0].compacted_lsn > 0)
            else:
                until(lambda: any(work.error for work in log.compactions))
                assert [work.stuck for work in log.compactions] == [False]
                assert log.segments()[0].compacted_lsn == 0
                assert list(store.glob("*.new*")) == []
            until(lambda: any("is not compacted yet" in text for text in caplog.messages))
            failing.undo()
            until(lambda: not log.compactions)
            assert outcomes.error is None, "the log itself goes on"
    finished(store, before)


def test_a_full_disk_leaves_the_old_file(
    store: Path, outcomes: Outcomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = records_of(store)
    tight = Pragma("max_page_count", 8, 8, "SQLITE_FULL in the middle of the copy")
    with monkeypatch.context() as full:
        full.setattr(schema, "COMPACT_PRAGMAS", (*schema.COMPACT_PRAGMAS, tight))
        log = open_log(store, outcomes)
        until(lambda: any(work.error for work in log.compactions))
        assert isinstance(log.compactions[0].error, StoreFullError)
        assert log.compactions[0].stuck is False
    with closing(log):
        until(lambda: not log.compactions)
        assert outcomes.error is None
    finished(store, before)


def test_it_stops_when_the_disk_runs_low_meanwhile(
    store: Path, outcomes: Outcomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = records_of(store)
    with monkeypatch.context() as low:
        low.setattr(Space, "refresh", lambda space: setattr(space, "low", True))
        low.setattr(Space, "holds", lambda *_: True)
        log = open_log(store, outcomes)
        until(lambda: any(work.error for work in log.compactions))
        assert "runs low" in str(log.compactions[0].error)
        assert list(store.glob("*.new*")) == []
    with closing(log):
        until(lambda: not log.compactions)
    finished(store, before)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("UPDATE records SET body = x'00' WHERE lsn = 3", "record 3 does not hash"),
        ("UPDATE records SET at_ns = at_ns + 1 WHERE lsn = 2", "record 2 does not hash"),
        ("DELETE FROM records WHERE lsn = 2", "record 2 does not hash"),
        ("UPDATE records SET payload = x'00' WHERE lsn = 5", "payload of record 5"),
    ],
)
def test_a_damaged_source_is_refused_and_kept(
    tmp_path: Path, damage: str, said: str, outcomes: Outcomes
) -> None:
    store = tmp_path / "store"
    with living(store, segments=2) as (log, made):
        announce(log, made, last_offset=LAST_OFFSET - 3)  # the fifth batch keeps its payload
    path = store / file_name(1)
    with segment(path) as db:
        db.execute(damage)
    path.chmod(0o400)
    content = path.read_bytes()
    with closing(open_log(store, outcomes)) as log:
        until(lambda: any(work.stuck for work in log.compactions))
        error = log.compactions[0].error
        assert isinstance(error, StoreDamagedError)
        assert said in str(error)
        assert error.fields["last_lsn"] == 5
        assert path.read_bytes() == content
        assert list(store.glob("*.new*")) == []
        first = log.segments()[0]
        outcomes.wait_for(log.append([dropped(first.first_lsn, first.last_lsn)], log.next_lsn))
        log.drop(1)
        assert outcomes.error is None


def test_a_fault_of_our_own_does_not_stop_the_log(
    store: Path,
    outcomes: Outcomes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: object) -> None:
        raise TypeError("a bug")

    monkeypatch.setattr(compactor, "rewrite", fail)
    with closing(open_log(store, outcomes)) as log:
        until(lambda: any(work.stuck for work in log.compactions))
        assert isinstance(log.compactions[0].error, StoreError)
        assert outcomes.error is None
    assert any(record.exc_info for record in caplog.records)


def test_closing_does_not_wait_for_it(store: Path, outcomes: Outcomes) -> None:
    before = records_of(store)
    for _ in range(5):
        open_log(store, outcomes).close()
        os.sync()
        assert list(store.glob("*.new*")) == []
    finished(store, before)
    assert before[-1].kind == Kind.SEGMENT_COMPACTED
