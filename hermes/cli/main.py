"""The `hermes` command: assembles the commands.

Exit codes are those of `running.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from hermes.cli.groups import Lazy
from hermes.cli.running import EXIT_USAGE, run_app


class Commands(Lazy):
    modules = {  # noqa: RUF012 - a ClassVar in the base
        "serve": ("hermes.cli.serve", "Run the broker."),
        "key": ("hermes.cli.key", "Show the public key that signs the store's checkpoints."),
        "pub": ("hermes.cli.pub", "Publish one message, or one per line of stdin."),
        "sub": ("hermes.cli.sub", "Show what is published from now on."),
        "read": ("hermes.cli.read", "Show what was published, without a consumer."),
        "consume": ("hermes.cli.consume", "Work for a durable consumer."),
        "consumers": ("hermes.cli.consumers", "Durable consumers: list, show, delete."),
        "backup": ("hermes.cli.backup", "Copy the store into a folder, while it runs."),
        "restore": ("hermes.cli.restore", "Make a store of a backup."),
        "gc": ("hermes.cli.gc", "Free what is past its retention, or say what would go and why."),
        "dead-letters": (
            "hermes.cli.dead_letters",
            "Messages given up on: list, show, replay, discard.",
        ),
    }


app = typer.Typer(
    cls=Commands,
    name="hermes",
    help="Hermes, an event broker: run it, publish, subscribe, consume, look after it.",
    epilog="Commands talk to the broker at --server or HERMES_SERVER (127.0.0.1:4222).",
    rich_markup_mode=None,
    add_completion=False,
    invoke_without_command=True,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from hermes import __version__

        typer.echo(f"hermes {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    del version  # handled by its callback
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(EXIT_USAGE)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit the process with its code."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run the command line; answers the exit code."""
    return run_app(app, "hermes", arguments)
