"""A store to be damaged, for the tests of the scrub."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hermes.log.log import open_log
from hermes.log.record import StoredRecord
from tests.contract.records import Outcomes
from tests.support.scrubbing import (
    fill,
    seal_of,
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound") / "store"
    outcomes = Outcomes()
    log = open_log(folder, outcomes)
    fill(log, outcomes)
    log.close()
    return folder


@pytest.fixture
def store(sound: Path, tmp_path: Path) -> Path:
    """A copy, to be damaged."""
    return Path(shutil.copytree(sound, tmp_path / "store"))


@pytest.fixture(scope="module")
def seal(sound: Path, tmp_path_factory: pytest.TempPathFactory) -> StoredRecord:
    return seal_of(Path(shutil.copytree(sound, tmp_path_factory.mktemp("seal") / "store")))
