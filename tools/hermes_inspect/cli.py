"""The `hermes-inspect` command line.

Theory: every promised command has its name and its help from the first version on,
so that scripts and people learn one surface. A command that is not built refuses in
one line with exit code 2; it never pretends.

What must not live here: reading a store. That is the work of the modules beside it.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from hermes_inspect import export_command

EXIT_NOT_BUILT = 2

app = typer.Typer(
    name="hermes-inspect",
    help="Read a Hermes store: what was published, delivered and acked, and when.",
    no_args_is_help=True,
    add_completion=False,
)

PROMISED = {
    "log": "Show the records of the log.",
    "trace": "Tell the whole story of one message.",
    "consumers": "Show consumers: position, lag, leases, dead letters.",
    "segments": "Show the segments and what pins them.",
    "stats": "Count records, messages and bytes.",
    "at": "Show the state of the broker at a past moment.",
    "verify": "Recompute the hash chain and check every digest.",
    "sql": "Query the store with SQL.",
}


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hermes-inspect {version('hermes-broker')}")
        raise typer.Exit


@app.callback()
def root(
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Options before the command."""


def _promise(name: str, summary: str) -> None:
    """Add a command that takes any arguments and refuses."""

    def refuse() -> None:
        typer.echo(f"hermes-inspect {name}: not built yet in this version", err=True)
        raise typer.Exit(EXIT_NOT_BUILT)

    app.command(
        name,
        help=f"{summary} (not built yet)",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(refuse)


for _name, _summary in PROMISED.items():
    _promise(_name, _summary)


export_command.register(app)


def main() -> None:
    """Entry point of the `hermes-inspect` console script."""
    app()
