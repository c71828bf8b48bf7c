"""[P] One row of the log on the screen: a record, light enough to hold many, on one line.

A row carries its client, looked up when it was read, so that drawing it reads nothing.
"""

from __future__ import annotations

from typing import Final

import msgspec
from rich.text import Text

from hermes.broker import events as ev
from hermes.broker.state import Session
from hermes_inspect.model import Gap, Item, RecordView
from hermes_inspect.times import Clockface
from hermes_inspect.views import LineStyle, gap_line, record_parts

# The sign of the selected row: colour is not the only one.
MARK: Final = "›"


class Row(msgspec.Struct, frozen=True):
    """A record, or a gap in the log. `client`: who caused it, if known."""

    item: Item
    client: Session | None = None

    @property
    def lsn(self) -> int:
        """Its own; of a gap the first one missing."""
        return self.item.first_lsn if isinstance(self.item, Gap) else self.item.lsn

    @property
    def at_ns(self) -> int | None:
        return None if isinstance(self.item, Gap) else self.item.at_ns


def light(view: RecordView) -> RecordView:
    """A view without what a line does not show: bodies and payloads may be megabytes."""
    return msgspec.structs.replace(
        view,
        record=msgspec.structs.replace(view.record, body=b"", payload=None),
        event=view.event if isinstance(view.event, ev.RangesEvent) else None,
        ids=view.ids if view.messages == 1 else (),
        sizes=(),
    )


def row_text(row: Row, face: Clockface, columns: int, *, selected: bool = False) -> Text:
    """A row on one line of so many columns, cut where it is longer."""
    item = row.item
    text = Text(no_wrap=True, end="").append(MARK if selected else " ", "bold")
    if isinstance(item, Gap):
        text.append_text(gap_line(item.first_lsn, item.last_lsn, item.why))
    else:
        for part in record_parts(item, lambda _: row.client, LineStyle(face, columns)):
            text.append_text(part)
    text.truncate(columns, overflow="ellipsis", pad=True)
    return text
