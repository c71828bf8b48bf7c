"""Running a command line: errors become one line on stderr and an exit code.

Exit codes: 0 done, 1 failed, 2 wrong invocation, 130 interrupted, 141 the reader of
a pipe went away. A program may have more for its own errors (`code_of`). A traceback
is shown only for a bug of ours.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

import typer
import typer.main

from hermes.cli.groups import ReaderGone
from hermes.errors import HermesError

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


def _failed(_: HermesError) -> int:
    return EXIT_FAILED


def run_app(
    app: typer.Typer,
    name: str,
    arguments: Sequence[str],
    code_of: Callable[[HermesError], int] = _failed,
) -> int:
    """Run a command line; answers the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # never fail for a letter the locale lacks
            stream.reconfigure(errors="backslashreplace")
    try:
        code = typer.main.get_command(app).main(
            args=list(arguments), prog_name=name, standalone_mode=False
        )
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except typer.TyperException as error:
        lines = getattr(error, "lines", ())
        return _fail(name, *(lines or [_usage(error)]), code=error.exit_code)
    except HermesError as error:
        return _fail(name, str(error), code=code_of(error))
    except (ReaderGone, BrokenPipeError):
        # Whoever read our output has enough. Flushing at exit must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except (KeyboardInterrupt, typer.Abort):
        return EXIT_INTERRUPTED
    except OSError as error:
        return _fail(name, str(error), code=EXIT_FAILED)


def _usage(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    see = f" (see {context.command_path} --help)" if context is not None else ""
    return error.format_message() + see


def _fail(name: str, *messages: str, code: int) -> int:
    from hermes.cli.text import one_line

    sys.stdout.flush()
    for message in messages:
        sys.stderr.write(f"{name}: {one_line(message)}\n")
    return code
