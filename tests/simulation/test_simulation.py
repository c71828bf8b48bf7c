"""Seeded runs of the engine in a world of faults.

`SIM_SEEDS` and `SIM_STEPS` make more and longer runs, `SIM_FIRST` says where the seeds
begin, and `SEED=n` repeats one run. `make simulate` runs them at length.
"""

from __future__ import annotations

import os
from unittest.mock import patch

import pytest

from tests.support import simulate, simulation_plan
from tests.support.simulation import World
from tests.support.simulation_consumer import Violation

FIRST = int(os.environ.get("SIM_FIRST", "0"))
SEEDS = int(os.environ.get("SIM_SEEDS", "40"))
STEPS = int(os.environ.get("SIM_STEPS", "600"))
ONE = os.environ.get("SEED")


@pytest.mark.parametrize("seed", [int(ONE)] if ONE else range(FIRST, FIRST + SEEDS))
def test_nothing_is_lost_and_everything_comes_to_rest(seed: int) -> None:
    world = World(seed)
    try:
        world.run(STEPS)
    except Exception as error:
        error.add_note(f"repeat: {simulate.repeat_command(seed, STEPS)}")
        error.add_note(f"in step {world.steps}, epoch {world.epochs}")
        raise


def test_a_hundred_restarts_kill_no_healthy_message() -> None:
    # Every life ends after some steps, in order or by a crash; nobody fails at a message.
    often = {"restart": 10.0, "crash": 10.0}
    with (
        patch.dict(simulation_plan.WEIGHTS, often),
        patch.object(simulation_plan, "ALWAYS", {*simulation_plan.ALWAYS, *often}),
    ):
        lives = [_gentle_lives(seed) for seed in range(40)]
    assert max(lives) >= 100


def test_the_long_run_names_what_failed_and_how_to_repeat_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    few = ["--jobs", "1", "--first", "3", "--seeds", "2", "--steps", "20"]
    assert simulate.main(few) == 0
    assert "2 runs, 40 steps" in capsys.readouterr().out
    with patch.object(World, "check_rest", side_effect=Violation("something is lost")):
        assert simulate.main(few) == 1
    told = capsys.readouterr().out
    assert "seed 4, step 20: Violation: something is lost" in told
    assert simulate.repeat_command(4, 20) in told
    assert "2 failures" in told


def _gentle_lives(seed: int) -> int:
    """How often the broker was started in a run in which nobody fails; 0 in another one."""
    world = World(seed)
    if not world.plan.gentle:
        return 0
    world.run(1_000)  # at its rest nothing may be dead
    return world.epochs


def test_a_seed_gives_the_same_run_again() -> None:
    assert _chain(7) == _chain(7)
    assert _chain(7) != _chain(8)


def _chain(seed: int) -> bytes:
    """The hash over every record of a run."""
    world = World(seed)
    world.run(150)
    last = world.epoch.log.durable_lsn
    return world.epoch.log.reader().read(last, limit=1, limit_bytes=1)[0].chain
