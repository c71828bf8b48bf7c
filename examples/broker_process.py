"""`hermes serve` as a child process that can be killed and started again."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import hermes

START_SECONDS = 30.0


class BrokerProcess:
    """A broker on a free port of this machine; the same port and store after a restart."""

    def __init__(self, store: Path, log: Path) -> None:
        self.addr = f"127.0.0.1:{_free_port()}"
        self._store = store
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                self.kill()

    def start(self) -> None:
        """Start it and wait until it serves. Raises RuntimeError when it does not."""
        environment = os.environ | {
            "HERMES_LISTEN_ADDR": self.addr,
            "HERMES_STORE_PATH": str(self._store),
        }
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hermes", "serve"], env=environment, stderr=log
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._serves():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the broker did not start:\n{self.log_tail()}")

    def kill(self) -> None:
        """SIGKILL: no goodbye, nothing flushed."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def log_tail(self) -> str:
        """The last lines it wrote, for a person who wonders."""
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        return "\n".join(text.splitlines()[-20:])

    def _serves(self) -> bool:
        """A port that listens is not enough: it does so before the store is open."""
        try:
            with hermes.Client(self.addr, connect_timeout=0.5):
                return True
        except hermes.ConnectionLostError:
            return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
