"""A run of nothing but the floor: what it tells of itself, and what it notices."""

from __future__ import annotations

from pathlib import Path

import pytest

from hermes_bench import floor, runner
from hermes_bench.runner import Plan, run


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setattr(floor, "measure", lambda _folder: {"rate": 1.0})
    return Plan(workloads=(), rounds=2, full=False, folder=tmp_path)


def test_nothing_is_left_behind(plan: Plan) -> None:
    report = run(plan, lambda _: None)
    assert (report.floor, report.warnings) == ({"rate": 1.0}, [])
    assert report.machine["code"] == runner.code_digest()
    assert list(plan.folder.iterdir()) == []


def test_code_that_changes_meanwhile_is_told(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    # Found by measuring a tree that was being edited: a median over three versions.
    digests = iter(["before", "after"])
    monkeypatch.setattr(runner, "code_digest", lambda: next(digests))
    (warning,) = run(plan, lambda _: None).warnings
    assert "changed during the run" in warning
