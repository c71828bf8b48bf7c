"""Fixtures of the end-to-end tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from broker_process import BrokerProcess

from tests.support.inspect_scene import fill


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store that `inspect_scene` describes, at rest."""
    folder = tmp_path_factory.mktemp("scene")
    with BrokerProcess(folder / "store", folder / "broker.log") as broker:
        fill(broker.addr)
    return folder / "store"
