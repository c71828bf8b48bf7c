"""What every log must do about a sealed segment that is damaged: leave it out, and say so.

Part of `LogContract`. That damage is noticed is in tests/faults/test_quarantine.py.
"""

from __future__ import annotations

import pytest

from hermes.errors import SegmentDamagedError
from hermes.log.port import Log, LogReader
from hermes.log.record import Kind
from tests.contract.records import BIG, dropped, event, publish
from tests.contract.store import Store, lsns, offsets, put, roll

REASON = "a page of it cannot be read"


def three_segments(store: Store) -> Log:
    """Records 1..3 (offsets 0, 1), 4..8 (offsets 2, 3, 4), 9..11 (offset 5), the last active."""
    log = store.open()
    put(store, log, publish(0), publish(1), event(Kind.ACKED, "c", 0))
    roll(store, log)
    put(store, log, publish(2, terms=(7,)), publish(3, 2, "other"), event(Kind.ACKED, "c", 1))
    roll(store, log)
    put(store, log, publish(5))
    return log


def read_line(reader: LogReader, at: int) -> tuple[list[int | None], int]:
    records, upto = reader.publishes(at, limit=9, limit_bytes=BIG)
    return offsets(records), upto


class QuarantineContract:
    """The clauses. Each test opens its own store."""

    def test_a_quarantined_segment_is_told_with_its_exact_range(self, store: Store) -> None:
        log = three_segments(store)
        assert not log.quarantined
        assert log.quarantine(4, REASON)
        assert not log.quarantine(4, "again")
        (told,) = log.quarantined
        assert (told.first_lsn, told.last_lsn, told.reason) == (4, 8, REASON)
        assert (told.first_offset, told.last_offset) == (2, 4)
        assert [(s.first_lsn, s.quarantined) for s in log.segments()] == [
            (1, ""),
            (4, REASON),
            (9, ""),
        ]

    @pytest.mark.parametrize("first_lsn", [2, 9, 99])
    def test_only_a_sealed_segment_can_be_quarantined(self, store: Store, first_lsn: int) -> None:
        log = three_segments(store)
        with pytest.raises(ValueError, match="no sealed segment"):
            log.quarantine(first_lsn, REASON)

    def test_the_line_stops_in_front_of_it_and_goes_on_behind(self, store: Store) -> None:
        log = three_segments(store)
        log.quarantine(4, REASON)
        reader = log.reader()
        assert read_line(reader, 0) == ([0, 1], 2)
        for offset in (2, 3, 4):
            with pytest.raises(SegmentDamagedError, match="cannot be served") as caught:
                read_line(reader, offset)
            fields = caught.value.fields
            assert (fields["first_lsn"], fields["last_lsn"]) == (4, 8)
            assert (fields["first_offset"], fields["last_offset"]) == (2, 4)
            with pytest.raises(SegmentDamagedError):
                reader.publish_of(offset)
        assert read_line(reader, 5) == ([5], 6)
        assert [reader.publish_of(offset) is not None for offset in (1, 5)] == [True, True]

    def test_a_line_that_ends_before_it_is_whole(self, store: Store) -> None:
        log = three_segments(store)
        log.quarantine(4, REASON)
        records, upto = log.reader().publishes(1, limit=9, limit_bytes=BIG, before_offset=2)
        assert (offsets(records), upto) == ([1], 2)

    def test_a_filter_that_matches_nothing_before_it_still_moves_on(self, store: Store) -> None:
        log = three_segments(store)
        log.quarantine(4, REASON)
        wanted = "other".__eq__
        assert log.reader().publishes(0, limit=9, limit_bytes=BIG, keys=wanted) == ([], 2)

    def test_what_cannot_be_asked_counts_whole(self, store: Store) -> None:
        log = three_segments(store)
        log.quarantine(4, REASON)
        reader = log.reader()
        assert reader.count_messages(0) == 6
        assert reader.count_messages(3) == 3
        assert reader.count_messages(0, "other".__eq__) == 3
        assert reader.count_messages(5, "other".__eq__) == 0
        asked = [(0, None), (0, "other".__eq__), (3, "other".__eq__), (5, "other".__eq__)]
        assert reader.count_each(asked) == [6, 3, 2, 0]

    def test_other_lookups_leave_it_out(self, store: Store) -> None:
        log = three_segments(store)
        log.quarantine(4, REASON)
        reader = log.reader()
        assert lsns(reader.read(1, limit=99, limit_bytes=BIG)) == [1, 2, 3, 9, 10, 11]
        assert lsns(reader.of_key("c", limit=9)) == [3]
        assert reader.with_term(7, limit=9) == []
        assert lsns(reader.touching(1, limit=9)) == [2]
        newest = reader.latest(Kind.SNAPSHOT)
        assert newest is not None and newest.lsn == 10
        assert reader.latest(Kind.SNAPSHOT, at_or_before_lsn=8) is None

    def test_a_time_that_may_be_in_it_is_its_beginning(self, store: Store) -> None:
        log = three_segments(store)
        log.quarantine(4, REASON)
        assert log.reader().offset_at_time(1) == 1
        assert log.reader().offset_at_time(3) == 2

    def test_it_is_never_dropped(self, store: Store) -> None:
        log = three_segments(store)
        log.quarantine(1, REASON)
        put(store, log, dropped(1, 3))
        with pytest.raises(ValueError, match="quarantine"):
            log.drop(1)
        assert log.segments()[0].first_lsn == 1

    def test_appending_and_rolling_go_on(self, store: Store) -> None:
        log = three_segments(store)
        log.quarantine(4, REASON)
        roll(store, log)
        put(store, log, publish(6))
        assert read_line(log.reader(), 5) == ([5, 6], 7)
        assert [told.first_lsn for told in log.quarantined] == [4]

    def test_opened_again_nothing_is_marked(self, store: Store) -> None:
        """The mark is in memory only: a file that was restored is simply served."""
        three_segments(store).quarantine(4, REASON)
        log = store.open()
        assert not log.quarantined
        assert read_line(log.reader(), 0) == ([0, 1, 2, 3, 5], 6)
