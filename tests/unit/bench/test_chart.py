"""The chart is a PNG; without matplotlib it is refused by name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hermes_bench.chart import write_chart
from hermes_bench.port import UnavailableError
from hermes_bench.report import Line, Report


def report() -> Report:
    lines = [
        Line("end-to-end", "hermes-raw", "messages/s", 3, 400_000.0, 0.1),
        Line("end-to-end", "nats", "messages/s", 3, 20_000.0, 0.05),
        Line("end-to-end", "redis", "messages/s", 3, error="unacked 3"),
    ]
    return Report({"cpu": "2 × abacus"}, {}, {}, {}, lines, [], [])


def test_a_chart_is_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "chart.png"
    write_chart(report(), path)
    assert path.read_bytes().startswith(b"\x89PNG\r\n")


def test_without_matplotlib_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UnavailableError, match="matplotlib is not installed"):
        write_chart(report(), tmp_path / "chart.png")
