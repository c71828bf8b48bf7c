"""Widgets that show lines: a scrollable pane of text, and the list of records.

Both draw a line at a time, from what they were given: drawing reads nothing.
"""

from __future__ import annotations

from typing import Final

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from hermes_inspect.times import Clockface
from hermes_inspect.tui.rows import row_text
from hermes_inspect.tui.window import Window

WHEEL_LINES: Final = 3
SELECTED: Final = Style(reverse=True)


class TextPane(ScrollView, can_focus=True):
    """Lines of text, wrapped to the width, scrolled by key and wheel."""

    DEFAULT_CSS = "TextPane { overflow-x: hidden; overflow-y: auto; scrollbar-size: 1 1; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._lines: list[Text] = []
        self._wrapped: list[Text] = []
        self._width = 0

    def show(self, lines: list[Text], *, keep_place: bool = False) -> None:
        """Show other lines; from their beginning, unless they are the same ones anew."""
        self._lines = lines
        self._width = 0
        self._wrap()
        if not keep_place:
            self.scroll_to(y=0, animate=False)
        self.refresh()

    @property
    def plain(self) -> str:
        """What is shown, all of it, as it is wrapped."""
        return "\n".join(line.plain for line in self._wrapped)

    def on_resize(self) -> None:
        self._wrap()

    def _wrap(self) -> None:
        width = self.scrollable_content_region.width
        if width <= 0 or width == self._width:
            return
        self._width = width
        wrapped: list[Text] = []
        for line in self._lines:
            if len(line) <= width // 2 or (line.cell_len <= width and "\n" not in line.plain):
                wrapped.append(line)
            else:
                wrapped += line.wrap(self.app.console, width)
        self._wrapped = wrapped
        self.virtual_size = Size(width, len(wrapped))

    def render_line(self, y: int) -> Strip:
        at = y + self.scroll_offset.y
        width = self.scrollable_content_region.width
        text = self._wrapped[at] if at < len(self._wrapped) else Text()
        return strip_of(text, self.app.console, width, self.rich_style)


def strip_of(text: Text, console: object, width: int, style: Style) -> Strip:
    """A line of a widget."""
    segments = [
        Segment(part.text, style + part.style if part.style else style)
        for part in text.render(console, end="")  # type: ignore[arg-type]
    ]
    return Strip(segments).adjust_cell_length(width, style)


class RecordList(Widget, can_focus=True):
    """The rows of a window, one line each, and at the right edge where in the log they are."""

    class Opened(Message):
        """The selected row was clicked again."""

    class Moved(Message):
        """Another row is selected, or the view has another height."""

    def __init__(self, window: Window, face: Clockface, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._window = window
        self._face = face
        self.first_lsn = 1
        self.empty = ""

    def on_resize(self, event: events.Resize) -> None:
        self._window.resize(event.size.height)
        self.post_message(self.Moved())

    def on_click(self, event: events.Click) -> None:
        before = self._window.selected
        self._window.select(event.y)
        if before is self._window.selected and event.chain > 1:
            self.post_message(self.Opened())
        self.post_message(self.Moved())

    def on_mouse_scroll_down(self) -> None:
        self._window.move(WHEEL_LINES)
        self.post_message(self.Moved())

    def on_mouse_scroll_up(self) -> None:
        self._window.move(-WHEEL_LINES)
        self.post_message(self.Moved())

    def render_line(self, y: int) -> Strip:
        window, width = self._window, self.size.width
        rows = window.visible
        base = self.rich_style
        if not rows:
            text = Text(f" {self.empty}" if y == 0 else "", "dim")
            return strip_of(text, self.app.console, width, base)
        if y >= len(rows):
            return Strip.blank(width, base)
        chosen = window.top + y == window.cursor
        text = row_text(rows[y], self._face, width - 1, selected=chosen)
        strip = strip_of(text, self.app.console, width - 1, base)
        if chosen and self.has_focus:
            strip = strip.apply_style(SELECTED)
        bar = Segment("█" if y == self._thumb else "│", base + Style(dim=y != self._thumb))
        return Strip.join([strip, Strip([bar])])

    @property
    def _thumb(self) -> int:
        """The line that stands for the place of the view in the whole log."""
        window = self._window
        if window.following or (window.at_end and window.cursor == len(window.rows) - 1):
            return min(self.size.height, len(window.visible)) - 1
        row = window.selected
        span = max(1, window.end - self.first_lsn)
        share = 0.0 if row is None else (row.lsn - self.first_lsn) / span
        return round(max(0.0, min(1.0, share)) * (self.size.height - 1))
