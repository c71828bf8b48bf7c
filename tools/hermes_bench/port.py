"""The two protocols of the bench: a server to be started, and a client library to be driven.

A `System` lives in the bench's process and owns one server. A `Driver` lives in a worker
process and is one client of that server. Drivers do as little per message as their
library allows, and use the fastest way of it that is known; what that is, each says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from hermes_bench.jobs import Job, Outcome


class UnavailableError(Exception):
    """A contender that cannot run here; the text says what is missing."""


class CheckFailedError(Exception):
    """What was counted is not what the server holds: the figure does not count."""


class System(Protocol):
    """One server. Its data is below the folder it is started with."""

    def version(self) -> str:
        """Name and version of the server. Raises `UnavailableError`."""
        ...

    def start(self, folder: Path) -> str:
        """Start it, wait until it serves, and return its address. Raises `UnavailableError`."""
        ...

    def check(self, published: Outcome | None, consumed: Outcome | None, job: Job) -> None:
        """Ask the running server whether it has what was counted. Raises `CheckFailedError`."""
        ...

    def rss_bytes(self) -> int:
        """Resident memory of the server now; 0 when it is not ours."""
        ...

    def stop(self) -> None:
        """Stop it in order and wait."""
        ...

    def check_stopped(self, published: Outcome | None, consumed: Outcome | None, job: Job) -> None:
        """Read what it left on disk, where that can be read. Raises `CheckFailedError`."""
        ...


class Driver(Protocol):
    """One client. Every method that publishes or consumes fills an `Outcome`."""

    async def open(self, job: Job) -> None:
        """Connect, and prepare everything that must be there before the start."""
        ...

    async def publish_all(self, job: Job, payloads: list[bytes], outcome: Outcome) -> None:
        """Publish `job.messages` durably, pipelined; return when all are acknowledged."""
        ...

    async def consume_all(self, job: Job, outcome: Outcome) -> None:
        """Receive and ack `job.messages`; return when the server has the acks."""
        ...

    async def publish_one(self, subject: str, payload: bytes) -> None:
        """Publish one message durably and wait for the acknowledgement."""
        ...

    async def publish_batch(self, subject: str, payloads: list[bytes]) -> None:
        """Publish some messages durably and wait for the acknowledgement of all."""
        ...

    async def publish_live(self, job: Job, payloads: list[bytes], outcome: Outcome) -> None:
        """Publish `job.messages` fire-and-forget; return when the server has them."""
        ...

    async def receive_live(self, job: Job, outcome: Outcome) -> None:
        """With `job.concurrency` subscribers registered by `open`, receive everything.

        Returns when each has `job.messages`, or when nothing came for a while.
        """
        ...

    async def close(self) -> None:
        """Disconnect."""
        ...


class BaseDriver:
    """Refuses what a driver does not have, so that drivers hold only what they do."""

    async def open(self, job: Job) -> None:
        raise NotImplementedError

    async def publish_all(self, job: Job, payloads: list[bytes], outcome: Outcome) -> None:
        raise NotImplementedError

    async def consume_all(self, job: Job, outcome: Outcome) -> None:
        raise NotImplementedError

    async def publish_one(self, subject: str, payload: bytes) -> None:
        raise NotImplementedError

    async def publish_batch(self, subject: str, payloads: list[bytes]) -> None:
        raise NotImplementedError

    async def publish_live(self, job: Job, payloads: list[bytes], outcome: Outcome) -> None:
        raise NotImplementedError

    async def receive_live(self, job: Job, outcome: Outcome) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError
