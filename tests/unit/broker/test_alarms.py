"""When a host must give the engine a turn."""

from __future__ import annotations

import msgspec

from hermes.broker.due import REBUILD_MIN, SLACK
from tests.support.world import POLICY, SECOND_NS, World, messages


def test_the_alarm_is_the_next_deadline_or_due_time() -> None:
    world = World()
    assert world.engine.next_alarm_monotonic_ns() is None
    worker = world.join()
    world.publish(messages(2))
    assert world.engine.next_alarm_monotonic_ns() == 30 * SECOND_NS
    worker.nack((0, 0), delay_ns=7 * SECOND_NS)
    world.run()
    assert world.engine.next_alarm_monotonic_ns() == 7 * SECOND_NS


def test_alarms_that_were_overtaken_do_not_pile_up() -> None:
    # Found by it: each delayed nack left an alarm behind for as long as the ack timeout.
    world = World(policy=msgspec.structs.replace(POLICY, max_attempts=0))
    worker = world.join()
    world.publish(messages(2))
    for attempt in range(1, 1_200):
        worker.nack((0, 0), attempt=attempt, delay_ns=1_000)
        world.run()
        world.advance(0.000_002)
    assert len(world.engine.deliveries._alarms) <= REBUILD_MIN + SLACK
    world.advance(31)
    lease = world.consumer().leases.at(1)  # its own alarm still rang
    assert lease is not None
    assert lease.attempt == 2


def test_without_members_nothing_is_due_until_one_comes() -> None:
    world = World()
    worker = world.join()
    world.publish(messages(2))
    worker.nack((0, 1), delay_ns=SECOND_NS)
    world.run()
    worker.leave()
    world.advance(10)
    assert world.consumer().waiting.count == 2
    assert world.join().port.got == [(0, 1, 2)]


def test_time_in_which_the_process_stood_still_expires_nothing_at_once() -> None:
    # A server paused for longer than the ack timeout expired leases whose extensions lay
    # unread in the socket; a few pauses killed healthy messages.
    world = World()
    worker = world.join()
    world.publish(messages(1))
    world.clock.advance(31)  # the ack timeout is 30 seconds
    world.engine.hold_expiry(SECOND_NS)
    world.engine.turn()
    world.run()
    assert world.consumer().leases.count == 1
    assert world.engine.next_alarm_monotonic_ns() is not None
    worker.ack((0, 0))
    world.run()
    assert world.consumer().unsettled == 0
