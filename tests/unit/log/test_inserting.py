"""Records to rows: few statements, whatever their number, and keys that stay one id."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from hermes import limits
from hermes.log import schema
from hermes.log.chain import genesis
from hermes.log.database import connect
from hermes.log.facts import Mark
from hermes.log.inserting import KeyIds, plan_insert
from hermes.log.record import Record
from hermes.log.segment import create_segment
from tests.contract.records import publish

STORE_ID = "0" * 8 + "-0000-4000-8000-" + "0" * 12


@pytest.fixture
def db(tmp_path: Path) -> Iterator[apsw.Connection]:
    start = Mark(0, 0, genesis(STORE_ID))
    db = connect(create_segment(tmp_path, STORE_ID, start, []))
    yield db
    db.close()


class Appender:
    """A writer's view of a segment."""

    def __init__(self, db: apsw.Connection) -> None:
        self.db = db
        self.keys = KeyIds()
        self.end = Mark(0, 0, genesis(STORE_ID))

    def append(self, *records: Record) -> int:
        """Returns how many statements it took, BEGIN and COMMIT left out."""
        insertion = plan_insert(self.db, self.keys, records, self.end)
        insertion.execute(self.db)
        self.end = insertion.end
        return len(insertion.statements)

    def publish(self, *keys: str) -> int:
        first = self.end.next_offset
        return self.append(*(publish(first + n, key=key) for n, key in enumerate(keys)))

    def subjects(self) -> list[str]:
        """The key of each record, by way of its id."""
        sql = "SELECT text FROM records JOIN keys ON keys.id = key ORDER BY lsn"
        return [row[0] for row in self.db.execute(sql)]


@pytest.mark.parametrize("count", [1, 2, 3, 63, 64, 65, 511, 512, 513, 1_500])
def test_rows_of_any_number_go_in_by_the_hundreds(db: apsw.Connection, count: int) -> None:
    appender = Appender(db)
    appender.publish("a")
    statements = appender.publish(*["a"] * count)
    assert statements == -(-count // 512)
    assert db.execute("SELECT count(*), max(lsn), max(last) FROM records").fetchone() == (
        count + 1,
        count + 1,
        count,
    )


def test_what_is_left_over_in_a_statement_inserts_nothing(db: apsw.Connection) -> None:
    appender = Appender(db)
    terms = tuple(range(1, 6))
    appender.append(publish(0, 3, terms=terms))
    assert [row[0] for row in db.execute("SELECT term FROM terms ORDER BY term")] == [*terms]
    assert db.execute("SELECT count(*) FROM keys").fetchone() == (1,)


def test_a_batch_may_carry_a_term_twice(db: apsw.Connection) -> None:
    Appender(db).append(publish(0, 2, terms=(5, 5)))
    assert db.execute("SELECT count(*) FROM terms").fetchone() == (1,)


def test_a_segment_that_was_opened_again_keeps_its_ids(db: apsw.Connection) -> None:
    first = Appender(db)
    first.publish("a", "b")
    second = Appender(db)
    second.end = first.end
    second.publish("b", "c", "a")
    second.publish("c")
    assert second.subjects() == ["a", "b", "b", "c", "a", "c"]
    assert db.execute("SELECT id, text FROM keys").fetchall() == [(1, "a"), (2, "b"), (3, "c")]


def test_more_keys_than_are_remembered(
    db: apsw.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "KEYS_CACHED_MAX", 4)
    appender = Appender(db)
    expected: list[str] = []
    for turn in range(12):
        keys = [f"k{n % 7}" for n in range(turn, turn + 3)]
        appender.publish(*keys)
        expected += keys
    assert appender.subjects() == expected
    assert db.execute("SELECT count(*) FROM keys").fetchone() == (7,)


def test_nothing_is_left_of_a_transaction_that_failed(db: apsw.Connection) -> None:
    """Nor of the ids that were given out in it, once they are forgotten."""
    appender = Appender(db)
    appender.publish("a")
    again = plan_insert(db, appender.keys, [publish(1, key="b")], Mark(0, 1, b"\0" * 32))
    with pytest.raises(apsw.ConstraintError):  # lsn 1 is taken
        again.execute(db)
    assert not db.in_transaction
    assert db.execute("SELECT count(*) FROM records").fetchone() == (1,)
    appender.keys.forget()
    appender.publish("b", "a")
    assert appender.subjects() == ["a", "b", "a"]


def test_a_statement_stays_short_enough_to_be_kept_prepared() -> None:
    """apsw keeps none that is longer than 16 KiB."""
    for sql, columns in (
        (schema.insert_records, schema.RECORD_COLUMNS),
        (schema.insert_keys, 2),
        (schema.insert_terms, 2),
        (schema.known_keys, 1),
    ):
        (longest, _), *_ = schema.in_statements(sql, [0] * 50_000 * columns, columns)
        assert len(longest) < 16_384
