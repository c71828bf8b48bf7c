"""What each kind of workload does in one round with one contender, and what it counts.

Every scenario starts a fresh server, runs its workers, has the system check what was
counted, stops the server, and has the store checked. A figure whose check fails does
not count: the sample carries the reason instead.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from hermes.clock import SystemClock
from hermes_bench.contenders import Contender
from hermes_bench.crew import crew, run_together
from hermes_bench.hermes_system import HermesSystem
from hermes_bench.jobs import Job, Outcome, Role, Sample
from hermes_bench.port import CheckFailedError, System
from hermes_bench.stats import latencies_ms, percentile
from hermes_bench.workloads import Kind, Workload

_MB: Final = 1_000_000
_GB: Final = 1_000 * _MB
# The GC scenario: when the server collects after its start, and how long is published.
_GC_DUE_SECONDS: Final = 8
_GC_RUN_SECONDS: Final = 32
_GC_RATE: Final = 500.0
_GC_SEGMENT_BYTES: Final = _GB
# What belongs to the drop: from so long before a segment's file has lost its name to so long
# after, when its space is given back too.
_GC_BEFORE_NS: Final = 500_000_000
_GC_AFTER_NS: Final = 19_000_000_000
_GC_POLL_SECONDS: Final = 0.01

_CLOCK: Final = SystemClock()


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


def end_to_end(setting: Setting) -> Figure:
    with served(setting, setting.contender.system()) as (address, checked):
        checked.job = setting.job(Role.CONSUME, address)
        producing = setting.job(Role.PRODUCE, address)
        consumed, published = run_together(setting.folder, checked.job, producing)
        checked.consumed, checked.published = consumed, published
    seconds = (consumed.ended_ns - published.started_ns) / 1e9
    rate = consumed.messages / seconds
    return Figure(
        rate,
        {
            "publish_per_s": published.messages / published.seconds,
            "mb_per_s": rate * setting.workload.size_bytes / _MB,
        },
    )


def awaited(setting: Setting) -> Figure:
    with served(setting, setting.contender.system()) as (address, checked):
        checked.job = setting.job(Role.AWAIT, address)
        (checked.published,) = run_together(setting.folder, checked.job)
        outcome = checked.published
    return Figure(outcome.messages / outcome.seconds, latencies_ms(outcome.latencies_ns))


def fanout(setting: Setting) -> Figure:
    with served(setting, setting.contender.system()) as (address, _):
        receiving = setting.job(Role.SUBSCRIBE, address)
        sending = setting.job(Role.PUBLISH_LIVE, address)
        received, sent = run_together(setting.folder, receiving, sending)
    due = sent.messages * setting.workload.concurrency
    if sent.messages != sending.messages:
        raise CheckFailedError(f"published {sent.messages} of {sending.messages}")
    seconds = (received.ended_ns - sent.started_ns) / 1e9
    return Figure(received.messages / seconds, {"lost": due - received.messages})


def publish(setting: Setting) -> Figure:
    with served(setting, setting.contender.system()) as (address, checked):
        checked.job = setting.job(Role.PRODUCE, address)
        (checked.published,) = run_together(setting.folder, checked.job)
        outcome = checked.published
    return Figure(outcome.messages / outcome.seconds)


def catch_up(setting: Setting) -> Figure:
    """Fill, restart, consume all: what the server still had in memory is no backlog.

    It is filled in batches whatever the consumer is. Files stay in the system's cache.
    """
    system = _hermes(setting)
    with served(setting, system) as (address, filled):
        filled.job = msgspec.structs.replace(
            setting.job(Role.PRODUCE, address),
            driver="hermes-raw",
            batch=max(100, setting.workload.batch),
        )
        (filled.published,) = run_together(setting.folder, filled.job)
        rss_bytes = system.rss_peak_bytes()
    with served(setting, system) as (address, checked):
        checked.job = setting.job(Role.CONSUME, address)
        (outcome,) = run_together(setting.folder, checked.job)
        checked.consumed, checked.published = outcome, filled.published
        rss_bytes = max(rss_bytes, system.rss_peak_bytes())
    return Figure(outcome.messages / outcome.seconds, {"rss_mb": rss_bytes / _MB})


def paced(setting: Setting) -> Figure:
    """At a part of the peak a consumer runs beside it, as it did when the peak was measured."""
    workload = setting.workload
    rate = workload.rate or workload.rate_part * setting.peak
    if not rate:
        raise CheckFailedError(f"{workload.peak_of} has not been measured")
    messages = max(1, round(rate * setting.seconds() / workload.batch)) * workload.batch
    with served(setting, setting.contender.system()) as (address, checked):
        sending = msgspec.structs.replace(
            setting.job(Role.PACED, address), rate=rate, messages=messages
        )
        checked.job = msgspec.structs.replace(sending, role=Role.CONSUME)
        if workload.rate_part:
            checked.consumed, sent = run_together(setting.folder, checked.job, sending)
        else:
            (sent,) = run_together(setting.folder, sending)
        checked.published = sent
    found = latencies_ms(sent.latencies_ns)
    return Figure(found["p50_ms"], found | {"messages_per_s": rate})


def idle(setting: Setting) -> Figure:
    """Without, with, and without company again: the store grows meanwhile."""
    with served(setting, setting.contender.system()) as (address, _):
        job = setting.job(Role.PRODUCE, address)

        def rate() -> float:
            (outcome,) = run_together(setting.folder, job)
            return outcome.messages / outcome.seconds

        before = rate()
        holding = msgspec.structs.replace(job, role=Role.HOLD, driver="hermes-idle")
        with crew(setting.folder, holding) as (company,):
            beside = rate()
            company.go()
            company.go()
            company.outcome()
        after = rate()
    without = (before + after) / 2
    return Figure(beside / without, {"publish_per_s": beside, "without_per_s": without})


def restart(setting: Setting) -> Figure:
    system = _hermes(setting)
    with served(setting, system) as (address, checked):
        empty_ms = system.start_ms()
        checked.job = setting.job(Role.PRODUCE, address)
        (checked.published,) = run_together(setting.folder, checked.job)
    store_bytes = system.store_bytes()
    with served(setting, system):
        full_ms = system.start_ms()
    return Figure(full_ms, {"empty_ms": empty_ms, "store_gb": store_bytes / _GB})


def export(setting: Setting) -> Figure:
    """Of a store at rest whose every message was delivered and acked; payloads stay out."""
    system = _hermes(setting)
    with served(setting, system) as (address, checked):
        checked.job = setting.job(Role.CONSUME, address)
        producing = setting.job(Role.PRODUCE, address)
        checked.consumed, checked.published = run_together(setting.folder, checked.job, producing)
    out = setting.folder / "export"
    command = [sys.executable, "-m", "hermes_inspect", "export", str(out)]
    started_ns = _CLOCK.monotonic_ns()
    done = subprocess.run(
        [*command, "--store", str(system.store)], capture_output=True, text=True, check=False
    )
    seconds = (_CLOCK.monotonic_ns() - started_ns) / 1e9
    if done.returncode:
        raise CheckFailedError(f"the export ended with {done.returncode}: {done.stderr[-200:]}")
    rows = msgspec.json.decode((out / "manifest.json").read_bytes())["rows"]
    if rows["custody"] != checked.published.messages:
        raise CheckFailedError(f"{rows['custody']} rows of custody")
    return Figure(rows["events"] / seconds, {"seconds": seconds, "events": rows["events"]})


def gc(setting: Setting) -> Figure:
    """Fill more than a segment with everything kept, then start with nothing kept."""
    filler = _hermes(setting, SEGMENT_BYTES=_GC_SEGMENT_BYTES)
    with served(setting, filler) as (address, _):
        run_together(setting.folder, setting.job(Role.PRODUCE, address))
    kept = {"RETENTION_SECS": 1, "AUDIT_RETENTION_SECS": 1, "GC_INTERVAL": _GC_DUE_SECONDS}
    system = _hermes(setting, SEGMENT_BYTES=_GC_SEGMENT_BYTES, **kept)
    segments = filler.segment_files()
    with served(setting, system) as (address, _):
        sending = msgspec.structs.replace(
            setting.job(Role.PACED, address),
            rate=_GC_RATE,
            batch=1,
            messages=round(_GC_RATE * _GC_RUN_SECONDS),
        )
        with ThreadPoolExecutor(1) as threads:
            watching = threads.submit(_await_drop, system, segments)
            (sent,) = run_together(setting.folder, sending)
            dropped_ns = watching.result()
    step_ns = 1e9 / _GC_RATE
    around: list[int] = []
    before: list[int] = []
    for place, latency_ns in enumerate(sent.latencies_ns):
        since_ns = sent.started_ns + place * step_ns - dropped_ns
        if -_GC_BEFORE_NS <= since_ns <= _GC_AFTER_NS:
            around.append(latency_ns)
        elif since_ns < 0 and place * step_ns > 1e9:  # the first second warms up
            before.append(latency_ns)
    if not before or not around:
        raise CheckFailedError("the segment was not dropped while publishing went on")
    quiet_ns, busy_ns = (percentile(sorted(part), 0.99) for part in (before, around))
    return Figure(
        busy_ns / quiet_ns,
        {
            "before_ms": quiet_ns / 1e6,
            "around_ms": busy_ns / 1e6,
            "before_max_ms": max(before) / 1e6,
            "around_max_ms": max(around) / 1e6,
        },
    )


def _await_drop(system: HermesSystem, segments: int) -> int:
    """The instant at which a segment's file is gone."""
    deadline_ns = _CLOCK.monotonic_ns() + _GC_RUN_SECONDS * 1_000_000_000
    while system.segment_files() >= segments:
        if _CLOCK.monotonic_ns() > deadline_ns:
            raise CheckFailedError(f"no segment was dropped; there were {segments}")
        threading.Event().wait(_GC_POLL_SECONDS)
    return _CLOCK.monotonic_ns()


def _hermes(setting: Setting, **settings: int) -> HermesSystem:
    """The contender's server, whose store can be looked at, with some settings."""
    assert isinstance(setting.contender.system(), HermesSystem)
    return HermesSystem(**{name: str(value) for name, value in settings.items()})


SCENARIOS: Final[dict[Kind, Callable[[Setting], Figure]]] = {
    Kind.END_TO_END: end_to_end,
    Kind.AWAIT: awaited,
    Kind.FANOUT: fanout,
    Kind.PUBLISH: publish,
    Kind.CATCH_UP: catch_up,
    Kind.PACED: paced,
    Kind.IDLE: idle,
    Kind.RESTART: restart,
    Kind.EXPORT: export,
    Kind.GC: gc,
}


def sample(setting: Setting, number: int) -> Sample:
    """One round's sample. A failed check is an error in it; `UnavailableError` is raised."""
    found = Sample(setting.workload.name, setting.contender.name, number)
    try:
        figure = SCENARIOS[setting.workload.kind](setting)
    except CheckFailedError as error:
        found.error = str(error)
    else:
        found.value, found.extras = figure.value, figure.extras
    return found
