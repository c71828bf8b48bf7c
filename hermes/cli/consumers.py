"""`hermes consumers`: list, show, delete."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from hermes.cli.groups import group
from hermes.cli.options import DEFAULT_SERVER, Json, Server, Yes, confirm
from hermes.cli.output import Printer
from hermes.cli.text import counted, duration, printable, rfc3339
from hermes.client.admin import AdminClient
from hermes.client.admin_types import ConsumerInfo, GcPin

app = group("Durable consumers: list (the default), show, delete.")

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of the consumer.", show_default=False)
]


@app.command("list")
def list_consumers(server: Server = DEFAULT_SERVER, json: Json = False) -> None:
    """All consumers, and how far behind they are.

    POSITION is the next offset it looks at, LAG how many matching messages are from there
    on, IN FLIGHT what members hold, WAITING what is to be delivered again, DEAD its dead
    letters. A consumer that a damaged segment keeps messages from is named below the table.
    """
    printer = Printer(json=json)
    with AdminClient(server, name="hermes consumers") as admin:
        consumers = list(admin.consumers())
    if json:
        for consumer in consumers:
            printer.fields(_fields(consumer))
    elif not consumers:
        printer.line("No consumers. `hermes consume NAME FILTER` creates one.")
    else:
        printer.table(
            ["NAME", "FILTER", "#POSITION", "#LAG", "#IN FLIGHT", "#WAITING", "#DEAD", "#MEMBERS"],
            [
                [
                    consumer.name,
                    " ".join(consumer.filters),
                    f"{consumer.position}",
                    f"{consumer.lag:,}",
                    f"{consumer.in_flight:,}",
                    f"{consumer.waiting:,}",
                    f"{consumer.dead:,}",
                    f"{consumer.members:,}",
                ]
                for consumer in consumers
            ],
        )
        for consumer in consumers:
            for what in _withheld(consumer):
                printer.line(printable(f"{consumer.name}: {what}"))
    printer.flush()


@app.command("show")
def show(name: Name, server: Server = DEFAULT_SERVER, json: Json = False) -> None:
    """One consumer: its settings, its position and its members."""
    printer = Printer(json=json)
    with AdminClient(server, name="hermes consumers") as admin:
        detail = admin.consumer(name)
    if json:
        members = [msgspec.structs.asdict(member) for member in detail.members]
        printer.fields(_fields(detail.consumer) | {"members": members})
        printer.flush()
        return
    consumer = detail.consumer
    oldest = consumer.oldest_unacked_offset
    lines = [
        ("filter", " ".join(consumer.filters)),
        ("position", f"{consumer.position}"),
        ("lag", f"{consumer.lag:,}"),
        ("in flight", f"{consumer.in_flight:,}"),
        ("waiting", f"{consumer.waiting:,}"),
        ("dead", f"{consumer.dead:,}"),
        ("oldest unacked", "none" if oldest is None else f"{oldest}"),
        ("ack timeout", duration(consumer.ack_timeout_ns)),
        ("max attempts", f"{consumer.max_attempts}" if consumer.max_attempts else "no limit"),
        ("backoff", _backoff(consumer)),
        ("deleted when idle", _idle(consumer)),
        ("keeps", "nothing" if consumer.pin is None else _pin(consumer.pin)),
        ("created", rfc3339(consumer.created_at_ns)),
        *(("damaged", what) for what in _withheld(consumer)),
    ]
    printer.line(printable(consumer.name))
    for label, value in lines:
        printer.line(f"  {label:<18} {printable(value)}")
    if detail.members:
        printer.table(
            ["MEMBER", "CLIENT", "VERSION", "PEER", "#IN FLIGHT", "#CREDIT"],
            [
                [
                    f"{member.member}",
                    member.client_name,
                    member.client_version,
                    member.peer,
                    f"{member.in_flight:,}",
                    f"{member.credit_messages:,}",
                ]
                for member in detail.members
            ],
        )
    else:
        printer.line("  no members connected")
    printer.flush()


@app.command("delete")
def delete(
    name: Name, server: Server = DEFAULT_SERVER, json: Json = False, yes: Yes = False
) -> None:
    """Forget a consumer, its position and what it has not settled."""
    printer = Printer(json=json)
    with AdminClient(server, name="hermes consumers") as admin:
        found = admin.consumer(name).consumer
        unsettled = found.lag + found.in_flight + found.waiting + found.dead
        confirm(
            f"Delete consumer {printable(name)} with {counted(unsettled, 'unsettled message')} "
            f"and {counted(found.members, 'member')}?",
            yes=yes,
        )
        given_up = admin.delete_consumer(name)
    if json:
        printer.fields({"name": name, "deleted": True, "unsettled": given_up})
    else:
        were = "was" if given_up == 1 else "were"
        printer.line(f"deleted {printable(name)}; {counted(given_up, 'message')} {were} unsettled")
    printer.flush()


def _fields(consumer: ConsumerInfo) -> dict[str, Any]:
    fields = msgspec.structs.asdict(consumer)
    fields["created_at"] = rfc3339(consumer.created_at_ns)
    return fields


def _pin(pin: GcPin) -> str:
    """Why garbage collection keeps old messages for a consumer."""
    if pin.what:
        return f"messages from offset {pin.offset} on ({pin.what})"
    return f"messages from offset {pin.offset} on (not considered yet)"


def _withheld(consumer: ConsumerInfo) -> list[str]:
    """What damaged segments keep from a consumer, a line each."""
    lines = []
    for some in consumer.withheld:
        kept = []
        if some.unread:
            kept.append(f"{counted(some.unread, 'message')} not offered yet")
        if some.unsettled:
            kept.append(f"{some.unsettled:,} unsettled")
        lines.append(
            f"offsets {some.first_offset}..{some.last_offset} cannot be read: {', '.join(kept)}"
        )
    return lines


def _backoff(consumer: ConsumerInfo) -> str:
    if not consumer.backoff_max_ns:
        return "none: redelivered at once"
    initial, longest = consumer.backoff_initial_ns, consumer.backoff_max_ns
    return f"{duration(initial)} doubling to {duration(longest)}"


def _idle(consumer: ConsumerInfo) -> str:
    limit_ns = consumer.inactivity_limit_ns
    return f"after {duration(limit_ns)} without a member" if limit_ns else "never"
