"""Rows of events: who, what and which message, also where a record only names numbers."""

from __future__ import annotations

from typing import Any

import pytest

from hermes.broker.subject import matcher
from hermes.log.port import LogReader
from hermes.log.record import StoredRecord
from hermes_inspect import directory as directory_module
from hermes_inspect.directory import Directory, Piece
from hermes_inspect.rows import event_runs, kind_name, parse_body
from tests.support.world import World, message, messages


def look_ups(reader: LogReader) -> Directory:
    def record_at(lsn: int) -> StoredRecord | None:
        found = reader.read(lsn, limit=1, limit_bytes=1)
        return found[0] if found and found[0].lsn == lsn else None

    def publishes_from(offset: int) -> list[StoredRecord]:
        return reader.publishes(offset, limit=3, limit_bytes=10**6)[0]

    return Directory(record_at, publishes_from)


def rows_of(world: World, from_lsn: int = 1, **options: bool) -> list[dict[str, Any]]:
    directory = look_ups(world.log.reader())
    return [
        row
        for record in world.records()
        if record.lsn >= from_lsn
        for run in event_runs(record, parse_body(record), directory, **options)
        for row in run.rows()
    ]


def test_every_kind_of_record_gives_at_least_a_row() -> None:
    world = World()
    world.join("c").leave()
    world.run()
    world.engine.roll()
    world.run()
    lsns = {row["lsn"] for row in rows_of(world)}
    assert lsns == {record.lsn for record in world.records()}


def test_kinds_are_lower_case_and_unknown_ones_have_a_number() -> None:
    assert (kind_name(12), kind_name(99)) == ("dead_lettered", "kind_99")


def test_a_live_delivery_has_a_row_per_message_and_receiver() -> None:
    world = World()
    first, second = world.subscribe("a.*")[0], world.subscribe(">")[0]
    batches = [message("a.b", id="x"), messages(2, "a.c")]
    world.engine.publish_live(world.session, batches, lambda _: None)
    world.run()
    rows = [row for row in rows_of(world) if row["kind"] == "delivered_live"]
    published = {row["message_id"] for row in rows_of(world) if row["kind"] == "published_live"}
    assert "x" in published and len(published) == 3
    assert {(row["member"], row["message_id"]) for row in rows} == {
        (member, text) for member in (first, second) for text in published
    }
    assert {row["peer"] for row in rows} == {"peer"}
    assert {row["message_offset"] for row in rows} == {None}


def test_a_durable_message_delivered_live_keeps_its_offset() -> None:
    world = World()
    world.subscribe("a.*")
    world.publish(messages(2))
    rows = [row for row in rows_of(world) if row["kind"] == "delivered_live"]
    assert [row["message_offset"] for row in rows] == [0, 1]


@pytest.mark.parametrize("by_subject", [False, True])
def test_settlements_name_their_messages_wherever_the_walk_begins(by_subject: bool) -> None:
    world = World()
    world.publish(*(message(f"a.{n}", id=f"m{n}") for n in range(5)), messages(40, "b"))
    worker = world.join("c", credit=100)
    worker.ack((0, 44))
    world.run()
    expected = [(n, f"a.{n}", f"m{n}") for n in range(5)] + [(n, "b", None) for n in range(5, 45)]
    start = next(r.lsn for r in world.records() if r.key == "c")
    for from_lsn in (1, start):
        rows = rows_of(world, from_lsn, by_subject=by_subject)
        for kind in ("delivered", "acked"):
            told = [r for r in rows if r["kind"] == kind]
            names = [(r["message_offset"], r["subject"], r["message_id"]) for r in told]
            assert names == expected
            assert {r["peer"] for r in told} == {"peer"}


def test_no_run_mixes_subjects_when_asked() -> None:
    world = World()
    world.publish(message("a.b"), message("a.c"))
    world.join("c")
    directory = look_ups(world.log.reader())
    runs = [
        run
        for record in world.records()
        for run in event_runs(record, parse_body(record), directory, by_subject=True)
    ]
    assert not any(run.subjects for run in runs)
    assert sum(matcher(("a.b",))(run.subject or "") for run in runs) == 2


def test_the_directory_forgets_and_finds_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_module, "MESSAGES_REMEMBERED_MAX", 12)
    monkeypatch.setattr(directory_module, "REMEMBERED_MAX", 1)
    world = World()
    world.publish(*(message(f"a.{n}", id=f"m{n}") for n in range(9)))
    directory = look_ups(world.log.reader())
    for record in world.records():
        list(event_runs(record, parse_body(record), directory))
    for n in (8, 0, 4, 0):
        assert list(directory.messages(n, n)) == [Piece(n, n, f"a.{n}", (f"m{n}",))]
    assert [piece.first for piece in directory.messages(0, 8)] == list(range(9))


def test_messages_that_are_gone_are_unknown_not_an_error() -> None:
    world = World()
    world.publish(messages(2))
    held = world.log.reader().publishes(0, limit=1, limit_bytes=1)[0]
    later = [type(held[0])(9, 0, 1, "b", 5, 6, held[0].body, None, None, b"")]
    directory = Directory(lambda _: None, lambda offset: later if offset <= 6 else [])
    assert list(directory.messages(3, 8)) == [
        Piece(3, 4, None),
        Piece(5, 6, "b"),
        Piece(7, 7, None),
        Piece(8, 8, None),
    ]
    assert directory.person(7) is directory_module.NOBODY
    assert directory.audience(7) == ()


def test_a_message_is_found_as_fast_wherever_it_lies() -> None:
    """Once every batch before it was passed over: a walk over single messages took for ever."""
    directory = Directory(lambda _: None, lambda _: [])
    for n in range(1_000):
        directory.note_publish(Piece(n, n, "a"))
    line = directory._tail
    passed: list[int] = []

    class Watched(list[Piece]):
        def __getitem__(self, i: Any) -> Any:
            passed.append(i)
            return super().__getitem__(i)

        def __iter__(self) -> Any:
            raise AssertionError("walked over")

    line._pieces = Watched(line._pieces)
    assert list(directory.messages(998, 999)) == [Piece(998, 998, "a"), Piece(999, 999, "a")]
    assert set(passed) <= {998, 999, -1}
