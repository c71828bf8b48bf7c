"""One round of one workload with one contender: its sizes, its server, and what is checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from hermes_bench.contenders import Contender
from hermes_bench.hermes_system import HermesSystem
from hermes_bench.jobs import Job, Outcome, Role
from hermes_bench.port import CheckFailedError, System
from hermes_bench.workloads import Workload


class Setting(msgspec.Struct):
    """One round of one workload with one contender."""

    workload: Workload
    contender: Contender
    folder: Path
    full: bool
    peak: float = 0.0  # of the workload named by `peak_of`, same round

    def messages(self) -> int:
        """The contender's share, in whole batches."""
        workload = self.workload
        wanted = workload.full_messages if self.full else workload.messages
        batches = round(wanted * self.contender.share) // workload.batch
        return max(1, batches) * workload.batch

    def seconds(self) -> float:
        return self.workload.full_seconds if self.full else self.workload.seconds

    def job(self, role: Role, address: str) -> Job:
        workload = self.workload
        return Job(
            driver=self.contender.driver,
            role=role,
            address=address,
            messages=self.messages(),
            size_bytes=workload.size_bytes,
            batch=workload.batch,
            concurrency=workload.concurrency,
            subjects=workload.subjects,
            by_message=workload.by_message,
        )


class Figure(msgspec.Struct):
    """What a scenario found."""

    value: float
    extras: dict[str, float] = {}


class Checked(msgspec.Struct):
    """What is to be checked while the server runs, and after it stopped."""

    job: Job | None = None
    published: Outcome | None = None
    consumed: Outcome | None = None


@contextmanager
def served(setting: Setting, system: System) -> Iterator[tuple[str, Checked]]:
    """A running server; what the caller puts into `Checked` is checked at the end."""
    checked = Checked()
    try:
        address = system.start(setting.folder)
        yield address, checked
        if checked.job is not None:
            _complete(checked, checked.job)
            system.check(checked.published, checked.consumed, checked.job)
    finally:
        system.stop()
    if checked.job is not None:
        system.check_stopped(checked.published, checked.consumed, checked.job)


def _complete(checked: Checked, job: Job) -> None:
    """Everybody saw everything."""
    consumed, published = checked.consumed, checked.published
    if published is not None and consumed is not None and published.messages != consumed.messages:
        raise CheckFailedError(f"published {published.messages}, consumed {consumed.messages}")
    if consumed is not None and consumed.bytes != consumed.messages * job.size_bytes:
        raise CheckFailedError(f"{consumed.bytes} bytes in {consumed.messages} messages")


def hermes(setting: Setting, **settings: int) -> HermesSystem:
    """The contender's server, whose store can be looked at, with some settings."""
    assert isinstance(setting.contender.system(), HermesSystem)
    return HermesSystem(**{name: str(value) for name, value in settings.items()})
