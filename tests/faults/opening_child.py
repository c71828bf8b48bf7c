"""An opening of a store that ends without any clean-up at a given place: the child's side."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw

from hermes.log.opening import open_store

OPENED = 0
FAILED = 1
KILLED = 77

AT_NS = 5


def open_until(folder: Path, number: int, accept_loss: bool) -> None:
    """Open, and end this process: with KILLED at the number-th place, else OPENED or FAILED."""
    try:
        cut_at(number)
        open_store(folder, at_ns=AT_NS, accept_loss=accept_loss)
        os._exit(OPENED)
    except BaseException:  # noqa: BLE001 - the parent is told by the code
        os._exit(FAILED)


def cut_at(number: int) -> None:
    """From now on: end this process at the number-th place around a call that changes the disk."""
    left = [number]

    def count() -> None:
        left[0] -= 1
        if left[0] == 0:
            os._exit(KILLED)

    def around(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            count()
            result = function(*args, **options)
            count()
            return result

        return call

    for name in ("unlink", "replace", "chmod", "mkdir"):
        setattr(Path, name, around(getattr(Path, name)))
    os.fsync = around(os.fsync)
    os.write = around(os.write)
    os.pwrite = around(os.pwrite)

    class Connection(apsw.Connection):
        """What SQLite does between two of these it makes atomic itself."""

        def wal_checkpoint(self, *args: Any, **options: Any) -> tuple[int, int]:
            return around(super().wal_checkpoint)(*args, **options)  # type: ignore[no-any-return]

        def __exit__(self, *args: object) -> Any:
            return around(super().__exit__)(*args)

    apsw.Connection = Connection  # type: ignore[misc]
