"""A checkpoint is a record like another, and changes nothing."""

from __future__ import annotations

import pytest

from hermes.broker import events as ev
from hermes.broker.recovery import recover
from hermes.broker.snapshot import canonical
from hermes.errors import UnavailableError
from tests.support.world import World, message


def test_a_checkpoint_is_kept_and_changes_no_state() -> None:
    world = World()
    world.publish(message())
    before = canonical(world.engine.state)
    mark = world.log.committed
    lsn = world.engine.record_checkpoint(mark.lsn, mark.chain, 7, "note")
    world.run()
    assert lsn == mark.lsn + 1 == world.log.committed.lsn
    (taken,) = [event for event in world.events() if isinstance(event, ev.CheckpointTaken)]
    assert (taken.lsn, taken.chain, taken.at_ns, taken.note) == (mark.lsn, mark.chain, 7, "note")
    assert canonical(world.engine.state) == before
    assert canonical(recover(world.log.reader()).state) == before


def test_the_engine_tells_its_last_roll() -> None:
    world = World()
    world.publish(message())
    assert world.engine.rolled_at_lsn == 0
    world.engine.roll()
    world.run()
    assert world.engine.rolled_at_lsn == world.log.segments()[-1].first_lsn


def test_nothing_is_signed_after_the_stop() -> None:
    world = World()
    world.engine.stop("done", lambda: None)
    with pytest.raises(UnavailableError):
        world.engine.record_checkpoint(1, b"", 0, "")
