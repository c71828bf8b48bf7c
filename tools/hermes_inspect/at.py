"""`hermes-inspect at`: the state of every consumer at a past moment.

A moment is a record's lsn, or a time, which is the last record made by then (found by
bisection). The state is the broker's own fold up to it.
"""

from __future__ import annotations

from typing import Annotated

import typer

from hermes.cli.groups import single
from hermes.cli.options import UsageError
from hermes.cli.text import counted, rfc3339
from hermes.clock import SystemClock
from hermes.errors import InvalidArgumentError, OutOfRangeError
from hermes.log.search import lsn_at_time
from hermes_inspect import output
from hermes_inspect.consumers import moment, rows
from hermes_inspect.options import JsonOption, LocalOption
from hermes_inspect.output import Output
from hermes_inspect.store import Store, StoreOption, open_store, store_path
from hermes_inspect.tables import CONSUMER_COLUMNS, consumer_cells, consumer_fields
from hermes_inspect.times import Clockface, parse_moment


def lsn_of(store: Store, text: str, face: Clockface, now_ns: int) -> int:
    """The record that a moment means: the last one by then.

    Raises UsageError, OutOfRangeError when the log holds no state of that moment.
    """
    if text.isascii() and text.isdigit():
        lsn = int(text)
    else:
        try:
            at_ns = parse_moment(text, now_ns=now_ns, zone=face.zone)
        except InvalidArgumentError as error:
            raise UsageError(f"{error.message}, or an lsn") from error
        lsn = lsn_at_time(store.reader, at_ns + 1) - 1
    first, last = store.first_lsn, store.last_lsn
    # What is before a segment's snapshot was dropped with the segment before it.
    known = first if first == 1 else first + 1
    if lsn < known:
        raise OutOfRangeError(f"{text} is before the first moment that the log knows, lsn {known}")
    if lsn > last:
        raise OutOfRangeError(f"{text} is after the end of the log, lsn {last}")
    return lsn


def at(
    when: Annotated[
        str, typer.Argument(metavar="TIME|LSN", help="2026-01-31T12:00:00Z, -1h, or an lsn.")
    ],
    store_option: StoreOption = None,
    json: JsonOption = False,
    local: LocalOption = False,
) -> None:
    """Show the state of every consumer as it was then."""
    face = output.clockface(local=local)
    with open_store(store_path(store_option)) as store:
        output.tell_state(store)
        then = moment(store, lsn_of(store, when, face, SystemClock().wall_ns()))
        found = list(rows(store, then, now_ns=then.at_ns))
        out = Output(json=json)
        if json:
            as_of = {"as_of_lsn": then.lsn, "as_of": rfc3339(then.at_ns), "as_of_ns": then.at_ns}
            out.rows(as_of | consumer_fields(row) for row in found)
        else:
            out.line(
                f"as of lsn {then.lsn}, {face.moment(then.at_ns)} {face.name}: "
                f"{counted(then.state.next_offset, 'message')} published, "
                f"{counted(len(then.state.sessions), 'client')} connected"
            )
            if found:
                out.table(CONSUMER_COLUMNS, map(consumer_cells, found))
            else:
                out.line("no consumers")
        output.exit_for(store)


app = single(at)
