"""[P] The custody of one message: what happened to it, in order, and where it stands.

A trace is made of record views (`model.py`) that `trace.py` found. Here the gaps between
them are reckoned, the outcome for each consumer is told, and it is laid out for a person
or as JSON.

Gaps are taken from engine time, which never jumps, and from the wall clock where a record
has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec
from rich.text import Text

from hermes.broker import events as ev
from hermes.broker.state import Session
from hermes.cli.text import counted, printable, rfc3339
from hermes.log.record import Kind
from hermes_inspect.fields import client_fields, message_fields, record_fields
from hermes_inspect.model import Message, RecordView
from hermes_inspect.times import span
from hermes_inspect.views import (
    LineStyle,
    Who,
    client_text,
    folded,
    kind_text,
    record_text,
    style_of,
)

GAP_COLUMNS: Final = 9
CONSUMER_COLUMNS_MAX: Final = 24

# What a message is for a consumer after a record of this kind.
OUTCOMES: Final[dict[int, str]] = {
    Kind.DELIVERED: "in flight",
    Kind.EXTENDED: "in flight",
    Kind.ACKED: "acked",
    Kind.NACKED: "waiting",
    Kind.EXPIRED: "waiting",
    Kind.RELEASED: "waiting",
    Kind.REJECTED: "waiting",
    Kind.REPLAYED: "waiting",
    Kind.REOPENED: "waiting",
    Kind.DEAD_LETTERED: "dead",
    Kind.DISCARDED: "discarded",
}


class Receiver(msgspec.Struct, frozen=True):
    """A live subscription that a message was handed to."""

    subscription: int
    pattern: str
    queue_groups: tuple[str, ...]
    session: int
    client: Session | None


class Step(msgspec.Struct, frozen=True):
    """One thing that happened. `receivers`: of a live delivery. `copy`: it is the message's
    copy for others to see, published because it was given up on."""

    view: RecordView
    receivers: tuple[Receiver, ...] = ()
    copy: bool = False


class Standing(msgspec.Struct, frozen=True):
    """Where a message stands with one consumer."""

    consumer: str
    outcome: str
    attempts: int = 0
    first_delivered_at_ns: int | None = None
    settled_at_ns: int | None = None


class Trace(msgspec.Struct, frozen=True):
    """All of it. `steps[0]` is the publish. `message` is None when its payload is gone.

    `cut`: there are more steps than are shown.
    """

    subject: str
    index: int  # in its batch
    offset: int | None
    id: str
    message: Message | None
    steps: tuple[Step, ...]
    standings: tuple[Standing, ...]
    as_of_lsn: int
    cut: bool = False


# As in custody (docs/audit.md): nobody can be given the message any more.
RETIRED: Final = "payload retired undelivered"


def standings(steps: list[Step], others: dict[str, str]) -> tuple[Standing, ...]:
    """Where the message stands with each consumer, in the order in which they got it.

    `others` adds consumers that no step names, with their outcome.
    """
    found: dict[str, Standing] = {}
    for step in steps:
        view = step.view
        if view.kind == Kind.CONSUMER_DELETED:
            known = found.get(view.consumer)
            if known is not None and known.outcome in {"in flight", "waiting", "dead"}:
                found[view.consumer] = msgspec.structs.replace(known, outcome="consumer deleted")
            continue
        outcome = OUTCOMES.get(view.kind)
        if outcome is None:
            continue
        known = found.get(view.consumer, Standing(view.consumer, outcome))
        first = known.first_delivered_at_ns
        attempts = known.attempts
        if view.kind == Kind.DELIVERED:
            attempts += 1
            first = view.at_ns if first is None else first
        event = view.event
        if isinstance(event, ev.DeadLettered) and event.cause is ev.DeadCause.PAYLOAD_GONE:
            outcome = RETIRED
        elif view.kind == Kind.DISCARDED and known.outcome == RETIRED:
            continue
        settled = view.at_ns if outcome in {"acked", "discarded"} else None
        found[view.consumer] = Standing(view.consumer, outcome, attempts, first, settled)
    for consumer, outcome in others.items():
        found.setdefault(consumer, Standing(consumer, outcome))
    return tuple(found.values())


def gaps(steps: tuple[Step, ...]) -> Iterator[int]:
    """Nanoseconds from each step to the one before; 0 for the first."""
    before: RecordView | None = None
    for step in steps:
        yield 0 if before is None else _between(before, step.view)
        before = step.view


def _between(before: RecordView, after: RecordView) -> int:
    if isinstance(before.event, ev.Event) and isinstance(after.event, ev.Event):
        return after.event.engine_time_ns - before.event.engine_time_ns
    return after.at_ns - before.at_ns


# -------------------------------------------------------------------------- for a person


def title(trace: Trace) -> Text:
    """Which message it is."""
    text = Text(printable(trace.subject), "bold")
    if trace.offset is not None:
        text.append(f" @{trace.offset}", "cyan")
    if trace.id:
        text.append(f" id {printable(trace.id)}", "bold")
    if trace.message is None:
        text.append(" (its payload is no longer held)", "yellow")
    return text


def lines(trace: Trace, who: Who, style: LineStyle) -> Iterator[Text]:
    """The timeline, a line per step, folded to the terminal."""
    names = [_party(step) for step in trace.steps]
    width = min(CONSUMER_COLUMNS_MAX, max((len(name) for name in names), default=0))
    for step, name, gap_ns in zip(trace.steps, names, gaps(trace.steps), strict=True):
        view = step.view
        when = style.face.moment(view.at_ns) if style.dates else style.face.time(view.at_ns)
        gap = f"+{span(gap_ns)}" if view is not trace.steps[0].view else ""
        front = Text(f"{when} ", "dim")
        front.append(f"{gap:>{GAP_COLUMNS}}  ", _gap_style(gap_ns))
        front.append(f"{name:<{width}} ", "bold")
        kind = "copied" if step.copy else kind_text(view.name)
        front.append(f"{kind:<13} ", style_of(view.kind))
        yield folded(front, _words(step, who, short=not style.dates), style.columns)


def _party(step: Step) -> str:
    return printable(step.view.consumer)


def _gap_style(gap_ns: int) -> str:
    return "yellow" if gap_ns >= 10**9 else "dim"


def _words(step: Step, who: Who, *, short: bool) -> Text:
    view = step.view
    if step.receivers:
        return Text(", ".join(_receiver(one, short=short) for one in step.receivers))
    if step.copy and view.ranges:
        return Text(f"to {printable(view.subject)} @{view.ranges[0][0]}")
    text = record_text(view, who, short=short)
    # The consumer stands in its own column, and which message it is in the title.
    shown = view.consumer or view.subject
    front = len(printable(shown)) + 1 if shown else 0
    rest = text[front:]
    if view.ranges and view.ranges[0][0] == view.ranges[-1][1]:
        rest = rest[len(f"@{view.ranges[0][0]} ") :]
    return rest


def _receiver(one: Receiver, *, short: bool) -> str:
    name = client_text(one.session, one.client, short=short) if one.session else ""
    group = f" (group {printable(' '.join(one.queue_groups))})" if one.queue_groups else ""
    return (name or f"subscription {one.subscription}") + group


def standing_lines(trace: Trace) -> Iterator[Text]:
    """Where it stands, a line per consumer."""
    width = max((len(printable(one.consumer)) for one in trace.standings), default=0)
    for one in trace.standings:
        text = Text(f"{printable(one.consumer):<{width}} ", "bold")
        good = one.outcome == "acked"
        text.append(one.outcome, "green" if good else "red" if one.outcome == "dead" else "yellow")
        if one.attempts:
            text.append(f" after {counted(one.attempts, 'delivery').replace('ys', 'ies')}", "dim")
        if one.settled_at_ns is not None:
            took = one.settled_at_ns - trace.steps[0].view.at_ns
            text.append(f", {span(took)} after the publish", "dim")
        yield text


# -------------------------------------------------------------------------- for a program


def trace_fields(trace: Trace, who: Who) -> dict[str, Any]:
    """One JSON object."""
    fields: dict[str, Any] = {"subject": trace.subject}
    if trace.offset is not None:
        fields["offset"] = trace.offset
    fields["id"] = trace.id or None
    fields["as_of_lsn"] = trace.as_of_lsn
    if trace.message is not None:
        fields["message"] = message_fields(trace.message)
    first = trace.steps[0].view.at_ns
    fields["steps"] = []
    for step, gap_ns in zip(trace.steps, gaps(trace.steps), strict=True):
        told = record_fields(step.view, who, None)
        told["gap_ns"] = gap_ns
        told["since_publish_ns"] = step.view.at_ns - first
        if step.receivers:
            told["receivers"] = [_receiver_fields(one) for one in step.receivers]
        fields["steps"].append(told)
    fields["consumers"] = [_standing_fields(one) for one in trace.standings]
    if trace.cut:
        fields["cut"] = True
    return fields


def _receiver_fields(one: Receiver) -> dict[str, Any]:
    fields: dict[str, Any] = {"subscription": one.subscription}
    if one.pattern:
        fields["pattern"] = one.pattern
    if one.queue_groups:
        fields["queue_groups"] = list(one.queue_groups)
    if one.session:
        fields["session"] = one.session
    return fields | client_fields(one.client)


def _standing_fields(one: Standing) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "consumer": one.consumer,
        "outcome": one.outcome,
        "attempts": one.attempts,
    }
    for name in ("first_delivered_at_ns", "settled_at_ns"):
        at_ns = getattr(one, name)
        if at_ns is not None:
            fields[name.removesuffix("_ns")] = rfc3339(at_ns)
            fields[name] = at_ns
    return fields
