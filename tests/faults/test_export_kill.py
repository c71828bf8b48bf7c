"""An export that is killed at any moment leaves whole files only, and goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hermes_inspect import export_pass
from hermes_inspect.export import Request, export
from hermes_inspect.export_verify import verify_export
from tests.support.exports import files_of
from tests.support.stored import store_records
from tests.support.world import World, messages

# Kills itself instead of making a certain system call for the nth time.
CHILD = """
import os, signal, sys
from pathlib import Path
from hermes_inspect import export_pass
from hermes_inspect.export import Request, export

name, countdown = sys.argv[3], int(sys.argv[4])
real = getattr(os, name)

def call(*arguments):
    global countdown
    countdown -= 1
    if countdown < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments)

setattr(os, name, call)
export_pass.STEP_RECORDS = 4
export(Request(Path(sys.argv[1]), Path(sys.argv[2])))
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    world = World()
    worker = world.join("c", credit=100)
    for _ in range(4):
        world.publish(messages(5))
    worker.ack((0, 7))
    world.run()
    return store_records(tmp_path / "store", world.records())


@pytest.mark.parametrize(
    ("call", "nth"), [("fsync", 0), ("fsync", 5), ("fsync", 14), ("link", 3), ("fsync", 45)]
)
def test_what_a_kill_leaves_is_whole_and_is_continued(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, nth: int
) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(store), str(out), call, str(nth)],
        check=False,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL
    assert not (out / "manifest.json").exists()
    for path in out.glob("*/date=*/*.parquet"):
        pq.read_table(path)
    monkeypatch.setattr(export_pass, "STEP_RECORDS", 4)
    export(Request(store, out))
    export(Request(store, whole))
    assert files_of(out) == files_of(whole)
    assert verify_export(out).ok
