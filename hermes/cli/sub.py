"""`hermes sub`: what is published from now on."""

from __future__ import annotations

from typing import Annotated

import typer

from hermes import Client
from hermes.cli.groups import single
from hermes.cli.options import DEFAULT_SERVER, Count, Json, Server
from hermes.cli.output import Printer, client_notes, note


def sub(
    pattern: Annotated[
        str,
        typer.Argument(
            metavar="PATTERN",
            help="Subjects: * is one token, > all that follow.",
            show_default=False,
        ),
    ],
    group: Annotated[
        str | None,
        typer.Option("--group", metavar="NAME", help="Share the work with this queue group."),
    ] = None,
    count: Count = None,
    server: Server = DEFAULT_SERVER,
    json: Json = False,
) -> None:
    """Show what is published from now on. Nothing is stored for it, nothing acknowledged."""
    printer = Printer(json=json)
    shown = 0
    with (
        Client(server, name="hermes sub") as client,
        client.subscribe(pattern, queue_group=group) as messages,
        client_notes(),
    ):
        note(f"subscribed to {pattern}" + (f" in group {group}" if group else ""))
        for message in messages:
            printer.message(message)
            shown += 1
            if shown == count:
                break


app = single(sub)
