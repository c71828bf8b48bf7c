"""`hermes consume`: work for a durable consumer from the command line.

A message is acknowledged after it was shown: when the reader of a pipe goes away in
between, the message is released and comes again.
"""

from __future__ import annotations

from typing import Annotated

import typer

from hermes import Client
from hermes.cli.groups import single
from hermes.cli.options import (
    DEFAULT_SERVER,
    Count,
    From,
    Json,
    Server,
    parse_duration,
    parse_start,
)
from hermes.cli.output import Printer, client_notes, note


def consume(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the consumer.", show_default=False)
    ],
    filters: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILTER",
            help="Subjects: * is one token, > all that follow. Absent: as the consumer has it.",
            show_default=False,
        ),
    ] = None,
    ack: Annotated[
        bool, typer.Option("--ack/--no-ack", help="Acknowledge what was shown, or hand it back.")
    ] = True,
    count: Count = None,
    start: From = "all",
    ack_timeout: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Redelivered when not settled by then.")
    ] = None,
    max_attempts: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Failures until it is a dead letter; 0 is never."),
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Change an existing consumer's settings to these.")
    ] = False,
    server: Server = DEFAULT_SERVER,
    json: Json = False,
) -> None:
    """Show messages as a member of a durable consumer, creating it when it is new."""
    printer = Printer(json=json)
    begin = parse_start(start)
    timeout = parse_duration("--ack-timeout", ack_timeout)
    shown = 0
    with (
        Client(server, name="hermes consume") as client,
        client.consume(
            name,
            filters or (),
            start=begin,
            ack_timeout=timeout,
            max_attempts=max_attempts,
            update=update,
        ) as messages,
        client_notes(),
    ):
        if messages.info.created:
            note(
                f"created consumer {name}. It keeps its place, and what it has not settled is "
                f"kept for it (payloads included) until: hermes consumers delete {name}"
            )
        for message in messages:
            printer.message(message, consumer=name)
            if ack:
                message.ack()
            shown += 1
            if shown == count:
                break


app = single(consume)
