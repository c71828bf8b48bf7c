"""A store's folder as another user sees it, who may read and write nothing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

NOBODY: Final = 65534


@contextmanager
def public_folder() -> Iterator[Path]:
    """A folder that every user may reach; tmp_path is the test user's alone."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextmanager
def reading_only(folder: Path) -> Iterator[None]:
    """Every file may be read, nothing written; by a user who owns nothing of it.

    Who does not run the tests as root stays the owner, without write permission.
    """
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
        folder.chmod(0o755)
