"""The application: three views of a store, and what lies over them for a while.

`run` is what the command calls. What is read is in `source.py`; here screens are put
together and keys sent where they belong. Colours are the terminal's own; with NO_COLOR
there are none, and nothing is lost.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar, Final

from rich.text import Text
from textual import on, work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.screen import Screen
from textual.widgets import ContentSwitcher, Static

from hermes.cli.text import one_line, printable
from hermes.errors import HermesError
from hermes_inspect.filters import Filter
from hermes_inspect.model import Gap
from hermes_inspect.store import Store
from hermes_inspect.tables import (
    CONSUMER_COLUMNS,
    SEGMENT_COLUMNS,
    ConsumerRow,
    SegmentRow,
    consumer_cells,
    segment_cells,
)
from hermes_inspect.times import Clockface
from hermes_inspect.tui.details import consumer_lines, segment_lines
from hermes_inspect.tui.log_pane import LogPane
from hermes_inspect.tui.overlays import ChooseScreen, HelpScreen, TimelineScreen, key_line
from hermes_inspect.tui.rows import Row
from hermes_inspect.tui.source import Source, now_ns
from hermes_inspect.tui.table_pane import TablePane

VIEWS: Final = ("log", "consumers", "segments")
WIDE_COLUMNS: Final = 130


class MainScreen(Screen[None]):
    """The three views, one of them seen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "turn(1)"),
        Binding("shift+tab", "turn(-1)"),
        Binding("1", "view('log')"),
        Binding("2", "view('consumers')"),
        Binding("3", "view('segments')"),
        Binding("question_mark", "help"),
        Binding("q", "app.quit"),
        Binding("escape", "view('log')"),
    ]

    def __init__(self, source: Source, wanted: Filter, mode: str) -> None:
        super().__init__()
        self._source = source
        self.log_pane = LogPane(source, wanted, mode, id="log")

    def compose(self) -> ComposeResult:
        source = self._source
        with Horizontal(id="head"):
            for number, name in enumerate(VIEWS, 1):
                yield _Tab(number, name)
            yield Static(Text(_name_of(source.store), "dim", no_wrap=True), id="store")
        with ContentSwitcher(initial="log"):
            yield self.log_pane
            yield TablePane[ConsumerRow](
                "consumer",
                CONSUMER_COLUMNS,
                optional=("FILTER",),
                load=source.consumers,
                cells=consumer_cells,
                tell=consumer_lines,
                key=lambda row: row.name,
                id="consumers",
            )
            yield TablePane[SegmentRow](
                "segment",
                SEGMENT_COLUMNS,
                load=source.segments,
                cells=lambda row: segment_cells(row, now_ns()),
                tell=lambda row: segment_lines(row, source.face),
                key=lambda row: str(row.first_lsn),
                id="segments",
            )
        yield Static(id="keys")

    def on_mount(self) -> None:
        self.action_view("log")

    def on_resize(self) -> None:
        self._tell_keys()

    @property
    def view(self) -> str:
        """The view that is seen."""
        return self.query_one(ContentSwitcher).current or "log"

    def action_view(self, name: str) -> None:
        self.query_one(ContentSwitcher).current = name
        for tab in self.query(_Tab):
            tab.mark(name)
        if name == "log":
            self.log_pane.focus_list()
        self._tell_keys()

    def action_turn(self, steps: int) -> None:
        self.action_view(VIEWS[(VIEWS.index(self.view) + steps) % len(VIEWS)])

    def action_help(self) -> None:
        self.app.push_screen(HelpScreen())

    def _tell_keys(self) -> None:
        if self.view == "log":
            keys = [("Enter", "custody"), ("/", "filter"), ("Space", "pause"), ("p", "payload")]
            if self.size.width >= WIDE_COLUMNS:
                keys += [("Home", "first"), ("End", "newest"), ("d", "details"), ("[ ]", "scroll")]
        else:
            keys = [("Enter", "its records"), ("↑↓", "choose"), ("Esc", "log")]
        keys += [("Tab", VIEWS[(VIEWS.index(self.view) + 1) % 3]), ("?", "help"), ("q", "quit")]
        self.query_one("#keys", Static).update(key_line(*keys))

    # --------------------------------------------------------------------------- opening

    @on(LogPane.Opened)
    def _opened(self, event: LogPane.Opened) -> None:
        self._open(event.row, event.mode)

    @work(exclusive=True, group="open")
    async def _open(self, row: Row, mode: str) -> None:
        """Show the story of a row's message; of several, ask which."""
        view = row.item
        if isinstance(view, Gap):
            return
        try:
            choices = await asyncio.to_thread(self._source.choices, view)
        except HermesError as error:
            self.notify(one_line(str(error)), severity="error", markup=False)
            return
        if not choices.listed:
            self.notify("this record is about no message", timeout=3)
            return
        name: str | None = choices.listed[0].name
        if choices.total > 1:
            name = await self.app.push_screen_wait(ChooseScreen(view, choices))
        if name is not None:
            self.app.push_screen(TimelineScreen(self._source, name, mode))

    @on(TablePane.Chosen)
    def _chosen(self, event: TablePane.Chosen) -> None:
        row = event.row
        if isinstance(row, ConsumerRow):
            wanted = Filter(consumers=(row.name,))
        elif isinstance(row, SegmentRow) and row.records:
            wanted = Filter(first_lsn=row.first_lsn, last_lsn=row.last_lsn)
        else:
            return
        self.action_view("log")
        self.log_pane.choose(wanted)


class _Tab(Static):
    """The name of a view; a click shows it."""

    def __init__(self, number: int, name: str) -> None:
        super().__init__()
        self._number, self._view = number, name

    def mark(self, current: str) -> None:
        chosen = self._view == current
        text = f"[{self._view}]" if chosen else f" {self._view} "
        self.update(Text(f" {self._number}{text}", "bold reverse" if chosen else ""))

    def on_click(self) -> None:
        screen = self.screen
        if isinstance(screen, MainScreen):
            screen.action_view(self._view)


def _name_of(store: Store) -> str:
    return printable(str(store.path)) + " "


class InspectApp(App[None]):
    """`hermes-inspect log` on a terminal."""

    # Of all screens: that of the default screen would not be heard.
    CSS = """
    #head { height: 1; }
    #head Static { width: auto; height: 1; }
    #head #store { width: 1fr; text-align: right; }
    #keys { height: 1; }
    ContentSwitcher { height: 1fr; }
    DataTable { background: ansi_default; }
    .bar { height: 1; }
    Overlay TextPane { height: 1fr; padding: 0 1; }
    ChooseScreen #number { height: 1; border: none; padding: 0 1; width: 1fr; }
    ChooseScreen #which { padding: 0 1; height: auto; }
    ChooseScreen OptionList { height: 1fr; border: none; padding: 0; background: ansi_default; }
    """
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+c", "quit", priority=True)]

    def __init__(self, store: Store, wanted: Filter, face: Clockface, mode: str = "auto") -> None:
        super().__init__(ansi_color=True)
        self.theme = "ansi-dark"
        self.main = MainScreen(Source(store, face), wanted, mode)

    def get_default_screen(self) -> Screen[None]:
        return self.main

    @property
    def damaged(self) -> bool:
        """Whether damage was seen."""
        return self.main.log_pane.gaps


def run(store: Store, wanted: Filter, face: Clockface, mode: str) -> bool:
    """Show a store until its reader leaves; whether damage was seen."""
    app = InspectApp(store, wanted, face, mode)
    app.run()
    return app.damaged
