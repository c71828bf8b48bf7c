"""When a new segment begins."""

from __future__ import annotations

from hermes.broker.core import Settings
from tests.support.world import POLICY, World, message


def test_a_snapshot_larger_than_a_segment_does_not_make_every_commit_roll() -> None:
    # Found by it: with more to remember than fits a segment, each commit began a new one.
    world = World(settings=Settings(default_policy=POLICY, segment_bytes_max=2_000))
    for i in range(100):
        world.publish(message(id=f"{i:064}"))
    assert world.engine.journal.snapshot_bytes > 2_000
    before = len(world.log.segments())
    for _ in range(20):
        world.publish(message())
    assert len(world.log.segments()) <= before + 1


def test_no_new_segment_on_a_disk_that_is_nearly_full() -> None:
    """The roll would meet a full disk, stop the log, and be tried again at once."""
    world = World(settings=Settings(default_policy=POLICY, segment_bytes_max=200))
    worker = world.join()
    world.publish(*(message() for _ in range(8)))
    before = len(world.log.segments())
    world.log.low_space = True
    for offset in range(8):
        worker.ack((offset, offset))
        world.run()
    assert len(world.log.segments()) == before
    assert world.log.segments()[-1].bytes > 200
    world.log.low_space = False
    world.publish(message())
    assert len(world.log.segments()) == before + 1
