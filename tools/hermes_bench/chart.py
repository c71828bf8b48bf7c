"""The rates as bars on a PNG. Needs matplotlib, which the extra `bench` has."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from hermes_bench.port import UnavailableError
from hermes_bench.report import Line, Report
from hermes_bench.stats import number
from hermes_bench.workloads import WORKLOADS

_COLUMNS: Final = 2
_HERMES: Final = "#3b6fb6"
_PEER: Final = "#b0b0b0"


def write_chart(report: Report, path: Path) -> None:
    """One panel per workload that several ran: a bar per contender, with its spread.

    Raises `UnavailableError`.
    """
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise UnavailableError("no chart: matplotlib is not installed (extra `bench`)") from error
    groups = [
        (workload.title, [line for line in report.lines if line.workload == workload.name])
        for workload in WORKLOADS
    ]
    # One bar alone compares nothing.
    panels = [(title, lines) for title, lines in groups if sum(not x.error for x in lines) > 1]
    rows = max(1, -(-len(panels) // _COLUMNS))
    figure, axes = plt.subplots(
        rows, _COLUMNS, figsize=(12, 2.2 * rows), squeeze=False, layout="constrained"
    )
    places = list(axes.flat)
    for axis, (title, lines) in zip(places, panels, strict=False):
        _panel(axis, title, [line for line in lines if not line.error])
    for axis in places[len(panels) :]:
        axis.set_visible(False)
    figure.suptitle("hermes-bench: medians and spread; " + report.machine.get("cpu", ""))
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _panel(axis: Any, title: str, lines: list[Line]) -> None:
    names = [line.contender for line in lines]
    values = [line.median for line in lines]
    colours = [_HERMES if name.startswith("hermes") else _PEER for name in names]
    errors = [line.median * line.spread for line in lines]
    bars = axis.barh(names, values, xerr=errors, color=colours, ecolor="#606060")
    axis.bar_label(bars, labels=[number(value) for value in values], padding=4, fontsize=8)
    axis.invert_yaxis()
    axis.margins(x=0.2)
    axis.set_title(f"{title} ({lines[0].unit})", fontsize=9, loc="left")
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
