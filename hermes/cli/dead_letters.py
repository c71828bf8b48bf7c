"""`hermes dead-letters`: list, show, replay, discard."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from hermes.cli.groups import group
from hermes.cli.options import DEFAULT_SERVER, Json, Server, UsageError, Yes, confirm
from hermes.cli.output import Printer, payload_lines
from hermes.cli.text import counted, payload_fields, printable, rfc3339
from hermes.client.admin import AdminClient
from hermes.client.admin_types import DeadLetter, DeadLetterDetail, DeadLetterOutcome

app = group("Messages given up on: list (the default), show, replay, discard.")

ConsumerName = Annotated[
    str, typer.Argument(metavar="CONSUMER", help="Name of the consumer.", show_default=False)
]
Offsets = Annotated[
    list[int] | None,
    typer.Argument(metavar="OFFSET", help="Which ones, by offset.", show_default=False),
]
SubjectFilter = Annotated[
    str, typer.Option("--filter", metavar="PATTERN", help="Only those on these subjects.")
]
All = Annotated[bool, typer.Option("--all", help="Every dead letter of the consumer.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


@app.command("list")
def list_dead_letters(
    consumer: Annotated[
        str, typer.Option("--consumer", "-c", metavar="NAME", help="Only those of one consumer.")
    ] = "",
    subject_filter: SubjectFilter = "",
    server: Server = DEFAULT_SERVER,
    json: Json = False,
) -> None:
    """Dead letters with the reason of each."""
    printer = Printer(json=json)
    with AdminClient(server, name="hermes dead-letters") as admin:
        found = admin.dead_letters(consumer, filter=subject_filter)
        if json:
            for dead in found:
                printer.fields(_fields(dead))
        elif rows := [_row(dead) for dead in found]:
            printer.table(
                ["CONSUMER", "#OFFSET", "SUBJECT", "#FAILURES", "=DEAD SINCE", "~REASON"], rows
            )
        else:
            printer.line("No dead letters.")
    printer.flush()


@app.command("show")
def show(
    consumer: ConsumerName,
    offset: Annotated[
        int, typer.Argument(metavar="OFFSET", min=0, help="Its offset.", show_default=False)
    ],
    server: Server = DEFAULT_SERVER,
    json: Json = False,
) -> None:
    """One dead letter: the message and every attempt at it."""
    printer = Printer(json=json)
    with AdminClient(server, name="hermes dead-letters") as admin:
        detail = admin.dead_letter(consumer, offset)
    if json:
        printer.fields(_detail_fields(detail))
    else:
        _print_detail(printer, detail)
    printer.flush()


@app.command("replay")
def replay(
    consumer: ConsumerName,
    offsets: Offsets = None,
    subject_filter: SubjectFilter = "",
    every: All = False,
    rate: Annotated[
        int, typer.Option("--rate", min=0, metavar="N", help="Messages per second; 0 is at once.")
    ] = 0,
    dry_run: DryRun = False,
    yes: Yes = False,
    server: Server = DEFAULT_SERVER,
    json: Json = False,
) -> None:
    """Give dead letters back to their consumer, counters at 0."""
    _check_selection(offsets, subject_filter, every)
    with AdminClient(server, name="hermes dead-letters") as admin:
        if not offsets and not dry_run:
            plan = admin.replay_dead_letters(consumer, filter=subject_filter, dry_run=True)
            confirm(f"Replay {_letters(plan)} of {printable(consumer)}?", yes=yes)
        outcome = admin.replay_dead_letters(
            consumer,
            offsets=offsets or None,
            filter=subject_filter,
            dry_run=dry_run,
            messages_per_second=rate,
        )
    _print_outcome(outcome, consumer, "replayed", dry_run=dry_run, json=json)


@app.command("discard")
def discard(
    consumer: ConsumerName,
    offsets: Offsets = None,
    subject_filter: SubjectFilter = "",
    every: All = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    server: Server = DEFAULT_SERVER,
    json: Json = False,
) -> None:
    """Give dead letters up for good."""
    _check_selection(offsets, subject_filter, every)
    with AdminClient(server, name="hermes dead-letters") as admin:
        if not dry_run:
            plan = admin.discard_dead_letters(
                consumer, offsets=offsets or None, filter=subject_filter, dry_run=True
            )
            confirm(
                f"Discard {_letters(plan)} of {printable(consumer)} for good?",
                yes=yes,
            )
        outcome = admin.discard_dead_letters(
            consumer, offsets=offsets or None, filter=subject_filter, dry_run=dry_run
        )
    _print_outcome(outcome, consumer, "discarded", dry_run=dry_run, json=json)


def _check_selection(offsets: list[int] | None, subject_filter: str, every: bool) -> None:
    given = [bool(offsets), bool(subject_filter), every]
    if sum(given) != 1:
        raise UsageError("say which: offsets, or --filter PATTERN, or --all")
    if any(offset < 0 for offset in offsets or ()):
        raise UsageError("an offset is not negative")


def _letters(plan: DeadLetterOutcome) -> str:
    return counted(plan.matched, "dead letter")


def _print_outcome(
    outcome: DeadLetterOutcome, consumer: str, done: str, *, dry_run: bool, json: bool
) -> None:
    printer = Printer(json=json)
    if json:
        printer.fields({"consumer": consumer, "dry_run": dry_run} | msgspec.structs.asdict(outcome))
    elif not outcome.matched:
        printer.line(f"no dead letter of {printable(consumer)} matches; nothing {done}")
    elif dry_run:
        shown = ", ".join(map(str, outcome.offsets[:20]))
        more = ", …" if outcome.matched > 20 else ""
        printer.line(f"{outcome.matched:,} would be {done}{': ' if shown else ''}{shown}{more}")
    else:
        printer.line(f"{done} {outcome.changed:,} of {outcome.matched:,}")
    printer.flush()


def _fields(dead: DeadLetter) -> dict[str, Any]:
    fields = msgspec.structs.asdict(dead)
    fields["dead_at"] = rfc3339(dead.dead_at_ns)
    return fields


def _row(dead: DeadLetter) -> list[str]:
    return [
        dead.consumer,
        f"{dead.offset}",
        dead.subject,
        f"{dead.failures}",
        rfc3339(dead.dead_at_ns)[:19] + "Z",
        dead.reason,
    ]


def _detail_fields(detail: DeadLetterDetail) -> dict[str, Any]:
    fields = _fields(detail.dead_letter)
    if (message := detail.message) is not None:
        fields["published_at"] = rfc3339(message.published_at_ns)
        fields["published_at_ns"] = message.published_at_ns
        fields["headers"] = message.headers
        fields |= payload_fields(message.payload)
    fields["history"] = [
        msgspec.structs.asdict(attempt) | {"at": rfc3339(attempt.at_ns)}
        for attempt in detail.attempts
    ]
    return fields


def _print_detail(printer: Printer, detail: DeadLetterDetail) -> None:
    dead, message = detail.dead_letter, detail.message
    printer.line(f"{dead.offset} {printable(dead.subject)}, dead for {printable(dead.consumer)}")
    printer.line(f"  reason      {printable(dead.reason)}")
    printer.line(f"  attempts    {dead.attempts}, of which {dead.failures} failed")
    printer.line(f"  dead since  {rfc3339(dead.dead_at_ns)}")
    if dead.message_id:
        printer.line(f"  id          {printable(dead.message_id)}")
    if message is None:
        printer.line("  its payload is no longer held")
    else:
        printer.line(f"  published   {rfc3339(message.published_at_ns)}")
        for key, value in message.headers.items():
            printer.line(f"  {printable(key)}: {printable(value)}")
        for line in payload_lines(message.payload):
            printer.line(f"  {line}")
    printer.table(
        ["=AT", "#ATTEMPT", "=WHAT", "MEMBER", "CLIENT", "REASON"],
        [
            [
                rfc3339(step.at_ns)[:23] + "Z",
                f"{step.attempt}",
                step.kind,
                f"{step.member or ''}",
                step.client_name or step.peer,
                step.reason,
            ]
            for step in detail.attempts
        ],
    )
