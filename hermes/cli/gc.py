"""`hermes gc`: a round of garbage collection now, or what it would do, and why."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer
from rich.filesize import decimal

from hermes.cli.groups import single
from hermes.cli.options import DEFAULT_SERVER, Json, Server
from hermes.cli.output import Printer
from hermes.cli.running import EXIT_FAILED
from hermes.cli.text import counted, duration, printable, rfc3339
from hermes.client.admin_types import GcConsumer, GcReport, GcSegment


def gc(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")
    ] = False,
    server: Server = DEFAULT_SERVER,
    json: Json = False,
) -> None:
    """Free what is past its retention now, instead of at the next HERMES_GC_INTERVAL.

    Payloads that nobody needs are taken out of old segments (compact), and oldest segments past
    the audit retention go as a whole (drop). Everything else is kept, for the reason shown.
    Exit code 1: something that was due could not be done.
    """
    from hermes.client.admin import AdminClient

    with AdminClient(server, name="hermes gc") as admin:
        report = admin.plan_gc() if dry_run else admin.run_gc()
    printer = Printer(json=json)
    if json:
        _print_json(printer, report)
    else:
        _print(printer, report, dry_run=dry_run)
    printer.flush()
    if any(segment.problem for segment in report.segments):
        raise typer.Exit(EXIT_FAILED)


def _print_json(printer: Printer, report: GcReport) -> None:
    """A line per segment, a line per consumer that pins, and one for the store."""
    for segment in report.segments:
        fields = {"segment": segment.first_lsn} | msgspec.structs.asdict(segment)
        fields["pins"] = [msgspec.structs.asdict(pin) for pin in segment.pins]
        fields["first_at"] = rfc3339(segment.first_at_ns)
        fields["last_at"] = rfc3339(segment.last_at_ns)
        printer.fields(fields)
    for consumer in report.consumers:
        printer.fields({"consumer": consumer.name} | msgspec.structs.asdict(consumer))
    whole: dict[str, Any] = {
        "store_bytes": report.store_bytes,
        "store_bytes_max": report.store_bytes_max,
        "refusing": report.refusing,
    }
    printer.fields(whole)


def _print(printer: Printer, report: GcReport, *, dry_run: bool) -> None:
    printer.table(
        ["SEGMENT", "OFFSETS", "#SIZE", "ACTION", "#FREES", "~WHY"],
        [_row(segment, dry_run=dry_run) for segment in report.segments],
    )
    printer.line(_sum(report, dry_run=dry_run))
    for segment in report.segments:
        others = segment.pins[1:]
        if others:
            names = ", ".join(f"{pin.consumer!r} (offset {pin.offset})" for pin in others)
            printer.line(f"segment {segment.first_lsn} is needed by {names} too")
    for consumer in report.consumers:
        for line in _consumer_lines(consumer):
            printer.line(line)


def _row(segment: GcSegment, *, dry_run: bool) -> list[str]:
    offsets = "none"
    if segment.first_offset is not None:
        offsets = f"{segment.first_offset}..{segment.last_offset}"
    action = segment.action
    if not dry_run and action != "keep":
        action = "failed" if segment.problem else {"compact": "compacted"}.get(action, "dropped")
    reason = segment.reason
    if segment.retired_messages:
        reason = f"{counted(segment.retired_messages, 'payload')}: {reason}"
    if segment.problem:
        reason = f"{segment.problem} ({reason})"
    freed = decimal(segment.freed_bytes) if segment.freed_bytes else ""
    return [f"{segment.first_lsn}", offsets, decimal(segment.bytes), action, freed, reason]


def _sum(report: GcReport, *, dry_run: bool) -> str:
    acted = [s for s in report.segments if s.action != "keep" and not s.problem]
    freed = decimal(sum(segment.freed_bytes for segment in acted))
    done = "would be freed" if dry_run else "freed"
    size = decimal(report.store_bytes)
    if report.store_bytes_max is not None:
        size += f" of {decimal(report.store_bytes_max)}"
    full = "; it is full: publishes are refused" if report.refusing else ""
    return f"{freed} {done} in {counted(len(acted), 'segment')}; the store has {size}{full}"


def _consumer_lines(consumer: GcConsumer) -> list[str]:
    name = printable(consumer.name)
    kept = f"{counted(consumer.segments, 'segment')} past retention, {decimal(consumer.bytes)}"
    if not consumer.abandoned:
        served = counted(consumer.members, "member") if consumer.members else "no member"
        return [f"consumer {name} keeps {kept} ({served}, lag {consumer.lag:,})"]
    idle = duration(consumer.idle_ns // 10**9 * 10**9)
    lines = [
        f"ABANDONED: consumer {name} keeps {kept}: no member for {idle}, lag {consumer.lag:,}",
        f"  end it:              hermes consumers delete {name}",
    ]
    if consumer.inactivity_limit_ns:
        lines.append(f"  it ends by itself:   {duration(consumer.inactivity_limit_ns)} without one")
    else:
        lines.append(
            "  or by itself:        hermes serve --consumer-inactivity SECS, "
            "or inactivity_limit when it is opened"
        )
    return lines


app = single(gc)
