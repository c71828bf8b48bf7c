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
    written = b""
    while select.select([master], [], [], WAIT_SECS)[0]:
        try:
            data = os.read(master, 65_536)
        except OSError:  # the other side is closed
            break
        if not data:
            break
        written += data
    os.close(master)
    return process.wait(WAIT_SECS), written.decode().replace("\r\n", "\n")


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
