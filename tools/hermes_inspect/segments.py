"""`hermes-inspect segments`: what the log is made of, and what keeps each part.

Why a segment cannot go is what the broker's own plan would say (hermes.broker.needs), as if
nothing were kept for its age: retention is a setting of the server, which the log does not
know.

A damaged segment is told with what the seal behind it says: its extent, and who needs
something of it. What shows only inside a file is for `verify` to find.
"""

from __future__ import annotations

from collections.abc import Mapping

from hermes.broker.needs import Need, Pin, held_pins, needs_in
from hermes.broker.ranges import count
from hermes.broker.state import State
from hermes.broker.subject import matcher
from hermes.cli.groups import single
from hermes.clock import SystemClock
from hermes.errors import StoreDamagedError
from hermes.log.facts import SegmentFacts
from hermes.log.port import SegmentInfo
from hermes.log.reader import SqliteReader
from hermes.log.segment import file_name
from hermes.log.survey import Surveyed
from hermes_inspect import output
from hermes_inspect.consumers import moment
from hermes_inspect.options import JsonOption
from hermes_inspect.output import Output
from hermes_inspect.store import Store, StoreArgument, StoreOption, open_store, store_path
from hermes_inspect.tables import SEGMENT_COLUMNS, SegmentRow, segment_cells, segment_fields


def rows(store: Store) -> list[SegmentRow]:
    """A row per segment, oldest first; damaged ones say so. Raises StoreError."""
    quarantined = {found.start.first_lsn: found for found in store.quarantined()}
    infos = store.segments(without=quarantined)
    pins = _pins(store, infos, quarantined)
    found = [
        SegmentRow(
            first_lsn=info.first_lsn,
            last_lsn=info.last_lsn,
            records=info.records,
            bytes=info.bytes,
            first_offset=info.first_offset,
            last_offset=info.last_offset,
            first_at_ns=info.first_at_ns,
            last_at_ns=info.last_at_ns,
            sealed=info.sealed,
            retired=count(info.retired),
            pinned_by=pins.get(info.first_lsn, ""),
        )
        for info in infos
    ]
    found += [_left_out(segment, pins[lsn]) for lsn, segment in quarantined.items()]
    found += [
        _damaged(store, lsn, error.args[0])
        for lsn, error in store.reader.damage.items()
        if lsn not in quarantined
    ]
    return sorted(found, key=lambda row: row.first_lsn)


def _left_out(segment: Surveyed, pinned_by: str) -> SegmentRow:
    """One whose extent is known all the same. Its age is that of its seal."""
    facts = segment.facts
    return SegmentRow(
        first_lsn=facts.first_lsn,
        last_lsn=facts.last_lsn,
        records=facts.records,
        bytes=segment.path.stat().st_size if segment.path.exists() else 0,
        first_offset=facts.first_offset,
        last_offset=facts.last_offset,
        first_at_ns=facts.first_at_ns,
        last_at_ns=facts.last_at_ns,
        sealed=True,
        retired=0,
        pinned_by=pinned_by,
        damage=segment.damage,
    )


def _damaged(store: Store, first_lsn: int, why: str) -> SegmentRow:
    path = store.path / file_name(first_lsn)
    size = path.stat().st_size if path.exists() else 0
    return SegmentRow(first_lsn, 0, 0, size, None, None, 0, 0, False, 0, "", damage=why)


def _pins(
    store: Store, infos: list[SegmentInfo], quarantined: Mapping[int, Surveyed]
) -> dict[int, str]:
    """Why each segment cannot go, by its first lsn; without a state, nothing is known."""
    try:
        state = moment(store).state
    except StoreDamagedError:
        lsns = [*quarantined, *(info.first_lsn for info in infos)]
        return dict.fromkeys(lsns, "unknown: the state cannot be computed")
    pins = {info.first_lsn: _pin(store.reader, state, info) for info in infos}
    return pins | {lsn: _unread_pin(state, found.facts) for lsn, found in quarantined.items()}


def _unread_pin(state: State, facts: SegmentFacts) -> str:
    """Who needs something of a segment that cannot be asked: whoever has not considered all
    of it, whatever the filter, or has not settled what it got."""
    first, last = facts.first_offset, facts.last_offset
    if first is None or last is None:
        return ""
    pins = []
    for need in needs_in(state, first, last):
        pins += held_pins(need)
        if need.position <= last:
            pins.append(Pin(need.consumer, need.position))
    return min(pins, key=lambda pin: pin.offset).text if pins else ""


def _pin(reader: SqliteReader, state: State, info: SegmentInfo) -> str:
    """Why one segment cannot go; empty when it may."""
    if not info.sealed:
        return "active"
    first, last = info.first_offset, info.last_offset
    if first is None or last is None or info.retired == ((first, last),):
        return ""
    pins = []
    # Most consumers are in front of most segments, and many have the same filters.
    wanted: dict[tuple[int, tuple[str, ...]], int | None] = {}
    for need in needs_in(state, first, last):
        pins += held_pins(need)
        asked = need.position, need.filters
        if asked not in wanted:
            wanted[asked] = _first_wanted(reader, need, last)
        offset = wanted[asked]
        if offset is not None:
            pins.append(Pin(need.consumer, offset))
    return min(pins, key=lambda pin: pin.offset).text if pins else ""


def _first_wanted(reader: SqliteReader, need: Need, last: int) -> int | None:
    """The first message up to `last` that a consumer has still to consider, by index."""
    at = need.position
    wanted = matcher(need.filters)
    while at <= last:
        found, reached = reader.publishes(
            at, limit=1, limit_bytes=1, keys=wanted, before_offset=last + 1
        )
        held = [record for record in found if record.payload is not None]
        if held and held[0].first is not None:
            return max(at, held[0].first)
        if reached <= at:
            return None
        at = reached
    return None


def segments(
    store: StoreArgument = None, store_option: StoreOption = None, json: JsonOption = False
) -> None:
    """Show the segments and what pins them."""
    with open_store(store_path(store_option, store)) as opened:
        output.tell_state(opened)
        found = rows(opened)
        out = Output(json=json)
        if json:
            out.rows(map(segment_fields, found))
        else:
            now_ns = SystemClock().wall_ns()
            out.table(SEGMENT_COLUMNS, (segment_cells(row, now_ns) for row in found))
        output.exit_for(opened)


app = single(segments)
