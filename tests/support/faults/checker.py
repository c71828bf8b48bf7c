"""Compare what clients were told with what the store holds.

Reads the store from outside, record by record from the first on: numbers, chain, every
transition (by folding all of it), snapshots against the fold, and then the books.
Every violation is a line of text; a good run has none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

from hermes.broker import events as ev
from hermes.broker.event_codec import decode
from hermes.broker.recovery import recover
from hermes.broker.snapshot import encode_snapshot
from hermes.broker.state import State
from hermes.broker.subject import matcher
from hermes.broker.v1 import broker_pb2
from hermes.log.chain import genesis, link
from hermes.log.port import LogReader
from hermes.log.reader import open_reader
from hermes.log.record import Kind, StoredRecord
from tests.support.faults.ledger import Ledger, Outcome, key_of

_READ_RECORDS = 2_000
_READ_BYTES = 32 * 1024 * 1024


class Trail:
    """All that the log says, gathered in one pass."""

    def __init__(self, store: Path, store_id: str) -> None:
        self.problems: list[str] = []
        self.state = State()
        self.offsets: defaultdict[bytes, list[int]] = defaultdict(list)
        self.subjects: dict[int, str] = {}
        self.copies: defaultdict[tuple[str, int], int] = defaultdict(int)
        self.attempts: dict[tuple[str, int], int] = {}
        self.acked: dict[tuple[str, int], int] = {}  # -> lsn
        self.dead: set[tuple[str, int]] = set()
        self.kinds: defaultdict[Kind, int] = defaultdict(int)
        self._producer_sequences: set[tuple[bytes, int]] = set()
        self._chain = genesis(store_id)
        with closing(open_reader(store)) as reader:
            for record in _records(reader):
                self._take(record)
            recovered = recover(reader).state
        if encode_snapshot(recovered, 0) != encode_snapshot(self.state, 0):
            self.problems.append("the newest snapshot and its tail differ from the whole fold")

    def _take(self, record: StoredRecord) -> None:
        self._chain = link(
            self._chain,
            record.lsn,
            record.at_ns,
            record.kind,
            record.key,
            record.first,
            record.last,
            record.body,
            record.payload_hash,
        )
        if self._chain != record.chain:
            self.problems.append(f"lsn {record.lsn}: the chain is broken")
            self._chain = record.chain
        self.kinds[Kind(record.kind)] += 1
        event = decode(record)
        # Raises for a gap in lsns or offsets and for every transition that is not legal.
        self.state.fold(event, record.lsn)
        match event:
            case ev.Published():
                self._published(record.lsn, event)
            case ev.RangesEvent():
                self._ranges(record.lsn, event)
            case _:
                pass

    def _published(self, lsn: int, event: ev.Published) -> None:
        if event.producer_id:
            name = (event.producer_id, event.producer_sequence)
            if name in self._producer_sequences:
                self.problems.append(f"lsn {lsn}: producer sequence {name[1]} is there twice")
            self._producer_sequences.add(name)
        assert event.content is not None
        payloads = broker_pb2.BatchContent.FromString(event.content).payloads
        for i, payload in enumerate(payloads):
            offset = event.first + i
            self.subjects[offset] = event.subject
            if event.dead_letter_consumer:
                self.copies[event.dead_letter_consumer, event.dead_letter_offset + i] += 1
            else:
                self.offsets[key_of(payload)].append(offset)

    def _ranges(self, lsn: int, event: ev.RangesEvent) -> None:
        for first, last in event.ranges:
            for offset in range(first, last + 1):
                at = (event.consumer, offset)
                match event:
                    case ev.Delivered():
                        if at in self.acked:
                            self.problems.append(f"lsn {lsn}: {at} delivered after its ack")
                        if event.attempt != self.attempts.get(at, 0) + 1:
                            self.problems.append(
                                f"lsn {lsn}: {at} attempt {event.attempt} after "
                                f"{self.attempts.get(at, 0)}"
                            )
                        self.attempts[at] = event.attempt
                    case ev.Acked():
                        self.acked[at] = lsn
                    case ev.DeadLettered():
                        self.dead.add(at)
                    case _:
                        pass


def check(trail: Trail, ledger: Ledger) -> list[str]:
    """Violations of what was promised to clients. Shapes: one line each."""
    problems = [*trail.problems, *ledger.surprises]
    problems += _publications(trail, ledger)
    problems += _order(ledger)
    problems += _line(trail, ledger)
    for receipt in ledger.receipts:
        if receipt.offset < 0:  # v1 tells none
            if receipt.key not in trail.offsets:
                problems.append(f"{receipt.key!r}: received by v1 but is not in the log")
            continue
        at = (receipt.consumer, receipt.offset)
        if trail.attempts.get(at, 0) < receipt.attempt:
            problems.append(f"{at}: attempt {receipt.attempt} was received but is not in the log")
        if receipt.offset not in trail.offsets.get(receipt.key, ()):
            problems.append(f"{at}: received with the payload of another message")
    problems += [f"{at}: confirmed ack is lost" for at in ledger.confirmed if at not in trail.acked]
    problems += [f"{at}: dead, though nobody refused it" for at in trail.dead - ledger.blamed]
    return problems


def _publications(trail: Trail, ledger: Ledger) -> Iterator[str]:
    for entry in ledger.publications:
        held = trail.offsets.get(entry.key, [])
        if len(held) > 1:
            yield f"{entry.key!r} is stored {len(held)} times: {held}"
        if entry.outcome is Outcome.OK and entry.offset is None and not held:  # v1 tells none
            yield f"{entry.key!r} was acknowledged, the log does not have it"
        if entry.outcome is Outcome.OK and entry.offset is not None and entry.offset not in held:
            yield f"{entry.key!r} was acknowledged at {entry.offset}, the log has it at {held}"
        if entry.outcome is Outcome.FAILED:
            yield f"{entry.key!r} was refused ({entry.error}), the log has it at {held}"
    known = {entry.key for entry in ledger.publications}
    for key in trail.offsets.keys() - known:
        yield f"{key!r} is in the log, nobody published it"


def _order(ledger: Ledger) -> Iterator[str]:
    last: dict[str, int] = {}
    for entry in ledger.publications:
        if entry.offset is None or entry.id:
            continue
        if entry.offset < last.get(entry.lane, -1):
            yield f"{entry.key!r} of {entry.lane} at {entry.offset} overtook {last[entry.lane]}"
        last[entry.lane] = entry.offset


def _line(trail: Trail, ledger: Ledger) -> Iterator[str]:
    """A reader that follows gets every message once, in order; a listener none twice."""
    for (before, _), (after, _) in pairwise(ledger.read):
        if after <= before:
            yield f"the reader got offset {after} after {before}"
    for before, after in pairwise(ledger.heard):
        if after <= before:
            yield f"the listener got offset {after} after {before}"
    for offset, key in ledger.read:
        if offset not in trail.offsets.get(key, ()):
            yield f"the reader got {key!r} at {offset}, the log has it elsewhere"


def unread(trail: Trail, ledger: Ledger, pattern: str) -> list[str]:
    """Messages that match and that the following reader did not get."""
    matches = matcher((pattern,))
    got = {offset for offset, _ in ledger.read}
    return [
        f"offset {offset} was never read"
        for offset, subject in trail.subjects.items()
        if matches(subject) and offset not in got
    ]


def unsettled(trail: Trail, consumer: str, pattern: str) -> list[str]:
    """Messages that match and are neither acked nor dead, and consumers that hold some."""
    matches = matcher((pattern,))
    problems = [
        f"{(consumer, offset)} is neither acked nor dead"
        for offset, subject in trail.subjects.items()
        if matches(subject)
        and (consumer, offset) not in trail.acked
        and (consumer, offset) not in trail.dead
    ]
    state = trail.state.consumers[consumer]
    if state.leases.count or state.waiting.count:
        problems.append(
            f"{consumer} still has {state.leases.count} leases, {state.waiting.count} waiting"
        )
    return problems


def copies(trail: Trail) -> list[str]:
    """Dead letters that do not have exactly one copy."""
    return [
        f"{at} is dead and has {trail.copies[at]} copies"
        for at in trail.dead
        if trail.copies[at] != 1
    ] + [f"{at} has a copy and is not dead" for at in trail.copies.keys() - trail.dead]


def _records(reader: LogReader) -> Iterator[StoredRecord]:
    lsn = 1
    while records := reader.read(lsn, limit=_READ_RECORDS, limit_bytes=_READ_BYTES):
        yield from records
        lsn = records[-1].lsn + 1
