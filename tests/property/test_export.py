"""An export of whatever a broker did says what its log says, message by message.

Windows, steps and row groups are made tiny, so that every border is crossed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes.broker.retention import RetentionPolicy
from hermes.log.record import StoredRecord
from hermes_inspect import custody_spill, export_arrow, export_custody, export_pass
from hermes_inspect.export import Request, export
from hermes_inspect.export_verify import verify_export
from tests.support.collecting import collect
from tests.support.custody_oracle import Key, Oracle, Row
from tests.support.stored import store_records
from tests.support.story import ACTIONS, Story


@pytest.fixture(scope="module", autouse=True)
def _small_bounds() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in (custody_spill, export_custody):
            patch.setattr(module, "WINDOW_OFFSETS", 8)
        patch.setattr(export_pass, "STEP_ROWS", 30)
        patch.setattr(export_custody, "FILE_ROWS", 20)
        patch.setattr(export_custody, "OWNERS_AT_ONCE", 2)
        patch.setattr(export_arrow, "ROW_GROUP_ROWS", 16)
        yield


def rows_of(out: Path, table: str) -> list[dict[str, Any]]:
    files = sorted((out / table).rglob("*.parquet"), key=lambda path: path.name)
    return [row for path in files for row in pq.ParquetFile(path).read().to_pylist()]


def latest_custody(out: Path) -> dict[Key, tuple[Any, ...]]:
    """The newest row of each message and consumer; fails for two as of one lsn."""
    newest: dict[Key, dict[str, Any]] = {}
    for row in rows_of(out, "custody"):
        key = (row["message_offset"], row["consumer"], row["consumer_lsn"])
        assert key not in newest or newest[key]["as_of_lsn"] != row["as_of_lsn"], key
        if key not in newest or newest[key]["as_of_lsn"] < row["as_of_lsn"]:
            newest[key] = row
    return {
        key: (
            row["outcome"],
            row["attempts"],
            microseconds(row["published_at"]),
            microseconds(row["first_delivered_at"]),
            microseconds(row["settled_at"]),
        )
        for key, row in newest.items()
    }


def expected_custody(records: Sequence[StoredRecord]) -> dict[Key, tuple[Any, ...]]:
    def told(row: Row) -> tuple[Any, ...]:
        times = (row.published_at, row.first_delivered_at, row.settled_at)
        return row.outcome, row.attempts, *(None if at is None else at // 1_000 for at in times)

    return {key: told(row) for key, row in Oracle(records).rows.items()}


def microseconds(when: Any) -> int | None:
    return None if when is None else round(when.timestamp() * 1_000_000)


@settings(max_examples=30)
@given(ACTIONS)
def test_a_whole_export_tells_each_message_and_verifies(
    actions: list[tuple[int, int, int]],
) -> None:
    records = Story().play(actions).records()
    with tempfile.TemporaryDirectory() as scratch:
        store = store_records(Path(scratch) / "store", records)
        out = Path(scratch) / "out"
        manifest = export(Request(store, out)).manifest
        assert latest_custody(out) == expected_custody(records)
        lsns = [row["lsn"] for row in rows_of(out, "records")]
        assert lsns == list(range(1, len(records) + 1))
        found = verify_export(out)
        assert found.ok and found.records == len(records), found
        events = rows_of(out, "events")
        assert manifest.rows["events"] == len(events)
        assert {row["lsn"] for row in events} | silent(records) == set(lsns)


def silent(records: Sequence[StoredRecord]) -> set[int]:
    """lsns that may give no row: a live delivery to nobody."""
    return {record.lsn for record in records if record.kind == 5}


@settings(max_examples=40)
@given(ACTIONS, ACTIONS, st.floats(0.05, 0.95), st.booleans())
def test_custody_after_payloads_went_unsettled(
    before: list[tuple[int, int, int]],
    after: list[tuple[int, int, int]],
    cut: float,
    incremental: bool,
) -> None:
    """A garbage collection past the longest retention takes what consumers still need."""
    story = Story()
    world = story.play(before)
    world.engine.roll()
    world.run()
    world.clock.advance(1)
    collect(world, RetentionPolicy(retention_ns=0, max_unacked_retention_ns=0))
    records = story.play(after).records()
    with tempfile.TemporaryDirectory() as scratch:
        store = store_records(Path(scratch) / "store", records)
        out = Path(scratch) / "out"
        if incremental:
            to_lsn = max(1, int(cut * len(records)))
            export(Request(store, out, to_lsn=to_lsn, incremental=True))
        export(Request(store, out, incremental=incremental))
        assert latest_custody(out) == expected_custody(records)
        assert verify_export(out).ok


@settings(max_examples=30)
@given(ACTIONS, st.lists(st.floats(0.05, 0.95), min_size=1, max_size=3))
def test_increments_add_up_to_the_whole(
    actions: list[tuple[int, int, int]], cuts: list[float]
) -> None:
    records = Story().play(actions).records()
    with tempfile.TemporaryDirectory() as scratch:
        store = store_records(Path(scratch) / "store", records)
        out = Path(scratch) / "out"
        for cut in sorted(cuts):
            export(Request(store, out, to_lsn=max(1, int(cut * len(records))), incremental=True))
        manifest = export(Request(store, out, incremental=True)).manifest
        assert (manifest.first_lsn, manifest.last_lsn) == (1, len(records))
        assert latest_custody(out) == expected_custody(records)
        assert verify_export(out).ok
        assert [row["lsn"] for row in rows_of(out, "records")] == [r.lsn for r in records]
        whole = Path(scratch) / "whole"
        export(Request(store, whole))
        assert rows_of(out, "events") == rows_of(whole, "events")
