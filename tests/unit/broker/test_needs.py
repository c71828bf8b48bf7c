"""The oldest message that a consumer needs, as people are told of it.

What is needed of each segment is in test_retention.py and tests/property/test_gc.py.
"""

from __future__ import annotations

from hermes.broker import events as ev
from hermes.broker.consumer import Consumer, Dead, Lease, Waiting
from hermes.broker.needs import Pin, oldest_pin
from tests.support.world import POLICY


def test_the_oldest_of_all_that_is_not_settled_is_told() -> None:
    consumer = Consumer("c", 1, 0, POLICY, 10)
    assert oldest_pin(consumer, lag=0) is None
    assert oldest_pin(consumer, lag=3) == Pin("c", 10)
    consumer.restore_lease(7, 9, Lease(1, 1, 0, 0, 100, 3))
    assert oldest_pin(consumer, lag=3) == Pin("c", 7, "in flight")
    consumer.restore_waiting(4, 4, Waiting(1, 1, 0, 40))
    assert oldest_pin(consumer, lag=0) == Pin("c", 4, "waiting")
    consumer.dead.add(2, 2, Dead(1, 1, ev.DeadCause.REJECTED_BY_MEMBER, "", 9))
    assert oldest_pin(consumer, lag=0) == Pin("c", 2, "a dead letter")
