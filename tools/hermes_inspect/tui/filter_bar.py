"""The line in which a filter is typed: what is wrong with it is said beneath, at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Final

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Input, Static

from hermes.cli.text import one_line
from hermes.errors import InvalidArgumentError
from hermes_inspect.filters import WORDS, Filter

HINT: Final = (
    " ".join(f"{word}:" for word in WORDS)
    + "   for example kind:failures consumer:billing since:-1h boom"
    + "   Enter applies, Esc leaves"
)


class FilterBar(Vertical):
    """Hidden until somebody types a filter. `parse` raises InvalidArgumentError."""

    DEFAULT_CSS = """
    FilterBar { height: auto; max-height: 6; display: none; }
    FilterBar.-open { display: block; }
    FilterBar Input { height: 1; border: none; padding: 0; width: 1fr; }
    FilterBar #typed { height: 1; layout: horizontal; }
    FilterBar #prompt { width: 9; height: 1; }
    FilterBar #hint { height: auto; max-height: 5; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [("escape", "leave", "leave")]

    class Applied(Message):
        """A filter was typed; `line` as it was."""

        def __init__(self, wanted: Filter) -> None:
            super().__init__()
            self.wanted = wanted

    class Left(Message):
        """The line was left; the filter is as before."""

    def __init__(self, parse: Callable[[str], Filter], *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._parse = parse

    def compose(self) -> ComposeResult:
        with Vertical(id="typed"):
            yield Static(Text(" filter: ", "bold"), id="prompt")
            yield Input(id="filter", compact=True, select_on_focus=False)
        yield Static(id="hint")

    def open(self, line: str) -> None:
        """Type a filter, beginning with the one that holds."""
        self.add_class("-open")
        typed = self.query_one(Input)
        typed.value = line + (" " if line else "")
        typed.cursor_position = len(typed.value)
        self._say(Text(HINT, "dim"))
        self.screen.set_focus(typed)  # at once: what is typed next belongs here

    def action_leave(self) -> None:
        self.remove_class("-open")
        self.post_message(self.Left())

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self._judge(event.value, "yellow")

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        wanted = self._judge(event.value, "bold red")
        if wanted is not None:
            self.remove_class("-open")
            self.post_message(self.Applied(wanted))

    def _judge(self, line: str, style: str) -> Filter | None:
        try:
            wanted = self._parse(line)
        except InvalidArgumentError as error:
            self._say(Text(f"! {one_line(str(error))}", style))
            return None
        self._say(Text(HINT, "dim"))
        return wanted

    def _say(self, text: Text) -> None:
        self.query_one("#hint", Static).update(text)
