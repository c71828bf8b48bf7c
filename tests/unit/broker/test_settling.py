"""Verdicts: who may say what about which message, and what does not count."""

from __future__ import annotations

import pytest

from hermes.broker import events as ev
from hermes.broker.consumer import Consumer, Dead, Lease, Waiting
from hermes.broker.ranges import Range
from hermes.broker.settling import Settle, Settled, Verdict, decide_settle
from hermes.errors import InvalidArgumentError
from tests.support.world import POLICY, SECOND_NS

ME, OTHER = 1, 2
HOLDER_VERDICTS = [Verdict.NACK, Verdict.REJECT, Verdict.EXTEND, Verdict.RELEASE]


@pytest.fixture
def consumer() -> Consumer:
    """0-4 leased to me, 5-6 to another, 7 waiting, 8 dead, 9 settled, 10 unseen."""
    made = Consumer("c", 1, 0, POLICY, 10)
    made.restore_lease(0, 4, Lease(ME, 1, 0, 0, 100))
    made.restore_lease(5, 6, Lease(OTHER, 2, 1, 0, 100))
    made.restore_waiting(7, 7, Waiting(1, 1, 0, 500))
    made.dead.add(8, 8, Dead(5, 5, ev.DeadCause.TOO_MANY_FAILURES, "", 0))
    return made


def settle(
    consumer: Consumer,
    verdict: Verdict,
    *ranges: Range,
    attempt: int = 1,
    delay_ns: int | None = None,
) -> Settled:
    """Decide, and fold what was decided: it must fit the state."""
    command = Settle(
        member=ME, session=3, verdict=verdict, ranges=ranges, attempt=attempt, delay_ns=delay_ns
    )
    settled = decide_settle(consumer, command, now_ns=50, at_ns=9)
    for event in settled.events:
        assert isinstance(event, ev.RangesEvent)
        consumer.fold(event)
    return settled


def test_an_ack_counts_for_leased_and_waiting_from_anybody(consumer: Consumer) -> None:
    settled = settle(consumer, Verdict.ACK, (0, 9))
    (event,) = settled.events
    assert isinstance(event, ev.Acked) and event.ranges == ((0, 7),)
    assert settled.stale == [(8, 8)]


def test_an_ack_again_is_no_event(consumer: Consumer) -> None:
    settle(consumer, Verdict.ACK, (0, 4))
    assert settle(consumer, Verdict.ACK, (0, 4), (9, 9)) == Settled([], [])


@pytest.mark.parametrize("verdict", list(Verdict))
def test_what_was_never_delivered_is_refused_and_nothing_is_done(
    consumer: Consumer, verdict: Verdict
) -> None:
    with pytest.raises(InvalidArgumentError, match="10 was never delivered"):
        settle(consumer, verdict, (0, 0), (4, 10))
    assert consumer.leases.count == 7


@pytest.mark.parametrize("verdict", HOLDER_VERDICTS)
def test_only_the_holder_and_its_attempt_count(consumer: Consumer, verdict: Verdict) -> None:
    settled = settle(consumer, verdict, (3, 9))
    assert settled.stale == [(5, 9)]
    changed = [event.ranges for event in settled.events if isinstance(event, ev.RangesEvent)]
    assert changed and all(ranges == ((3, 4),) for ranges in changed)


@pytest.mark.parametrize("verdict", HOLDER_VERDICTS)
def test_a_wrong_attempt_is_stale(consumer: Consumer, verdict: Verdict) -> None:
    assert settle(consumer, verdict, (0, 4), attempt=2) == Settled([], [(0, 4)])


@pytest.mark.parametrize("verdict", list(Verdict))
def test_no_ranges_are_no_event(consumer: Consumer, verdict: Verdict) -> None:
    assert settle(consumer, verdict) == Settled([], [])


def test_a_nack_waits_as_long_as_it_says(consumer: Consumer) -> None:
    settle(consumer, Verdict.NACK, (0, 1), delay_ns=7 * SECOND_NS)
    waiting = consumer.waiting.at(0)
    assert waiting == Waiting(1, 1, 0, 50 + 7 * SECOND_NS)


def test_a_reject_is_dead_at_once_without_a_failure(consumer: Consumer) -> None:
    settle(consumer, Verdict.REJECT, (1, 1), (3, 3))
    dead = consumer.dead.at(3)
    assert dead == Dead(1, 0, ev.DeadCause.REJECTED_BY_MEMBER, "rejected", 9)
    assert consumer.dead.at(2) is None


def test_an_extension_begins_the_ack_timeout_anew(consumer: Consumer) -> None:
    settle(consumer, Verdict.EXTEND, (2, 2))
    lease = consumer.leases.at(2)
    assert lease is not None and lease.deadline_ns == 50 + POLICY.ack_timeout_ns


def test_a_release_costs_nothing(consumer: Consumer) -> None:
    settle(consumer, Verdict.RELEASE, (0, 4))
    assert consumer.waiting.at(0) == Waiting(1, 0, 0, 50)
