"""Server processes on loopback: start, wait, measure, stop."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from hermes.clock import SystemClock
from hermes_bench.port import UnavailableError

START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.005

_CLOCK: Final = SystemClock()


def free_port() -> int:
    """A loopback port that nobody listens on at this instant."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listens(address: str) -> bool:
    """Whether HOST:PORT takes a connection."""
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


class ServerProcess:
    """A child process that serves on an address; its output goes to a file."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        serves: Callable[[], bool],
        *,
        environment: dict[str, str] | None = None,
    ) -> None:
        """Start it and wait until `serves()`. Raises `UnavailableError` when it does not."""
        self._log = log
        self.started_ns = _CLOCK.monotonic_ns()
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=os.environ | (environment or {}),
            )
        try:
            self._await(serves)
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise
        self.serving_ns = _CLOCK.monotonic_ns()

    def _await(self, serves: Callable[[], bool]) -> None:
        deadline_ns = self.started_ns + int(START_SECONDS * 1e9)
        while not serves():
            if self.process.poll() is not None or _CLOCK.monotonic_ns() > deadline_ns:
                raise UnavailableError(f"the server did not start: {self.log_tail()}")
            try:
                self.process.wait(_POLL_SECONDS)
            except subprocess.TimeoutExpired:
                pass

    def log_tail(self) -> str:
        """The last lines it wrote."""
        return " / ".join(self._log.read_text(errors="replace").splitlines()[-5:])

    def rss_bytes(self, *, peak: bool = False) -> int:
        """Resident memory now, or its highest so far; 0 where the system does not tell."""
        field = "VmHWM" if peak else "VmRSS"
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            return 0
        found = re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)
        return int(found[1]) * 1024 if found else 0

    def stop(self) -> int:
        """SIGTERM, then wait; SIGKILL when it takes too long. Returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def first_line(command: Sequence[str]) -> str:
    """What a program says of its version. Raises `UnavailableError` when it is not there."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError) as error:
        raise UnavailableError(f"{command[0]} is not on this machine") from error
    return done.stdout.strip().splitlines()[0]
