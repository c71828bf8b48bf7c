"""`hermes read`: browse what was published, without a consumer."""

from __future__ import annotations

from typing import Annotated

import typer

from hermes import Client
from hermes.cli.groups import single
from hermes.cli.options import DEFAULT_SERVER, From, Json, Server, parse_start
from hermes.cli.output import Printer, client_notes


def read(
    subject_filter: Annotated[
        str, typer.Argument(metavar="FILTER", help="Subjects: * is one token, > all that follow.")
    ] = ">",
    start: From = "all",
    limit: Annotated[
        int | None,
        typer.Option("--limit", "-n", min=1, metavar="N", help="Stop after so many messages."),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what is published later.")
    ] = False,
    server: Server = DEFAULT_SERVER,
    json: Json = False,
) -> None:
    """Show what was published durably. Changes nothing."""
    printer = Printer(json=json)
    begin = parse_start(start)
    with (
        Client(server, name="hermes read") as client,
        client.read(subject_filter, start=begin, limit=limit or 0, follow=follow) as messages,
        client_notes(),
    ):
        for batch in messages.batches():
            for message in batch.messages():
                printer.message(message, flush=follow)
    printer.flush()


app = single(read)
