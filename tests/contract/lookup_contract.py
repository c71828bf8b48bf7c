"""Every look-up, on every log that keeps records."""

from __future__ import annotations

import pytest

from hermes import limits
from hermes.log.record import Kind, look_up_term
from tests.contract.records import BIG, event, publish
from tests.contract.store import Store, all_publishes, lsns, offsets, put, roll


class LookupContract:
    """The clauses of LogReader. Each test opens its own store."""

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

    def test_many_counts_at_once_are_those_one_by_one(self, store: Store) -> None:
        log = store.open()
        put(store, log, publish(0, 10, "a"), publish(10, 10, "b"))
        roll(store, log)
        put(store, log, publish(20, 4, "b"))
        reader = log.reader()
        a, b = "a".__eq__, "b".__eq__
        asked = [(n, keys) for keys in (None, a, b) for n in (25, 24, 22, 12, 12, 10, 4, 0)]
        each = (
            [0, 0, 2, 12, 12, 14, 20, 24],
            [0, 0, 0, 0, 0, 0, 6, 10],
            [0, 0, 2, 12, 12, 14, 14, 14],
        )
        assert reader.count_each(asked) == [count for counts in each for count in counts]
        assert reader.count_each([(12, b), (4, a), (12, b)]) == [12, 6, 12]
        assert reader.count_each([]) == []

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
