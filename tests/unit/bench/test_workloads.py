"""The table of workloads is consistent, and jobs survive their trip as JSON."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from hermes_bench import floor
from hermes_bench.contenders import DRIVERS, contenders
from hermes_bench.jobs import Job, Role, encode, extend_ranges, total, union
from hermes_bench.payloads import RING
from hermes_bench.scenarios import SCENARIOS
from hermes_bench.setting import Setting
from hermes_bench.workloads import WORKLOADS, Against, Kind, Workload, select

EVERY = contenders()
NAMES = [workload.name for workload in WORKLOADS]
FLOOR = {floor.FSYNC, floor.ROWS_1, floor.ROWS_1000, floor.BLOB, floor.FRAMES, floor.FRAMES_256K}


def test_names_are_unique() -> None:
    assert len(set(NAMES)) == len(NAMES)


def test_every_contender_and_driver_is_known() -> None:
    used = {name for workload in WORKLOADS for name in workload.contenders}
    assert used == set(EVERY)
    assert {contender.driver for contender in EVERY.values()} <= set(DRIVERS)


def test_every_kind_has_a_scenario() -> None:
    assert set(SCENARIOS) == set(Kind)


def test_a_batch_is_a_slice_of_the_ring() -> None:
    assert [w.name for w in WORKLOADS if RING % w.batch] == []


def test_targets_refer_to_what_is_measured() -> None:
    for workload in WORKLOADS:
        for target in workload.targets:
            assert target.contender in workload.contenders
            match target.against:
                case Against.PEER:
                    assert set(target.names) <= set(workload.contenders)
                case Against.WORKLOAD:
                    assert set(target.names) <= set(NAMES)
                case Against.FLOOR:
                    assert set(target.names) <= FLOOR
                case Against.FIGURE:
                    assert target.names == ()


def test_a_peak_is_measured_before_it_is_used() -> None:
    for place, workload in enumerate(WORKLOADS):
        assert bool(workload.peak_of) == bool(workload.rate_part)
        if workload.peak_of:
            assert workload.peak_of in NAMES[:place]


def test_select_keeps_the_order_of_the_table() -> None:
    assert [w.name for w in select(["await-1", "end-to-end"], full=False)] == [
        "end-to-end",
        "await-1",
    ]
    assert {w.name for w in select(None, full=True)} == set(NAMES)
    assert {w.name for w in select(None, full=False)} == {
        w.name for w in WORKLOADS if not w.full_only
    }
    with pytest.raises(ValueError, match="no workload nonsense"):
        select(["nonsense"], full=False)


@pytest.mark.parametrize("workload", WORKLOADS, ids=NAMES)
@pytest.mark.parametrize("full", [False, True])
def test_a_share_is_whole_batches(workload: Workload, full: bool) -> None:
    for name in workload.contenders:
        messages = Setting(workload, EVERY[name], Path(), full).messages()
        assert messages >= workload.batch
        assert messages % workload.batch == 0


def test_a_job_survives_its_trip() -> None:
    job = Job("nats", Role.PACED, "127.0.0.1:1", 10, 100, 5, rate=0.5, by_message=True)
    assert msgspec.json.decode(encode(job), type=Job) == job


def test_ranges_join_where_they_touch() -> None:
    ranges: list[tuple[int, int]] = []
    extend_ranges(ranges, 0, 4)
    extend_ranges(ranges, 5, 5)
    extend_ranges(ranges, 7, 9)
    assert ranges == [(0, 5), (7, 9)]


def test_union_hides_no_gap_and_total_counts_twice() -> None:
    assert union([(5, 9), (0, 3), (2, 4)]) == [(0, 9)]
    assert union([(0, 3), (5, 9)]) == [(0, 3), (5, 9)]
    assert total([(0, 3), (2, 4)]) == 7
