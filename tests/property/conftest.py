"""How long properties are searched for: briefly, or HYPOTHESIS_PROFILE=torture."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile(
    "torture", settings.get_profile("hermes"), max_examples=2_000, stateful_step_count=200
)
if os.environ.get("HYPOTHESIS_PROFILE"):
    settings.load_profile(os.environ["HYPOTHESIS_PROFILE"])
