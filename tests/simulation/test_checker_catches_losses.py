"""The checker can fail where payloads go: bugs in garbage collection and around damage.

As in test_checker_catches.py. Payloads go sooner and segments are damaged more often than in
other runs, so that few steps are enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import msgspec
import pytest

from hermes.broker import collecting, delivery, needs, retention
from hermes.broker.collecting import Collecting
from hermes.broker.needs import Examined, Need
from hermes.broker.ports import Fetched
from hermes.broker.ranges import Range
from hermes.broker.retention import RetentionPolicy
from hermes.log.memory import MemoryLog
from hermes.log.memory_reader import MemoryReader, MemorySegment
from hermes.log.port import Quarantined, SegmentInfo
from hermes.log.record import StoredRecord
from tests.support import simulation_collector, simulation_plan
from tests.support.planted import Bug, is_caught
from tests.support.simulation import World
from tests.support.simulation_host import SECOND_NS
from tests.support.simulation_plan import Plan

SEED_STEPS = 500


def _needs_without(*fields: str) -> Any:
    """Garbage collection does not see some of what consumers need."""
    real = needs.needs_of

    def needs_of(*arguments: Any, **rest: Any) -> dict[int, Need]:
        found = real(*arguments, **rest)
        blank: dict[str, Any] = dict.fromkeys(fields, ())
        return {n: msgspec.structs.replace(need, **blank) for n, need in found.items()}

    stack = ExitStack()
    stack.enter_context(patch.object(needs, "needs_of", needs_of))
    stack.enter_context(patch.object(simulation_collector, "needs_of", needs_of))
    return stack


def _leases_not_needed() -> Any:
    return _needs_without("leased")


def _what_waits_not_needed() -> Any:
    return _needs_without("waiting")


def _dead_letters_not_needed() -> Any:
    return _needs_without("dead")


def _what_is_unread_not_needed() -> Any:
    return _needs_without("filters")


def _plans_that_are_not_true_any_more() -> Any:
    return patch.object(collecting, "what_changed", lambda *_: "")


def _losses_without_an_event() -> Any:
    return patch.object(collecting, "decide_gone", lambda *_, **__: [])


def _drops_of_what_is_unsettled() -> Any:
    def settled(segment: SegmentInfo, found: Examined | None) -> bool:
        nothing_held = found is not None and not found.kept_messages
        return nothing_held or not retention._holds_messages(segment)

    return patch.object(retention, "_is_settled", settled)


def _garbage_out_of_quarantine() -> Any:
    return patch.object(Collecting, "_is_quarantined", lambda *_: False)


def _payloads_taken_without_a_word() -> Any:
    real = MemorySegment.retire

    def retire(segment: MemorySegment, announced_lsn: int, ranges: Iterable[Range]) -> None:
        everything = [(r.first or 0, r.last or 0) for r in segment.publishes]
        real(segment, announced_lsn, [*ranges, *everything])

    return patch.object(MemorySegment, "retire", retire)


def _announced_and_never_done() -> Any:
    return patch.object(MemoryLog, "_retire_announced", lambda *_: None)


def _drops_not_finished_at_opening() -> Any:
    # The file's removal is lost with the process.
    stack = ExitStack()
    stack.enter_context(patch.object(MemoryLog, "_drop_announced", lambda _: None))
    stack.enter_context(patch.object(MemoryLog, "drop", lambda *_: None))
    return stack


def _damage_skipped_in_silence() -> Any:
    real = MemoryReader._publishes

    def publishes(reader: MemoryReader, at: int) -> Iterator[tuple[StoredRecord, int, int]]:
        sound = [s for s in reader._segments if not (s.damage or s.rot)]
        return real(MemoryReader(sound), at)

    stack = ExitStack()
    stack.enter_context(patch.object(MemoryReader, "_publishes", publishes))
    stack.enter_context(patch.object(MemoryReader, "_fence", lambda *_: None))
    return stack


def _damage_that_stops_everybody() -> Any:
    def fence(reader: MemoryReader, _from_offset: int) -> MemorySegment | None:
        for segment in reader._segments:
            if segment.damage and segment.publishes:
                return segment
        return None

    return patch.object(MemoryReader, "_fence", fence)


def _damage_that_kills_what_waits() -> Any:
    real = delivery.Deliveries.fetched

    def fetched(deliveries: delivery.Deliveries, answer: Fetched) -> None:
        real(deliveries, msgspec.structs.replace(answer, withheld=()))

    return patch.object(delivery.Deliveries, "fetched", fetched)


def _pinned_and_gone_on() -> Any:
    real = delivery.Deliveries.fetched

    def fetched(deliveries: delivery.Deliveries, answer: Fetched) -> None:
        if answer.pinned is not None:
            answer = msgspec.structs.replace(answer, scanned_to=answer.pinned[1] + 1, pinned=None)
        real(deliveries, answer)

    return patch.object(delivery.Deliveries, "fetched", fetched)


def _damage_told_with_another_range() -> Any:
    real = MemorySegment.quarantined

    def quarantined(segment: MemorySegment) -> Quarantined:
        told = real(segment)
        if told.last_offset is None:
            return told
        return msgspec.structs.replace(told, last_offset=told.last_offset + 1)

    return patch.object(MemorySegment, "quarantined", quarantined)


def _sound_segments_left_out() -> Any:
    real = MemoryLog.quarantine

    def quarantine(log: MemoryLog, first_lsn: int, reason: str) -> bool:
        for segment in log._segments[:-1]:
            real(log, segment.first_lsn, reason)
        return True

    return patch.object(MemoryLog, "quarantine", quarantine)


GREEDY: list[Bug] = [
    _leases_not_needed,
    _what_waits_not_needed,
    _dead_letters_not_needed,
    _what_is_unread_not_needed,
    _plans_that_are_not_true_any_more,
    _payloads_taken_without_a_word,
    _announced_and_never_done,
    _drops_not_finished_at_opening,
]
LOSING: list[Bug] = [
    _losses_without_an_event,
    _drops_of_what_is_unsettled,
]
DAMAGED: list[Bug] = [
    _garbage_out_of_quarantine,
    _damage_skipped_in_silence,
    _damage_that_stops_everybody,
    _damage_that_kills_what_waits,
    _pinned_and_gone_on,
    _damage_told_with_another_range,
    _sound_segments_left_out,
]


def _often(**weights: float) -> Any:
    """These actions are drawn in every run, and more often."""
    stack = ExitStack()
    stack.enter_context(patch.dict(simulation_plan.WEIGHTS, weights))
    always = {*simulation_plan.ALWAYS, *weights}
    stack.enter_context(patch.object(simulation_plan, "ALWAYS", always))
    return stack


def _greedy(max_unacked_retention_ns: int | None = None) -> Any:
    """Payloads go as soon as nobody needs them, or as soon as that."""

    def retention_of(plan: Plan) -> RetentionPolicy:
        return RetentionPolicy(
            retention_ns=0,
            audit_retention_ns=plan.rng.choice((None, 0, SECOND_NS)),
            dead_letter_retention_ns=plan.settings.dead_letter_retention_ns,
            max_unacked_retention_ns=None if plan.gentle else max_unacked_retention_ns,
        )

    stack = _often(collect_garbage=6.0, roll=3.0)
    stack.enter_context(patch.object(Plan, "_retention", retention_of))
    return stack


@pytest.mark.parametrize("bug", GREEDY, ids=lambda bug: bug.__name__.strip("_"))
def test_a_bug_where_payloads_go_is_caught(bug: Bug) -> None:
    with _greedy():
        assert is_caught(bug, seed_steps=SEED_STEPS)


@pytest.mark.parametrize("bug", LOSING, ids=lambda bug: bug.__name__.strip("_"))
def test_a_bug_where_unsettled_messages_go_is_caught(bug: Bug) -> None:
    with _greedy(max_unacked_retention_ns=SECOND_NS):
        assert is_caught(bug, seed_steps=SEED_STEPS)


@pytest.mark.parametrize("bug", DAMAGED, ids=lambda bug: bug.__name__.strip("_"))
def test_a_bug_beside_damage_is_caught(bug: Bug) -> None:
    with _often(collect_garbage=6.0, damage=0.5, roll=1.5):
        assert is_caught(bug, seed_steps=SEED_STEPS)


@pytest.mark.parametrize("longest_ns", [None, SECOND_NS])
def test_without_a_bug_there_is_nothing_to_catch(longest_ns: int | None) -> None:
    with _greedy(longest_ns), _often(damage=0.5):
        for seed in range(15):
            World(seed).run(SEED_STEPS)
