"""A progress bar on stderr: how far, how fast, how long still. Only on a terminal."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

_TITLES = {
    "records": "records and events",
    "history": "history before the range",
    "custody": "custody",
    "files": "files",
}


class _Rate(ProgressColumn):
    """Rows per second, since the part of the work began."""

    def render(self, task: Task) -> Text:
        rows = int(task.fields["rows"])
        if not task.elapsed or not rows:
            return Text("")
        return Text(f"{rows / task.elapsed:,.0f} rows/s", style="progress.data.speed")


class Bar:
    """A Watcher that shows itself, as long as it is entered."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            _Rate(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._task: TaskID | None = None
        self._rows = 0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def begin(self, what: str, total: int) -> None:
        self._rows = 0
        self._task = self._bar.add_task(_TITLES.get(what, what), total=total, rows=0)

    def advance(self, units: int, rows: int) -> None:
        if self._task is not None:
            self._rows += rows
            self._bar.update(self._task, advance=units, rows=self._rows)
