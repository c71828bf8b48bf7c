"""What each kind of workload does in one round with one contender, and what it counts.

Every scenario starts a fresh server, runs its workers, has the system check what was
counted, stops the server, and has the store checked. A figure whose check fails does
not count: the sample carries the reason instead.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Final

import msgspec

from hermes.clock import SystemClock
from hermes_bench.crew import crew, run_together
from hermes_bench.gc_scenarios import beside_compaction, beside_drop
from hermes_bench.jobs import Role, Sample
from hermes_bench.port import CheckFailedError
from hermes_bench.setting import Figure, Setting, hermes, served
from hermes_bench.stats import latencies_ms
from hermes_bench.watchers import watched
from hermes_bench.workloads import Kind

_MB: Final = 1_000_000
_GB: Final = 1_000 * _MB

_CLOCK: Final = SystemClock()


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
    system = hermes(setting)
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
    system = hermes(setting)
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
    system = hermes(setting)
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
    Kind.WATCHED: watched,
    Kind.GC_DROP: beside_drop,
    Kind.GC_COMPACT: beside_compaction,
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
