"""What the simulation has found, each told as a short scene."""

from __future__ import annotations

import pytest

from hermes.broker import events as ev
from hermes.broker.recovery import recover
from hermes.broker.settling import Verdict
from hermes.broker.snapshot import canonical, decode_snapshot, encode_snapshot
from hermes.errors import HermesError, NotFoundError
from tests.support.simulation_host import SECOND_NS
from tests.support.simulation_scene import Port, Scene


def test_a_dead_letter_of_an_ack_timeout_has_its_copy() -> None:
    # Nacks, rejects and lost members announced their dead letters to the copier; expiry
    # did not, so the copy came only after the next restart.
    scene = Scene(max_attempts=1)
    scene.join(Port())
    scene.publish("a.b")
    scene.rest()
    scene.after(31)
    copies = [e for e in scene.events() if isinstance(e, ev.Published) and e.dead_letter_consumer]
    assert [(copy.subject, copy.dead_letter_offset) for copy in copies] == [("_dead_letter.a.b", 0)]


def test_a_snapshot_of_ranges_that_grew_downwards_is_what_was_live() -> None:
    # Waiting ranges were joined with the one before them, not with the one after: the
    # state folded from a snapshot was cut otherwise than the live one.
    scene = Scene()
    seat = scene.join(Port())
    scene.publish("a", "a")
    scene.rest()
    for offset in (1, 0):
        scene.say(seat, Verdict.NACK, offset, offset)
    state = scene.engine.state
    again = decode_snapshot(encode_snapshot(state, 0).body, state.next_lsn)
    assert canonical(again) == canonical(state)
    assert [(a, b) for a, b, _ in state.consumers["c"].waiting.items()] == [(0, 1)]


def test_members_hear_of_a_deletion_only_when_it_is_durable() -> None:
    # The end of their streams was told at once: after a crash the consumer was still there.
    scene = Scene()
    port = Port()
    scene.join(port)
    scene.rest()
    scene.engine.members.delete(scene.session, "c")
    scene.epoch.settle_down()
    assert port.ended is None
    scene.rest()
    assert isinstance(port.ended, NotFoundError)


def test_an_ack_for_a_deleted_consumer_does_not_reach_its_namesake() -> None:
    # A frame on its way when the consumer was deleted and made anew acked a message
    # that the old member had received from another consumer of that name.
    scene = Scene()
    old = scene.join(Port())
    scene.publish("a")
    scene.rest()
    scene.engine.members.delete(scene.session, "c")
    new = Port()
    scene.join(new)
    scene.rest()
    with pytest.raises(NotFoundError):
        scene.say(old, Verdict.ACK, 0, 0)
    assert new.got == [(0, 0, 1)]
    assert scene.engine.state.consumers["c"].leases.count == 1


def test_a_rejected_message_rings_no_alarm() -> None:
    # Between Rejected and DeadLettered it waits "for ever": that time got into the heap of
    # due times, and the host was asked for a turn in 292 years.
    scene = Scene()
    seat = scene.join(Port())
    scene.publish("a")
    scene.rest()
    scene.say(seat, Verdict.REJECT, 0, 0)
    scene.after(31)  # past the lease's own alarm
    assert scene.engine.next_alarm_monotonic_ns() is None


def test_a_consumer_is_not_inactive_because_the_server_was_down() -> None:
    # Its member was connected until the crash, which left no MemberLeft: the first tick
    # after a long outage deleted the consumer before anybody could come back.
    scene = Scene(inactivity_limit_ns=60 * SECOND_NS)
    scene.join(Port())
    scene.rest()
    scene.clock.now_ns += 3_600 * SECOND_NS
    scene.crash()
    scene.engine.tick()
    assert "c" in scene.engine.state.consumers
    scene.clock.now_ns += 61 * SECOND_NS
    scene.engine.tick()
    scene.rest()
    assert "c" not in scene.engine.state.consumers
    assert canonical(recover(scene.epoch.log.reader()).state) == canonical(scene.engine.state)


def test_a_redelivery_that_was_read_too_early_is_read_again() -> None:
    # The batch had left the ring before it was committed: the reader found nothing, and
    # the message waited until the last member had left.
    scene = Scene()
    scene.engine.deliveries._ring.bytes_max = 0
    leaver, stays = Port(), Port()
    seat = scene.join(leaver)
    scene.rest()
    scene.publish("a")
    scene.epoch.settle_down()  # leased, not committed
    scene.join(stays)
    scene.engine.members.leave(seat, lost=False)
    scene.publish("b")  # and out of the ring
    scene.epoch.settle_down()
    for question in list(scene.epoch.questions):
        scene.epoch.read(question, 1_000)
        scene.epoch.answer(question)
    scene.rest()
    assert sorted(stays.got) == [(0, 0, 2), (1, 1, 1)]


def test_a_consumer_behind_what_was_dropped_catches_up() -> None:
    # Its position lay in a dropped segment that held nothing for it, and the line after
    # it was empty: the reader could not get past its position, and was asked for ever.
    scene = Scene()
    scene.engine.members.leave(scene.join(Port(), filters=("a",)), lost=False)
    scene.publish("z")
    scene.rest()
    scene.engine.roll()
    scene.engine.drop_segment(scene.epoch.log.segments()[0])
    scene.rest()
    scene.crash()
    port = Port()
    scene.join(port, filters=("a",))
    scene.rest()
    scene.publish("a")
    scene.rest()
    assert port.got == [(1, 1, 1)]


def test_a_repeated_nack_does_not_kill_what_was_replayed() -> None:
    # A replay lets attempts begin again at 1. The same nack, come a second time, counted
    # for the new delivery while that still waited for its commit: the message died again
    # without having been sent.
    scene = Scene(max_attempts=1)
    port = Port()
    seat = scene.join(port)
    scene.publish("a")
    scene.rest()
    scene.say(seat, Verdict.NACK, 0, 0)
    scene.rest()
    consumer = scene.engine.state.consumers["c"]
    assert consumer.dead.count == 1
    scene.engine.members.replay(scene.session, "c", [(0, 0)])
    scene.epoch.settle_down()  # leased again, not committed
    scene.say(seat, Verdict.NACK, 0, 0)
    assert (consumer.dead.count, consumer.leases.count) == (0, 1)
    scene.rest()
    assert port.got == [(0, 0, 1), (0, 0, 1)]
    scene.say(seat, Verdict.NACK, 0, 0)
    assert consumer.dead.count == 1


def test_what_a_live_buffer_loses_is_logged_though_nothing_follows() -> None:
    # Durable messages reach live buffers at their commit. What one lost then was logged in
    # the next turn, and nobody asked for one: on a quiet broker the record came much later.
    class Ear:
        def wake(self) -> None: ...

        def end(self, error: HermesError) -> None: ...

    scene = Scene()
    scene.engine.fanout._capacity = 1
    subscription, buffer = scene.engine.subscribe(scene.session, ">", (), Ear())
    scene.publish("a", "a", "a")
    scene.rest()
    told = [(e.subscription, e.messages) for e in scene.events() if isinstance(e, ev.Dropped)]
    assert (buffer.dropped, told) == (2, [(subscription, 2)])


def test_what_waits_for_its_commit_does_not_fail() -> None:
    # While a slow disk held the commit back, leases expired that no member had seen, and
    # members that were lost were charged for them: messages died without being sent.
    scene = Scene(max_attempts=1)
    port, lost = Port(), Port()
    scene.join(port, credit=1)
    leaver = scene.join(lost, credit=1)
    scene.rest()
    scene.publish("a", "b")
    scene.epoch.settle_down()
    scene.engine.members.leave(leaver, lost=True)
    for _ in range(3):
        scene.clock.now_ns += 31 * SECOND_NS
        scene.epoch.ring_alarm()
        scene.epoch.settle_down()
    assert port.got == []
    scene.rest()
    consumer = scene.engine.state.consumers["c"]
    assert (port.got, consumer.dead.count, consumer.leases.count) == ([(0, 0, 1)], 0, 1)
    scene.after(31)
    assert consumer.dead.count == 1
