"""What every test gets: a clean environment, and Hypothesis settings that suit CI.

Fixtures of one part live in the conftest of its own folder.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# A shared machine makes single examples slow for no reason of the code's; the test's
# own timeout is the deadline that counts.
settings.register_profile("hermes", deadline=None, print_blob=True)
settings.load_profile("hermes")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's HERMES_* variables must not reach a server under test."""
    for name in list(os.environ):
        if name.startswith("HERMES_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the source tree."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def bin_dir() -> Path:
    """Where the console scripts of the running environment are."""
    return Path(sys.executable).parent
