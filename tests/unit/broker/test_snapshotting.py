"""When the whole state is written, so that a start has little to fold."""

from __future__ import annotations

from hermes.broker.core import Settings
from hermes.broker.engine import STOP_SNAPSHOT_RECORDS
from hermes.broker.recovery import recover
from hermes.broker.snapshot import canonical
from hermes.log.record import Kind
from tests.support.world import POLICY, World, message, messages


def test_snapshots_and_rolls_follow_from_the_settings() -> None:
    world = World(settings=Settings(default_policy=POLICY, snapshot_interval_records=10))
    for _ in range(25):
        world.publish(message())
    assert [r.kind for r in world.records()].count(Kind.SNAPSHOT) == 2
    world = World(settings=Settings(default_policy=POLICY, segment_bytes_max=500))
    for _ in range(10):
        world.publish(messages(1, size=200))
    assert len(world.log.segments()) > 2


def test_what_a_start_had_to_fold_counts_towards_the_next_snapshot() -> None:
    # Found by restarts of a large store: each start counted anew, so that a server which is
    # restarted often made no snapshot, and had more to fold each time.
    world = World(settings=Settings(default_policy=POLICY, snapshot_interval_records=20))
    for _ in range(15):
        world.publish(message())
    for _ in range(15):
        world.start(world.log.image())
    assert recover(world.log.reader()).records <= 20 + 2


def test_a_stop_leaves_the_next_start_nothing_to_fold() -> None:
    world = World()
    worker = world.join()
    for _ in range(STOP_SNAPSHOT_RECORDS):
        world.publish(message())
    world.stop()
    assert worker.port.got
    assert [r.kind for r in world.records()[-2:]] == [Kind.SNAPSHOT, Kind.SERVER_STOPPED]
    recovered = recover(world.log.reader())
    assert recovered.records == 1
    assert recovered.state.clean_stop
    assert canonical(recovered.state) == canonical(world.state)


def test_a_stop_that_leaves_little_to_fold_or_no_room_makes_no_snapshot() -> None:
    world = World()
    world.publish(message())
    world.stop()
    assert Kind.SNAPSHOT not in {r.kind for r in world.records()}
    world = World()
    for _ in range(STOP_SNAPSHOT_RECORDS):
        world.publish(message())
    world.log.low_space = True
    world.stop()
    assert Kind.SNAPSHOT not in {r.kind for r in world.records()}


def test_nothing_follows_the_stop_in_a_full_segment() -> None:
    # A segment that was full at the stop was rolled behind ServerStopped.
    world = World(settings=Settings(default_policy=POLICY, segment_bytes_max=200))
    worker = world.join()
    world.publish(*(message() for _ in range(8)))
    world.log.low_space = True  # no roll until there is room
    for offset in range(8):
        worker.ack((offset, offset))
        world.run()
    world.log.low_space = False
    world.stop()
    assert world.records()[-1].kind == Kind.SERVER_STOPPED
