"""How commands are found: loaded when named, `list` when none is.

The `hermes` command starts in the time of the one command that runs: the module of
another is not imported (the server's would be the slowest). This is the only file
that knows how typer makes commands.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, ClassVar

import typer
import typer.main
from typer.core import TyperGroup


class ReaderGone(Exception):  # noqa: N818 - it is not an error
    """Whoever read our stdout has enough."""


class ListByDefault(TyperGroup):
    """`hermes consumers` and `hermes consumers --json` mean `hermes consumers list …`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] != "--help"):
            args = ["list", *args]
        return super().parse_args(ctx, args)


class Lazy(TyperGroup):
    """Commands by name: the module whose `app` it is, and its line in the help."""

    modules: ClassVar[dict[str, tuple[str, str]]] = {}

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - typer's signature
        return list(self.modules)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        if cmd_name not in self.commands and cmd_name in self.modules:
            app: typer.Typer = import_module(self.modules[cmd_name][0]).app
            command = typer.main.get_command(app)
            command.name = cmd_name
            self.commands[cmd_name] = command
        return self.commands.get(cmd_name)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self.modules.items()])

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:  # typer would exit with 1 for it
            raise ReaderGone from error

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.modules and not args[0].startswith("-"):
            ctx.fail(f"no command {args[0]!r}; there are {', '.join(self.modules)}")
        return super().resolve_command(ctx, args)


def group(help_text: str) -> typer.Typer:
    """An application of several commands, of which `list` is the default."""
    return typer.Typer(
        cls=ListByDefault, help=help_text, rich_markup_mode=None, add_completion=False
    )


def single(function: Callable[..., None]) -> typer.Typer:
    """An application of one command, which then needs no name of its own."""
    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    app.command()(function)
    return app
