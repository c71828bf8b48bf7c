"""[P] What is told of the one thing that is selected: a record, a consumer, a segment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from rich.text import Text

from hermes.broker.ranges import Range
from hermes.cli.text import printable
from hermes_inspect.filters import message_holds
from hermes_inspect.model import Gap, Message, RecordView
from hermes_inspect.payloads import message_lines
from hermes_inspect.tables import ConsumerRow, SegmentRow
from hermes_inspect.times import Clockface, size, span
from hermes_inspect.views import Who, client_text, gap_line, kind_text, record_text, style_of

# Messages of a batch whose payloads are shown at once, and lines of all of them.
MESSAGES_SHOWN: Final = 50
LINES_SHOWN: Final = 2_000
LEASES_SHOWN: Final = 200


def record_lines(view: RecordView, who: Who, face: Clockface) -> Iterator[Text]:
    """A record in full, without its messages."""
    title = Text()
    title.append(kind_text(view.name), style_of(view.kind))
    title.append(f"  lsn {view.lsn}  {face.moment(view.at_ns)} {face.name}", "dim")
    yield title
    yield record_text(view, who)


def gap_lines(gap: Gap) -> list[Text]:
    return [gap_line(gap.first_lsn, gap.last_lsn, gap.why)]


def messages_lines(
    messages: list[Message], mode: str, *, text: str = "", caption: str = ""
) -> list[Text]:
    """Messages with headers and payloads; with a text, those that hold it.

    Cut after `MESSAGES_SHOWN` messages and `LINES_SHOWN` lines.
    """
    held = [message for message in messages if message_holds(message, text)] if text else []
    wanted = held or messages
    lines = [Text(caption, "dim")] if caption else []
    for message in wanted[:MESSAGES_SHOWN]:
        lines += message_lines(message, mode)
    if len(lines) > LINES_SHOWN:
        lines = [*lines[:LINES_SHOWN], Text("… and more", "dim")]
    elif len(wanted) > MESSAGES_SHOWN:
        more = len(wanted) - MESSAGES_SHOWN
        lines.append(Text(f"… and {more:,} more: Enter chooses one", "dim"))
    return lines


def consumer_lines(row: ConsumerRow) -> Iterator[Text]:
    """A consumer, its members and what they hold."""
    title = Text(printable(row.name), "bold")
    title.append("  filter ", "dim").append(printable(" ".join(row.filters)))
    if row.paused:
        title.append("  paused", "yellow")
    yield title
    if row.oldest_offset is not None and row.oldest_age_ns is not None:
        oldest = Text("oldest unacked ", "dim").append(f"@{row.oldest_offset}", "cyan")
        yield oldest.append(f", published {span(row.oldest_age_ns)} ago")
    if not row.members:
        yield Text("no members", "dim")
    for lsn, in_flight, who in row.members:
        line = Text(f"member {lsn}", "bold").append(f"  {client_text(lsn, who)}")
        yield line.append(f", {in_flight:,} in flight", "dim")
    for first, last, member, attempt in row.leases[:LEASES_SHOWN]:
        place = _range((first, last))
        line = Text("  in flight ", "dim").append(place, "cyan")
        yield line.append(f" with member {member}, attempt {attempt}")
    if len(row.leases) > LEASES_SHOWN:
        yield Text("  … and more", "dim")


def _range(pair: Range) -> str:
    first, last = pair
    return f"@{first}" if first == last else f"@{first}..{last}"


def segment_lines(row: SegmentRow, face: Clockface) -> Iterator[Text]:
    """A segment: its ends, and why it is kept."""
    title = Text(f"records {row.first_lsn}..{row.last_lsn}", "bold")
    title.append("  sealed" if row.sealed else "  active", "green" if row.sealed else "yellow")
    title.append(f"  {size(row.bytes)}", "dim")
    yield title
    if row.damage:
        yield Text(printable(row.damage), "bold white on red")
        return
    if row.records:
        first, last = face.moment(row.first_at_ns), face.moment(row.last_at_ns)
        yield Text(f"{first} … {last} {face.name}", "dim")
    if row.first_offset is not None and row.last_offset is not None:
        yield Text("messages ").append(_range((row.first_offset, row.last_offset)), "cyan")
    else:
        yield Text("no messages", "dim")
    if row.retired:
        yield Text(f"payloads retired: {row.retired:,}", "yellow")
    yield Text(f"kept: {printable(row.pinned_by)}" if row.pinned_by else "kept by retention only")


def joined(lines: Iterable[Text]) -> Text:
    """Lines as one text."""
    return Text("\n").join(lines)
