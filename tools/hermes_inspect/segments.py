"""`hermes-inspect segments`: what the log is made of, and what keeps each part.

Why a segment cannot go is asked of the broker's own plan (hermes.broker.retention), as if
nothing were kept for its age: retention is a setting of the server, which the log does not
know.
"""

from __future__ import annotations

import msgspec

from hermes.broker.ranges import count
from hermes.broker.retention import plan_gc
from hermes.broker.state import State
from hermes.broker.subject import matcher
from hermes.cli.groups import single
from hermes.clock import SystemClock
from hermes.errors import StoreDamagedError
from hermes.log.port import SegmentInfo
from hermes.log.reader import SqliteReader
from hermes.log.segment import file_name
from hermes_inspect import output
from hermes_inspect.consumers import lag_of, moment
from hermes_inspect.options import JsonOption
from hermes_inspect.output import Output
from hermes_inspect.store import Store, StoreArgument, StoreOption, open_store, store_path
from hermes_inspect.tables import SEGMENT_COLUMNS, SegmentRow, segment_cells, segment_fields


def rows(store: Store) -> list[SegmentRow]:
    """A row per segment, oldest first; damaged ones say so. Raises StoreError."""
    infos = store.segments()
    pins = _pins(store, infos)
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
    found += [_damaged(store, lsn, error.args[0]) for lsn, error in store.reader.damage.items()]
    return sorted(found, key=lambda row: row.first_lsn)


def _damaged(store: Store, first_lsn: int, why: str) -> SegmentRow:
    path = store.path / file_name(first_lsn)
    size = path.stat().st_size if path.exists() else 0
    return SegmentRow(first_lsn, 0, 0, size, None, None, 0, 0, False, 0, "", damage=why)


def _pins(store: Store, infos: list[SegmentInfo]) -> dict[int, str]:
    """Why each segment cannot go, by its first lsn; without a state, nothing is known."""
    try:
        state = moment(store).state
    except StoreDamagedError:
        return {info.first_lsn: "unknown: the state cannot be computed" for info in infos}
    behind = {
        name: consumer.position if lag_of(store.reader, state, consumer) else state.next_offset
        for name, consumer in state.consumers.items()
    }
    pins = {}
    for info in infos:
        wanted = _wanted_subjects(store.reader, state, behind, info)
        asked = msgspec.structs.replace(info, subjects=wanted)
        (plan,) = plan_gc([asked], state, behind, at_ns=1 << 62, audit_retention_ns=0)
        pins[info.first_lsn] = "" if plan.reason == "settled" else plan.reason
    return pins


def _wanted_subjects(
    reader: SqliteReader, state: State, behind: dict[str, int], info: SegmentInfo
) -> tuple[str, ...]:
    """A subject per consumer that still wants something of a segment: enough for a plan,
    and found by index where the list of all subjects would be long."""
    if info.first_offset is None or info.last_offset is None:
        return ()
    subjects: set[str] = set()
    for name, consumer in state.consumers.items():
        at = max(info.first_offset, behind[name])
        while at <= info.last_offset:
            found, reached = reader.publishes(
                at,
                limit=1,
                limit_bytes=1,
                keys=matcher(consumer.policy.filters),
                before_offset=info.last_offset + 1,
            )
            subjects.update(record.key for record in found if record.key is not None)
            if found or reached <= at:
                break
            at = reached
    return tuple(sorted(subjects))


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
