"""Consumers and segments on the screen: a table, and the selected row in full beneath it.

Rows are read anew while the table is seen, the less often the longer it takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, Final, Generic, TypeVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import DataTable, Static

from hermes.cli.text import counted, one_line
from hermes.errors import HermesError
from hermes_inspect.times import SECOND_NS
from hermes_inspect.tui.columns import cell, fit
from hermes_inspect.tui.panes import TextPane
from hermes_inspect.tui.source import now_ns

REFRESH_SECONDS: Final = 1.0
# Times as long as reading took: at most a twentieth of the time is spent on it.
REST_FACTOR: Final = 20

_Row = TypeVar("_Row")


class TablePane(Vertical, Generic[_Row]):
    """A table of what `load` reads (it may block); `tell` is a row in full."""

    DEFAULT_CSS = """
    TablePane .note { height: auto; max-height: 4; padding: 0 1; }
    TablePane DataTable { height: 2fr; scrollbar-size: 1 1; }
    TablePane TextPane { height: 1fr; min-height: 5; padding: 0 1; }
    TablePane TextPane { border-top: solid ansi_bright_black; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("left_square_bracket", "scroll(-1)"),
        ("right_square_bracket", "scroll(1)"),
        ("j", "move('cursor_down')"),
        ("k", "move('cursor_up')"),
    ]

    class Chosen(Message):
        """Enter on a row."""

        def __init__(self, row: object) -> None:
            super().__init__()
            self.row = row

    def __init__(
        self,
        noun: str,
        columns: Sequence[str],
        *,
        optional: Sequence[str] = (),
        load: Callable[[], list[_Row]],
        cells: Callable[[_Row], list[str]],
        tell: Callable[[_Row], Iterable[Text]],
        key: Callable[[_Row], str],
        id: str,
    ) -> None:
        super().__init__(id=id)
        self._noun, self._columns, self._optional = noun, columns, optional
        self._load, self._cells, self._tell, self._key = load, cells, tell, key
        self._rows: list[_Row] = []
        self._shown = ""
        # Held, not looked up: a reading may end while the screen is taken down.
        self._note = Static(" reading …", classes="note")
        self._table: DataTable[Text] = DataTable(cursor_type="row", zebra_stripes=False)
        self._details = TextPane()

    def compose(self) -> ComposeResult:
        yield self._note
        yield self._table
        yield self._details

    def on_show(self) -> None:
        self._table.focus()
        self.run_worker(self._keep_reading(), exclusive=True)

    def on_hide(self) -> None:
        self.workers.cancel_node(self)

    def on_resize(self) -> None:
        if self._rows:
            self._fill()

    def action_scroll(self, lines: int) -> None:
        self._details.scroll_relative(y=lines, animate=False)

    def action_move(self, which: str) -> None:
        getattr(self._table, f"action_{which}")()

    async def _keep_reading(self) -> None:
        while True:
            began_ns = now_ns()
            try:
                self._rows = await asyncio.to_thread(self._load)
                self._say(Text(counted(len(self._rows), self._noun), "dim"))
            except HermesError as error:
                self._rows = []
                self._say(Text(f"! {one_line(str(error))}", "bold red"))
            self._fill()
            took = max(0, now_ns() - began_ns) / SECOND_NS
            await asyncio.sleep(max(REFRESH_SECONDS, took * REST_FACTOR))

    def _say(self, text: Text) -> None:
        self._note.update(text)

    def _fill(self) -> None:
        """Show the rows; the cursor stays with its row, the view where it is."""
        table = self._table
        chosen = self._selected
        place = table.scroll_offset
        cells = [self._cells(row) for row in self._rows]
        columns = fit(self._columns, cells, self.size.width - 1, self._optional)
        table.clear(columns=True)
        for column in columns:
            title = Text(column.title, "bold", justify="right" if column.right else "left")
            table.add_column(title, width=column.width)
        for row, texts in zip(self._rows, cells, strict=True):
            table.add_row(*(cell(texts[c.index], c) for c in columns), key=self._key(row))
        names = [self._key(row) for row in self._rows]
        at = names.index(chosen) if chosen in names else 0
        table.move_cursor(row=at, animate=False)
        table.scroll_to(y=place.y, animate=False)
        self._detail()

    @property
    def _selected(self) -> str:
        row = self._row
        return "" if row is None else self._key(row)

    @property
    def _row(self) -> _Row | None:
        at = self._table.cursor_row
        return self._rows[at] if 0 <= at < len(self._rows) else None

    def _detail(self) -> None:
        row = self._row
        name = self._selected
        lines = [] if row is None else list(self._tell(row))
        self._details.show(lines, keep_place=name == self._shown)
        self._shown = name

    @on(DataTable.RowHighlighted)
    def _highlighted(self) -> None:
        self._detail()

    @on(DataTable.RowSelected)
    def _chosen(self) -> None:
        if self._row is not None:
            self.post_message(self.Chosen(self._row))
