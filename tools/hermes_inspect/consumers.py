"""`hermes-inspect consumers`, and what `at` shares with it: consumers as the log has them.

The state is the broker's own fold, from the nearest snapshot on, so what is shown is what
a broker would recover. Lag is counted by index.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from hermes.broker.consumer import Consumer
from hermes.broker.recovery import recover
from hermes.broker.state import State
from hermes.broker.subject import matcher
from hermes.cli.groups import single
from hermes.clock import SystemClock
from hermes.errors import HermesError, StoreDamagedError
from hermes.log.reader import SqliteReader
from hermes_inspect import output
from hermes_inspect.options import JsonOption
from hermes_inspect.output import Output
from hermes_inspect.store import Store, StoreArgument, StoreOption, open_store, store_path
from hermes_inspect.tables import (
    CONSUMER_COLUMNS,
    ConsumerRow,
    consumer_cells,
    consumer_fields,
    consumer_row,
)


class Moment(msgspec.Struct, frozen=True):
    """The broker's state right after a record. `at_ns` is that record's Unix time."""

    state: State
    lsn: int
    at_ns: int


def moment(store: Store, upto_lsn: int | None = None) -> Moment:
    """The state after a record, or as of now. Raises StoreError.

    Raises StoreDamagedError when the records before it cannot be folded.
    """
    try:
        recovered = recover(store.reader, upto_lsn)
    except StoreDamagedError:
        raise
    except HermesError as error:
        raise StoreDamagedError(
            f"the state cannot be computed: {error.message}", hint="records are missing or damaged"
        ) from error
    return Moment(recovered.state, recovered.state.next_lsn - 1, recovered.last_wall_ns)


def rows(store: Store, then: Moment, *, now_ns: int) -> Iterator[ConsumerRow]:
    """A row per consumer, by name. `now_ns`: what ages are reckoned to. Raises StoreError."""
    consumers = [then.state.consumers[name] for name in sorted(then.state.consumers)]
    lags = lags_of(store.reader, then.state, consumers)
    for consumer, lag in zip(consumers, lags, strict=True):
        oldest = _oldest(store.reader, then.state, consumer, lag)
        found = None if oldest is None else (oldest[0], max(0, now_ns - oldest[1]))
        yield consumer_row(then.state, consumer, lag=lag, oldest=found)


def lags_of(reader: SqliteReader, state: State, consumers: Sequence[Consumer]) -> list[int]:
    """Of each: messages published by then that match, at or after the consumer's position."""
    wanted = [matcher(consumer.policy.filters) for consumer in consumers]
    since = [(c.position, keys) for c, keys in zip(consumers, wanted, strict=True)]
    later = [(state.next_offset, keys) for keys in wanted]
    counts = reader.count_each(since + later)
    return [n - after for n, after in zip(counts, counts[len(consumers) :], strict=False)]


def _oldest(
    reader: SqliteReader, state: State, consumer: Consumer, lag: int
) -> tuple[int, int] | None:
    """Offset and time of the oldest message that is neither acked nor dead."""
    offset = consumer.oldest_unsettled
    if offset is not None:
        record = reader.publish_of(offset)
        return None if record is None else (offset, record.at_ns)
    if not lag:
        return None
    at = consumer.position
    while at < state.next_offset:
        found, reached = reader.publishes(
            at, limit=1, limit_bytes=1, keys=matcher(consumer.policy.filters)
        )
        if found and found[0].first is not None:
            return max(consumer.position, found[0].first), found[0].at_ns
        if reached <= at:
            break
        at = reached
    return None


def consumers(
    store: StoreArgument = None, store_option: StoreOption = None, json: JsonOption = False
) -> None:
    """Show consumers: position, lag, leases, dead letters, members."""
    with open_store(store_path(store_option, store)) as opened:
        output.tell_state(opened)
        found = list(rows(opened, moment(opened), now_ns=SystemClock().wall_ns()))
        out = Output(json=json)
        if json:
            out.rows(map(consumer_fields, found))
        elif found:
            out.table(CONSUMER_COLUMNS, map(consumer_cells, found))
        else:
            out.line("no consumers")
        output.exit_for(opened)


app = single(consumers)
