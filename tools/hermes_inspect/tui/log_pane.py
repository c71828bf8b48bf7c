"""The log on the screen: rows, the selected record in full, the filter, rates.

One worker reads for all of it (`_pump`), a bounded step at a time and in a thread: what the
window needs, then the selected record, then the rates. Keys change the window at once and
wake the worker.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar, Final

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.message import Message
from textual.widgets import Static

from hermes.cli.text import one_line, printable
from hermes.errors import HermesError
from hermes_inspect.filters import EVERYTHING, Filter, describe, parse
from hermes_inspect.model import Gap
from hermes_inspect.payloads import PAYLOAD_MODES
from hermes_inspect.query import Records
from hermes_inspect.times import SECOND_NS
from hermes_inspect.tui.filter_bar import FilterBar
from hermes_inspect.tui.panes import RecordList, TextPane
from hermes_inspect.tui.rates import rates, rates_line
from hermes_inspect.tui.rows import Row
from hermes_inspect.tui.source import Source, now_ns
from hermes_inspect.tui.window import Window

# A person sees no difference below a tenth of a second.
POLL_SECONDS: Final = 0.1
# More than a screen came since: nobody reads that, and the server needs the processor.
POLL_BUSY_SECONDS: Final = 1.0
# How long to leave a store alone that cannot be read.
RETRY_SECONDS: Final = 1.0
RATES_NS: Final = SECOND_NS // 2
BARS_NARROW: Final = 20
BARS_WIDE: Final = 60


class LogPane(Vertical):
    """The records of a store. `wanted`: the filter to begin with."""

    DEFAULT_CSS = """
    LogPane #state, LogPane #rates { height: 1; }
    LogPane #damage { height: 1; display: none; }
    LogPane #damage.-seen { display: block; }
    LogPane #body { layout: vertical; height: 1fr; }
    LogPane #records { height: 2fr; width: 1fr; }
    LogPane #detail { height: 1fr; min-height: 5; padding: 0 1; }
    LogPane #detail { border-top: solid ansi_bright_black; }
    LogPane #detail.-hidden { display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)"),
        Binding("down,j", "move(1)"),
        Binding("pageup,ctrl+b", "page(-1)"),
        Binding("pagedown,ctrl+f", "page(1)"),
        Binding("home,g", "home"),
        Binding("end,G", "follow"),
        Binding("space", "pause"),
        Binding("slash", "filter"),
        Binding("escape", "clear"),
        Binding("enter", "open"),
        Binding("p", "payload"),
        Binding("d", "detail"),
        Binding("left_square_bracket", "scroll(-1)"),
        Binding("right_square_bracket", "scroll(1)"),
    ]

    class Opened(Message):
        """The story of a row's message is asked for."""

        def __init__(self, row: Row, mode: str) -> None:
            super().__init__()
            self.row = row
            self.mode = mode

    def __init__(self, source: Source, wanted: Filter, mode: str, *, id: str) -> None:
        super().__init__(id=id)
        self._source = source
        self._records: Records | None = None
        self.wanted = wanted
        self.window = Window()
        self.mode = mode
        self.gaps = False  # whether a gap in the log was seen
        self._told: tuple[object, ...] = ()  # what the detail shows
        self._rated: tuple[int, object] = (0, None)
        self._rates = Text()
        # Held, not looked up: the pump may draw once more while its screen is taken down.
        self._state_line = Static(id="state")
        self._rates_line = Static(id="rates")
        self._damage_line = Static(id="damage")
        self._list = RecordList(self.window, source.face, id="records")
        self._details = TextPane(id="detail")
        self._wake = asyncio.Event()
        self._error = ""
        self._rushed = False  # whether the last read brought more than a screen

    def compose(self) -> ComposeResult:
        yield self._state_line
        yield self._rates_line
        yield self._damage_line
        with Container(id="body"):
            yield self._list
            yield self._details
        yield FilterBar(self._parse, id="filterbar")

    def on_mount(self) -> None:
        store = self._source.store
        if store.damage:
            self._damaged(store.damage[0])
        self.run_worker(self._pump(), exclusive=True)

    def focus_list(self) -> None:
        self.screen.set_focus(self._list)

    # ------------------------------------------------------------------------- keys

    def action_move(self, steps: int) -> None:
        self.window.move(steps)
        self._changed()

    def action_page(self, screens: int) -> None:
        self.window.page(screens)
        self._changed()

    def action_home(self) -> None:
        self.window.home()
        self._changed()

    def action_follow(self) -> None:
        self.window.follow()
        self._changed()

    def action_pause(self) -> None:
        self.window.toggle()
        self._changed()

    def action_filter(self) -> None:
        self.query_one(FilterBar).open(describe(self.wanted, self._source.face))

    def action_clear(self) -> None:
        if not self.wanted.everything:
            self.choose(EVERYTHING)

    def action_payload(self) -> None:
        self.mode = PAYLOAD_MODES[(PAYLOAD_MODES.index(self.mode) + 1) % len(PAYLOAD_MODES)]
        self._changed()

    def action_detail(self) -> None:
        self._details.toggle_class("-hidden")

    def action_scroll(self, lines: int) -> None:
        self._details.scroll_relative(y=lines, animate=False)

    def action_open(self) -> None:
        row = self.window.selected
        if row is not None:
            self.post_message(self.Opened(row, self.mode))

    @on(RecordList.Opened)
    def _clicked(self) -> None:
        self.action_open()

    @on(RecordList.Moved)
    def _moved(self) -> None:
        self._changed()

    @on(FilterBar.Applied)
    def _applied(self, event: FilterBar.Applied) -> None:
        self.focus_list()
        self.choose(event.wanted)

    @on(FilterBar.Left)
    def _left(self) -> None:
        self.focus_list()

    def choose(self, wanted: Filter) -> None:
        """Show the records that another filter wants, the newest first seen."""
        self.wanted = wanted
        self._records = None
        self.window.reset()
        self._changed()

    def _parse(self, line: str) -> Filter:
        return parse(line, now_ns=now_ns(), zone=self._source.face.zone)

    def _changed(self) -> None:
        self._wake.set()
        self._draw()

    # --------------------------------------------------------------------- the worker

    async def _pump(self) -> None:
        while True:
            try:
                busy = await self._step()
                self._error = ""
            except HermesError as error:
                self._error = one_line(str(error))
                self._draw()
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if not busy:
                await asyncio.to_thread(self._source.rest)
                self._wake.clear()
                try:
                    pause = POLL_BUSY_SECONDS if self._rushed else POLL_SECONDS
                    async with asyncio.timeout(pause):
                        await self._wake.wait()
                except TimeoutError:
                    pass

    async def _step(self) -> bool:
        """Read one thing more; whether there may be another at once."""
        wanted, records = self.wanted, self._records
        if records is None:
            self._draw()
            records = await asyncio.to_thread(self._source.choose, wanted)
            if wanted is not self.wanted:
                return True
            self._records = records
            self._list.first_lsn = max(records.first_lsn, self._source.store.first_lsn)
        end = await asyncio.to_thread(lambda: records.end_lsn_now)
        if wanted is not self.wanted:
            return True
        self.window.saw(end)
        need = self.window.need()
        self._rushed = False
        if need is not None:
            part = await asyncio.to_thread(self._source.part, records, need, wanted)
            if wanted is not self.wanted:
                return True
            self.window.take(need, part)
            self._rushed = len(part.rows) > self.window.height
            if any(isinstance(row.item, Gap) for row in part.rows):
                self._damaged("records are missing or cannot be read")
            self._draw()
        await self._tell()
        await self._rate()
        return self.window.need() is not None

    async def _tell(self) -> None:
        """The selected record in full, if it is another one than before."""
        row, mode, text = self.window.selected, self.mode, self.wanted.text
        key = (None if row is None else row.lsn, mode, text)
        if key == self._told:
            return
        lines = [] if row is None else await asyncio.to_thread(self._source.detail, row, mode, text)
        same_record = bool(self._told) and self._told[0] == key[0]
        self._told = key
        self._details.border_title = f"payload: {mode}"
        self._details.show(lines, keep_place=same_record)

    async def _rate(self) -> None:
        """Rates as of now, or of the moment that is looked at."""
        now = now_ns()
        row = self.window.selected
        following = self.window.following
        subject = None if following else row
        if subject is self._rated[1] and now - self._rated[0] < RATES_NS:
            return
        self._rated = (now, subject)
        at_ns = now if following or row is None or row.at_ns is None else row.at_ns
        count = BARS_WIDE if self.size.width >= 130 else BARS_NARROW
        end_ns = at_ns if at_ns == now else at_ns + SECOND_NS
        bars = await asyncio.to_thread(self._source.bars, end_ns, count)
        window = self.window
        upto = window.rows[: window.cursor + 1]
        found = rates(reversed(upto), at_ns)
        narrow = at_ns == now or count == BARS_NARROW
        when = "" if narrow else f" at {self._source.face.time(at_ns)}"
        line = rates_line(bars, found, when, paused=not following)
        if line != self._rates:
            self._rates = line
            self._rates_line.update(line)

    # ------------------------------------------------------------------------ drawing

    def _draw(self) -> None:
        self._list.empty = self._nothing()
        self._list.refresh()
        self._state_line.update(self._state())

    def _nothing(self) -> str:
        """What is said where there is no row."""
        window = self.window
        if window.settled and self._records is not None:
            return "no record fits the filter"
        return (
            "searching …"
            if window.epoch == 0 or window.low <= 1
            else (f"searching … {window.low:,}")
        )

    def _state(self) -> Text:
        window = self.window
        text = Text(" ", no_wrap=True, end="")
        if window.following:
            text.append("● following", "bold green")
        else:
            text.append("‖ paused", "bold yellow")
            if window.unseen:
                text.append(f" +{window.unseen:,}", "yellow")
        text.append("  ")
        if self._error:
            text.append(f"! {self._error}", "bold red")
            return text
        if self.wanted.everything:
            text.append("all records", "dim")
        else:
            text.append(printable(describe(self.wanted, self._source.face)), "bold magenta")
        room = self.size.width - 1
        place = self._place()
        if text.cell_len + len(place) + 2 > room:
            text.truncate(max(10, room - len(place) - 2), overflow="ellipsis")
        text.pad_right(max(2, room - text.cell_len - len(place)))
        return text.append(place, "dim")

    def _place(self) -> str:
        """Where in the log the selection is; how far a search has come."""
        window = self.window
        if not window.settled and len(window.visible) < window.height and window.low > 1:
            return f"searching {window.low:,}"
        row = window.selected
        return "" if row is None else f"{row.lsn:,} of {max(row.lsn, window.end - 1):,}"

    def _damaged(self, why: str) -> None:
        """Say once that the log is not whole."""
        shown = self._damage_line
        self.gaps = True
        if not shown.has_class("-seen"):
            shown.update(Text(f" DAMAGED: {one_line(why)}", "bold white on red", no_wrap=True))
            shown.add_class("-seen")
