"""`hermes-inspect log`: the records, as lines or JSON objects.

On a terminal the screen of `tui/` opens; this is the plain side, for pipes, scripts and
`--no-tui`. Which records are wanted is in `filters.py`, how they are found in `query.py`,
what a line looks like in `views.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from rich.text import Text

from hermes.cli.groups import single
from hermes.cli.options import UsageError
from hermes_inspect import output
from hermes_inspect.fields import record_fields
from hermes_inspect.filters import Filter, message_holds
from hermes_inspect.model import Gap, Item, Message, RecordView, messages_of
from hermes_inspect.options import (
    ConsumerOption,
    FollowOption,
    JsonOption,
    KindOption,
    LastOption,
    LimitOption,
    LocalOption,
    LsnOption,
    NoTuiOption,
    OffsetOption,
    PayloadOption,
    SinceOption,
    SubjectOption,
    TextOption,
    UntilOption,
    typed_filter,
)
from hermes_inspect.output import Output
from hermes_inspect.payloads import PAYLOAD_MODES, message_lines
from hermes_inspect.query import Records
from hermes_inspect.sessions import Sessions
from hermes_inspect.store import Store, StoreArgument, StoreOption, open_store, store_path
from hermes_inspect.times import Clockface
from hermes_inspect.views import LineStyle, date_line, gap_line, record_line
from hermes_inspect.yielding import Yielding, be_nice, yield_to

# A commit takes a millisecond; a person sees no difference below a tenth of a second.
POLL_SECONDS: Final = 0.1
# What `--follow` shows first, unless told.
FOLLOW_LAST: Final = 10


def log(
    store: StoreArgument = None,
    store_option: StoreOption = None,
    kind: KindOption = None,
    subject: SubjectOption = None,
    consumer: ConsumerOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    offset: OffsetOption = None,
    lsn: LsnOption = None,
    text: TextOption = "",
    limit: LimitOption = None,
    last: LastOption = None,
    follow: FollowOption = False,
    payload: PayloadOption = None,
    json: JsonOption = False,
    local: LocalOption = False,
    no_tui: NoTuiOption = False,
) -> None:
    """Show the records of the log: on a screen, or as lines, the oldest first."""
    # A number of lines, or lines for ever, is asked of a list, not of a screen.
    plain = no_tui or json or follow or limit is not None or last is not None
    if payload is not None and payload not in PAYLOAD_MODES:
        raise UsageError(f"--payload {payload!r}: expected {', '.join(PAYLOAD_MODES)}")
    if limit is not None and last is not None:
        raise UsageError("--limit and --last exclude each other")
    face = output.clockface(local=local)
    wanted = typed_filter(
        kinds=kind or (),
        subjects=subject or (),
        consumers=consumer or (),
        since=since,
        until=until,
        offset=offset,
        lsn=lsn,
        text=text,
        zone=face.zone,
    )
    with open_store(store_path(store_option, store)) as opened:
        output.tell_state(opened)
        if not plain and output.is_screen():
            _show_screen(opened, wanted, face, payload or "auto")
            return
        lines = Lines(opened, wanted, LineStyle(face), payload=payload, json=json)
        records = Records(opened, wanted, payloads=payload is not None)
        at = _show_stored(opened, records, lines, limit=limit, last=last, follow=follow)
        if follow and at is not None:
            _follow(opened, records, lines, at, limit)
        output.exit_for(opened, damaged=lines.damaged)


def _show_screen(store: Store, wanted: Filter, face: Clockface, payload: str) -> None:
    """The TUI, until it is left."""
    from hermes_inspect.tui.app import run  # slow to import, and only here of use

    be_nice()
    output.exit_for(store, damaged=run(store, wanted, face, payload))


def _show_stored(
    store: Store,
    records: Records,
    lines: Lines,
    *,
    limit: int | None,
    last: int | None,
    follow: bool,
) -> int | None:
    """Show what there is. Returns where to go on, None when enough was shown."""
    if last is None and follow and limit is None:
        last = FOLLOW_LAST
    if last is not None:
        end = records.end_lsn_now
        # What comes meanwhile is for whoever follows, once.
        lines.show(records.last(last, before_lsn=end) if last else [])
        return end
    at = records.first_lsn
    yielding = yield_to(store.path)
    for page in records.walk(at):
        at = page.reached
        room = len(page.items) if limit is None else limit - lines.shown
        lines.show(page.items[:room])
        if limit is not None and lines.shown >= limit:
            return None
        yielding.between_steps()
    return at


def _follow(store: Store, records: Records, lines: Lines, at: int, limit: int | None) -> None:
    """Until interrupted, or the filter can match nothing more."""
    be_nice()
    yielding = Yielding(store.path)
    while at < records.end_lsn:
        page = records.after(at)
        at = page.reached
        room = len(page.items) if limit is None else limit - lines.shown
        lines.show(page.items[:room])
        if limit is not None and lines.shown >= limit:
            return
        if page.done:
            # A server that seals a segment must not wait for us.
            store.reader.rest()
            yielding.rest(POLL_SECONDS)
        else:
            yielding.between_steps()


class Lines:
    """Writes records as they come."""

    def __init__(
        self, store: Store, wanted: Filter, style: LineStyle, *, payload: str | None, json: bool
    ) -> None:
        self._out = Output(json=json)
        self._who = Sessions(store.reader)
        self._wanted = wanted
        self._style = LineStyle(style.face, self._out.columns)
        self._payload = payload
        self._date = ""
        self.shown = 0
        self.damaged = False

    def show(self, items: Iterable[Item]) -> None:
        """Write some, in order, and let them be seen."""
        for item in items:
            if isinstance(item, Gap):
                self._gap(item)
            elif self._out.json:
                self._object(item)
                self.shown += 1
            else:
                self._line(item)
                self.shown += 1
        self._out.flush()

    def _gap(self, gap: Gap) -> None:
        self.damaged = True
        if self._out.json:
            missing = {"first_lsn": gap.first_lsn, "last_lsn": gap.last_lsn, "why": gap.why}
            self._out.fields({"kind": "damage"} | missing)
        else:
            self._out.text(gap_line(gap.first_lsn, gap.last_lsn, gap.why))

    def _object(self, view: RecordView) -> None:
        messages = None if self._payload is None else self._messages(view)
        self._out.fields(record_fields(view, self._who, messages))

    def _line(self, view: RecordView) -> None:
        if not self._style.dates:
            date = self._style.face.date(view.at_ns)
            if date != self._date:
                self._date = date
                self._out.text(date_line(date, self._style.face.name))
        self._out.text(record_line(view, self._who, self._style))
        if self._payload is None or view.payload_bytes is None:
            return
        indent = " " * 9
        if view.retired:
            self._out.text(_indented("(the payload was retired)", indent))
        for message in self._messages(view):
            for line in message_lines(message, self._payload):
                self._out.text(_indented(line, indent))

    def _messages(self, view: RecordView) -> list[Message]:
        messages = messages_of(view)
        text = self._wanted.text
        held = [message for message in messages if message_holds(message, text)] if text else []
        return held or messages


def _indented(line: Text | str, indent: str) -> Text:
    return Text(indent).append(line)


app = single(log)
