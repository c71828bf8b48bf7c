"""What every log that keeps records must do, whatever it is made of.

A backend's test class inherits `LogContract` and gives it a `Store` fixture.
"""

from __future__ import annotations

from typing import Protocol

import pytest

from hermes import limits
from hermes.errors import LogClosedError
from hermes.log.chain import genesis, link
from hermes.log.port import Log, LogReader
from hermes.log.record import Kind, Record, StoredRecord, look_up_term
from hermes.log.v1 import log_pb2
from tests.contract.records import BIG, Outcomes, dropped, event, publish, snapshot


class Store(Protocol):
    """A place that logs are opened from, one at a time."""

    outcomes: Outcomes

    def open(self) -> Log:
        """Open it; the outcomes so far are forgotten."""
        ...


def put(store: Store, log: Log, *records: Record) -> int:
    """Append as one group and wait for the commit; returns the last lsn."""
    last = log.append(records, log.next_lsn)
    store.outcomes.wait_for(last)
    return last


def roll(store: Store, log: Log) -> int:
    last = log.roll(snapshot(), log.next_lsn)
    store.outcomes.wait_for(last)
    return last


def lsns(records: list[StoredRecord]) -> list[int]:
    return [record.lsn for record in records]


def offsets(records: list[StoredRecord]) -> list[int | None]:
    return [record.first for record in records]


def all_publishes(reader: LogReader, start: int, **options: object) -> list[StoredRecord]:
    """Page through publishes one by one; every call must move on."""
    found: list[StoredRecord] = []
    at = start
    while True:
        page, upto = reader.publishes(at, limit=1, limit_bytes=BIG, **options)  # type: ignore[arg-type]
        found += page
        if upto == at:
            return found
        assert upto > at
        at = upto


class LogContract:
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

    # ------------------------------------------------------------------- look-ups

    def test_read_is_bounded(self, store: Store) -> None:
        log = store.open()
        put(store, log, *(publish(n, payload=b"x" * 100) for n in range(5)))
        roll(store, log)
        reader = log.reader()
        assert lsns(reader.read(2, limit=2, limit_bytes=BIG)) == [2, 3]
        assert lsns(reader.read(5, limit=9, limit_bytes=BIG)) == [5, 6, 7]
        assert lsns(reader.read(1, limit=9, limit_bytes=1)) == [1], "one, whatever its size"
        assert lsns(reader.read(1, limit=9, limit_bytes=208)) == [1, 2]
        assert lsns(reader.read(1, limit=9, limit_bytes=207)) == [1]
        assert reader.read(8, limit=9, limit_bytes=BIG) == []

    def test_publishes_from_inside_a_batch(self, store: Store) -> None:
        log = store.open()
        put(store, log, publish(0, 10), event(Kind.DELIVERED, "c", 0, 9), publish(10, 10))
        reader = log.reader()
        assert offsets(reader.publishes(9, limit=9, limit_bytes=BIG)[0]) == [0, 10]
        assert offsets(reader.publishes(10, limit=9, limit_bytes=BIG)[0]) == [10]
        assert reader.publishes(20, limit=9, limit_bytes=BIG) == ([], 20)
        assert reader.publishes(99, limit=9, limit_bytes=BIG) == ([], 99)
        page, upto = reader.publishes(3, limit=1, limit_bytes=BIG)
        assert (offsets(page), upto) == ([0], 10)

    def test_publishes_before_an_offset(self, store: Store) -> None:
        log = store.open()
        put(store, log, publish(0, 10), publish(10, 10), publish(20, 10))
        reader = log.reader()
        page, upto = reader.publishes(0, limit=9, limit_bytes=BIG, before_offset=20)
        assert (offsets(page), upto) == ([0, 10], 20)
        page, upto = reader.publishes(0, limit=9, limit_bytes=BIG, before_offset=21)
        assert (offsets(page), upto) == ([0, 10, 20], 30)
        assert reader.publishes(5, limit=9, limit_bytes=BIG, before_offset=0) == ([], 5)

    def test_publishes_are_bounded_by_bytes(self, store: Store) -> None:
        log = store.open()
        put(store, log, *(publish(n, payload=b"x" * 100) for n in range(5)))
        reader = log.reader()
        page, upto = reader.publishes(0, limit=9, limit_bytes=1)
        assert (offsets(page), upto) == ([0], 1)
        page, upto = reader.publishes(0, limit=9, limit_bytes=2 * 104)
        assert (offsets(page), upto) == ([0, 1], 2)

    @pytest.mark.parametrize("subjects", [3, limits.FILTER_KEYS_MERGED_MAX * 3])
    def test_publishes_under_a_filter(self, store: Store, subjects: int) -> None:
        """Few and many matching keys are searched differently; the answer is the same."""
        log = store.open()
        keys = [f"s.{n % subjects}" for n in range(subjects * 4)]
        half = len(keys) // 2
        put(store, log, *(publish(n, key=key) for n, key in enumerate(keys[:half])))
        roll(store, log)
        put(store, log, *(publish(half + n, key=key) for n, key in enumerate(keys[half:])))
        reader = log.reader()
        for chosen in ({"s.0"}, {"s.1", "s.2"}, {f"s.{n}" for n in range(1, subjects)}, set()):
            wanted = [n for n, key in enumerate(keys) if key in chosen]
            found = all_publishes(reader, 0, keys=chosen.__contains__)
            assert offsets(found) == wanted
            page, upto = reader.publishes(0, limit=BIG, limit_bytes=BIG, keys=chosen.__contains__)
            assert (offsets(page), upto) == (wanted, len(keys))
            assert reader.count_messages(3, chosen.__contains__) == len(
                [n for n in wanted if n >= 3]
            )
        assert reader.count_messages(3) == len(keys) - 3

    def test_a_filter_is_asked_about_new_keys_too(self, store: Store) -> None:
        log = store.open()
        reader = log.reader()
        matches = "a".__eq__
        put(store, log, publish(0, key="b"))
        assert reader.publishes(0, limit=9, limit_bytes=BIG, keys=matches) == ([], 1)
        put(store, log, publish(1, key="a"))
        page, _ = reader.publishes(0, limit=9, limit_bytes=BIG, keys=matches)
        assert offsets(page) == [1]

    def test_count_cuts_the_first_batch(self, store: Store) -> None:
        log = store.open()
        put(store, log, publish(0, 10, "a"), publish(10, 10, "b"))
        reader = log.reader()
        assert reader.count_messages(4) == 16
        assert reader.count_messages(4, "a".__eq__) == 6
        assert reader.count_messages(12, "b".__eq__) == 8
        assert reader.count_messages(20) == 0

    def test_publish_of(self, store: Store) -> None:
        log = store.open()
        put(store, log, publish(0, 3), publish(3))
        roll(store, log)
        put(store, log, publish(4, 2))
        reader = log.reader()
        found = [reader.publish_of(offset) for offset in range(7)]
        assert [record and record.lsn for record in found] == [1, 1, 1, 2, 5, 5, None]

    def test_touching_is_in_lsn_order(self, store: Store) -> None:
        log = store.open()
        put(
            store,
            log,
            publish(0, 10),
            event(Kind.DELIVERED, "c", 0, 4),
            event(Kind.ACKED, "c", 3, 6),
            event(Kind.NACKED, "c", 8, 9),
            event(Kind.SESSION_CLOSED),
            event(Kind.DELIVERED, "c", 4),
        )
        roll(store, log)
        put(store, log, event(Kind.ACKED, "c", 4))
        reader = log.reader()
        assert lsns(reader.touching(4, limit=99)) == [1, 2, 3, 6, 9]
        assert lsns(reader.touching(4, after_lsn=2, limit=2)) == [3, 6]
        assert lsns(reader.touching(9, limit=99)) == [1, 4]
        assert reader.touching(10, limit=99) == []

    def test_with_term(self, store: Store) -> None:
        log = store.open()
        term = look_up_term("id-1")
        put(store, log, publish(0, terms=(term, 5)), publish(1, terms=(5, 5)))
        roll(store, log)
        put(store, log, publish(2, terms=(term,)))
        reader = log.reader()
        assert lsns(reader.with_term(term, limit=9)) == [1, 5]
        assert lsns(reader.with_term(5, limit=9)) == [1, 2]
        assert lsns(reader.with_term(5, limit=1)) == [1]
        assert reader.with_term(6, limit=9) == []

    def test_of_key(self, store: Store) -> None:
        log = store.open()
        put(
            store,
            log,
            publish(0, key="c"),
            event(Kind.DELIVERED, "c", 0),
            event(Kind.DELIVERED, "d", 0),
            event(Kind.ACKED, "c", 0),
            event(Kind.DELIVERED, "c", 0),
        )
        roll(store, log)
        put(store, log, event(Kind.ACKED, "c", 0))
        reader = log.reader()
        assert lsns(reader.of_key("c", limit=99)) == [1, 2, 4, 5, 8]
        assert lsns(reader.of_key("c", after_lsn=2, limit=2)) == [4, 5]
        assert lsns(reader.of_key("c", kinds={Kind.ACKED}, limit=99)) == [4, 8]
        assert lsns(reader.of_key("c", kinds=[Kind.ACKED, Kind.PUBLISHED], limit=99)) == [1, 4, 8]
        assert lsns(reader.of_key("c", kinds=[Kind.ACKED, Kind.ACKED], limit=99)) == [4, 8]
        assert reader.of_key("e", limit=99) == []

    def test_offset_at_time(self, store: Store) -> None:
        log = store.open()
        put(store, log, *(publish(n * 2, 2, at_ns=100 + n * 10) for n in range(5)))
        roll(store, log)
        put(store, log, publish(10, at_ns=200), publish(11, at_ns=200))
        reader = log.reader()
        for at_ns, offset in [
            (0, 0),
            (100, 0),
            (101, 2),
            (110, 2),
            (140, 8),
            (141, 10),
            (200, 10),
            (201, None),
        ]:
            assert reader.offset_at_time(at_ns) == offset, at_ns

    def test_latest(self, store: Store) -> None:
        log = store.open()
        put(store, log, event(Kind.SESSION_OPENED), publish(0))
        first = roll(store, log)
        put(store, log, event(Kind.SESSION_OPENED), publish(1))
        second = roll(store, log)
        reader = log.reader()

        def latest(kind: Kind, upto: int | None = None) -> int | None:
            record = reader.latest(kind, at_or_before_lsn=upto)
            return None if record is None else record.lsn

        assert latest(Kind.SNAPSHOT) == second == 8
        assert latest(Kind.SNAPSHOT, 7) == first == 4
        assert latest(Kind.SNAPSHOT, 4) == 4
        assert latest(Kind.SNAPSHOT, 3) is None
        assert latest(Kind.SESSION_OPENED) == 5
        assert latest(Kind.SESSION_OPENED, 4) == 1
        assert latest(Kind.CHECKPOINT) is None
        with pytest.raises(ValueError, match="kind"):
            reader.latest(Kind.ACKED)

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
