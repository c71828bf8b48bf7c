"""Every event comes back from its record as it went in."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes.broker import events as ev
from hermes.broker.event_codec import decode, encode
from hermes.limits import RECORD_HULL_MAX
from hermes.log.memory import MemoryLog
from hermes.log.record import StoredRecord
from tests.support.event_strategies import EVENTS


def stored(event: ev.Event) -> StoredRecord:
    """The record as a log gives it back, whatever its offsets."""
    record = encode(event, at_ns=5)
    return StoredRecord(
        1, record.at_ns, record.kind, record.key, record.first, record.last, record.body,
        record.payload, None, b"",
    )  # fmt: skip


@pytest.mark.parametrize("event_type", EVENTS, ids=lambda event_type: event_type.__name__)
def test_round_trip(event_type: type[ev.Event]) -> None:
    @settings(max_examples=25)
    @given(EVENTS[event_type])
    def check(event: ev.Event) -> None:
        assert decode(stored(event)) == event

    check()


@given(st.one_of(EVENTS[ev.Delivered], EVENTS[ev.Acked], EVENTS[ev.DeadLettered]))
def test_the_hull_of_a_record_is_that_of_its_ranges(event: ev.RangesEvent) -> None:
    record = encode(event, at_ns=5)
    assert (record.first, record.last) == (event.ranges[0][0], event.ranges[-1][1])
    assert event.ranges[-1][1] - event.ranges[0][0] < RECORD_HULL_MAX
    log = MemoryLog(lambda _: None)
    assert log.append([record], 1) == 1
    (read,) = log.reader().read(1, limit=1, limit_bytes=1)
    assert decode(read) == event
