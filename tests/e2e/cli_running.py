"""Running the `hermes` command in tests: in this process, or as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hermes.cli.main import run

WAIT_SECONDS = 20.0


class Ran:
    """The outcome of one command line."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def objects(self) -> list[dict[str, Any]]:
        """stdout as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


class Cli:
    """Calls commands against one broker in this process, which is quick."""

    def __init__(
        self,
        address: str,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        self.address = address
        self._capsys = capsys
        self._monkeypatch = monkeypatch
        self._stdin = tmp_path / "stdin"
        monkeypatch.setenv("HERMES_SERVER", address)

    def __call__(self, *arguments: str, stdin: bytes = b"") -> Ran:
        self._stdin.write_bytes(stdin)
        with self._stdin.open() as file:
            self._monkeypatch.setattr(sys, "stdin", file)
            code = run(arguments)
        captured = self._capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    def good(self, *arguments: str, stdin: bytes = b"") -> Ran:
        """The same, and it must succeed."""
        ran = self(*arguments, stdin=stdin)
        assert ran.code == 0, ran.err
        return ran


class Command:
    """A command that runs as a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        assert process.stderr is not None
        self._stderr = process.stderr

    def await_note(self, start: str) -> str:
        """The first line of stderr that begins so; blocks until it comes."""
        for line in self._stderr:
            text = line.decode()
            if text.startswith(start):
                return text
        pytest.fail(f"it ended without saying {start!r}")

    def line(self) -> bytes:
        """The next line of stdout; blocks until it comes."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def end(self) -> tuple[int, str]:
        """Wait for it: the exit code and what is left on stderr."""
        code = self.process.wait(WAIT_SECONDS)
        return code, self._stderr.read().decode()


@contextmanager
def started(
    address: str, *arguments: str, stdin: Any = subprocess.DEVNULL, stdout: Any = subprocess.PIPE
) -> Iterator[Command]:
    """`hermes …` against the broker at `address`, killed at the end if need be."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hermes", *arguments],
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=os.environ | {"HERMES_SERVER": address},
    )
    try:
        yield Command(process)
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
