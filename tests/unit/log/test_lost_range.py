"""Reading across offsets that were lost, and the loss accepted."""

from __future__ import annotations

import shutil
from pathlib import Path
from queue import Queue

from hermes.log.log import open_log
from hermes.log.port import Committed, Outcome
from hermes.log.record import Kind, Record


def publish(offset: int) -> Record:
    return Record(1, Kind.PUBLISHED, "a", offset, offset, b"body", b"payload")


def test_the_line_goes_on_behind_what_was_lost(tmp_path: Path) -> None:
    # Found by it: the reader told "considered up to 2" for ever, so that whoever read on
    # from there asked again at once, for ever.
    outcomes: Queue[Outcome] = Queue()
    log = open_log(tmp_path / "store", outcomes.put)
    log.append([publish(0), publish(1)], log.next_lsn)
    assert isinstance(outcomes.get(timeout=10), Committed)
    shutil.copytree(tmp_path / "store", tmp_path / "older")
    log.append([publish(2), publish(3)], log.next_lsn)
    assert isinstance(outcomes.get(timeout=10), Committed)
    log.close()
    shutil.copy(tmp_path / "store" / "HEAD", tmp_path / "older" / "HEAD")

    log = open_log(tmp_path / "older", outcomes.put, accept_loss=True)
    reader = log.reader()
    assert log.next_offset == 4
    assert reader.publishes(2, limit=10, limit_bytes=1_000) == ([], 4)
    found, scanned_to = reader.publishes(0, limit=10, limit_bytes=1_000)
    assert ([record.first for record in found], scanned_to) == ([0, 1], 4)
    assert reader.publishes(0, limit=10, limit_bytes=1_000, before_offset=3)[1] == 3
    reader.close()
    log.close()
