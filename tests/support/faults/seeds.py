"""Seeds of fault tests: printed, and repeated from the environment.

`SEED=n` repeats a run, `FAULT_ROUNDS=n` says how many rounds a long one has.
"""

from __future__ import annotations

import os
import random
import sys

ROUNDS = int(os.environ.get("FAULT_ROUNDS", "10"))


def seed_of_run() -> int:
    """SEED, or a new one."""
    return int(os.environ.get("SEED") or random.randrange(2**32))


def tell(text: str) -> None:
    """For whoever reads the output of a failed test, or runs pytest with -s."""
    sys.stdout.write(text + "\n")


def tell_seed(seed: int, test: str) -> None:
    tell(f"repeat: SEED={seed} FAULT_ROUNDS=1 pytest {test}")
