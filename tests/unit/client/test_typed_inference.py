"""What a type checker infers for typed events: the files in typing/ under mypy --strict.

They hold `assert_type` for what must be inferred, and `type: ignore` for what must be
refused: strict mode complains about an ignore that is not needed.
"""

from __future__ import annotations

from pathlib import Path

import mypy.api
import pytest

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[2]


@pytest.mark.parametrize("name", ["async_client.py", "sync_client.py"])
def test_types_are_inferred(name: str) -> None:
    config = REPOSITORY / "pyproject.toml"
    cache = REPOSITORY / ".mypy_cache"
    out, err, code = mypy.api.run(
        [
            "--strict",
            f"--config-file={config}",
            f"--cache-dir={cache}",
            str(HERE / "typing" / name),
        ]
    )
    assert code == 0, out + err
