"""Bugs that are put into the engine or the log on purpose: seeded runs must end in a violation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hermes.broker.consumer import IllegalTransitionError
from tests.support.simulation import World
from tests.support.simulation_consumer import Violation

STEPS_MAX = 15_000  # of all seeds together: a bug must be caught before

Bug = Callable[[], Any]  # makes a context manager, within which the bug is there


def is_caught(bug: Bug, *, seed_steps: int) -> bool:
    """Whether a run of so many steps per seed meets it."""
    steps = seed = 0
    while steps < STEPS_MAX:
        with bug():
            world = World(seed)
            try:
                world.run(seed_steps)
            except (Violation, IllegalTransitionError):
                return True
        steps += world.steps
        seed += 1
    return False
