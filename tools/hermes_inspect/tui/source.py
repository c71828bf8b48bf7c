"""What the screen shows is read here: every call may block, and runs in a thread.

Calls are bounded (a page, a walk of `SEARCH_WALK_MAX`, a fold from the nearest snapshot).
Several threads may call at once; who a session was is looked up by each call on its own,
for `Sessions` is made for one thread.

Nothing here knows a widget.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import msgspec
from rich.text import Text

from hermes.clock import SystemClock
from hermes.log.record import Kind
from hermes.log.search import lsn_at_time
from hermes_inspect import consumers as consumers_of
from hermes_inspect import segments as segments_of
from hermes_inspect.filters import Filter
from hermes_inspect.model import Gap, Item, Message, RecordView, messages_of, view_of
from hermes_inspect.query import WALK_RECORDS, Records
from hermes_inspect.sessions import Sessions
from hermes_inspect.store import Store
from hermes_inspect.tables import ConsumerRow, SegmentRow
from hermes_inspect.timeline import Trace, lines, standing_lines, title
from hermes_inspect.times import SECOND_NS, Clockface
from hermes_inspect.trace import Tracer, find
from hermes_inspect.tui.details import gap_lines, messages_lines, record_lines
from hermes_inspect.tui.rows import Row, light
from hermes_inspect.tui.window import PAGE_ROWS, Need, Part, Way
from hermes_inspect.views import LineStyle

# Messages of one record that can be chosen from a list; others by their number.
CHOICES_MAX: Final = 500
# Seconds whose place in the log is remembered for the sparkline.
SECONDS_REMEMBERED: Final = 4_096


class Choice(msgspec.Struct, frozen=True):
    """A message that a record is about: the name by which it is found, what is shown."""

    name: str
    label: str


class Choices(msgspec.Struct, frozen=True):
    """Messages that a record is about; `total` may be more than are listed. A typed number
    is put behind `prefix`."""

    listed: list[Choice]
    total: int
    prefix: str = "@"


def now_ns() -> int:
    """The wall clock."""
    return SystemClock().wall_ns()


class Source:
    """One open store, for one screen."""

    def __init__(self, store: Store, face: Clockface) -> None:
        self.store = store
        self.face = face
        self._reader = store.reader
        self._who = Sessions(store.reader)  # for the rows, which one thread reads
        self._seconds: dict[int, int] = {}

    # -------------------------------------------------------------------------- rows

    def choose(self, wanted: Filter) -> Records:
        """The records that a filter wants. Raises StoreError."""
        return Records(self.store, wanted)

    def part(self, records: Records, need: Need, wanted: Filter) -> Part:
        """Read what a window needs. Raises StoreError."""
        # A text is looked for in whatever comes: few records fit, so more are looked at.
        limit = WALK_RECORDS if wanted.needs_payloads else PAGE_ROWS
        if need.way in {Way.FROM, Way.NEWER}:
            page = records.after(need.lsn, limit)
            low, high = need.lsn, max(need.lsn, page.reached)
        else:
            high = records.end_lsn_now if need.way is Way.NEWEST else need.lsn
            page = records.before(high, limit)
            low = page.reached
        return Part([self._row(item) for item in page.items], low, high, page.done)

    def _row(self, item: Item) -> Row:
        if isinstance(item, Gap):
            return Row(item)
        return Row(light(item), self._who(item.session))

    def rest(self) -> None:
        """A server that seals a segment must not wait for us."""
        self._reader.rest()

    def bars(self, at_ns: int, count: int) -> list[int]:
        """Records logged in each of the whole seconds before a moment. Raises StoreError."""
        end = at_ns // SECOND_NS
        lsns = [self._lsn_at(second) for second in range(end - count, end + 1)]
        return [max(0, after - before) for before, after in pairwise(lsns)]

    def _lsn_at(self, second: int) -> int:
        known = self._seconds.get(second)
        if known is None:
            known = lsn_at_time(self._reader, second * SECOND_NS)
            # A second that is barely over may still get a record.
            if second * SECOND_NS < now_ns() - SECOND_NS:
                if len(self._seconds) >= SECONDS_REMEMBERED:
                    self._seconds.clear()
                self._seconds[second] = known
        return known

    # ------------------------------------------------------------------ one of them

    def detail(self, row: Row, mode: str, text: str) -> list[Text]:
        """A record in full, with the messages that it published or is about.

        Raises StoreError.
        """
        if isinstance(row.item, Gap):
            return gap_lines(row.item)
        who = Sessions(self._reader)
        view = self._view_at(row.lsn) or row.item
        told = list(record_lines(view, who, self.face))
        if view.payload_bytes is not None:
            return told + _content(view, mode, text)
        about = self._publish_of(view)
        if about is not None:
            publish, index = about
            messages = messages_of(publish)
            if not messages:
                return [*told, Text("(its payload is no longer held)", "yellow")]
            first = view.ranges and view.messages > 1
            caption = "the first of its messages:" if first else ""
            told += messages_lines(messages[index : index + 1], mode, caption=caption)
        return told

    def _view_at(self, lsn: int) -> RecordView | None:
        records = self._reader.read(lsn, limit=1, limit_bytes=1)
        return view_of(records[0]) if records and records[0].lsn == lsn else None

    def _publish_of(self, view: RecordView) -> tuple[RecordView, int] | None:
        """The publish of the first message that a record is about, and which one it is."""
        if view.ranges:
            offset = view.ranges[0][0]
            record = self._reader.publish_of(offset)
            if record is not None and record.first is not None:
                return view_of(record), offset - record.first
            return None
        lsn = view.details.get("published_lsn")
        publish = self._view_at(lsn) if lsn else None
        return None if publish is None else (publish, 0)

    # --------------------------------------------------------------------- its story

    def choices(self, view: RecordView) -> Choices:
        """The messages that a record is about. Raises StoreError."""
        lsn = view.details.get("published_lsn")
        if view.kind == Kind.DELIVERED_LIVE and lsn:
            view = self._view_at(lsn) or view
        if view.kind == Kind.PUBLISHED_LIVE:
            view = self._view_at(view.lsn) or view
            listed = [
                Choice(f"@{view.lsn}.{i}", f"{i}{_id_text(view, i)}")
                for i in range(min(view.messages, CHOICES_MAX))
            ]
            return Choices(listed, view.messages, f"@{view.lsn}.")
        if view.kind == Kind.PUBLISHED:
            view = self._view_at(view.lsn) or view
        listed = [
            Choice(f"@{offset}", f"@{offset}{_id_text(view, offset - view.ranges[0][0])}")
            for offset in _first_of(view, CHOICES_MAX)
        ]
        return Choices(listed, view.messages if view.ranges else 0)

    def trace(self, name: str) -> Trace:
        """The story of a message. Raises NotFoundError, StoreError."""
        place = find(self.store, name)[0]
        return Tracer(self.store, Sessions(self._reader)).trace(*place)

    def timeline(self, trace: Trace, columns: int, mode: str) -> list[Text]:
        """A story laid out for a width. Raises StoreError."""
        style = LineStyle(self.face, columns)
        who = Sessions(self._reader)
        told = [title(trace)]
        if not style.dates:
            told.append(
                Text(f"{self.face.date(trace.steps[0].view.at_ns)} {self.face.name}", "dim")
            )
        told += [Text(), *lines(trace, who, style)]
        if trace.cut:
            told.append(Text("… and more steps, which are not shown", "yellow"))
        if trace.standings:
            told += [Text(), *standing_lines(trace)]
        if trace.message is not None:
            told += [Text(), *messages_lines([trace.message], mode)]
        return told

    # ------------------------------------------------------------------- other tables

    def consumers(self) -> list[ConsumerRow]:
        """Consumers as they are now. Raises StoreError."""
        moment = consumers_of.moment(self.store)
        return list(consumers_of.rows(self.store, moment, now_ns=now_ns()))

    def segments(self) -> list[SegmentRow]:
        """Segments as they are now. Raises StoreError."""
        return segments_of.rows(self.store)


def _content(view: RecordView, mode: str, text: str) -> list[Text]:
    if view.retired:
        return [Text("(the payload was retired)", "yellow")]
    messages: list[Message] = messages_of(view)
    return messages_lines(messages, mode, text=text)


def _id_text(view: RecordView, index: int) -> str:
    from hermes.cli.text import printable

    found = view.ids[index] if view.kind in _PUBLISHES and index < len(view.ids) else ""
    return f"  id {printable(found)}" if found else ""


_PUBLISHES: Final = frozenset({Kind.PUBLISHED, Kind.PUBLISHED_LIVE})


def _first_of(view: RecordView, limit: int) -> Iterator[int]:
    """The first offsets of a record's ranges."""
    left = limit
    for first, last in view.ranges:
        yield from range(first, min(last + 1, first + left))
        left -= last - first + 1
        if left <= 0:
            return
