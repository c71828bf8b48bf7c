"""Many seeds of the simulation, on every core: `python -m tests.support.simulate`.

What counts as a step is one action of the plan (publish, a member's answer, a commit, a
crash, time that passes, ...). What it takes to come to rest after the last step, and what
is checked, is not counted, but its time is.

A seed that fails is named with its violation and the one command that repeats it; the
others run on, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.support.simulation import World

PROGRESS_SECONDS = 30.0
SEEDS_PER_PROCESS = 200  # then a fresh one: memory stays small however long it runs


class Ran(NamedTuple):
    """One seed's run; `failure` says what went wrong, and is empty when nothing did."""

    seed: int
    steps: int
    epochs: int
    records: int
    failure: str


def run_seed(seed: int, steps: int) -> Ran:
    """One run from its beginning to its rest."""
    world = World(seed)
    failure = ""
    try:
        world.run(steps)
    except Exception as error:  # noqa: BLE001 - whatever it is, this seed found it
        last = traceback.extract_tb(error.__traceback__)[-1]
        failure = f"{type(error).__name__}: {error} ({Path(last.filename).name})"
    return Ran(seed, world.steps, world.epochs, world.epoch.log.durable_lsn, failure)


def repeat_command(seed: int, steps: int) -> str:
    """What repeats one run."""
    test = "tests/simulation/test_simulation.py -k comes_to_rest"
    return f"SEED={seed} SIM_STEPS={steps} .venv/bin/python -m pytest -n 0 {test}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, tell how it went, and return the exit code."""
    parser = argparse.ArgumentParser(prog="simulate", description="Run many seeds.")
    parser.add_argument("--seeds", type=int, default=1_000, help="how many")
    parser.add_argument("--steps", type=int, default=2_000, help="of each")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    options = parser.parse_args(arguments)
    began = told = time.monotonic()
    runs: list[Ran] = []
    seeds = range(options.first, options.first + options.seeds)
    for ran in _run(seeds, options.steps, options.jobs):
        runs.append(ran)
        if ran.failure:
            print(f"seed {ran.seed}, step {ran.steps}: {ran.failure}")
            print(f"  repeat: {repeat_command(ran.seed, options.steps)}", flush=True)
        if time.monotonic() - told > PROGRESS_SECONDS:
            told = time.monotonic()
            print(_summary(runs, told - began), flush=True)
    print(f"seeds {seeds.start}..{seeds.stop - 1} of {options.steps:,} steps each")
    print(_summary(runs, time.monotonic() - began))
    return int(any(ran.failure for ran in runs))


def _run(seeds: Sequence[int], steps: int, jobs: int) -> Iterator[Ran]:
    """Each seed's run, as they end."""
    run = partial(run_seed, steps=steps)
    if jobs == 1:
        yield from map(run, seeds)
        return
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(jobs, maxtasksperchild=SEEDS_PER_PROCESS) as pool:
        yield from pool.imap_unordered(run, seeds)


def _summary(runs: Sequence[Ran], seconds: float) -> str:
    steps = sum(ran.steps for ran in runs)
    return (
        f"{len(runs):,} runs, {steps:,} steps in {seconds:.1f} s = "
        f"{steps / seconds * 60:,.0f} steps/min; "
        f"{sum(ran.epochs for ran in runs):,} lives, "
        f"{sum(ran.records for ran in runs):,} records, "
        f"{sum(bool(ran.failure) for ran in runs)} failures"
    )


if __name__ == "__main__":
    sys.exit(main())
