"""The runner's side of worker processes."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from hermes_bench.jobs import Job, Outcome, encode
from hermes_bench.port import CheckFailedError

# Beyond this a worker hangs.
JOB_SECONDS: Final = 600.0


class Worker:
    """One client process. Raises `CheckFailedError` when it fails or says nothing for too long."""

    def __init__(self, job: Job, folder: Path) -> None:
        self.job = job
        self._log = folder / f"{job.role}-{job.driver}.log"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hermes_bench.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self._say(encode(job))

    def ready(self) -> None:
        """Wait until it is connected and prepared."""
        line = self._hear()
        if line != b"ready":
            self._refuse(line)

    def go(self) -> None:
        self._say(b"go")

    def outcome(self) -> Outcome:
        """Wait for its end."""
        line = self._hear()
        outcome = msgspec.json.decode(line, type=Outcome)
        if outcome.error:
            self._refuse(line)
        return outcome

    def _refuse(self, line: bytes) -> None:
        try:
            what = msgspec.json.decode(line, type=Outcome).error
        except msgspec.MsgspecError:
            what = line.decode(errors="replace")
        raise CheckFailedError(f"{self.job.driver} could not {self.job.role}: {what}")

    def _say(self, line: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise CheckFailedError(f"the worker ended: {self._tail()}") from None

    def _hear(self) -> bytes:
        assert self._process.stdout is not None
        timer = threading.Timer(JOB_SECONDS, self._process.kill)
        timer.start()
        try:
            line = self._process.stdout.readline().strip()
        finally:
            timer.cancel()
        if not line:
            raise CheckFailedError(f"the worker ended: {self._tail()}")
        return line

    def _tail(self) -> str:
        return " / ".join(self._log.read_text(errors="replace").splitlines()[-3:])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it: at once after an error, otherwise when it has closed its client."""
        process = self._process
        if error is not None:
            process.kill()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


@contextmanager
def crew(folder: Path, *jobs: Job) -> Iterator[list[Worker]]:
    """Workers for these jobs, all ready; ended at the end."""
    workers: list[Worker] = []
    error: BaseException | None = None
    try:
        for job in jobs:
            workers.append(Worker(job, folder))  # noqa: PERF401 -- however far it gets, all end
        for worker in workers:
            worker.ready()
        yield workers
    except BaseException as raised:
        error = raised
        raise
    finally:
        for worker in workers:
            worker.__exit__(type(error) if error else None, error, None)


def run_together(folder: Path, *jobs: Job) -> list[Outcome]:
    """Start all jobs at once, in their order, and wait for all outcomes."""
    with ThreadPoolExecutor(len(jobs)) as threads, crew(folder, *jobs) as workers:
        for worker in workers:
            worker.go()
        outcomes = [threads.submit(worker.outcome) for worker in workers]
        # The first failure ends the others, who may wait for what will never come.
        for outcome in wait(outcomes, return_when=FIRST_EXCEPTION).done:
            outcome.result()
        return [outcome.result() for outcome in outcomes]
