"""`hermes serve` as a child process on one port and one store, to be killed and started again.

Its log lines (JSON on stderr) are read as they come, so that "serving" is awaited and
not polled. Only processes made here are ever signalled, each through its own handle.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

START_SECONDS = 30.0
_PORT_FROM = 10_240
_EPHEMERAL_FROM = 32_768  # Linux' default


class ServerProcess:
    """One server after another, on the same address and store.

    `module` is what `python -m` runs; it takes the arguments of `hermes`.
    """

    def __init__(
        self,
        store: Path,
        environment: Mapping[str, str] | None = None,
        *,
        module: str = "hermes",
    ) -> None:
        self.store = store
        self.address = f"127.0.0.1:{_free_port()}"
        self.lines: list[dict[str, Any]] = []  # of every run
        self.starts = 0
        self._module = module
        self._environment = dict(environment or {})
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._serving = asyncio.Event()
        self._said = asyncio.Condition()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.running:
            await self.kill()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def spawn(self) -> None:
        """Start it and return at once."""
        self._serving.clear()
        self.starts += 1
        environment = os.environ | {
            "HERMES_LISTEN_ADDR": self.address,
            "HERMES_STORE_PATH": str(self.store),
            "HERMES_LOG_FORMAT": "json",
        }
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            self._module,
            "serve",
            env=environment | self._environment,
            stderr=asyncio.subprocess.PIPE,
        )
        self._reader = asyncio.create_task(self._read(self._process))

    async def ready(self) -> None:
        """Until it serves. Fails with what it wrote when it does not."""
        assert self._process is not None
        ended = asyncio.create_task(self._process.wait())
        serving = asyncio.create_task(self._serving.wait())
        try:
            await asyncio.wait(
                (ended, serving), timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if not self._serving.is_set():
                raise AssertionError(f"the server did not start:\n{self.tail()}")
        finally:
            ended.cancel()
            serving.cancel()

    async def start(self) -> None:
        await self.spawn()
        await self.ready()

    async def kill(self) -> None:
        """SIGKILL: no goodbye, nothing flushed."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
        await self.wait()

    def terminate(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    async def wait(self) -> int:
        """Until it has ended; its exit code."""
        assert self._process is not None and self._reader is not None
        code = await self._process.wait()
        await self._reader
        return code

    async def says(self, event: str) -> None:
        """Until it has logged this event."""
        async with self._said:
            await self._said.wait_for(lambda: self.said(event))

    def said(self, event: str) -> list[dict[str, Any]]:
        """Log lines of this event."""
        return [line for line in self.lines if line.get("event") == event]

    def complaints(self) -> list[dict[str, Any]]:
        """Log lines at error, and what was no log line (a traceback)."""
        return [line for line in self.lines if line.get("level") not in ("info", "warning")]

    def told_of_failures(self) -> str:
        """Complaints with their tracebacks, for a person."""
        return "\n".join(_readable(line) for line in self.complaints())

    def tail(self) -> str:
        return "\n".join(map(str, self.lines[-20:]))

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        async for raw in process.stderr:
            try:
                line = json.loads(raw)
            except ValueError:
                line = {"text": raw.decode(errors="replace")}
            self.lines.append(line)
            if line.get("event") == "serving":
                self._serving.set()
            async with self._said:
                self._said.notify_all()


def _readable(line: dict[str, Any]) -> str:
    """One log line; of each exception where it was raised."""
    text = [str({name: value for name, value in line.items() if name != "exception"})]
    for raised in line.get("exception", ()):
        text += [f"  {f['filename']}:{f['lineno']} {f['name']}" for f in raised["frames"]]
        text.append(f"  {raised['exc_type']}: {raised['exc_value']}")
    return "\n".join(text)


def _free_port() -> int:
    """A port that stays free while the server is down.

    Not one of the kernel's choosing: those are given to outgoing connections too, and a
    client that keeps connecting to a dead server on this machine takes it sooner or later.
    """
    while True:
        port = secrets.randbelow(_EPHEMERAL_FROM - _PORT_FROM) + _PORT_FROM
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
