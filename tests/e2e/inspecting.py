"""Running `hermes-inspect` in tests: as a process of its own, on a pipe or on a terminal."""

from __future__ import annotations

import json
import os
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl
from pathlib import Path
from typing import Any

PROGRAM = [sys.executable, "-c", "from hermes_inspect.cli import main; main()"]
WAIT_SECS = 20.0
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Ran:
    """The outcome of one command line."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def objects(self) -> list[dict[str, Any]]:
        """stdout as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


def inspect(*arguments: str | Path, **environment: str) -> Ran:
    """Run it on a pipe."""
    done = subprocess.run(
        [*PROGRAM, *map(str, arguments)],
        capture_output=True,
        env=os.environ | environment,
        timeout=WAIT_SECS * 2,
        check=False,
    )
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())


def inspect_well(*arguments: str | Path, **environment: str) -> Ran:
    """The same, and it must succeed without a word on stderr."""
    ran = inspect(*arguments, **environment)
    assert (ran.code, ran.err) == (0, ""), ran.err
    return ran


def on_terminal(
    *arguments: str | Path, columns: int = 80, rows: int = 24, **environment: str
) -> tuple[int, str]:
    """Run it on a terminal; exit code and everything that was written to it."""
    with terminal(*arguments, columns=columns, rows=rows, **environment) as opened:
        return opened.wait(), opened.written.replace("\r\n", "\n")


class Terminal:
    """A program on a terminal of its own: what it wrote, and keys for it."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self._process, self._master = process, master
        self._bytes = b""

    @property
    def written(self) -> str:
        """Everything so far."""
        return self._bytes.decode(errors="replace")

    def type(self, keys: str) -> int:
        """Type, and answer where what is written from now on begins."""
        os.write(self._master, keys.encode())
        return len(self._bytes)

    def wait_for(self, *texts: str, since: int = 0) -> None:
        """Read until each text was written, escapes aside; fails with what was."""
        deadline = time.monotonic() + WAIT_SECS
        while True:
            shown = without_escapes(self._bytes[since:].decode(errors="replace"))
            if all(text in shown for text in texts):
                return
            assert self._read() and time.monotonic() < deadline, shown

    def wait(self) -> int:
        """Read to the end; the exit code."""
        while self._read():
            pass
        return self._process.wait(WAIT_SECS)

    def _read(self) -> bool:
        if not select.select([self._master], [], [], WAIT_SECS)[0]:
            return False
        try:
            data = os.read(self._master, 65_536)
        except OSError:  # the other side is closed
            return False
        self._bytes += data
        return bool(data)


@contextmanager
def terminal(
    *arguments: str | Path, columns: int = 80, rows: int = 24, **environment: str
) -> Iterator[Terminal]:
    """Run it on a terminal; killed at the end if it still runs."""
    master, slave = os.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    # The runner's own COLUMNS would win over the terminal's.
    inherited = {k: v for k, v in os.environ.items() if k not in {"COLUMNS", "LINES"}}
    process = subprocess.Popen(
        [*PROGRAM, *map(str, arguments)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=inherited | {"TERM": "xterm-256color"} | environment,
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        process.kill()
        process.wait()
        os.close(master)


def without_escapes(text: str) -> str:
    return _ESCAPES.sub("", text)


@contextmanager
def following(*arguments: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """`hermes-inspect …` that goes on; killed at the end."""
    process = subprocess.Popen(
        [*PROGRAM, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()
