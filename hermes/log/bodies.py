"""[P] Bodies of the few records that the log itself writes or must understand.

SegmentSealed and Lost are written here; of SegmentDropped the log reads which segment
it announces, of SegmentCompacted also which offsets. Every other body is opaque, but for
the engine time in front of each.
"""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import DecodeError

from hermes.errors import StoreDamagedError
from hermes.log.facts import Mark, SegmentFacts
from hermes.log.record import Kind, Record
from hermes.log.retired import Range
from hermes.log.v1 import log_pb2

_Message = TypeVar(
    "_Message",
    log_pb2.SegmentSealed,
    log_pb2.SegmentCompacted,
    log_pb2.SegmentDropped,
    log_pb2.PayloadErased,
    log_pb2.Lost,
)


def seal_record(facts: SegmentFacts, snapshot: Record) -> Record:
    """SegmentSealed: what the segment that ends here holds. Its times are the snapshot's."""
    body = log_pb2.SegmentSealed(
        engine_time_ns=engine_time_of(snapshot.body),
        first_lsn=facts.first_lsn,
        last_lsn=facts.last_lsn,
        records=facts.records,
        first_offset=facts.first_offset,
        last_offset=facts.last_offset,
        lowest_touched=facts.lowest_touched,
        highest_touched=facts.highest_touched,
        chain=facts.end.chain,
    )
    return Record(at_ns=snapshot.at_ns, kind=Kind.SEGMENT_SEALED, body=body.SerializeToString())


def sealed_facts(body: bytes, first_at_ns: int, last_at_ns: int, base_offset: int) -> SegmentFacts:
    """A SegmentSealed read back, with what it does not carry: times, and the next offset
    at the segment's start. Raises StoreDamagedError if it cannot be parsed."""
    seal = parse_seal(body)
    last_offset = seal.last_offset if seal.HasField("last_offset") else None
    return SegmentFacts(
        first_lsn=seal.first_lsn,
        end=Mark(
            seal.last_lsn, base_offset if last_offset is None else last_offset + 1, seal.chain
        ),
        first_offset=seal.first_offset if seal.HasField("first_offset") else None,
        last_offset=last_offset,
        lowest_touched=seal.lowest_touched if seal.HasField("lowest_touched") else None,
        highest_touched=seal.highest_touched if seal.HasField("highest_touched") else None,
        first_at_ns=first_at_ns,
        last_at_ns=last_at_ns,
    )


def parse_seal(body: bytes) -> log_pb2.SegmentSealed:
    """A SegmentSealed as it stands. Raises StoreDamagedError if it cannot be parsed."""
    return _parse(log_pb2.SegmentSealed(), body)


def lost_record(log_end: Mark, head: Mark, at_ns: int, engine_time_ns: int) -> Record:
    """Lost: HEAD knew records up to `head`, the log ends at `log_end`."""
    body = log_pb2.Lost(
        engine_time_ns=engine_time_ns,
        first_lsn=log_end.lsn + 1,
        last_lsn=head.lsn,
        first_offset=log_end.next_offset,
        next_offset=head.next_offset,
        chain=head.chain,
    )
    return Record(at_ns=at_ns, kind=Kind.LOST, body=body.SerializeToString())


def lost_range(body: bytes) -> tuple[int, int]:
    """First and last lsn that a Lost record names. Raises StoreDamagedError."""
    lost = _parse(log_pb2.Lost(), body)
    return lost.first_lsn, lost.last_lsn


def dropped_range(body: bytes) -> tuple[int, int]:
    """First and last lsn of the segment that a SegmentDropped announces.

    Raises StoreDamagedError if it cannot be parsed.
    """
    dropped = _parse(log_pb2.SegmentDropped(), body)
    return dropped.first_lsn, dropped.last_lsn


def compacted_segment(body: bytes) -> int:
    """First lsn of the segment that a SegmentCompacted announces. Raises StoreDamagedError."""
    return _parse(log_pb2.SegmentCompacted(), body).first_lsn


def compacted_ranges(first: int | None, last: int | None, body: bytes) -> list[Range]:
    """The offsets that a SegmentCompacted with this hull retires, ascending, disjoint.

    Raises StoreDamagedError if it cannot be parsed.
    """
    deltas = _parse(log_pb2.SegmentCompacted(), body).retired
    if first is None or last is None:
        return []
    if not deltas:
        return [(first, last)]
    ranges: list[Range] = []
    at = first
    for skip, length in zip(deltas[::2], deltas[1::2], strict=False):
        ranges.append((at + skip, at + skip + length - 1))
        at += skip + length
        if length < 1 or at > last + 1:
            break
    else:
        if len(deltas) % 2 == 0:
            return ranges
    raise StoreDamagedError(f"the ranges of a SegmentCompacted over {first}..{last} do not decode")


def erased_lsn(body: bytes) -> int:
    """The record whose payload a PayloadErased announces as gone. Raises StoreDamagedError."""
    return _parse(log_pb2.PayloadErased(), body).published_lsn


def engine_time_of(body: bytes) -> int:
    """The engine time in a body, field 1 of every kind; 0 if there is none."""
    if body[:1] != b"\x08":
        return 0
    value = shift = 0
    for byte in body[1:11]:
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
        shift += 7
    return 0


def _parse(message: _Message, body: bytes) -> _Message:
    try:
        message.ParseFromString(body)
    except DecodeError as error:
        kind = message.DESCRIPTOR.name
        raise StoreDamagedError(f"a {kind} record cannot be parsed: {error}") from error
    return message
