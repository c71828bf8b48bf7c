"""[P] From samples to a report: medians, spreads, ratios, and which targets are met.

A failed sample makes the contender's line an error: a median over what happened to
work would hide it. A target is met, missed, or unknown when one of its sides is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from statistics import median

import msgspec

from hermes_bench.jobs import Sample
from hermes_bench.stats import spread
from hermes_bench.workloads import PEERS, Against, Target, Workload


class Answer(StrEnum):
    """Whether a target is met."""

    MET = "met"
    MISSED = "missed"
    UNKNOWN = "unknown"


class Line(msgspec.Struct):
    """One contender on one workload, over all rounds. `spread` is a part of the median."""

    workload: str
    contender: str
    unit: str
    rounds: int
    median: float = 0.0
    spread: float = 0.0
    extras: dict[str, float] = {}
    error: str = ""


class Verdict(msgspec.Struct):
    """One target. `found` is a figure or, against something, a ratio."""

    workload: str
    contender: str
    wanted: str
    answer: Answer
    found: float | None = None
    why: str = ""


class Report(msgspec.Struct):
    """Everything a run found; what --out writes as JSON.

    `machine` describes where and with what, `missing` names contenders that did not run
    with the reason, `floor` is the bare machine's rates, `warnings` what casts doubt on all.
    """

    machine: dict[str, str]
    versions: dict[str, str]
    missing: dict[str, str]
    floor: dict[str, float]
    lines: list[Line]
    verdicts: list[Verdict]
    samples: list[Sample]
    full: bool = False
    warnings: list[str] = []


def summarize(workloads: Iterable[Workload], samples: Sequence[Sample]) -> list[Line]:
    """A line per workload and contender that was sampled, in table order."""
    lines = []
    for workload in workloads:
        for name in workload.contenders:
            own = [
                each
                for each in samples
                if each.workload == workload.name and each.contender == name
            ]
            if own:
                lines.append(_line(workload, name, own))
    return lines


def _line(workload: Workload, name: str, samples: list[Sample]) -> Line:
    line = Line(workload.name, name, workload.unit, len(samples))
    errors = [each.error for each in samples if each.error]
    if errors:
        line.error = errors[0]
        return line
    values = [each.value for each in samples]
    line.median, line.spread = median(values), spread(values)
    line.extras = {key: median([each.extras[key] for each in samples]) for key in samples[0].extras}
    return line


def judge(
    workloads: Iterable[Workload],
    lines: Sequence[Line],
    floor: dict[str, float],
    *,
    full: bool = True,
) -> list[Verdict]:
    """Every target of the workloads. A short run leaves open what only a full one can tell."""
    found = {(line.workload, line.contender): line for line in lines if not line.error}
    return [
        _judge(workload, target, found, floor, full=full)
        for workload in workloads
        for target in workload.targets
    ]


def _judge(
    workload: Workload,
    target: Target,
    found: dict[tuple[str, str], Line],
    floor: dict[str, float],
    *,
    full: bool,
) -> Verdict:
    verdict = Verdict(workload.name, target.contender, wanted(target), Answer.UNKNOWN)
    line = found.get((workload.name, target.contender))
    if line is None:
        verdict.why = f"{target.contender} has no figure"
        return verdict
    value = line.extras.get(target.extra) if target.extra else line.median
    reference: float | None = None
    match target.against:
        case Against.FIGURE:
            reference = 1.0
        case Against.PEER:
            peers = [
                found[workload.name, name]
                for name in target.names
                if (workload.name, name) in found
            ]
            reference = max((peer.median for peer in peers), default=None)
        case Against.WORKLOAD:
            other = found.get((target.names[0], target.contender))
            reference = other.median if other else None
        case Against.FLOOR:
            reference = floor.get(target.names[0])
    if not reference or value is None:
        verdict.why = f"nothing to compare with: {', '.join(target.names)}"
        return verdict
    verdict.found = value / reference
    if target.full_only and not full:
        verdict.why = "the full run has the size it speaks of"
        return verdict
    is_met = verdict.found <= target.bound if target.at_most else verdict.found >= target.bound
    verdict.answer = Answer.MET if is_met else Answer.MISSED
    return verdict


def wanted(target: Target) -> str:
    """A target in words."""
    sign = "≤" if target.at_most else "≥"
    what = f"{target.extra} " if target.extra else ""
    if target.against is Against.FIGURE:
        return f"{what}{sign} {target.bound:,.10g}"
    return f"{what}{sign} {target.bound:g} × {' or '.join(target.names)}"


def ratio(line: Line, lines: Sequence[Line]) -> float | None:
    """How many times a peer's rate the best Hermes line of the workload has.

    None for Hermes itself, for latencies (less is better there), and without both.
    """
    if line.contender.removesuffix("-pull") not in PEERS or line.error or not line.median:
        return None
    if not line.unit.endswith("/s"):
        return None
    own = [
        each.median
        for each in lines
        if each.workload == line.workload and each.contender.startswith("hermes") and not each.error
    ]
    return max(own) / line.median if own else None
