"""The scrub of a log, without a server: what it leaves alone, what it comes back to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hermes.clock import SystemClock
from hermes.errors import StoreError
from hermes.log.log import SqliteLog, open_log
from hermes.log.scrub import Finding, Scrubbed
from hermes.log.segment import file_name
from hermes.server import ServerConfig, scrub
from hermes.server.scrub import EVENT, Scrub
from tests.contract.records import Outcomes, publish, snapshot

WAIT_SECS = 20.0
FINDING = Finding(file_name(1), "record", "record 1 does not hash", 1, 1, (0, 1), 0, False)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteLog]:
    """Three sealed segments and an active one."""
    outcomes = Outcomes()
    log = open_log(tmp_path, outcomes)
    for first in (0, 2, 4):
        log.append([publish(first, 2)], log.next_lsn)
        log.roll(snapshot(), log.next_lsn)
    outcomes.wait_for(log.next_lsn - 1)
    log.close()
    log = open_log(tmp_path, outcomes)
    yield log
    log.close()


class Asked:
    """In the place of `scrub_segment`: answers in turn, and remembers what was asked for."""

    def __init__(self, *answers: Scrubbed | Exception | None) -> None:
        self.segments: list[int] = []
        self._answers = list(answers)

    def __call__(self, folder: Path, sealed: Any, *_: object, **__: object) -> Scrubbed | None:
        self.segments.append(sealed.first_lsn)
        answer = self._answers.pop(0) if self._answers else Scrubbed(1, None)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Told:
    """In the place of the server's log."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []
        self.passed = threading.Semaphore(0)

    def __getattr__(self, level: str) -> Callable[..., None]:
        def tell(event: str, **fields: Any) -> None:
            if level == "debug":
                self.passed.release()
            else:
                self.lines.append((level, event, fields))

        return tell


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    told = Told()
    monkeypatch.setattr(scrub, "_log", told)
    monkeypatch.setattr(scrub, "_AGAIN_NS", 1_000_000)
    monkeypatch.setattr(scrub.random, "choice", min)  # type: ignore[attr-defined]
    return told


def run(
    log: SqliteLog, folder: Path, told: Told, monkeypatch: pytest.MonkeyPatch, asked: Asked
) -> Scrub:
    """One pass, and what it came back to."""
    monkeypatch.setattr(scrub, "scrub_segment", asked)
    config = ServerConfig(store_path=folder, scrub_interval_secs=3_600)
    one = Scrub(config, SystemClock())
    one.start(log)
    assert told.passed.acquire(timeout=WAIT_SECS)
    one.stop()
    return one


def test_a_sound_store(
    log: SqliteLog, tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked()
    one = run(log, tmp_path, told, monkeypatch, asked)
    assert asked.segments == [1, 2, 5]
    assert (one.passes, one.segments_checked, one.damaged) == (1, 3, {})
    assert told.lines == []


def test_damage_is_marked_and_told(
    log: SqliteLog, tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = run(log, tmp_path, told, monkeypatch, Asked(Scrubbed(1, FINDING)))
    assert one.damaged == {1: FINDING}
    assert one.segments_checked == 3, "the pass goes on"
    assert [(q.first_lsn, q.reason) for q in log.quarantined] == [(1, FINDING.text)]
    ((level, event, fields),) = told.lines
    assert (level, event, fields["path"]) == ("error", EVENT, str(tmp_path / file_name(1)))
    assert (fields["first_lsn"], fields["last_lsn"]) == (1, 1)
    assert (fields["first_offset"], fields["last_offset"]) == (0, 1)
    assert "backup" in fields["remedy"]


@pytest.mark.parametrize(
    "error",
    [StoreError("no descriptors"), PermissionError(13, "no"), TypeError("a fault of ours")],
    ids=["descriptors", "permission", "fault"],
)
def test_what_is_no_damage_is_come_back_to(
    log: SqliteLog,
    tmp_path: Path,
    told: Told,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    asked = Asked(error, Scrubbed(1, None), Scrubbed(1, None), error)
    one = run(log, tmp_path, told, monkeypatch, asked)
    assert asked.segments == [1, 2, 5, 1, 1]
    assert (one.segments_checked, one.damaged, log.quarantined) == (3, {}, ())
    faults = [level for level, _, _ in told.lines]
    assert faults == (["error", "error"] if isinstance(error, TypeError) else ["warning"])


def test_a_pass_ends_without_what_it_never_gets(
    log: SqliteLog, tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or one file that nobody may read would keep all the others from another check."""
    error = StoreError("no permission")
    asked = Asked(error, Scrubbed(1, None), Scrubbed(1, None), *(error,) * 99)
    one = run(log, tmp_path, told, monkeypatch, asked)
    assert asked.segments[3:] == [1] * scrub._RETURNS_MAX
    assert (one.passes, one.segments_checked, log.quarantined) == (1, 2, ())
    assert len(told.lines) == 1


def test_a_segment_that_is_another_file_each_time_is_come_back_to(
    log: SqliteLog, tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(*(None,) * scrub._LOOKS_MAX)
    one = run(log, tmp_path, told, monkeypatch, asked)
    assert asked.segments == [1] * scrub._LOOKS_MAX + [2, 5, 1]
    assert (one.segments_checked, log.quarantined) == (3, ())


def test_a_log_that_is_opened_again_is_told_of_the_damage(
    log: SqliteLog, tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mark is the log's, and ends with it. The line is not told twice."""
    one = run(log, tmp_path, told, monkeypatch, Asked(Scrubbed(1, FINDING)))
    log.close()
    again = open_log(tmp_path, Outcomes())
    asked = Asked(Scrubbed(1, FINDING))
    monkeypatch.setattr(scrub, "scrub_segment", asked)
    one.start(again)
    assert told.passed.acquire(timeout=WAIT_SECS)
    one.stop()
    assert asked.segments[0] == 1
    assert [q.first_lsn for q in again.quarantined] == [1]
    assert len(told.lines) == 1
    again.close()


def test_it_is_off_without_a_rate_or_a_store(tmp_path: Path) -> None:
    assert not Scrub(
        ServerConfig(store_path=tmp_path, scrub_bytes_per_sec=0), SystemClock()
    ).enabled
    assert not Scrub(ServerConfig(), SystemClock()).enabled
