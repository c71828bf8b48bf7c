"""Copies of dead letters whose batches must be read first."""

from __future__ import annotations

import msgspec

from hermes.broker.copying import READS_AT_ONCE
from hermes.broker.ports import Fetched, FetchRanges
from hermes.broker.ring import Ring
from hermes.broker.settling import Verdict
from tests.support.world import POLICY, World, message, messages, read_for


def dying() -> World:
    """Whose ring has nothing for copies, and whose reads are held back."""
    world = World(policy=msgspec.structs.replace(POLICY, max_attempts=1))
    world.engine.copying._ring = Ring()
    world.auto_fetch = False
    return world


def copied(world: World) -> list[int]:
    """Offsets of dead letters that have their copies."""
    return [
        offset
        for first, last, dead in world.consumer().dead.items()
        if dead.copy_shift is not None
        for offset in range(first, last + 1)
    ]


def test_few_batches_are_read_at_once() -> None:
    # Found by it: every dead letter was read at once, whatever their number and size.
    world = dying()
    worker = world.join(credit=50)
    for _ in range(20):
        world.publish(message())
    for offset in range(0, 20, 2):  # apart, so that each is a range of its own
        worker.settle(Verdict.REJECT, (offset, offset), attempt=1)
    world.run()
    assert len(world.host.fetches) == READS_AT_ONCE
    world.auto_fetch = True
    world.run()
    assert copied(world) == list(range(0, 20, 2))


def test_what_was_too_much_to_read_at_once_is_copied_later() -> None:
    world = dying()
    worker = world.join(credit=50)
    world.publish(messages(2), messages(2), messages(2))
    worker.settle(Verdict.REJECT, (0, 5), attempt=1)
    world.run()
    (request,) = world.host.fetches
    assert isinstance(request, FetchRanges)
    whole = read_for(world.log.reader(), request)
    world.host.fetches.clear()
    world.engine.fetched(Fetched(request, whole.batches[:1], unread=((2, 5),)))
    world.run()
    assert copied(world) == [0, 1]
    world.auto_fetch = True
    world.run()
    assert copied(world) == list(range(6))
