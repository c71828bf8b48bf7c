"""[P] The window over the log: which rows are held, which are seen, and what to read next.

Theory: a log has any number of records, so a window holds a run of those that the filter
wants, at most `ROWS_MAX`. Everything wanted with low <= lsn < high is in `rows`; what lies
outside is read when somebody comes near an edge, and what is far from the view is let go.
The window never reads: `need` says what to read, `take` is given it. A read is bounded, so
a rare filter takes several; the window simply needs the next one.

Following means: the newest row is selected, and rows that come move the view. Going up
stops it; going down past the newest row, or to the end, starts it again. While it is
stopped nothing moves under the reader's eyes.

Rules
- A jump (to the first record, the newest, another filter) keeps the old rows until the
  new ones are there, and makes what is still being read for the old place stale (`epoch`).
- Whoever follows a log faster than it can be shown skips to its end.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

import msgspec

from hermes_inspect.tui.rows import Row

# Rows held; some dozens of screens, some megabytes.
ROWS_MAX: Final = 1_500
# Rows of one read.
PAGE_ROWS: Final = 300
# Screens held ready on both sides of the view.
SCREENS_AHEAD: Final = 2


class Way(Enum):
    """From where to read, and whether it replaces the rows."""

    NEWEST = "newest"  # backwards from the end; replaces
    FROM = "from"  # forwards from an lsn; replaces
    OLDER = "older"  # backwards from the lower edge
    NEWER = "newer"  # forwards from the upper edge


class Need(msgspec.Struct, frozen=True):
    """What to read: from `lsn` on (FROM, NEWER), or below it (OLDER)."""

    way: Way
    lsn: int
    epoch: int


class Part(msgspec.Struct, frozen=True):
    """What was read: wanted rows with low <= lsn < high, ascending. `done`: there is
    nothing more that way now."""

    rows: list[Row]
    low: int
    high: int
    done: bool


class Window:
    """Rows, a selection, and the part of them that is seen. See the module's theory."""

    def __init__(self, height: int = 20) -> None:
        """`height`: how many lines are seen."""
        self.height = height
        self.epoch = 0
        self.reset()

    def reset(self) -> None:
        """Begin anew, at the newest record: the log is not read yet, or the filter is another."""
        self.rows: list[Row] = []
        self.cursor = 0
        self.top = 0
        self.following = True
        self.at_start = False  # nothing wanted lies below `low`
        self.low = self.high = 1
        self.end = 1  # one after the newest record that can fit
        self._jump: Need | None = None
        self._paused_at = 1
        self._jump_to(Way.NEWEST, 0)

    # ------------------------------------------------------------------ what is seen

    @property
    def selected(self) -> Row | None:
        """The row that the cursor is on."""
        return self.rows[self.cursor] if self.rows else None

    @property
    def visible(self) -> list[Row]:
        return self.rows[self.top : self.top + self.height]

    @property
    def at_end(self) -> bool:
        """Whether everything that the log has now was considered."""
        return self.high >= self.end

    @property
    def unseen(self) -> int:
        """Records that were logged since following stopped."""
        return 0 if self.following else max(0, self.end - self._paused_at)

    @property
    def settled(self) -> bool:
        """Whether all that there is to show is there."""
        return self.need() is None

    # ------------------------------------------------------------------------ moving

    def move(self, steps: int) -> None:
        """Select the row so many below (above, if negative) the selected one."""
        if steps > 0 and self.rows and self.cursor == len(self.rows) - 1 and self.at_end:
            self.follow()
            return
        if steps < 0:
            self.pause()
        self.cursor += steps
        self._look()

    def select(self, line: int) -> None:
        """Select the row on a line of the view; none is there: nothing happens."""
        index = self.top + line
        if 0 <= index < len(self.rows) and index != self.cursor:
            if index < len(self.rows) - 1:
                self.pause()
            self.cursor = index

    def page(self, screens: int) -> None:
        """Move by screens, less a line for the eye to hold on to."""
        self.move(screens * max(1, self.height - 1))

    def home(self) -> None:
        """To the first record that there is."""
        self.pause()
        if self.at_start and self.rows:
            self.cursor = 0
            self._look()
        else:
            self._jump_to(Way.FROM, 1)

    def follow(self) -> None:
        """To the newest record, and on with it."""
        self.following = True
        if not (self.at_end and self.rows):
            self._jump_to(Way.NEWEST, 0)
        self._look()

    def pause(self) -> None:
        """Let nothing move, whatever comes."""
        if self.following:
            self.following = False
            self._paused_at = self.end
            if self._jump is not None and self._jump.way is Way.NEWEST and self.rows:
                self._jump = None  # what is seen stays

    def toggle(self) -> None:
        if self.following:
            self.pause()
        else:
            self.follow()

    def resize(self, height: int) -> None:
        """The view has so many lines."""
        self.height = max(1, height)
        self._look()

    # ----------------------------------------------------------------------- reading

    def saw(self, end: int) -> None:
        """For the filter, the log ends before this lsn now."""
        self.end = end

    def need(self) -> Need | None:
        """What to read next; None if all that there is to show is there."""
        if self._jump is not None:
            return self._jump
        below = len(self.rows) - self.top - self.height
        if not self.at_end and (self.following or below < self._ahead):
            return Need(Way.NEWER, self.high, self.epoch)
        above = len(self.rows) - self.height if self.following else self.top - self._ahead
        if not self.at_start and above < 0:
            return Need(Way.OLDER, self.low, self.epoch)
        return None

    def take(self, need: Need, part: Part) -> None:
        """Add what was read; a part that is no longer wanted is left out."""
        if need.epoch != self.epoch:
            return
        if need.way is Way.OLDER and need.lsn == self.low:
            self._older(part)
        elif need.way is Way.NEWER and need.lsn == self.high:
            self._newer(part)
        elif need == self._jump:
            self._replace(need, part)

    # ------------------------------------------------------------------------ inside

    @property
    def _ahead(self) -> int:
        return self.height * SCREENS_AHEAD

    @property
    def _surplus(self) -> int:
        # A view so high that the rows around it are more is kept whole.
        return len(self.rows) - max(ROWS_MAX, self.height * 6)

    def _jump_to(self, way: Way, lsn: int) -> None:
        self.epoch += 1
        self._jump = Need(way, lsn, self.epoch)

    def _replace(self, need: Need, part: Part) -> None:
        self._jump = None
        self.rows, self.low, self.high = list(part.rows), part.low, part.high
        self.end = max(self.end, part.high)
        if need.way is Way.NEWEST:
            self.at_start = part.done
            self.cursor = len(self.rows) - 1
        else:
            self.at_start = need.lsn <= 1
            self.cursor = self.top = 0
        self._look()

    def _older(self, part: Part) -> None:
        self.rows[:0] = part.rows
        self.low, self.at_start = part.low, part.done
        self.cursor += len(part.rows)
        self.top += len(part.rows)
        kept = max(len(self.rows) - max(0, self._surplus), self.top + self.height + self._ahead)
        if kept < len(self.rows):
            self.high = self.rows[kept].lsn
            del self.rows[kept:]
        self._look()

    def _newer(self, part: Part) -> None:
        if self.following and len(part.rows) >= PAGE_ROWS and not part.done:
            self._jump_to(Way.NEWEST, 0)  # faster than anybody reads: on to the end
            return
        self.rows += part.rows
        self.high = part.high
        self._look()
        dropped = min(self._surplus, self.top - self._ahead)
        if dropped > 0:
            del self.rows[:dropped]
            self.low, self.at_start = self.rows[0].lsn, False
            self.cursor -= dropped
            self.top -= dropped

    def _look(self) -> None:
        """Keep the selection within the rows, and in view; whoever follows is at the newest."""
        count = len(self.rows)
        self.cursor = count - 1 if self.following else min(self.cursor, count - 1)
        self.cursor = max(0, self.cursor)
        self.top = max(self.top, self.cursor - self.height + 1)
        self.top = min(self.top, self.cursor)
        self.top = max(0, min(self.top, count - self.height))
