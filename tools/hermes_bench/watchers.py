"""Publish throughput while somebody looks at the store, as a part of that without.

Each command of hermes-inspect runs in a process of its own beside the server, again and
again while somebody publishes as fast as the server takes it. Windows with and without
take turns, because the store grows and the machine's mood changes.
"""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from hermes_bench.crew import run_together
from hermes_bench.jobs import Role
from hermes_bench.port import CheckFailedError
from hermes_bench.setting import Figure, Setting, hermes, served

# The first is the figure itself. `{out}` is a new folder each time.
WATCHERS: Final[dict[str, tuple[str, ...]]] = {
    "follow": ("log", "--follow", "--no-tui"),
    "json": ("log", "--follow", "--json"),
    "screen": ("log",),
    "sql": ("sql", "SELECT kind, count(*) FROM events GROUP BY kind"),
    "export": ("export", "{out}"),
    "verify": ("verify",),
}
_SCREEN: Final = {"TERM": "xterm-256color", "COLUMNS": "140", "LINES": "40"}
_STARTED_SECONDS: Final = 1.5
_POLL_SECONDS: Final = 0.02
_STOP_SECONDS: Final = 10.0


def watched(setting: Setting) -> Figure:
    """`NAME` is the part of the throughput that is left beside it, `NAME_wal_mb` how far the
    WAL grew."""
    system = hermes(setting)
    found: dict[str, float] = {}
    with served(setting, system) as (address, _):
        job = setting.job(Role.PRODUCE, address)

        def rate() -> float:
            (outcome,) = run_together(setting.folder, job)
            return outcome.messages / outcome.seconds

        with _wal_peak(system.store) as without_wal_mb:
            before = rate()
        found["without_wal_mb"] = without_wal_mb()
        for name, command in WATCHERS.items():
            with _watching(command, system.store, setting.folder):
                with _wal_peak(system.store) as wal_mb:
                    beside = rate()
                found[f"{name}_wal_mb"] = wal_mb()
            after = rate()
            found[name] = beside / ((before + after) / 2)
            before = after
    return Figure(found[next(iter(WATCHERS))], found)


@contextmanager
def _watching(command: tuple[str, ...], store: Path, folder: Path) -> Iterator[None]:
    """The command beside the block: begun before it, and once more whenever it has ended.

    Raises CheckFailedError when one ended badly.
    """
    over = threading.Event()
    codes: list[int] = []
    master, terminal = pty.openpty()  # what is not asked for a screen does not mind one's input
    draining = threading.Thread(target=_drain, args=(master,))
    draining.start()

    def start(turn: int) -> subprocess.Popen[bytes]:
        parts = [part.format(out=folder / f"{command[0]}-{turn}") for part in command]
        # The screen is shown only where all three are a terminal.
        to = terminal if command == WATCHERS["screen"] else subprocess.DEVNULL
        return subprocess.Popen(
            [sys.executable, "-m", "hermes_inspect", *parts, "--store", str(store)],
            stdin=to,
            stdout=to,
            stderr=to,
            env=os.environ | _SCREEN,
        )

    def keep_on() -> None:
        turn = 0
        process = start(turn)
        while not over.wait(_POLL_SECONDS):
            if (code := process.poll()) is not None:
                codes.append(code)
                turn += 1
                process = start(turn)
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    watching = threading.Thread(target=keep_on)
    watching.start()
    try:
        over.wait(_STARTED_SECONDS)
        yield
    finally:
        over.set()
        watching.join()
        os.close(terminal)
        draining.join()
        os.close(master)
    if any(codes):
        raise CheckFailedError(f"hermes-inspect {command[0]} ended with {max(codes)}")


def _drain(master: int) -> None:
    """Read what a screen shows until nobody has the terminal any more."""
    try:
        while os.read(master, 1 << 16):
            pass
    except OSError:
        pass


@contextmanager
def _wal_peak(store: Path) -> Iterator[Callable[[], float]]:
    """Afterwards, the largest WAL that was there meanwhile, in MB."""
    over = threading.Event()
    largest = [0]

    def look() -> None:
        while not over.wait(_POLL_SECONDS):
            for wal in store.glob("*-wal"):
                try:
                    largest[0] = max(largest[0], wal.stat().st_size)
                except FileNotFoundError:
                    continue

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield lambda: largest[0] / 1e6
    finally:
        over.set()
        looking.join()
