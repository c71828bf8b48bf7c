"""Medians, ratios and verdicts from samples."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from hermes_bench.jobs import Sample
from hermes_bench.report import Answer, Report, judge, ratio, summarize
from hermes_bench.table import print_report
from hermes_bench.workloads import Against, Kind, Target, Workload


def workload(*targets: Target, unit: str = "messages/s") -> Workload:
    return Workload(
        "w", "the work", Kind.END_TO_END, ("hermes-raw", "nats"), unit=unit, targets=targets
    )


def samples(hermes: list[float], nats: list[float]) -> list[Sample]:
    return [
        Sample("w", name, number, value, {"p99_ms": value / 10})
        for name, values in (("hermes-raw", hermes), ("nats", nats))
        for number, value in enumerate(values, 1)
    ]


def verdict(target: Target, found: list[Sample], floor: dict[str, float] | None = None) -> Answer:
    (only,) = judge([workload(target)], summarize([workload(target)], found), floor or {})
    return only.answer


def test_a_line_is_the_median_of_its_rounds() -> None:
    hermes, nats = summarize([workload()], samples([10, 30, 20], [4, 4]))
    assert (hermes.median, hermes.spread, hermes.rounds) == (20, 0.5, 3)
    assert hermes.extras == {"p99_ms": 2.0}
    assert (nats.median, nats.rounds) == (4, 2)


def test_one_failed_round_fails_the_line() -> None:
    found = samples([10, 30, 20], [4])
    found[1].error = "one message is missing"
    hermes, _ = summarize([workload()], found)
    assert (hermes.error, hermes.median) == ("one message is missing", 0.0)
    assert verdict(Target("hermes-raw", Against.FIGURE, 1), found) is Answer.UNKNOWN


def test_who_did_not_run_has_no_line() -> None:
    assert [line.contender for line in summarize([workload()], samples([1], []))] == ["hermes-raw"]


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        (Target("hermes-raw", Against.PEER, 5, ("nats",)), Answer.MET),
        (Target("hermes-raw", Against.PEER, 5.1, ("nats",)), Answer.MISSED),
        (Target("hermes-raw", Against.PEER, 5, ("redis",)), Answer.UNKNOWN),
        (Target("hermes-raw", Against.FIGURE, 20), Answer.MET),
        (Target("hermes-raw", Against.FIGURE, 19, at_most=True), Answer.MISSED),
        (Target("hermes-raw", Against.FIGURE, 2, at_most=True, extra="p99_ms"), Answer.MET),
        (Target("hermes-raw", Against.FIGURE, 2, extra="p50_ms"), Answer.UNKNOWN),
        (Target("hermes-raw", Against.WORKLOAD, 1, ("w",)), Answer.MET),
        (Target("hermes-raw", Against.WORKLOAD, 1, ("other",)), Answer.UNKNOWN),
        (Target("hermes-raw", Against.FLOOR, 0.5, ("disk",)), Answer.MET),
        (Target("hermes-raw", Against.FLOOR, 0.6, ("disk",)), Answer.MISSED),
        (Target("hermes-raw", Against.FLOOR, 0.6, ("tape",)), Answer.UNKNOWN),
    ],
)
def test_verdicts(target: Target, answer: Answer) -> None:
    assert verdict(target, samples([20], [4]), {"disk": 40.0}) is answer


def test_a_target_is_held_against_the_better_peer() -> None:
    found = [*samples([20], [4]), Sample("w", "nats-pull", 1, 8.0)]
    target = Target("hermes-raw", Against.PEER, 2.5, ("nats", "nats-pull"))
    names = ("hermes-raw", "nats", "nats-pull")
    chosen = msgspec.structs.replace(workload(target), contenders=names)
    (only,) = judge([chosen], summarize([chosen], found), {})
    assert (only.found, only.answer) == (2.5, Answer.MET)


def test_a_short_run_leaves_open_what_needs_the_full_size() -> None:
    chosen = workload(Target("hermes-raw", Against.FIGURE, 10, full_only=True))
    lines = summarize([chosen], samples([20], [4]))
    (short,) = judge([chosen], lines, {}, full=False)
    (full,) = judge([chosen], lines, {}, full=True)
    assert (short.answer, short.found, full.answer) == (Answer.UNKNOWN, 20, Answer.MET)


def test_ratio_is_for_peers_and_rates() -> None:
    hermes, nats = lines = summarize([workload()], samples([20], [4]))
    assert ratio(hermes, lines) is None
    assert ratio(nats, lines) == 5
    slow = summarize([workload(unit="ms p50")], samples([20], [4]))
    assert ratio(slow[1], slow) is None
    assert ratio(nats, [nats]) is None


def test_the_table_names_what_is_missing_and_what_failed() -> None:
    found = samples([20], [4])
    found[1].error = "unacked 3"
    lines = summarize([workload()], found)
    target = workload(Target("hermes-raw", Against.PEER, 20, ("nats",)))
    report = Report(
        machine={"cpu": "2 × abacus"},
        versions={"nats": "NATS JetStream, push (v2)"},
        missing={"Kafka": "no address given"},
        floor={"fdatasync": 3900.0},
        lines=lines,
        verdicts=judge([target], lines, {}),
        samples=found,
        warnings=["the code changed"],
    )
    output = io.StringIO()
    print_report(report, Console(file=output, width=160))
    text = output.getvalue()
    for part in (
        "2 × abacus",
        "nats: NATS JetStream, push (v2)",
        "3,900",
        "unacked 3",
        "no address given",
        "≥ 20 × nats",
        "nothing to compare with: nats",
        "WARNING: the code changed",
    ):
        assert part in text
