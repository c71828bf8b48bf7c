"""The `hermes-inspect` command line: which commands there are.

Theory: every promised command has its name and its help from the first version on, so
that scripts and people learn one surface. A command lives in a module of its own, which
has an `app` and is imported only when the command is named; to add one is a line in
`COMMANDS`.

Exit codes: those of `hermes.cli.running`, and for a store that cannot be shown those of
`hermes_inspect.store`: 3 there is none, 4 it is newer, 5 damaged, 6 empty, 7 unreadable.

What must not live here: reading a store.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer
import typer.main

from hermes.cli.groups import Lazy
from hermes.cli.running import EXIT_USAGE, run_app
from hermes.errors import HermesError

# A command, its module, and its line in the help. The module has an `app` (groups.single).
COMMANDS: dict[str, tuple[str, str]] = {
    "log": ("hermes_inspect.log", "Show the records of the log."),
    "trace": ("hermes_inspect.trace", "Tell the whole story of one message."),
    "consumers": (
        "hermes_inspect.consumers",
        "Show consumers: position, lag, dead letters.",
    ),
    "segments": ("hermes_inspect.segments", "Show the segments and what pins them."),
    "stats": ("hermes_inspect.stats", "Count messages and bytes, measure latencies."),
    "at": ("hermes_inspect.at", "Show the state of the broker at a past moment."),
    "verify": ("hermes_inspect.verify", "Recompute the hash chain and check every digest."),
    "export": ("hermes_inspect.export_command", "Write Parquet for audits."),
    "sql": ("hermes_inspect.sql", "Ask the log in SQL, which can only read."),
}


class Commands(Lazy):
    modules = COMMANDS


app = typer.Typer(
    cls=Commands,
    name="hermes-inspect",
    help="Read a Hermes store: what was published, delivered and acked, and when.",
    epilog="The store is --store PATH, HERMES_STORE_PATH, or ./hermes-data. It is never changed.",
    rich_markup_mode=None,
    add_completion=False,
    invoke_without_command=True,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"hermes-inspect {version('hermes-broker')}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    del show_version  # handled by its callback
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(EXIT_USAGE)


def _code_of(error: HermesError) -> int:
    from hermes_inspect.store import code_of

    return code_of(error)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit the process with its code."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run the command line; answers the exit code."""
    try:
        return run_app(app, "hermes-inspect", arguments, _code_of)
    except Exception as error:
        from google.protobuf.message import DecodeError  # slow to import

        if not isinstance(error, DecodeError):
            raise
        from hermes_inspect.output import warn
        from hermes_inspect.store import EXIT_DAMAGED

        warn(f"damaged: a record says what no version wrote: {error} (run verify)")
        return EXIT_DAMAGED
