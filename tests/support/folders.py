"""Folders of small stores, at rest or as a kill leaves them, for the tests of opening."""

from __future__ import annotations

import shutil
from pathlib import Path

from hermes.log.log import SqliteLog, open_log
from hermes.log.record import Record
from tests.contract.records import Outcomes, publish
from tests.contract.store import put, roll


class StoreFolder:
    """A store that is opened now and then, one log at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.outcomes = Outcomes()

    def open(self, *, accept_loss: bool = False) -> SqliteLog:
        self.outcomes = Outcomes()
        return open_log(self.path, self.outcomes, accept_loss=accept_loss)


def three_segments(path: Path, last: Record, *, killed: bool) -> None:
    """Segments 1..3, 4..6 and 7..9, of which `last` is record 9, and offsets 0..3 before it.

    With `killed` record 9 is in a WAL only, as a kill leaves it; else the stop was clean.
    """
    folder = StoreFolder(path)
    log = folder.open()
    put(folder, log, publish(0), publish(1), publish(2))
    roll(folder, log)
    put(folder, log, publish(3))
    roll(folder, log)
    log.close()  # the sealed ones are plain files now
    log = folder.open()
    put(folder, log, last)
    copy = path.with_name(path.name + "-copy")
    if killed:
        shutil.copytree(path, copy)
    log.close()
    if killed:
        shutil.rmtree(path)
        copy.rename(path)
