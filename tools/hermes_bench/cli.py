"""The `hermes-bench` command."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from hermes_bench.chart import write_chart
from hermes_bench.contenders import contenders
from hermes_bench.port import UnavailableError
from hermes_bench.report import Report
from hermes_bench.runner import Plan, run
from hermes_bench.table import print_report
from hermes_bench.workloads import WORKLOADS, select

app = typer.Typer(add_completion=False, rich_markup_mode=None)

# The tables in a file or a pipe, where there is no terminal to ask.
_FILE_COLUMNS = 160
_SHORT_ROUNDS = 1
_FULL_ROUNDS = 5


@app.command()
def bench(
    workloads: Annotated[
        list[str] | None, typer.Argument(help="Workloads by name; all by default.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Long rounds and large stores.")] = False,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Rounds; 1, or 5 in the full run.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="A contender by name; may be repeated.")
    ] = None,
    kafka: Annotated[str, typer.Option(help="HOST:PORT of a Kafka that runs already.")] = "",
    folder: Annotated[
        Path, typer.Option("--dir", help="Where data goes; on the disk that counts.")
    ] = Path(),
    out: Annotated[Path | None, typer.Option(help="Folder for report.json and chart.png.")] = None,
    list_only: Annotated[
        bool, typer.Option("--list", help="Name workloads and contenders, and stop.")
    ] = False,
) -> None:
    """Measure Hermes and the peers that are on this machine, in turn, and compare.

    The exit code is 1 when a figure did not pass its check, or when the code changed
    meanwhile, whatever the targets say.
    """
    if list_only:
        _list()
        return
    try:
        chosen = select(workloads, full=full)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    unknown = [name for name in only or [] if name not in contenders()]
    if unknown:
        raise typer.BadParameter(f"no contender {', '.join(unknown)}")
    plan = Plan(
        workloads=chosen,
        rounds=rounds or (_FULL_ROUNDS if full else _SHORT_ROUNDS),
        full=full,
        folder=folder.absolute(),
        only=tuple(only or ()),
        kafka=kafka,
    )
    console = Console()
    if not console.is_terminal:
        console = Console(width=_FILE_COLUMNS)
    with console.status("") as status:
        report = run(plan, status.update)
    print_report(report, console)
    if out is not None:
        _write(report, out, console)
    if report.warnings or any(line.error for line in report.lines):
        raise typer.Exit(1)


def _write(report: Report, out: Path, console: Console) -> None:
    out.mkdir(parents=True, exist_ok=True)
    written = out / "report.json"
    written.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    console.print(f"wrote {written}")
    try:
        write_chart(report, out / "chart.png")
    except UnavailableError as error:
        console.print(str(error), style="yellow")
    else:
        console.print(f"wrote {out / 'chart.png'}")


def _list() -> None:
    for workload in WORKLOADS:
        print(f"{workload.name:16} {workload.title} ({', '.join(workload.contenders)})")
    for contender in contenders().values():
        print(f"{contender.name:16} {contender.title}")


def main() -> None:
    """The console script."""
    # So that servers are stopped and folders removed when the bench is told to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    app()
