"""The report as tables on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from hermes_bench.report import Answer, Line, Report, ratio
from hermes_bench.stats import number
from hermes_bench.workloads import WORKLOADS

_TITLES = {workload.name: workload.title for workload in WORKLOADS}
_STYLES = {Answer.MET: "green", Answer.MISSED: "red", Answer.UNKNOWN: "yellow"}


def print_report(report: Report, console: Console) -> None:
    """Machine, floor, figures, targets, and what is missing."""
    console.print(", ".join(f"{key}: {text}" for key, text in report.machine.items()), style="dim")
    for name, version in report.versions.items():
        console.print(f"{name}: {version}", style="dim")
    console.print(_floor(report))
    if report.lines:
        console.print(_figures(report))
        console.print(_targets(report))
    for warning in report.warnings:
        console.print(f"WARNING: {warning}", style="bold red")
    for name, why in report.missing.items():
        console.print(f"not measured: {name}: {why}", style="yellow")


def _floor(report: Report) -> Table:
    table = Table("floor of the machine", title_justify="left")
    table.add_column("rate", justify="right")
    for name, rate in report.floor.items():
        table.add_row(name, number(rate))
    return table


def _figures(report: Report) -> Table:
    table = Table("workload", "contender")
    for heading in ("median", "spread", "Hermes is"):
        table.add_column(heading, justify="right")
    table.add_column("beside")
    workload = ""
    for line in report.lines:
        is_new = line.workload != workload
        if is_new and workload:
            table.add_section()
        workload = line.workload
        title = f"{_TITLES.get(workload, workload)}, {line.unit}" if is_new else ""
        if line.error:
            table.add_row(title, line.contender, "–", "", "", f"[red]{line.error}[/red]")
            continue
        times = ratio(line, report.lines)
        table.add_row(
            title,
            line.contender,
            number(line.median),
            f"±{line.spread:.0%}",
            f"{times:.1f} ×" if times else "",
            _extras(line),
        )
    return table


def _extras(line: Line) -> str:
    return ", ".join(f"{key} {number(value)}" for key, value in line.extras.items())


def _targets(report: Report) -> Table:
    table = Table("target of", "contender", "wanted")
    table.add_column("found", justify="right")
    table.add_column("")
    for verdict in report.verdicts:
        found = "–" if verdict.found is None else number(verdict.found)
        style = _STYLES[verdict.answer]
        text = f"[{style}]{verdict.answer}[/{style}]"
        table.add_row(
            _TITLES.get(verdict.workload, verdict.workload),
            verdict.contender,
            verdict.wanted,
            found,
            f"{text} {verdict.why}".strip(),
        )
    return table
