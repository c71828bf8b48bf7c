"""Bodies that the log reads and writes, against protobuf itself."""

from __future__ import annotations

import pytest

from hermes.errors import StoreDamagedError
from hermes.log.bodies import (
    dropped_range,
    engine_time_of,
    lost_range,
    lost_record,
    seal_record,
    sealed_facts,
)
from hermes.log.facts import Mark, SegmentFacts
from hermes.log.record import Kind
from hermes.log.v1 import log_pb2
from tests.contract.records import dropped, snapshot

END = Mark(9, 7, b"c" * 32)


@pytest.mark.parametrize("time_ns", [0, 1, 127, 128, 1_700_000_000_000_000_000, (1 << 64) - 1])
def test_engine_time_is_the_first_field_of_any_body(time_ns: int) -> None:
    body = log_pb2.Acked(engine_time_ns=time_ns, session=5).SerializeToString()
    assert engine_time_of(body) == time_ns


@pytest.mark.parametrize("body", [b"", b"\x08", b"\x08\xff", b"\x08" + b"\xff" * 20, b"\x10\x01"])
def test_a_body_without_engine_time_has_zero(body: bytes) -> None:
    assert engine_time_of(body) == 0


@pytest.mark.parametrize(
    "facts",
    [
        SegmentFacts(3, END, 0, 6, 0, 6, 100, 200),
        SegmentFacts(3, Mark(9, 4, b"c" * 32), None, None, 2, 70_000, 100, 200),
        SegmentFacts(3, Mark(9, 4, b"c" * 32), None, None, None, None, 100, 200),
    ],
    ids=["published", "touched", "neither"],
)
def test_a_seal_reads_back(facts: SegmentFacts) -> None:
    record = seal_record(facts, snapshot(engine_time_ns=55))
    assert (record.kind, record.at_ns, engine_time_of(record.body)) == (
        Kind.SEGMENT_SEALED,
        snapshot().at_ns,
        55,
    )
    assert sealed_facts(record.body, 100, 200, base_offset=4) == facts


def test_lost_and_dropped_read_back() -> None:
    record = lost_record(Mark(5, 3, b"e" * 32), END, at_ns=77, engine_time_ns=88)
    assert (record.kind, record.at_ns, engine_time_of(record.body)) == (Kind.LOST, 77, 88)
    assert lost_range(record.body) == (6, 9)
    assert dropped_range(dropped(4, 8).body) == (4, 8)


def test_what_cannot_be_parsed_is_named() -> None:
    with pytest.raises(StoreDamagedError, match="SegmentDropped"):
        dropped_range(b"\xff\xff")
    with pytest.raises(StoreDamagedError, match="Lost"):
        lost_range(b"\xff\xff")
