"""A client process: one job, told on stdin, its outcome on stdout.

    runner: job line    worker: "ready"    runner: "go"    worker: outcome line

Clients run in processes of their own so that a producer and a consumer compete for
cores, not for one interpreter, and so that grpc never meets a fork.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import traceback
from itertools import count
from typing import Final

import msgspec

from hermes.clock import SystemClock
from hermes_bench import payloads as payload_ring
from hermes_bench.contenders import DRIVERS
from hermes_bench.jobs import Job, Outcome, Role, encode
from hermes_bench.port import Driver

# The first planned instant of a paced run lies so far ahead.
_LEAD_NS: Final = 50_000_000
# An overdue sender gives way to the loop after so many.
_OVERDUE_PER_TURN: Final = 16

_CLOCK: Final = SystemClock()


class Lines:
    """What the runner says after the job. When it goes away, so does this process."""

    def __init__(self) -> None:
        self._said = threading.Semaphore(0)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for _ in sys.stdin:
            self._said.release()
        os._exit(1)

    async def next(self) -> None:
        """Wait for a line."""
        await asyncio.to_thread(self._said.acquire)


def main() -> None:
    """Read a job, run it, print its outcome. Failures are outcomes too."""
    job = msgspec.json.decode(sys.stdin.readline(), type=Job)
    lines = Lines()
    outcome = Outcome()
    try:
        asyncio.run(_work(job, outcome, lines))
    except Exception as error:  # noqa: BLE001 -- told to the runner, whatever it is
        traceback.print_exc()
        outcome.error = f"{type(error).__name__}: {error}"
    _say(encode(outcome))


async def _work(job: Job, outcome: Outcome, lines: Lines) -> None:
    driver = DRIVERS[job.driver]()
    payloads = payload_ring.ring(job.size_bytes)
    # A consumer is sent messages from its opening on: with a backlog, the clock runs.
    opening_ns = _CLOCK.monotonic_ns()
    await driver.open(job)
    try:
        _say(b"ready")
        await lines.next()
        match job.role:
            case Role.PRODUCE:
                await driver.publish_all(job, payloads, outcome)
            case Role.CONSUME:
                outcome.started_ns = opening_ns
                await driver.consume_all(job, outcome)
            case Role.AWAIT:
                await awaiting(driver, job, payloads, outcome)
            case Role.PACED:
                await paced(driver, job, payloads, outcome)
            case Role.PUBLISH_LIVE:
                await driver.publish_live(job, payloads, outcome)
            case Role.SUBSCRIBE:
                await driver.receive_live(job, outcome)
            case Role.HOLD:
                await lines.next()
    finally:
        await driver.close()


async def awaiting(driver: Driver, job: Job, payloads: list[bytes], outcome: Outcome) -> None:
    """`job.concurrency` tasks, each awaiting its publish before the next."""
    numbers = count()
    latencies = outcome.latencies_ns

    async def work() -> None:
        while (number := next(numbers)) < job.messages:
            started_ns = _CLOCK.monotonic_ns()
            await driver.publish_one("bench.a", payloads[number % len(payloads)])
            latencies.append(_CLOCK.monotonic_ns() - started_ns)

    outcome.started_ns = _CLOCK.monotonic_ns()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(job.concurrency):
            tasks.create_task(work())
    outcome.ended_ns = _CLOCK.monotonic_ns()
    outcome.messages = len(latencies)


async def paced(driver: Driver, job: Job, payloads: list[bytes], outcome: Outcome) -> None:
    """Publish at `job.rate`, whatever the answers do; latencies count from the plan.

    So a stall shows in every message that was due during it, not only in the one that
    met it. `latencies_ns` are in the order of the plan.
    """
    rounds = job.messages // job.batch
    interval_ns = job.batch / job.rate * 1e9
    latencies = [0] * rounds

    async def publish(place: int, planned_ns: int) -> None:
        if job.batch == 1:
            await driver.publish_one("bench.a", payloads[place % len(payloads)])
        else:
            first = place * job.batch % len(payloads)
            await driver.publish_batch("bench.a", payloads[first : first + job.batch])
        latencies[place] = _CLOCK.monotonic_ns() - planned_ns

    outcome.started_ns = _CLOCK.monotonic_ns() + _LEAD_NS
    async with asyncio.TaskGroup() as tasks:
        for place in range(rounds):
            planned_ns = outcome.started_ns + round(place * interval_ns)
            ahead_ns = planned_ns - _CLOCK.monotonic_ns()
            if ahead_ns > 0:
                await asyncio.sleep(ahead_ns / 1e9)
            elif place % _OVERDUE_PER_TURN == 0:
                await asyncio.sleep(0)
            tasks.create_task(publish(place, planned_ns))
    outcome.ended_ns = _CLOCK.monotonic_ns()
    outcome.messages = rounds * job.batch
    outcome.latencies_ns = latencies


def _say(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
