"""Exports of logs that do not begin at the beginning, or that lost something in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from hermes.log.log import open_log
from hermes.log.record import StoredRecord
from hermes_inspect.export import Request, export
from hermes_inspect.export_options import ExportError
from hermes_inspect.export_verify import verify_export
from tests.contract.records import Outcomes, dropped
from tests.support.custody_oracle import Oracle
from tests.support.exports import outcomes_of, rows_of
from tests.support.stored import store_records
from tests.support.world import World, messages


@pytest.fixture
def records() -> list[StoredRecord]:
    """Three segments; a consumer that is not done with the first when it is sealed."""
    world = World()
    worker = world.join("c", credit=100)
    world.publish(messages(3))
    worker.ack((0, 0))
    world.run()
    world.engine.roll()
    world.run()
    worker.ack((1, 2))
    world.publish(messages(3))
    world.engine.roll()
    world.run()
    world.publish(messages(3))
    worker.ack((3, 3))
    world.run()
    return world.records()


def drop_first(store: Path) -> int:
    """Drop the oldest segment, as GC does; returns its last lsn."""
    outcomes = Outcomes()
    log = open_log(store, outcomes)
    try:
        last = log.segments()[0].last_lsn
        outcomes.wait_for(log.append([dropped(1, last)], log.next_lsn))
        log.drop(1)
    finally:
        log.close()
    return last


def test_a_log_whose_beginning_was_dropped(tmp_path: Path, records: list[StoredRecord]) -> None:
    store = store_records(tmp_path / "store", records)
    last = drop_first(store)
    out = tmp_path / "out"
    manifest = export(Request(store, out)).manifest
    assert manifest.first_lsn == last + 1
    assert verify_export(out).ok
    expected = {(o, name): row.outcome for (o, name, _), row in Oracle(records).rows.items()}
    del expected[0, "c"]  # settled in what was dropped: nothing tells of it any more
    assert outcomes_of(out) == expected
    unknown = [row for row in rows_of(out, "custody") if row["message_offset"] in (1, 2)]
    assert {row["published_at"] for row in unknown} == {None}
    assert {row["attempts"] for row in unknown} == {1}
    acked = [row for row in rows_of(out, "events") if row["kind"] == "acked"]
    assert [row["subject"] for row in acked] == [None, None, "a.b"]
    assert {row["peer"] for row in acked} == {"peer"}


def test_increments_across_a_drop(tmp_path: Path, records: list[StoredRecord]) -> None:
    store = store_records(tmp_path / "store", records)
    out, late = tmp_path / "out", tmp_path / "late"
    export(Request(store, late, to_lsn=2))
    first_segment = next(r.lsn for r in records if r.kind == 30) - 1
    export(Request(store, out, to_lsn=first_segment))
    drop_first(store)
    manifest = export(Request(store, out, incremental=True)).manifest
    assert manifest.first_lsn == 1
    assert verify_export(out).ok
    expected = {(o, name): row.outcome for (o, name, _), row in Oracle(records).rows.items()}
    assert outcomes_of(out) == expected
    with pytest.raises(ExportError, match="were dropped before they were exported"):
        export(Request(store, late, incremental=True))


def test_a_log_that_lost_its_end_says_so(tmp_path: Path, records: list[StoredRecord]) -> None:
    store = store_records(tmp_path / "store", records)
    newest = max(store.glob("*.segment"))
    lost_from = int(newest.stem)
    newest.chmod(0o600)
    newest.unlink()
    out = tmp_path / "out"
    manifest = export(Request(store, out)).manifest
    assert manifest.damage == (
        f"records {lost_from}..{len(records)} were committed and are missing",
    )
    outcomes = Outcomes()
    log = open_log(store, outcomes, accept_loss=True)
    log.close()
    manifest = export(Request(store, out, incremental=True)).manifest
    assert manifest.last_lsn == len(records) + 1
    found = verify_export(out)
    assert found.ok and found.records == lost_from, found
