"""[P] Consumers and segments as rows: for a table, and as JSON objects.

A row holds plain facts; whatever shows it (a table on a terminal, a TUI, JSON) takes them
from here. How they are found out is in `consumers.py` and `segments.py`. Columns carry the
marks that `hermes.cli.output.Printer.table` knows.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from hermes.broker.consumer import Consumer
from hermes.broker.state import Session, State
from hermes.cli.text import rfc3339
from hermes_inspect.fields import client_fields
from hermes_inspect.times import size, span
from hermes_inspect.views import client_text

# Leases listed in a JSON object.
LEASES_SHOWN_MAX: Final = 1_000


class ConsumerRow(msgspec.Struct, frozen=True):
    """One consumer at one moment.

    `lag` counts messages that match its filter and were not considered yet. `oldest_offset`
    is the oldest message that is neither acked nor dead, `oldest_age_ns` how long ago it was
    published.
    """

    name: str
    filters: tuple[str, ...]
    position: int
    lag: int
    in_flight: int
    waiting: int
    dead: int
    members: tuple[tuple[int, int, Session | None], ...]  # member, in flight, who
    paused: bool
    oldest_offset: int | None
    oldest_age_ns: int | None
    leases: tuple[tuple[int, int, int, int], ...]  # first, last, member, attempt


def consumer_row(
    state: State, consumer: Consumer, *, lag: int, oldest: tuple[int, int] | None
) -> ConsumerRow:
    """A row; `oldest` is offset and age of the oldest unacked message."""
    members = tuple(
        (lsn, member.in_flight, state.sessions.get(member.session))
        for lsn, member in consumer.members.items()
    )
    leases: list[tuple[int, int, int, int]] = []
    for first, last, lease in consumer.leases.items():
        if len(leases) >= LEASES_SHOWN_MAX:
            break
        leases.append((first, last, lease.member, lease.attempt))
    return ConsumerRow(
        name=consumer.name,
        filters=consumer.policy.filters,
        position=consumer.position,
        lag=lag,
        in_flight=consumer.leases.count,
        waiting=consumer.waiting.count,
        dead=consumer.dead.count,
        members=members,
        paused=consumer.paused,
        oldest_offset=None if oldest is None else oldest[0],
        oldest_age_ns=None if oldest is None else oldest[1],
        leases=tuple(leases),
    )


CONSUMER_COLUMNS: Final = (
    "CONSUMER",
    "~FILTER",
    "#POSITION",
    "#LAG",
    "#IN FLIGHT",
    "#WAITING",
    "#DEAD",
    "#OLDEST",
    "~MEMBERS",
)


def consumer_cells(row: ConsumerRow) -> list[str]:
    members = ", ".join(client_text(lsn, who, short=True) for lsn, _, who in row.members)
    return [
        row.name + (" (paused)" if row.paused else ""),
        " ".join(row.filters),
        f"{row.position}",
        f"{row.lag:,}",
        f"{row.in_flight:,}",
        f"{row.waiting:,}",
        f"{row.dead:,}",
        "" if row.oldest_age_ns is None else span(row.oldest_age_ns),
        members or "none",
    ]


def consumer_fields(row: ConsumerRow) -> dict[str, Any]:
    return {
        "consumer": row.name,
        "filters": list(row.filters),
        "position": row.position,
        "lag": row.lag,
        "in_flight": row.in_flight,
        "waiting": row.waiting,
        "dead": row.dead,
        "paused": row.paused,
        "oldest_unacked_offset": row.oldest_offset,
        "oldest_unacked_age_ns": row.oldest_age_ns,
        "members": [
            {"member": lsn, "in_flight": in_flight} | client_fields(who)
            for lsn, in_flight, who in row.members
        ],
        "leases": [
            {"first": first, "last": last, "member": member, "attempt": attempt}
            for first, last, member, attempt in row.leases
        ],
    }


class SegmentRow(msgspec.Struct, frozen=True):
    """One segment. `pinned_by` says why it cannot go, whatever the retention; empty if
    nothing but retention keeps it. `retired` counts messages whose payloads were retired."""

    first_lsn: int
    last_lsn: int
    records: int
    bytes: int
    first_offset: int | None
    last_offset: int | None
    first_at_ns: int
    last_at_ns: int
    sealed: bool
    retired: int
    pinned_by: str
    damage: str = ""


SEGMENT_COLUMNS: Final = (
    "#FIRST LSN",
    "#RECORDS",
    "#FROM OFFSET",
    "#SIZE",
    "#AGE",
    "PINNED BY",
)


def segment_cells(row: SegmentRow, now_ns: int) -> list[str]:
    """Cells for `SEGMENT_COLUMNS`; the age is that of its first record."""
    if row.damage:
        offsets = "" if row.first_offset is None else f"{row.first_offset}"
        records = f"{row.records:,}" if row.records else ""
        return [f"{row.first_lsn}", records, offsets, size(row.bytes), "", _damage(row)]
    return [
        f"{row.first_lsn}",
        f"{row.records:,}",
        "" if row.first_offset is None else f"{row.first_offset}",
        size(row.bytes),
        span(max(0, now_ns - row.first_at_ns)) if row.records else "",
        (_pin(row.pinned_by) or "retention only")
        + (f"; {row.retired:,} payloads retired" if row.retired else ""),
    ]


def _damage(row: SegmentRow) -> str:
    extent = f" records to {row.last_lsn}" if row.records else ""
    if row.first_offset is not None:
        extent += f", offsets to {row.last_offset}"
    pin = f"; {_pin(row.pinned_by)}" if row.pinned_by else ""
    return f"DAMAGED:{extent + ':' if extent else ''} {row.damage}{pin}"


def _pin(reason: str) -> str:
    """A reason of the plan, short enough for a column."""
    short = reason.replace(" has still to consider offset ", " needs @").replace(" is ", " ")
    return short.replace("offset ", "@").replace("for consumer", "for").removeprefix("consumer ")


def segment_fields(row: SegmentRow) -> dict[str, Any]:
    fields = {name: value for name, value in msgspec.structs.asdict(row).items() if value != ""}
    fields["pinned_by"] = row.pinned_by or None
    for name in ("first_at", "last_at"):
        fields[name] = rfc3339(fields[f"{name}_ns"])
    return fields
