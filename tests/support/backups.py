"""Stores to back up, and what a backup of them must hold."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from hermes.log.backup import BackupReport, take_backup
from hermes.log.backup_folder import read_manifest
from hermes.log.log import SqliteLog, open_log
from hermes.log.reader import open_reader
from hermes.log.record import StoredRecord
from hermes.log.segment import is_sealed_file
from tests.contract.records import BIG, Outcomes, publish, snapshot

AT_NS = 1_767_225_600_000_000_000


def add(log: SqliteLog, outcomes: Outcomes, batches: int, payload: bytes = b"x" * 500) -> None:
    """Append so many batches of three messages and wait for them."""
    for _ in range(batches):
        log.append([publish(log.next_offset, 3, payload=payload)], log.next_lsn)
    outcomes.wait_for(log.next_lsn - 1)


def roll(log: SqliteLog, outcomes: Outcomes) -> None:
    """Begin a new segment; returns when the one before is a plain file."""
    active = log.segments()[-1]
    outcomes.wait_for(log.roll(snapshot(), log.next_lsn))
    path = log._folder / f"{active.first_lsn:020d}.segment"
    until(lambda: is_sealed_file(path))


@contextmanager
def living(path: Path, segments: int = 1) -> Iterator[tuple[SqliteLog, Outcomes]]:
    """An open store of so many segments, the last one active; 5 batches in each."""
    outcomes = Outcomes()
    log = open_log(path, outcomes)
    try:
        for number in range(segments):
            if number:
                roll(log, outcomes)
            add(log, outcomes, 5)
        yield log, outcomes
    finally:
        log.close()


def at_rest(path: Path, segments: int = 3) -> Path:
    """The same, closed."""
    with living(path, segments):
        pass
    return path


def grown(path: Path, segments: int = 1) -> None:
    """Open a store, add to it, with so many new segments, and close it."""
    outcomes = Outcomes()
    log = open_log(path, outcomes)
    try:
        add(log, outcomes, 3)
        for _ in range(segments):
            roll(log, outcomes)
            add(log, outcomes, 3)
    finally:
        log.close()


def backup(store: Path, folder: Path, **options: object) -> BackupReport:
    return take_backup(store, folder, taken_at_ns=AT_NS, **options)  # type: ignore[arg-type]


def records_of(store: Path, last_lsn: int | None = None) -> list[StoredRecord]:
    """Every record of a store, up to an lsn."""
    found: list[StoredRecord] = []
    with closing(open_reader(store)) as reader:
        lsn = 1
        while page := reader.read(lsn, limit=1_000, limit_bytes=BIG):
            found += page
            lsn = page[-1].lsn + 1
    return [record for record in found if last_lsn is None or record.lsn <= last_lsn]


def holds_only_what_it_names(folder: Path) -> bool:
    """No leftovers, nothing missing."""
    manifest = read_manifest(folder)
    return manifest is not None and {p.name for p in folder.iterdir()} == manifest.names()


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does, at most some seconds."""
    pause = threading.Event()
    for _ in range(1_000):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it did not happen")
