"""What `hermes backup` and `hermes restore` share: a bar while they copy."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

# (bytes copied, bytes to be copied in all)
Told = Callable[[int, int], None]


@contextmanager
def copying(title: str) -> Iterator[Told]:
    """A bar on stderr for as long as the block runs, if a person is there to see it."""
    if not sys.stderr.isatty():
        yield lambda _copied, _total: None
        return
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task(title, total=None)
        yield lambda copied, total: bar.update(task, completed=copied, total=total)
