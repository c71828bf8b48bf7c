"""The checker can fail: bugs put into the engine, or the log, are caught within some steps.

A simulation that finds nothing proves little by itself. Here seeded runs meet an engine
that forgets, hurries or lies in one place, and one of them must end in a violation.
"""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import msgspec
import pytest

from hermes.broker import delivery, engine, membership, redelivery, settling
from hermes.broker import events as ev
from hermes.broker.consumer import Consumer
from hermes.broker.consumers import decide_leave
from hermes.broker.copying import Copying
from hermes.broker.dedup import IdWindow, Producers
from hermes.broker.dispatch import Slot
from hermes.broker.engine_time import EngineTime
from hermes.broker.feed import Feed
from hermes.broker.journal import Journal
from hermes.broker.live import LiveBuffer
from hermes.broker.membership import Membership
from hermes.log.memory import MemoryImage, MemoryLog
from tests.support.planted import Bug, is_caught

SEED_STEPS = 300


def _effects_before_the_commit() -> Any:
    return patch.object(Journal, "after_commit", lambda _, effect: effect())


def _effects_of_a_failed_epoch() -> Any:
    real = Journal.abandon

    def abandon(journal: Journal) -> None:
        journal.committed(2**63)
        real(journal)

    return patch.object(Journal, "abandon", abandon)


def _commits_that_are_not_on_disk() -> Any:
    # The last record of a segment is gone after a crash, as if its sync had been skipped.
    real = MemoryLog.crash

    def crash(log: MemoryLog, keep: int = 0) -> MemoryImage:
        image = real(log, keep)
        last = image.segments[-1]
        if len(last.records) > 1:
            last.records.pop()
            last.end = msgspec.structs.replace(last.end, lsn=last.end.lsn - 1)
        return image

    return patch.object(MemoryLog, "crash", crash)


def _acks_forgotten_by_the_fold() -> Any:
    real = Consumer.fold

    def fold(consumer: Consumer, event: ev.RangesEvent) -> None:
        if not isinstance(event, ev.Acked):
            real(consumer, event)

    return patch.object(Consumer, "fold", fold)


def _leases_that_never_expire() -> Any:
    return patch.object(delivery, "due_leases", lambda *_: [])


def _leases_that_expire_early() -> Any:
    def due_leases(consumer: Consumer, now_ns: int, limit: int) -> list[redelivery.Piece]:
        return redelivery.due_leases(consumer, now_ns + 10**9, limit)

    return patch.object(delivery, "due_leases", due_leases)


def _time_that_follows_the_wall_clock() -> Any:
    real = EngineTime.step

    def step(time: EngineTime, monotonic_ns: int, wall_ns: int) -> int:
        stepped = real(time, monotonic_ns, wall_ns)
        time._base_ns += max(0, stepped)
        return stepped

    return patch.object(EngineTime, "step", step)


def _nacks_of_any_attempt() -> Any:
    def decide(consumer: Consumer, command: settling.Settle, **rest: Any) -> settling.Settled:
        for _, _, lease in consumer.leases.overlapping(*command.ranges[0]):
            command = msgspec.structs.replace(command, attempt=lease.attempt)
        return settling.decide_settle(consumer, command, **rest)

    return patch.object(membership, "decide_settle", decide)


def _ids_forgotten_at_recovery() -> Any:
    return patch.object(IdWindow, "resize", lambda window, *_: window._seen.clear())


def _sequences_forgotten() -> Any:
    return patch.multiple(Producers, find=lambda *_: None, last_sequence=lambda *_: 0)


def _credit_ignored() -> Any:
    return patch.object(Slot, "room", lambda _slot, count, _mean_bytes, *, alone: count)


def _first_attempts_out_of_order() -> Any:
    def pop(feed: Feed) -> Any:
        return feed.window.pop()

    return patch.object(Feed, "pop", pop)


def _leases_kept_over_a_restart() -> Any:
    return patch.object(engine, "decide_restart", lambda *_: [])


def _leaving_in_order_charged() -> Any:
    def decide(*arguments: Any, lost: bool, **rest: Any) -> list[ev.Event]:
        return decide_leave(*arguments, lost=True, **rest)

    return patch.object(membership, "decide_leave", decide)


def _dead_letters_without_copy() -> Any:
    return patch.object(Copying, "add", lambda *_: None)


def _credit_that_wakes_nobody() -> Any:
    return patch.object(Membership, "heard", lambda *_: None)


def _lag_not_counted() -> Any:
    return patch.object(LiveBuffer, "_drop_oldest", lambda buffer: buffer.pop())


BUGS: list[Bug] = [
    _effects_before_the_commit,
    _effects_of_a_failed_epoch,
    _commits_that_are_not_on_disk,
    _acks_forgotten_by_the_fold,
    _leases_that_never_expire,
    _leases_that_expire_early,
    _time_that_follows_the_wall_clock,
    _nacks_of_any_attempt,
    _ids_forgotten_at_recovery,
    _sequences_forgotten,
    _credit_ignored,
    _first_attempts_out_of_order,
    _leases_kept_over_a_restart,
    _leaving_in_order_charged,
    _dead_letters_without_copy,
    _credit_that_wakes_nobody,
    _lag_not_counted,
]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__.strip("_"))
def test_a_bug_is_caught(bug: Bug) -> None:
    assert is_caught(bug, seed_steps=SEED_STEPS)
