"""Publishers beside garbage collection: their p99 meanwhile, as a multiple of that at other times.

A store with one full segment is filled, then served by a server that has reason to collect
it a few seconds after its start, while somebody publishes at a fixed rate.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec

from hermes import Client
from hermes.clock import SystemClock
from hermes.log.segment import BUILDING_SUFFIX
from hermes_bench.crew import run_together
from hermes_bench.hermes_system import HermesSystem
from hermes_bench.jobs import Role
from hermes_bench.port import CheckFailedError
from hermes_bench.setting import Figure, Setting, hermes, served
from hermes_bench.stats import percentile

_SEGMENT_BYTES: Final = 1_000_000_000
_RATE: Final = 500.0  # messages/s
_PACED_BYTES: Final = 1_024
_WARM_UP_NS: Final = 1_000_000_000
_POLL_SECONDS: Final = 0.01
# After a file has lost its name, its space is given back for so long.
_SHRINKING_NS: Final = 19_000_000_000

_CLOCK: Final = SystemClock()

Span = tuple[int, int]  # readings of the machine's monotonic clock


def beside_drop(setting: Setting) -> Figure:
    """The segment goes as a whole: nothing of it is kept."""
    filler = hermes(setting, SEGMENT_BYTES=_SEGMENT_BYTES)
    with served(setting, filler) as (address, _):
        run_together(setting.folder, setting.job(Role.PRODUCE, address))
    segments = filler.segment_files()
    server = hermes(
        setting,
        SEGMENT_BYTES=_SEGMENT_BYTES,
        GC_INTERVAL=8,
        RETENTION_SECS=1,
        AUDIT_RETENTION_SECS=1,
    )

    def watch(deadline_ns: int) -> Span:
        _await(lambda: server.segment_files() < segments, "segment dropped", deadline_ns)
        dropped_ns = _CLOCK.monotonic_ns()
        return dropped_ns - 500_000_000, dropped_ns + _SHRINKING_NS

    return _publish_beside(setting, server, watch, seconds=32)


def beside_compaction(setting: Setting) -> Figure:
    """The segment is written anew: every other payload goes, the rest waits for a consumer."""
    filler = hermes(setting, SEGMENT_BYTES=_SEGMENT_BYTES)
    with served(setting, filler) as (address, _):
        with Client(address) as client, client.consume("keeper", "bench.s.0", start="all"):
            pass
        run_together(setting.folder, setting.job(Role.PRODUCE, address))
    filled_bytes = filler.oldest_segment_bytes()
    server = hermes(setting, SEGMENT_BYTES=_SEGMENT_BYTES, GC_INTERVAL=20, RETENTION_SECS=1)

    def is_building() -> bool:
        return any(server.store.glob(f"*{BUILDING_SUFFIX}"))

    def watch(deadline_ns: int) -> Span:
        _await(is_building, "compaction", deadline_ns)
        began_ns = _CLOCK.monotonic_ns()
        _await(lambda: not is_building(), "end of the compaction", deadline_ns)
        # What is needed was looked for, and announced, in the seconds before.
        return began_ns - 3_000_000_000, _CLOCK.monotonic_ns() + _SHRINKING_NS

    figure = _publish_beside(setting, server, watch, seconds=150)
    if server.oldest_segment_bytes() > filled_bytes * 3 // 5:
        raise CheckFailedError("the segment did not lose half of its payloads")
    return figure


def _publish_beside(
    setting: Setting, server: HermesSystem, watch: Callable[[int], Span], *, seconds: int
) -> Figure:
    """`watch` gets a deadline, and answers with the span that belongs to the collection."""
    with served(setting, server) as (address, _):
        sending = msgspec.structs.replace(
            setting.job(Role.PACED, address),
            rate=_RATE,
            size_bytes=_PACED_BYTES,
            batch=1,
            messages=round(_RATE * seconds),
        )
        deadline_ns = _CLOCK.monotonic_ns() + seconds * 1_000_000_000
        with ThreadPoolExecutor(1) as threads:
            watching = threads.submit(watch, deadline_ns)
            (sent,) = run_together(setting.folder, sending)
            begin_ns, end_ns = watching.result()
    step_ns = 1e9 / _RATE
    meanwhile: list[int] = []
    otherwise: list[int] = []
    for place, latency_ns in enumerate(sent.latencies_ns):
        at_ns = sent.started_ns + place * step_ns
        if begin_ns <= at_ns <= end_ns:
            meanwhile.append(latency_ns)
        elif place * step_ns > _WARM_UP_NS:
            otherwise.append(latency_ns)
    if not meanwhile or not otherwise:
        raise CheckFailedError("the collection and the publishing did not overlap")
    quiet_ns, busy_ns = (percentile(sorted(part), 0.99) for part in (otherwise, meanwhile))
    return Figure(
        busy_ns / quiet_ns,
        {
            "otherwise_ms": quiet_ns / 1e6,
            "meanwhile_ms": busy_ns / 1e6,
            "otherwise_max_ms": max(otherwise) / 1e6,
            "meanwhile_max_ms": max(meanwhile) / 1e6,
            "seconds": (end_ns - begin_ns) / 1e9,
        },
    )


def _await(condition: Callable[[], bool], what: str, deadline_ns: int) -> None:
    while not condition():
        if _CLOCK.monotonic_ns() > deadline_ns:
            raise CheckFailedError(f"no {what} while publishing went on")
        threading.Event().wait(_POLL_SECONDS)
