"""The README's table of settings is what the code says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_readme_has_every_setting_as_it_is(repository: Path) -> None:
    checked = subprocess.run(
        [sys.executable, repository / "tools" / "settings_table.py", "--check"], check=False
    )
    assert checked.returncode == 0, "run python tools/settings_table.py"
