"""A run: who is here, the floor, then rounds with all contenders in turn.

Contenders take turns within a round, and rounds follow each other, so that what the
machine does meanwhile meets all of them. Data lies below the working directory, where
the disk is the one that the store will be on.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Final, TypeVar

import msgspec

import hermes
from hermes_bench import floor
from hermes_bench.contenders import Contender, contenders
from hermes_bench.jobs import Sample
from hermes_bench.port import UnavailableError
from hermes_bench.report import Report, judge, summarize
from hermes_bench.scenarios import sample
from hermes_bench.setting import Setting
from hermes_bench.workloads import Workload

Tell = Callable[[str], None]
ResultT = TypeVar("ResultT")

_LIBRARIES: Final = ("grpcio", "protobuf", "apsw", "nats-py", "redis", "hiredis", "confluent-kafka")


class Plan(msgspec.Struct, frozen=True):
    """What to run. `only` names contenders (empty: all), `kafka` is an address."""

    workloads: tuple[Workload, ...]
    rounds: int
    full: bool
    folder: Path
    only: tuple[str, ...] = ()
    kafka: str = ""


def run(plan: Plan, tell: Tell) -> Report:
    """Measure everything. `tell` gets a line of progress before each sample."""
    every = contenders(plan.kafka)
    wanted = {name for workload in plan.workloads for name in workload.contenders}
    chosen = [every[n] for n in every if n in wanted and (not plan.only or n in plan.only)]
    present, versions, missing = _roll_call(chosen, plan.folder)
    where = machine()  # the load before we add ours
    floors: list[dict[str, float]] = []
    samples: list[Sample] = []
    for number in range(1, plan.rounds + 1):
        tell(f"round {number} of {plan.rounds}: the floor of the machine")
        floors.append(_in_folder(plan.folder, floor.measure))
        samples += _round(plan, number, present, missing, tell)
    warnings = []
    if code_digest() != where["code"]:
        warnings.append("the code of Hermes changed during the run: rounds measured different code")
    rates = {name: median([each[name] for each in floors]) for name in floors[0]}
    lines = summarize(plan.workloads, samples)
    return Report(
        machine=where,
        versions=versions,
        missing=missing,
        floor=rates,
        lines=lines,
        verdicts=judge(plan.workloads, lines, rates, full=plan.full),
        samples=samples,
        full=plan.full,
        warnings=warnings,
    )


def _roll_call(
    chosen: Sequence[Contender], folder: Path
) -> tuple[dict[str, Contender], dict[str, str], dict[str, str]]:
    """Who is here, in which version; who is not, and why. Each server is started once."""
    present: dict[str, Contender] = {}
    versions: dict[str, str] = {}
    missing: dict[str, str] = {}
    for contender in chosen:
        try:
            versions[contender.name] = _try(contender, folder)
        except UnavailableError as error:
            missing[contender.title] = str(error)
        else:
            present[contender.name] = contender
    return present, versions, missing


def _try(contender: Contender, folder: Path) -> str:
    system = contender.system()
    title = f"{contender.title} ({system.version()})"

    def start(below: Path) -> None:
        try:
            system.start(below)
        finally:
            system.stop()

    _in_folder(folder, start)
    return title


def _round(
    plan: Plan, number: int, present: dict[str, Contender], missing: dict[str, str], tell: Tell
) -> list[Sample]:
    samples: list[Sample] = []
    figures: dict[tuple[str, str], float] = {}
    for workload in plan.workloads:
        for name in workload.contenders:
            if name not in present:
                continue
            contender = present[name]
            tell(f"round {number} of {plan.rounds}: {workload.title}: {contender.title}")
            peak = figures.get((workload.peak_of, name), 0.0)
            setting = Setting(workload, contender, plan.folder, plan.full, peak)
            try:
                found = _in_folder(plan.folder, partial(_sample_below, setting, number))
            except UnavailableError as error:
                missing[f"{contender.title}, {workload.title}"] = str(error)
                continue
            if found.error:
                tell(f"FAILED: {found.error}")
            figures[workload.name, name] = found.value
            samples.append(found)
    return samples


def _sample_below(setting: Setting, number: int, folder: Path) -> Sample:
    return sample(msgspec.structs.replace(setting, folder=folder), number)


def _in_folder(folder: Path, work: Callable[[Path], ResultT]) -> ResultT:
    """Call `work` with a fresh folder, which is removed afterwards."""
    below = Path(tempfile.mkdtemp(prefix=".hermes-bench-", dir=folder))
    try:
        return work(below)
    finally:
        shutil.rmtree(below, ignore_errors=True)


def code_digest() -> str:
    """Twelve digits that stand for the sources of Hermes that servers and workers load.

    Every server and worker is a new process, so an edit meets the next round.
    """
    digest = hashlib.sha256()
    root = Path(hermes.__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def machine() -> dict[str, str]:
    """Where this runs, and with which versions."""
    libraries = []
    for name in _LIBRARIES:
        try:
            libraries.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return {
        "cpu": f"{os.cpu_count()} × {_cpu()}",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "code": code_digest(),
        "python": platform.python_version(),
        "load before": " ".join(f"{part:.1f}" for part in os.getloadavg()),
        "libraries": ", ".join(libraries),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
