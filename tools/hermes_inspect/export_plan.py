"""What an export will do, and how far it is: plain data that survives an interruption.

`Plan` is fixed at the start: the range ends at the lsn that was committed then. `Progress`
is remembered after each step; an export that is started again with the same wishes goes
on from the last one, and ends with the same bytes as one that was never interrupted.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

import msgspec

from hermes.errors import StoreDamagedError
from hermes_inspect.custody import Tracker
from hermes_inspect.export_manifest import FileEntry, Manifest
from hermes_inspect.export_options import ExportError, Options

CHANGED_MAX: Final = 100
DAY_NS: Final = 24 * 3600 * 10**9
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Plan(msgspec.Struct, frozen=True):
    """One run: records first_lsn..last_lsn. `whole`: the range begins where the log does,
    so custody has a row for every message, not only for what changed."""

    store_id: str
    first_lsn: int
    last_lsn: int
    chain_before: str
    whole: bool
    options: Options
    incremental: bool
    tool: str


class Progress(msgspec.Struct):
    """How far a run is. `files` are those of this step only; the others are cumulative."""

    next_lsn: int
    next_window: int = 0
    chain_last: str = ""
    files: list[FileEntry] = msgspec.field(default_factory=list)
    rows: dict[str, int] = msgspec.field(default_factory=dict)
    omitted: dict[str, int] = msgspec.field(default_factory=dict)
    headers_dropped: dict[str, int] = msgspec.field(default_factory=dict)
    unclean_stops: list[int] = msgspec.field(default_factory=list)
    tracker: Tracker = msgspec.field(default_factory=Tracker)
    spilled: dict[int, int] = msgspec.field(default_factory=dict)
    changed: list[int] = msgspec.field(default_factory=list)  # lsns, not what was committed

    def count(self, table: str, rows: int, omitted: int = 0) -> None:
        self.rows[table] = self.rows.get(table, 0) + rows
        self.omitted[table] = self.omitted.get(table, 0) + omitted

    def note_changed(self, lsns: list[int]) -> None:
        """Ascending; a step that is done again may name some again.

        Raises StoreDamagedError when there are too many to be told of each.
        """
        known = self.changed[-1] if self.changed else 0
        self.changed += [lsn for lsn in lsns if lsn > known]
        if len(self.changed) > CHANGED_MAX:
            raise StoreDamagedError(
                f"more than {CHANGED_MAX} records are not what was committed",
                hint="restore the store from a backup; hermes-inspect verify names the damage",
            )


class Watcher(Protocol):
    """Is told how an export gets on."""

    def begin(self, what: str, total: int) -> None:
        """A part of the work begins; `total` units of it."""
        ...

    def advance(self, units: int, rows: int) -> None:
        """So many more units are done, which gave so many rows."""
        ...


class NoWatcher:
    """Nobody looks."""

    def begin(self, what: str, total: int) -> None:
        pass

    def advance(self, units: int, rows: int) -> None:
        pass


def date_of(day: int) -> str:
    """`2026-01-31` of a number of days since 1970; what no calendar holds is cut off."""
    try:
        return f"{_EPOCH + timedelta(days=day):%Y-%m-%d}"
    except OverflowError:
        return "1970-01-01" if day < 0 else "9999-12-31"


def choose_range(
    *,
    held: tuple[int, int],
    asked: tuple[int | None, int | None],
    earlier: Manifest | None,
    incremental: bool,
) -> tuple[int, int] | None:
    """First and last lsn of a run; None when an incremental one has nothing new.

    `held` is what the store holds, `earlier` the manifest that is there. Raises
    ExportError when the wish cannot be met.
    """
    first, last = held
    if incremental and asked[0] is not None and earlier is not None:
        raise ExportError(
            "an incremental export begins where the last one ended, not at --from-lsn"
        )
    if earlier is not None and not incremental:
        raise ExportError(
            f"there is an export of records {earlier.first_lsn}..{earlier.last_lsn} already",
            hint="go on with --incremental, or name another folder",
        )
    if asked[1] is not None:
        last = min(last, asked[1])
    if earlier is not None:
        if last <= earlier.last_lsn:
            return None
        if earlier.last_lsn + 1 < first:
            raise ExportError(
                f"records {earlier.last_lsn + 1}..{first - 1} were dropped before they were "
                "exported: the chain would break",
                hint="begin a new export in another folder",
            )
        first = earlier.last_lsn + 1
    elif asked[0] is not None:
        if asked[0] < first:
            raise ExportError(f"the store holds records from {first} on", hint="ask from there")
        first = asked[0]
    if last < first:
        raise ExportError(
            f"no records lie in {first}..{last}", hint=f"the store holds {held[0]}..{held[1]}"
        )
    return first, last
