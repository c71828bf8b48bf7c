"""[P] How records look: one line of text per record.

Everything that comes from a message or a client is escaped before it is shown. A style is
a help, never the only sign: without colour nothing is lost. Which stream or terminal it
goes to is `output.py`'s business; a TUI shows the same texts. Messages and their payloads
are in `payloads.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec
from rich.text import Text

from hermes.broker import events as ev
from hermes.broker.ranges import Range
from hermes.broker.state import Session
from hermes.cli.text import counted, printable
from hermes.log.record import Kind
from hermes_inspect.model import RecordView
from hermes_inspect.times import Clockface, size, span

Who = Callable[[int], Session | None]

LSN_COLUMNS: Final = 8
KIND_COLUMNS: Final = 14
RANGES_SHOWN: Final = 4

_STYLES: Final[dict[int, str]] = {
    Kind.PUBLISHED: "green",
    Kind.PUBLISHED_LIVE: "bright_green",
    Kind.AUDIENCE: "bright_black",
    Kind.DELIVERED: "cyan",
    Kind.DELIVERED_LIVE: "bright_cyan",
    Kind.ACKED: "blue",
    Kind.NACKED: "yellow",
    Kind.REJECTED: "red",
    Kind.EXTENDED: "bright_black",
    Kind.EXPIRED: "yellow",
    Kind.RELEASED: "magenta",
    Kind.DEAD_LETTERED: "bold red",
    Kind.REPLAYED: "bold magenta",
    Kind.DISCARDED: "red",
    Kind.REOPENED: "magenta",
    Kind.DROPPED: "red",
    Kind.LOST: "bold white on red",
}


def style_of(kind: int) -> str:
    """The colour of a kind."""
    return _STYLES.get(kind, "bright_black" if kind >= Kind.SNAPSHOT else "dim")


def kind_text(name: str) -> str:
    """`dead lettered`."""
    return name.replace("_", " ")


# --------------------------------------------------------------------------- who, which


def client_text(session: int, client: Session | None, *, short: bool = False) -> str:
    """Who caused something: `alice as billing-worker 127.0.0.1:4711`; the broker for 0.

    `short` leaves the address out, if there is a name.
    """
    if not session:
        return "the broker"
    if client is None:
        return f"session {session}"
    name = client.client_name or "a client"
    if client.principal:
        name = f"{client.principal} as {name}"
    peer = _address(client.peer)
    if short and (client.client_name or client.principal):
        peer = ""
    return printable(f"{name} {peer}" if peer else name)


def _address(peer: str) -> str:
    """A peer as gRPC has it, without the word for its family."""
    return peer.removeprefix("ipv4:").removeprefix("ipv6:")


def ranges_text(ranges: tuple[Range, ...]) -> str:
    """`@812`, `@800..811`, several joined by commas; many are cut short."""
    shown = [str(a) if a == b else f"{a}..{b}" for a, b in ranges[:RANGES_SHOWN]]
    if len(ranges) > RANGES_SHOWN:
        shown.append(f"… to {ranges[-1][1]}")
    return "@" + ",".join(shown)


# ------------------------------------------------------------------------------- lines


class LineStyle(msgspec.Struct, frozen=True):
    """How lines are laid out: `columns` of a terminal (None: no limit, on a pipe)."""

    face: Clockface
    columns: int | None = None

    @property
    def dates(self) -> bool:
        """Whether each line has room for the date."""
        return self.columns is None or self.columns >= 110


def record_line(view: RecordView, who: Who, style: LineStyle) -> Text:
    """A record on one line, or folded under itself where the terminal is too narrow."""
    return folded(*record_parts(view, who, style), style.columns)


def record_parts(view: RecordView, who: Who, style: LineStyle) -> tuple[Text, Text]:
    """The two parts of its line: where, when and of which kind; what it says."""
    face = style.face
    when = face.moment(view.at_ns) if style.dates else face.time(view.at_ns)
    kind = style_of(view.kind)
    line = Text()
    line.append(f"{view.lsn:>{LSN_COLUMNS}} ", "dim")
    line.append(f"{when} ", "dim")
    line.append(f"{kind_text(view.name):<{KIND_COLUMNS}} ", kind)
    return line, record_text(view, who, short=not style.dates)


def folded(front: Text, rest: Text, columns: int | None) -> Text:
    """Two texts in a row; what does not fit goes on under the beginning of the second."""
    indent = front.cell_len
    if columns is None or indent + rest.cell_len <= columns or columns - indent < 20:
        return front + rest
    lines = _wrap(rest, columns - indent)
    joined = front + lines[0]
    for line in lines[1:]:
        joined.append("\n" + " " * indent)
        joined.append_text(line)
    return joined


def _wrap(text: Text, columns: int) -> list[Text]:
    """Cut at blanks where there are any; cells, not characters, are counted."""
    lines: list[Text] = []
    rest = text
    while rest.cell_len > columns:
        cut = len(rest)
        while rest[:cut].cell_len > columns:
            cut -= 1
        blank = rest.plain.rfind(" ", cut // 2, cut + 1)
        if blank > 0:
            lines.append(rest[:blank])
            rest = rest[blank + 1 :]
        else:
            lines.append(rest[:cut])
            rest = rest[cut:]
    return [*lines, rest]


def gap_line(first_lsn: int, last_lsn: int, why: str) -> Text:
    """A mark where records are missing."""
    which = f"record {first_lsn}" if first_lsn == last_lsn else f"records {first_lsn}..{last_lsn}"
    return Text(f"!!! {which}: {printable(why)}", "bold white on red")


def date_line(date: str, name: str) -> Text:
    """A mark where a new day begins, for lines without a date."""
    return Text(f"{'':>{LSN_COLUMNS}} {date} {name}", "bold dim")


def record_text(view: RecordView, who: Who, *, short: bool = False) -> Text:
    """What a record says, in words. `short`: for a narrow place."""
    if view.broken:
        return Text(printable(view.broken), "bold white on red")
    text = Text()
    subject = view.subject or view.consumer or view.pattern
    if subject:
        text.append(printable(subject), "bold")
        text.append(" ")
    if view.ranges:
        text.append(ranges_text(view.ranges), "cyan")
        text.append(" ")
    text.append(", ".join(part for part in _parts(view, _Names(who, short)) if part))
    text.rstrip()
    return text


class _Names(msgspec.Struct, frozen=True):
    """Who caused a record, in words."""

    who: Who
    short: bool

    def of(self, view: RecordView) -> str:
        return client_text(view.session, self.who(view.session), short=self.short)

    def by(self, view: RecordView) -> str:
        return f"by {self.of(view)}"


def _parts(view: RecordView, names: _Names) -> Iterable[str]:
    match view.kind:
        case Kind.PUBLISHED | Kind.PUBLISHED_LIVE:
            return _of_publish(view, names)
        case Kind.SESSION_OPENED:
            return _of_session(view)
        case Kind.CONSUMER_CREATED | Kind.CONSUMER_UPDATED:
            return [*_of_policy(view), names.by(view)]
        case Kind.SERVER_STARTED:
            return _of_start(view)
        case Kind.DELIVERED_LIVE | Kind.AUDIENCE | Kind.DROPPED:
            return _of_live(view)
    if isinstance(view.event, ev.RangesEvent):
        return _of_settlement(view, names)
    parts = [*(_detail(k, v) for k, v in view.details.items()), printable(view.reason)]
    if view.member:
        parts.insert(0, f"member {view.member}")
    if view.session:
        parts.append(names.by(view))
    return parts


def _of_publish(view: RecordView, names: _Names) -> Iterable[str]:
    if view.messages == 1 and view.ids:
        yield f"id {printable(view.ids[0])}" if view.ids[0] else ""
    elif view.messages > 1:
        yield counted(view.messages, "message")
    yield size(view.payload_bytes or 0)
    origin = view.details.get("dead_letter_consumer")
    if origin:
        offset = view.details.get("dead_letter_offset", 0)
        yield f"copy of @{offset}, dead for {printable(origin)}"
    yield names.by(view)


def _of_settlement(view: RecordView, names: _Names) -> Iterable[str]:
    if view.messages > 1:
        yield counted(view.messages, "message")
    attempts = view.details.get("attempts")
    if attempts:
        failures = view.details.get("failures", 0)
        yield f"after {counted(attempts, 'attempt')}, {counted(failures, 'failure')}"
    if view.attempt:
        yield f"attempt {view.attempt}"
    if view.member:
        direction = "to" if view.kind == Kind.DELIVERED else "by"
        who_text = f" ({names.of(view)})" if view.session else ""
        yield f"{direction} member {view.member}{who_text}"
    elif view.session:
        yield names.by(view)
    cause = view.details.get("cause")
    if cause:
        yield kind_text(cause)
    if view.details.get("failure"):
        yield "counted as a failure"
    if view.reason:
        yield f"“{printable(view.reason)}”"
    for name, word in (("deadline_at_ns", "for"), ("due_at_ns", "again in")):
        at_ns = view.details.get(name)
        if at_ns is not None and at_ns > view.at_ns:
            yield f"{word} {span(at_ns - view.at_ns)}"


def _of_session(view: RecordView) -> Iterable[str]:
    details = view.details
    name = details.get("client_name", "a client")
    if details.get("principal"):
        name = f"{details['principal']} as {name}"
    yield printable(name)
    yield printable(_address(details.get("peer", "")))
    yield printable(details.get("client_version", ""))


def _of_start(view: RecordView) -> Iterable[str]:
    yield f"Hermes {printable(view.details.get('version', ''))}"
    yield f"on {printable(view.details.get('host', ''))}"
    clean = view.details.get("clean_stop")
    yield "after a clean stop" if clean else "after an unclean stop: live records may be missing"


def _of_policy(view: RecordView) -> Iterable[str]:
    details = view.details
    yield "filter " + printable(" ".join(details.get("filters", ())))
    if view.kind == Kind.CONSUMER_CREATED:
        yield f"from offset {details.get('position', 0)}"
    yield f"ack timeout {span(details.get('ack_timeout_ns', 0))}"
    most = details.get("max_attempts")
    yield f"at most {counted(most, 'failure')}" if most else "never dead"


def _of_live(view: RecordView) -> Iterable[str]:
    details = view.details
    if view.kind == Kind.DROPPED:
        yield f"subscription {details.get('subscription', 0)} lost " + counted(
            details.get("messages", 0), "message"
        )
        lsns = (details.get("first_published_lsn", 0), details.get("last_published_lsn", 0))
        yield f"published at lsn {lsns[0]}..{lsns[1]}"
        return
    if details.get("published_lsn"):
        yield f"of lsn {details['published_lsn']}"
    if details.get("audience"):
        yield f"to the audience of lsn {details['audience']}"
    for name, word in (("subscriptions", "subscriptions"), ("picks", "picked")):
        if details.get(name):
            shown = [str(lsn) for lsn in details[name][:8]]
            more = len(details[name]) - len(shown)
            yield f"{word} {' '.join(shown)}" + (f" and {more} more" if more else "")


def _detail(name: str, value: Any) -> str:
    """A fact of a rare kind, by its name in the body."""
    if name.endswith("_ns") and isinstance(value, int):
        return f"{kind_text(name.removesuffix('_ns'))} {span(value)}"
    if name.endswith("_bytes") and isinstance(value, int):
        return f"{kind_text(name.removesuffix('_bytes'))} {size(value)}"
    if isinstance(value, list):
        text = " ".join(str(item) for item in value)
    elif isinstance(value, str) and len(value) == 64:
        text = value[:12] + "…"  # a digest
    else:
        text = str(value)
    return f"{kind_text(name)} {printable(text)}"
