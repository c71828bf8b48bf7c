"""The log on SQLite segments keeps the contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hermes.log.log import SqliteLog, open_log
from hermes.log.port import Log
from tests.contract.compaction_contract import CompactionContract
from tests.contract.log_contract import LogContract
from tests.contract.records import Outcomes
from tests.support.backups import until


class SqliteStore:
    """A folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.outcomes = Outcomes()
        self.log: SqliteLog | None = None

    def open(self) -> SqliteLog:
        self.close()
        self.outcomes = Outcomes()
        self.log = open_log(self.path, self.outcomes)
        return self.log

    def close(self) -> None:
        if self.log is not None:
            self.log.close()

    def finish_compactions(self, log: Log) -> None:
        until(lambda: all(work.stuck for work in log.compactions))


class TestSqliteLog(LogContract, CompactionContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[SqliteStore]:
        store = SqliteStore(tmp_path / "store")
        yield store
        store.close()
