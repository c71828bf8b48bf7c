"""Worker processes under a test: started, listened to, killed."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Self

_ROOT = Path(__file__).resolve().parents[3]


class WorkerProcess:
    """One run of `tests.support.faults.worker`."""

    def __init__(self, address: str, consumer: str, pattern: str, credit: int = 100) -> None:
        self._arguments = (address, consumer, pattern, str(credit))
        self._process: asyncio.subprocess.Process | None = None
        self.lines: list[str] = []

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.support.faults.worker",
            *self._arguments,
            cwd=_ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    async def line(self) -> str:
        """What it says next; empty when it has ended."""
        assert self._process is not None and self._process.stdout is not None
        line = (await self._process.stdout.readline()).decode().strip()
        if line:
            self.lines.append(line)
        return line

    async def until(self, start: str) -> str:
        """The next line that begins so."""
        while not (line := await self.line()).startswith(start):
            if not line:
                raise AssertionError(f"the worker ended without {start!r}; it said {self.lines}")
        return line

    async def ended(self) -> int:
        """Everything it still says, then its exit code."""
        while await self.line():
            pass
        assert self._process is not None
        return await self._process.wait()

    def stop(self) -> None:
        """SIGSTOP: it is there, and does nothing. Killed at the end as any other."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    async def kill(self) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
