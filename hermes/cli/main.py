"""The `hermes` command: assembles the commands and turns errors into one line.

Exit codes: 0 done, 1 failed, 2 wrong invocation, 130 interrupted, 141 the reader of
a pipe went away. A traceback is shown only for a bug of ours.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
import typer.main

from hermes.cli.groups import Lazy, ReaderGone
from hermes.errors import HermesError

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


class Commands(Lazy):
    modules = {  # noqa: RUF012 - a ClassVar in the base
        "serve": ("hermes.cli.serve", "Run the broker."),
        "key": ("hermes.cli.key", "Show the public key that signs the store's checkpoints."),
        "pub": ("hermes.cli.pub", "Publish one message, or one per line of stdin."),
        "sub": ("hermes.cli.sub", "Show what is published from now on."),
        "read": ("hermes.cli.read", "Show what was published, without a consumer."),
        "consume": ("hermes.cli.consume", "Work for a durable consumer."),
        "consumers": ("hermes.cli.consumers", "Durable consumers: list, show, delete."),
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
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # never fail for a letter the locale lacks
            stream.reconfigure(errors="backslashreplace")
    try:
        code = typer.main.get_command(app).main(
            args=list(arguments), prog_name="hermes", standalone_mode=False
        )
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except typer.TyperException as error:
        lines = getattr(error, "lines", ())
        return _fail(*(lines or [_usage(error)]), code=error.exit_code)
    except HermesError as error:
        return _fail(str(error))
    except (ReaderGone, BrokenPipeError):
        # Whoever read our output has enough. Flushing at exit must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except (KeyboardInterrupt, typer.Abort):
        return EXIT_INTERRUPTED
    except OSError as error:
        return _fail(str(error))


def _usage(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    see = f" (see {context.command_path} --help)" if context is not None else ""
    return error.format_message() + see


def _fail(*messages: str, code: int = EXIT_FAILED) -> int:
    from hermes.cli.output import one_line

    sys.stdout.flush()
    for message in messages:
        sys.stderr.write(f"hermes: {one_line(message)}\n")
    return code
