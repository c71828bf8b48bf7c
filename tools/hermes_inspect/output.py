"""Where output goes: texts for a person, plain lines for a pipe, JSON for a program.

A terminal gets colours and is folded to its width; a pipe gets neither (NO_COLOR and
FORCE_COLOR are heard). What things look like is decided in the [P] modules; here they are
only written.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import typer
from rich.console import Console
from rich.text import Text

from hermes.cli.output import Printer
from hermes.cli.text import json_line, one_line
from hermes_inspect.store import EXIT_DAMAGED, Store
from hermes_inspect.times import Clockface

PIPE_COLUMNS: Final = 100_000


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise  # rich would exit with 1; main has a code of its own for it  # noqa: PLE0704


class Output:
    """Writes to stdout."""

    def __init__(self, *, json: bool = False) -> None:
        self.json = json
        self._out = sys.stdout
        self._printer = Printer(json=json)
        width = None if sys.stdout.isatty() else PIPE_COLUMNS
        self._console = _Console(
            file=sys.stdout, highlight=False, markup=False, emoji=False, width=width
        )

    @property
    def columns(self) -> int | None:
        """Of the terminal; None on a pipe, where nothing is folded."""
        return self._console.width if sys.stdout.isatty() else None

    def text(self, text: Text) -> None:
        """One text, as wide as it is."""
        if self._console.is_terminal:
            self._console.print(text, soft_wrap=True)
        else:
            self._out.write(text.plain + "\n")

    def line(self, text: str) -> None:
        """One line. The caller escapes what came from elsewhere."""
        self._printer.line(text)

    def raw(self, text: str) -> None:
        """Text as it is. The caller escapes what came from elsewhere, and ends lines."""
        self._out.write(text)

    def table(self, columns: Sequence[str], rows: Iterable[Iterable[str]]) -> None:
        """A table that fits into the width; for the marks of columns see `Printer.table`."""
        self._printer.table(columns, rows)

    def fields(self, fields: Mapping[str, Any]) -> None:
        """One JSON object on one line."""
        self._out.write(json_line(fields))

    def rows(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """A JSON object per row."""
        for row in rows:
            self.fields(row)

    def flush(self) -> None:
        self._out.flush()


def is_screen() -> bool:
    """Whether there is a terminal that a screen can be drawn on and keys typed at."""
    able = os.environ.get("TERM", "") not in {"", "dumb", "unknown"}
    # The screen is drawn on stderr.
    return able and all(one.isatty() for one in (sys.stdin, sys.stdout, sys.stderr))


def clockface(*, local: bool) -> Clockface:
    """UTC, or the zone of this machine."""
    if not local:
        return Clockface()
    return Clockface(zone=lambda moment: moment.astimezone(), name=_zone_name())


def _zone_name() -> str:
    return datetime.now().astimezone().tzname() or "local"


def warn(text: str) -> None:
    """One line beside the result, on stderr."""
    sys.stdout.flush()
    sys.stderr.write(f"hermes-inspect: {one_line(text)}\n")
    sys.stderr.flush()


def tell_state(store: Store) -> None:
    """What a person must know before looking at a store: damage and doubts, on stderr."""
    for text in store.damage:
        warn(f"damaged: {text}")
    for text in store.notes:
        warn(text)


def exit_for(store: Store, *, damaged: bool = False) -> None:
    """End the command with the code for damage, if there is any."""
    if store.damage or damaged:
        sys.stdout.flush()
        raise typer.Exit(EXIT_DAMAGED)
