"""What every log that keeps records must do, whatever it is made of.

A backend's test class inherits `LogContract` and gives it a `store` fixture. The
look-ups are in `lookup_contract.py`.
"""

from __future__ import annotations

import pytest
from msgspec import structs

from hermes import limits
from hermes.errors import LogClosedError
from hermes.log.chain import genesis, link
from hermes.log.facts import Mark
from hermes.log.record import Kind, Record
from hermes.log.v1 import log_pb2
from tests.contract.lookup_contract import LookupContract
from tests.contract.quarantine_contract import QuarantineContract
from tests.contract.records import BIG, dropped, event, publish, snapshot
from tests.contract.store import Store, lsns, offsets, put, roll


class LogContract(LookupContract, QuarantineContract):
    """The clauses. Each test opens its own store."""

    # ----------------------------------------------------------------- appending

    def test_a_new_log_is_empty(self, store: Store) -> None:
        log = store.open()
        assert (log.next_lsn, log.next_offset, log.oldest_offset) == (1, 0, 0)
        assert log.durable
        assert log.queued_bytes == 0
        reader = log.reader()
        assert reader.read(1, limit=10, limit_bytes=BIG) == []
        assert reader.publishes(0, limit=10, limit_bytes=BIG) == ([], 0)
        assert reader.publish_of(0) is None
        assert reader.touching(0, limit=10) == []
        assert reader.with_term(1, limit=10) == []
        assert reader.of_key("x", limit=10) == []
        assert reader.count_messages(0) == 0
        assert reader.offset_at_time(0) is None
        assert reader.latest(Kind.SNAPSHOT) is None
        (info,) = log.segments()
        assert (info.first_lsn, info.last_lsn, info.records, info.sealed) == (1, 0, 0, False)

    def test_append_numbers_and_tells_in_order(self, store: Store) -> None:
        log = store.open()
        assert log.append([publish(0, 3), event(Kind.DELIVERED, "c", 0, 2)], 1) == 2
        assert (log.next_lsn, log.next_offset) == (3, 3)
        assert log.append([publish(3)], 3) == 3
        store.outcomes.wait_for(3)
        told = [outcome.last_lsn for outcome in store.outcomes.all]  # type: ignore[union-attr]
        assert told == sorted(set(told))
        assert log.queued_bytes == 0

    def test_the_committed_mark_names_the_last_record(self, store: Store) -> None:
        log = store.open()
        assert log.committed == Mark(0, 0, genesis(log.store_id))
        put(store, log, publish(0, 3), event(Kind.DELIVERED, "c", 0, 2))
        (last,) = log.reader().read(2, limit=9, limit_bytes=BIG)
        assert log.committed == Mark(2, 3, last.chain)
        roll(store, log)
        (snap,) = log.reader().read(4, limit=9, limit_bytes=BIG)
        assert log.committed == Mark(4, 3, snap.chain)
        log.append([publish(3)], 5)
        log.close()
        assert (log.committed.lsn, log.committed.next_offset) == (5, 4), "close commits"
        before = log.committed
        log = store.open()
        assert log.committed == before

    def test_records_come_back_as_they_were(self, store: Store) -> None:
        log = store.open()
        records = [
            publish(0, 3, payload=b"\x00payload"),
            publish(3, payload=b""),
            Record(at_ns=-5, kind=Kind.SESSION_OPENED, body=b""),
            Record(at_ns=1, kind=99, key="ключ", first=1, last=2, body=b"\xff" * 40_000),
        ]
        put(store, log, *records)
        read = log.reader().read(1, limit=10, limit_bytes=BIG)
        for lsn, (stored, record) in enumerate(zip(read, records, strict=True), start=1):
            assert stored.lsn == lsn
            for field in ("at_ns", "kind", "key", "first", "last", "body", "payload"):
                assert getattr(stored, field) == getattr(record, field), field
            assert (stored.payload_hash is None) == (record.payload is None)
        bare = log.reader().read(1, limit=10, limit_bytes=BIG, payloads=False)
        assert [record.payload for record in bare] == [None] * 4
        assert [r.payload_hash for r in bare] == [r.payload_hash for r in read]

    def test_an_empty_append_is_nothing(self, store: Store) -> None:
        log = store.open()
        put(store, log, publish(0))
        assert log.append([], 2) == 1
        assert log.next_lsn == 2

    def test_the_chain_can_be_recomputed(self, store: Store) -> None:
        log = store.open()
        put(store, log, publish(0, 2), event(Kind.ACKED, "c", 0))
        roll(store, log)
        put(store, log, publish(2, key="другой"))
        chain = genesis(log.store_id)
        for r in log.reader().read(1, limit=100, limit_bytes=BIG):
            chain = link(
                chain, r.lsn, r.at_ns, r.kind, r.key, r.first, r.last, r.body, r.payload_hash
            )
            assert chain == r.chain
        assert r.lsn == 5

    @pytest.mark.parametrize("expected", [0, 1, 3])
    def test_a_wrong_next_lsn_is_refused(self, store: Store, expected: int) -> None:
        log = store.open()
        put(store, log, publish(0))
        with pytest.raises(ValueError, match="next lsn"):
            log.append([publish(1)], expected)
        with pytest.raises(ValueError, match="next lsn"):
            log.roll(snapshot(), expected)
        assert (log.next_lsn, log.next_offset) == (2, 1)

    @pytest.mark.parametrize(
        "record",
        [
            event(Kind.ACKED, "c", 0, limits.RECORD_HULL_MAX),
            event(Kind.ACKED, "c", 5, 4),
            event(Kind.ACKED, "c", -1, 4),
            Record(at_ns=0, kind=Kind.ACKED, key="c", first=3),
            Record(at_ns=0, kind=Kind.PUBLISHED, key="s"),
            publish(1),
        ],
        ids=["too wide", "upside down", "negative", "half", "unnumbered", "gap"],
    )
    def test_what_no_log_may_hold_is_refused(self, store: Store, record: Record) -> None:
        log = store.open()
        with pytest.raises(ValueError, match=r"hull|range|publish"):
            log.append([record], 1)
        assert (log.next_lsn, log.next_offset) == (1, 0)
        put(store, log, publish(0))

    def test_the_widest_hull_is_found_at_both_ends(self, store: Store) -> None:
        log = store.open()
        wide = event(Kind.ACKED, "c", 10, 10 + limits.RECORD_HULL_MAX - 1)
        put(store, log, wide)
        reader = log.reader()
        for offset, found in [
            (9, []),
            (10, [1]),
            (limits.RECORD_HULL_MAX + 9, [1]),
            (limits.RECORD_HULL_MAX + 10, []),
        ]:
            assert lsns(reader.touching(offset, limit=9)) == found

    def test_a_closed_log_refuses(self, store: Store) -> None:
        log = store.open()
        log.append([publish(0)], 1)
        log.close()
        assert store.outcomes.committed_lsn == 1, "close commits what is queued"
        log.close()
        with pytest.raises(LogClosedError):
            log.append([publish(1)], 2)
        with pytest.raises(LogClosedError):
            log.roll(snapshot(), 2)

    def test_reopening_goes_on(self, store: Store) -> None:
        log = store.open()
        put(store, log, publish(0, 5), event(Kind.ACKED, "c", 0, 4))
        roll(store, log)
        identity, before = log.store_id, log.reader().read(1, limit=99, limit_bytes=BIG)
        log.close()
        log = store.open()
        assert log.store_id == identity
        assert (log.next_lsn, log.next_offset, log.oldest_offset) == (5, 5, 0)
        assert log.reader().read(1, limit=99, limit_bytes=BIG) == before
        put(store, log, publish(5))
        assert offsets(log.reader().publishes(0, limit=9, limit_bytes=BIG)[0]) == [0, 5]

    # -------------------------------------------------------------------- segments

    def test_roll_seals_what_was_there(self, store: Store) -> None:
        log = store.open()
        put(store, log, publish(0, 10, "a"), publish(10, 5, "b"), event(Kind.ACKED, "c", 3, 4))
        last = log.roll(snapshot(engine_time_ns=77), 4)
        assert (last, log.next_lsn) == (5, 6)
        put(store, log, publish(15, key="a"), event(Kind.ACKED, "c", 2))
        old, new = log.segments()
        assert (old.first_lsn, old.last_lsn, old.records, old.sealed) == (1, 3, 3, True)
        assert (old.first_offset, old.last_offset) == (0, 14)
        assert (old.lowest_touched, old.highest_touched) == (0, 14)
        assert (old.first_at_ns, old.last_at_ns, old.subjects) == (0, 7, ("a", "b"))
        assert (new.first_lsn, new.last_lsn, new.sealed) == (4, 7, False)
        assert (new.first_offset, new.last_offset) == (15, 15)
        assert (new.lowest_touched, new.highest_touched, new.subjects) == (2, 15, ("a",))
        bare = [structs.replace(info, subjects=()) for info in (old, new)]
        assert log.segments(subjects=False) == bare
        sealed, snap = log.reader().read(4, limit=2, limit_bytes=BIG)
        assert (sealed.kind, sealed.at_ns) == (Kind.SEGMENT_SEALED, 11)
        assert snap.kind == Kind.SNAPSHOT
        body = log_pb2.SegmentSealed.FromString(sealed.body)
        assert (body.engine_time_ns, body.first_lsn, body.last_lsn, body.records) == (77, 1, 3, 3)
        assert (body.first_offset, body.last_offset) == (0, 14)
        assert (body.lowest_touched, body.highest_touched) == (0, 14)
        assert body.chain == log.reader().read(3, limit=1, limit_bytes=BIG)[0].chain

    def test_rolls_and_appends_may_be_queued_together(self, store: Store) -> None:
        log = store.open()
        lsn = 1
        for n in range(4):
            lsn = log.append([publish(n)], lsn) + 1
            lsn = log.roll(snapshot(), lsn) + 1
        store.outcomes.wait_for(lsn - 1)
        assert [info.first_lsn for info in log.segments()] == [1, 2, 5, 8, 11]
        kinds = [record.kind for record in log.reader().read(1, limit=99, limit_bytes=BIG)]
        assert kinds == [Kind.PUBLISHED, Kind.SEGMENT_SEALED, Kind.SNAPSHOT] * 4

    def test_an_empty_segment_is_not_rolled(self, store: Store) -> None:
        log = store.open()
        with pytest.raises(ValueError, match="empty"):
            log.roll(snapshot(), 1)
        put(store, log, publish(0))

    def test_drop_takes_the_oldest(self, store: Store) -> None:
        log = store.open()
        put(store, log, publish(0, 3, terms=(9,)), event(Kind.ACKED, "c", 0, 2))
        roll(store, log)
        put(store, log, publish(3))
        roll(store, log)
        reader = log.reader()
        with pytest.raises(ValueError, match="announces"):
            log.drop(1)
        put(store, log, dropped(1, 2))
        with pytest.raises(ValueError, match="oldest"):
            log.drop(3)
        log.drop(1)
        assert [info.first_lsn for info in log.segments()] == [3, 6]
        assert (log.oldest_offset, log.next_offset) == (3, 4)
        assert lsns(reader.read(1, limit=2, limit_bytes=BIG)) == [3, 4]
        assert offsets(reader.publishes(0, limit=9, limit_bytes=BIG)[0]) == [3]
        assert reader.publish_of(0) is None
        assert reader.touching(1, limit=9) == []
        assert reader.with_term(9, limit=9) == []
        assert reader.count_messages(0) == 1
        log.close()
        log = store.open()
        assert [info.first_lsn for info in log.segments()] == [3, 6]
        assert (log.next_lsn, log.oldest_offset) == (9, 3)
        with pytest.raises(ValueError, match="announces"):
            log.drop(3)

    def test_the_active_segment_is_not_dropped(self, store: Store) -> None:
        log = store.open()
        put(store, log, dropped(1, 1))
        with pytest.raises(ValueError, match="oldest"):
            log.drop(1)

    def test_oldest_offset_when_nothing_is_held(self, store: Store) -> None:
        log = store.open()
        put(store, log, publish(0, 3))
        roll(store, log)
        put(store, log, dropped(1, 1))
        # Found: a segment dropped while it was being sealed failed the whole log.
        log.drop(1)
        assert (log.oldest_offset, log.next_offset) == (3, 3)
        put(store, log, publish(3))
        assert log.oldest_offset == 3
