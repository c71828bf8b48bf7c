"""What lies over the log for a while: the story of a message, the choice of one, help.

Escape and `q` go back to what was there before.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar, Final

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from hermes.cli.text import counted, one_line
from hermes.errors import HermesError
from hermes_inspect.model import RecordView
from hermes_inspect.payloads import PAYLOAD_MODES
from hermes_inspect.timeline import Trace
from hermes_inspect.tui.panes import TextPane
from hermes_inspect.tui.source import Choices, Source

# One column for the scrollbar, and one on each side.
MARGIN_COLUMNS: Final = 3


def key_line(*keys: tuple[str, str]) -> Text:
    """The last line of a screen: keys and what they do."""
    text = Text(" ", no_wrap=True, end="")
    for key, what in keys:
        text.append(key, "bold").append(f" {what}  ", "dim")
    return text


class Overlay(Screen[None]):
    """A screen that is left with escape or `q`."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,backspace", "leave")]

    def action_leave(self) -> None:
        self.dismiss()


class TimelineScreen(Overlay):
    """The custody of one message. `name` is what `trace` takes."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "payload"),
        Binding("r", "reload"),
        Binding("j", "scroll(1)"),
        Binding("k", "scroll(-1)"),
        Binding("g", "edge(-1)"),
        Binding("G", "edge(1)"),
    ]

    def __init__(self, source: Source, name: str, mode: str) -> None:
        super().__init__()
        self._source, self._message, self._mode = source, name, mode
        self._trace: Trace | None = None
        self._columns = 0

    def compose(self) -> ComposeResult:
        yield Static(Text(f" custody of {self._message}", "bold reverse"), classes="bar")
        yield TextPane(id="story")
        keys = (("Esc", "back"), ("↑↓", "scroll"), ("p", "payload"), ("r", "read again"))
        yield Static(key_line(*keys), classes="bar")

    def on_resize(self) -> None:
        if self.size.width != self._columns:
            self._columns = self.size.width
            self._lay_out()

    def action_payload(self) -> None:
        self._mode = PAYLOAD_MODES[(PAYLOAD_MODES.index(self._mode) + 1) % len(PAYLOAD_MODES)]
        self._lay_out()

    def action_reload(self) -> None:
        self._trace = None
        self._lay_out()

    def action_scroll(self, lines: int) -> None:
        self.query_one(TextPane).scroll_relative(y=lines, animate=False)

    def action_edge(self, way: int) -> None:
        pane = self.query_one(TextPane)
        if way < 0:
            pane.scroll_home(animate=False)
        else:
            pane.scroll_end(animate=False)

    def _lay_out(self) -> None:
        self.run_worker(self._read(), exclusive=True)

    async def _read(self) -> None:
        pane = self.query_one(TextPane)
        pane.focus()
        columns = max(20, self._columns - MARGIN_COLUMNS)
        try:
            first = self._trace is None
            trace = self._trace
            if trace is None:
                trace = await asyncio.to_thread(self._source.trace, self._message)
            lines = await asyncio.to_thread(self._source.timeline, trace, columns, self._mode)
        except HermesError as error:
            pane.show([Text(one_line(str(error)), "bold red")])
            return
        self._trace = trace
        pane.show(lines, keep_place=not first)


class ChooseScreen(Screen[str | None]):
    """Which message of a record with several; answers its name, None if none was chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave"),
        Binding("up", "list('cursor_up')"),
        Binding("down", "list('cursor_down')"),
        Binding("pageup", "list('page_up')"),
        Binding("pagedown", "list('page_down')"),
    ]

    def __init__(self, view: RecordView, choices: Choices) -> None:
        super().__init__()
        self._view, self._choices = view, choices

    def compose(self) -> ComposeResult:
        title = f" {counted(self._choices.total, 'message')} of record {self._view.lsn}: which one?"
        yield Static(Text(title, "bold reverse"), classes="bar")
        yield Input(
            placeholder=f"its number, as in the list: {self._span}", id="number", compact=True
        )
        yield Static(id="which")
        options = OptionList(*(Option(Text(one.label)) for one in self._choices.listed))
        options.can_focus = False
        yield options
        keys = (
            ("Enter", "timeline"),
            ("↑↓", "choose"),
            ("0-9", "type its number"),
            ("Esc", "back"),
        )
        yield Static(key_line(*keys), classes="bar")

    def on_mount(self) -> None:
        self.query_one(OptionList).highlighted = 0
        more = self._choices.total - len(self._choices.listed)
        if more > 0:
            self._say(Text(f"{more:,} more are not listed: type the number", "dim"))
        self.query_one(Input).focus()

    @property
    def _span(self) -> str:
        ranges = self._view.ranges
        if self._choices.prefix != "@" or not ranges:
            return f"0..{self._choices.total - 1}"
        return f"{ranges[0][0]}..{ranges[-1][1]}"

    def action_leave(self) -> None:
        self.dismiss(None)

    def action_list(self, which: str) -> None:
        getattr(self.query_one(OptionList), f"action_{which}")()

    @on(OptionList.OptionSelected)
    def _clicked(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._choices.listed[event.option_index].name)

    @on(Input.Submitted)
    def _typed(self, event: Input.Submitted) -> None:
        typed = event.value.strip().removeprefix("@")
        if not typed:
            self.dismiss(self._choices.listed[self.query_one(OptionList).highlighted or 0].name)
        elif self._holds(typed):
            self.dismiss(self._choices.prefix + str(int(typed)))
        else:
            self._say(Text(f"! {one_line(typed)!r} is none of {self._span}", "bold red"))

    def _holds(self, typed: str) -> bool:
        if not (typed.isascii() and typed.isdigit()):
            return False
        number = int(typed)
        if self._choices.prefix != "@":
            return number < self._choices.total
        return any(first <= number <= last for first, last in self._view.ranges)

    def _say(self, text: Text) -> None:
        self.query_one("#which", Static).update(text)


_HELP: Final = """\
[b]The log[/b]
  ↑ ↓ j k          select a record
  PgUp PgDn        a screen up or down; the wheel moves as well
  Home g           to the first record
  End G            to the newest, and follow
  Space            pause; once more: follow again
  Enter            the custody of its message; of several: choose one
  /                filter; Esc clears it
  p                payload as text, JSON, hex, or what fits (auto)
  d                hide or show the record below
  \\[ ]              scroll it

[b]The filter[/b]   all must hold; of one word said several times any
  kind:acked,nacked    or publishes deliveries settlements failures live
                       consumers clients log server
  subject:orders.>     publishes on it; with consumer: what became of them
  consumer:billing     records of a consumer
  since:-1h  until:2026-01-31T12:00Z      by the wall clock
  offset:800..900      about these messages
  lsn:800..            by place in the log
  text:boom or boom    in a payload, header, id or reason

[b]Views[/b]
  Tab Shift+Tab 1 2 3  log, consumers, segments
  Enter                on a consumer or segment: its records
  ?                    this help
  Esc                  back
  q Ctrl+C             leave

The bars are records per second, up to now, or while paused (‖) up to the selected
record; the rates are messages per second of the ten seconds before, as filtered.
"""


class HelpScreen(Overlay):
    """Which keys there are, and what a filter may say."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("question_mark", "leave")]

    def compose(self) -> ComposeResult:
        yield Static(Text(" hermes-inspect log: help", "bold reverse"), classes="bar")
        yield TextPane(id="help")
        yield Static(key_line(("Esc", "back"), ("↑↓", "scroll")), classes="bar")

    def on_mount(self) -> None:
        pane = self.query_one(TextPane)
        pane.focus()
        self.call_after_refresh(pane.show, [Text.from_markup(line) for line in _HELP.split("\n")])
