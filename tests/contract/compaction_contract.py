"""What a log that keeps records must do when payloads are retired, whatever it is made of."""

from __future__ import annotations

from typing import Protocol

import pytest

from hermes.errors import LogClosedError
from hermes.log.chain import genesis, link
from hermes.log.port import Batch, Log, SegmentInfo
from hermes.log.record import Kind, Record
from tests.contract.records import BIG, compacted, event, publish
from tests.contract.store import Store, lsns, put, roll


class CompactingStore(Store, Protocol):
    """A store whose tests can wait for the work beside the log."""

    def finish_compactions(self, log: Log) -> None:
        """Until what was announced is done, or given up."""
        ...


LIVE = Record(at_ns=3, kind=Kind.PUBLISHED_LIVE, key="live", body=b"head", payload=b"live")


def two_segments(store: CompactingStore) -> Log:
    """Lsn 1..5: publishes 0..2, 3, 4..8, a live one and an ack; sealed. Then 9 in lsn 8."""
    log = store.open()
    put(store, log, publish(0, 3, terms=(7,)), publish(3, key="b"), publish(4, 5), LIVE)
    put(store, log, event(Kind.ACKED, "c", 0, 8))
    roll(store, log)
    put(store, log, publish(9))
    return log


def compact(store: CompactingStore, log: Log, *ranges: tuple[int, int]) -> SegmentInfo:
    """Announce and carry out; the segment as it is told afterwards."""
    put(store, log, compacted(1, 5, *ranges))
    log.compact(1)
    store.finish_compactions(log)
    assert log.compactions == ()
    return log.segments()[0]


def held(log: Log) -> list[int]:
    """Lsns of the records whose payloads are there."""
    records = log.reader().read(1, limit=99, limit_bytes=BIG)
    return [record.lsn for record in records if record.payload is not None]


class CompactionContract:
    """The clauses. Each test opens its own store."""

    def test_payloads_go_and_nothing_else(self, store: CompactingStore) -> None:
        log = two_segments(store)
        reader = log.reader()
        before = reader.read(1, limit=5, limit_bytes=BIG)
        whole = log.segments()[0]
        info = compact(store, log, (0, 2), (4, 8))
        assert (info.compacted_lsn, info.retired) == (9, ((0, 2), (4, 8)))
        assert 0 < info.payload_bytes < whole.payload_bytes
        assert (info.first_offset, info.last_offset, info.records) == (0, 8, 5)
        assert (info.sealed, info.subjects, log.oldest_offset) == (True, whole.subjects, 0)
        after = reader.read(1, limit=5, limit_bytes=BIG)
        assert held(log) == [2, 8]
        for old, new in zip(before, after, strict=True):
            for field in set(old.__struct_fields__) - {"payload"}:
                assert getattr(old, field) == getattr(new, field), field
        assert [record.payload_hash is None for record in after] == [False] * 4 + [True]

    def test_every_look_up_goes_on_and_shows_what_is_retired(self, store: CompactingStore) -> None:
        log = two_segments(store)
        compact(store, log, (0, 3))
        reader = log.reader()
        found, upto = reader.publishes(0, limit=9, limit_bytes=BIG)
        assert (lsns(found), upto) == ([1, 2, 3, 8], 10)
        assert [record.payload is None for record in found] == [True, True, False, False]
        retired = reader.publish_of(1)
        assert retired is not None
        assert (retired.lsn, retired.payload, retired.body) == (1, None, b"head")
        assert reader.with_term(7, limit=9) == [retired]
        assert [r.payload for r in reader.of_key("b", limit=9)] == [None]
        assert lsns(reader.touching(3, limit=9)) == [2, 5, 9], "the announcement is in the trail"
        assert reader.count_messages(0) == 10

    def test_the_chain_still_verifies(self, store: CompactingStore) -> None:
        log = two_segments(store)
        compact(store, log, (0, 8))
        chain = genesis(log.store_id)
        for r in log.reader().read(1, limit=100, limit_bytes=BIG):
            chain = link(
                chain, r.lsn, r.at_ns, r.kind, r.key, r.first, r.last, r.body, r.payload_hash
            )
            assert chain == r.chain
        assert r.lsn == 9

    def test_a_later_compaction_adds_to_an_earlier_one(self, store: CompactingStore) -> None:
        log = two_segments(store)
        compact(store, log, (3, 3))
        assert held(log) == [1, 3, 8], "live payloads go with any compaction"
        info = compact(store, log, (0, 2))
        assert (info.compacted_lsn, info.retired) == (10, ((0, 3),))
        assert held(log) == [3, 8]
        info = compact(store, log, (0, 8))
        assert (info.retired, info.payload_bytes) == (((0, 8),), 0)
        assert held(log) == [8]

    def test_several_records_announce_one_compaction(self, store: CompactingStore) -> None:
        log = two_segments(store)
        put(store, log, compacted(1, 5, (0, 2)), compacted(1, 5, (4, 8)))
        log.compact(1)
        store.finish_compactions(log)
        info = log.segments()[0]
        assert (info.compacted_lsn, info.retired) == (10, ((0, 2), (4, 8)))

    def test_no_offsets_retire_no_message(self, store: CompactingStore) -> None:
        log = two_segments(store)
        info = compact(store, log)
        assert (info.compacted_lsn, info.retired) == (9, ())
        assert held(log) == [1, 2, 3, 8]

    def test_reopening_keeps_it(self, store: CompactingStore) -> None:
        log = two_segments(store)
        before = compact(store, log, (0, 2))
        log.close()
        log = store.open()
        assert log.segments()[0] == before
        assert held(log) == [2, 3, 8]
        put(store, log, publish(10))

    def test_opening_goes_on_with_what_was_announced(self, store: CompactingStore) -> None:
        log = two_segments(store)
        put(store, log, compacted(1, 5, (0, 3)))
        log.close()
        log = store.open()
        store.finish_compactions(log)
        assert log.compactions == ()
        assert log.segments()[0].retired == ((0, 3),)
        assert held(log) == [3, 8]
        with pytest.raises(ValueError, match="announces"):
            log.compact(1)

    @pytest.mark.parametrize("cut", [(1, 2), (0, 1), (3, 5), (4, 9), (9, 9), (40, 41)])
    def test_part_of_a_batch_is_refused(self, store: CompactingStore, cut: tuple[int, int]) -> None:
        log = two_segments(store)
        put(store, log, compacted(1, 5, cut))
        with pytest.raises(ValueError, match="whole batches"):
            log.compact(1)
        assert held(log) == [1, 2, 3, 4, 8]
        log.close()
        log = store.open()
        store.finish_compactions(log)
        (stuck,) = log.compactions
        assert (stuck.first_lsn, stuck.stuck) == (1, True)
        assert "whole batches" in str(stuck.error)
        assert held(log) == [1, 2, 3, 4, 8]

    def test_what_was_not_announced_is_refused(self, store: CompactingStore) -> None:
        log = two_segments(store)
        with pytest.raises(ValueError, match="announces"):
            log.compact(1)
        put(store, log, compacted(6, 8, (9, 9)))
        with pytest.raises(ValueError, match="announces"):
            log.compact(1)
        with pytest.raises(ValueError, match="sealed"):
            log.compact(6)
        with pytest.raises(ValueError, match="sealed"):
            log.compact(2)
        compact(store, log, (0, 2))
        with pytest.raises(ValueError, match="announces"):
            log.compact(1)
        log.close()
        with pytest.raises(LogClosedError):
            log.compact(1)

    def test_room_is_asked_for_sealed_segments(self, store: CompactingStore) -> None:
        log = two_segments(store)
        assert log.room_to_compact(1)
        with pytest.raises(ValueError, match="sealed"):
            log.room_to_compact(6)
        with pytest.raises(ValueError, match="sealed"):
            log.room_to_compact(2)

    def test_batches_are_listed_with_their_keys(self, store: CompactingStore) -> None:
        log = two_segments(store)
        reader = log.reader()
        first, b, wide = (
            Batch(0, 2, 1, "orders.created"),
            Batch(3, 3, 2, "b"),
            Batch(4, 8, 3, "orders.created"),
        )
        last = Batch(9, 9, 8, "orders.created")
        assert reader.batches(0, limit=9) == [first, b, wide, last]
        assert reader.batches(1, before_offset=4, limit=9) == [first, b]
        assert reader.batches(5, before_offset=6, limit=9) == [wide]
        assert reader.batches(2, limit=3) == [first, b, wide]
        assert reader.batches(9, before_offset=9, limit=9) == []
        assert reader.batches(10, limit=9) == []
        compact(store, log, (0, 8))
        assert reader.batches(0, limit=9) == [first, b, wide, last]
