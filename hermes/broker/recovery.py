"""Recovery: the same fold, from the last snapshot on. Also turns stored records back
into batches of the line, for whoever reads instead of waiting."""

from __future__ import annotations

import msgspec

from hermes import limits
from hermes.broker.batch import LineBatch
from hermes.broker.event_codec import decode
from hermes.broker.snapshot import decode_snapshot
from hermes.broker.state import State
from hermes.log.port import LogReader
from hermes.log.record import Kind, StoredRecord
from hermes.log.v1 import log_pb2

CHUNK_RECORDS = 1_000


class Recovered(msgspec.Struct, frozen=True):
    """The state as the log has it."""

    state: State
    last_wall_ns: int  # Unix time of the last record; 0 for an empty log
    records: int  # folded after the snapshot


def recover(reader: LogReader, upto_lsn: int | None = None) -> Recovered:
    """Fold the newest snapshot and what follows it, or an empty log from its start.

    With `upto_lsn` the state is the one right after that record. Raises
    IllegalTransitionError if the records cannot be what a broker wrote.
    """
    snapshot = reader.latest(Kind.SNAPSHOT, at_or_before_lsn=upto_lsn)
    state = State() if snapshot is None else decode_snapshot(snapshot.body, snapshot.lsn)
    last_wall_ns = 0 if snapshot is None else snapshot.at_ns
    folded = 0
    while True:
        records = reader.read(
            state.next_lsn,
            limit=CHUNK_RECORDS,
            limit_bytes=limits.TRANSACTION_BYTES_MAX,
            payloads=False,
        )
        for record in records:
            if upto_lsn is not None and record.lsn > upto_lsn:
                return Recovered(state, last_wall_ns, folded)
            state.fold(decode(record), record.lsn)
            last_wall_ns = record.at_ns
            folded += 1
        if not records:
            return Recovered(state, last_wall_ns, folded)


def line_batch(record: StoredRecord) -> LineBatch | None:
    """The batch of a PUBLISHED record; None when its payload is retired."""
    if record.payload is None:
        return None
    body = log_pb2.Published.FromString(record.body)
    assert record.first is not None and record.last is not None and record.key is not None
    return LineBatch(
        record.first,
        record.last,
        record.key,
        body.head,
        record.payload,
        record.at_ns,
        record.lsn,
    )
