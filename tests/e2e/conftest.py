"""Fixtures of the end-to-end tests."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from broker_process import BrokerProcess

from hermes.log.segment import file_name
from tests.support.inspect_scene import fill


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store that `inspect_scene` describes, at rest."""
    folder = tmp_path_factory.mktemp("scene")
    with BrokerProcess(folder / "store", folder / "broker.log") as broker:
        fill(broker.addr)
    return folder / "store"


@pytest.fixture
def damaged(scene: Path, tmp_path: Path) -> Path:
    """A copy of which a page with some records was overwritten."""
    store = tmp_path / "store"
    shutil.copytree(scene, store)
    segment = store / file_name(1)
    db = sqlite3.connect(segment)
    (page_bytes,) = db.execute("PRAGMA page_size").fetchone()
    with db:  # large bodies, so that the records need several pages
        rows = db.execute("SELECT body, lsn FROM records WHERE lsn BETWEEN 15 AND 40")
        padded = [(body + bytes(1500), lsn) for body, lsn in rows.fetchall()]
        db.executemany("UPDATE records SET body = ? WHERE lsn = ?", padded)
    db.close()
    data = bytearray(segment.read_bytes())
    start = data.index(b"no such customer") // page_bytes * page_bytes
    data[start : start + page_bytes] = b"\xff" * page_bytes
    segment.write_bytes(data)
    return store
