"""The engine's commands, end to end over the log in memory."""

from __future__ import annotations

import msgspec
import pytest

from hermes import limits
from hermes.broker import events as ev
from hermes.broker.batch import views
from hermes.broker.core import Settings
from hermes.broker.publishing import PublishResult
from hermes.broker.session import LINGER_NS, Client
from hermes.broker.settling import Verdict
from hermes.errors import LimitExceededError, NotFoundError, UnavailableError
from tests.support.world import POLICY, SECOND_NS, World, drain, message, messages


def kinds(world: World) -> list[str]:
    return [type(event).__name__ for event in world.events()]


# ---------------------------------------------------------------- start, stop, failure


def test_it_is_ready_once_its_start_is_durable() -> None:
    world = World()
    assert world.ready == 1
    assert kinds(world) == ["ServerStarted"]


def test_a_stop_releases_leases_and_is_the_last_word() -> None:
    world = World()
    worker = world.join()
    world.subscribe("a.>")
    world.publish(messages(3))
    world.stop()
    assert kinds(world)[-4:] == ["Released", "MemberLeft", "SubscriptionClosed", "ServerStopped"]
    assert world.state.clean_stop
    assert worker.port.errors == []


def test_restarts_never_kill_a_healthy_message() -> None:
    world = World()
    world.publish(messages(2))
    for _ in range(20):
        worker = world.join()
        assert worker.port.got
        world.crash()
    assert world.consumer().dead.count == 0
    worker = world.join()
    # After three of them each message once came by itself, and the consumer crawled.
    assert worker.port.offsets() == [0, 1]
    worker.ack((0, 1))
    world.run()
    assert world.consumer().unsettled == 0


def test_what_was_not_committed_is_not_told_and_gone_after_a_crash() -> None:
    world = World()
    world.auto_commit = False
    results = world.publish(messages(2))
    assert results == []
    world.crash()
    assert world.state.next_offset == 0


def test_after_a_failure_everything_is_refused_and_nothing_released() -> None:
    world = World()
    worker = world.join()
    world.auto_commit = False
    results = world.publish(messages(2))
    world.log.fail(UnavailableError("disk"))
    with pytest.raises(UnavailableError):
        world.publish(messages(1))
    with pytest.raises(UnavailableError):
        worker.ack((0, 0))
    worker.leave()
    world.engine.turn()
    assert (results, worker.port.got) == ([], [])
    assert world.engine.failure is not None


# --------------------------------------------------------------------------- publish


def test_results_come_in_order_also_for_what_is_refused() -> None:
    world = World()
    refusal = LimitExceededError("too big")
    results: list[PublishResult] = []
    world.engine.publish(world.session, [messages(2), refusal, messages(3)], results.extend)
    world.run()
    told = [(r.count, r.base_offset, r.refusal) for r in results]
    assert told == [(2, 0, None), (0, None, refusal), (3, 2, None)]


def test_low_space_refuses_publishes_but_not_acks() -> None:
    world = World()
    worker = world.join()
    world.publish(messages(2))
    world.log.low_space = True
    (result,) = world.publish(messages(1))
    assert isinstance(result.refusal, LimitExceededError)
    assert worker.ack((0, 1)) == []
    world.run()
    assert world.consumer().unsettled == 0


def test_duplicates_are_cut_out_within_and_across_batches() -> None:
    world = World()
    world.publish(message(id="x"))
    first, second = world.publish(message(id="y"), message(id="x"))
    assert (first.base_offset, second.count, second.duplicates) == (1, 0, ((0, 0),))
    world.clock.advance(121)
    (late,) = world.publish(message(id="x"))
    assert late.base_offset == 2


def test_publishing_is_blocked_while_too_much_is_uncommitted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "QUEUE_PUBLISH_BYTES_MAX", 100)
    world = World()
    world.auto_commit = False
    world.publish(messages(1, size=200))
    assert world.engine.publish_blocked
    world.log.commit_all()
    assert not world.engine.publish_blocked


# ---------------------------------------------------------------------- dead letters


def test_a_dead_letter_gets_a_copy_that_tells_where_it_came_from() -> None:
    world = World()
    worker = world.join("c", "a.b")
    dead = world.join("dead", "_dead_letter.>")
    world.publish(message("a.b", b"body", id="m"))
    worker.settle(Verdict.REJECT, (0, 0), attempt=1)
    world.run()
    (assignment,) = dead.port.assignments
    ((_, view),) = views(assignment.batch)
    assert (assignment.batch.subject, view.payload) == ("_dead_letter.a.b", b"body")
    assert view.headers == {
        "hermes-original-offset": "0",
        "hermes-original-subject": "a.b",
        "hermes-original-id": "m",
        "hermes-consumer": "c",
        "hermes-attempts": "1",
        "hermes-failures": "0",
        "hermes-reason": "rejected",
    }
    state = world.consumer().dead.at(0)
    assert state is not None and state.copy_shift == 1


@pytest.mark.parametrize("way", ["nack", "expiry", "loss"])
def test_every_way_to_die_makes_a_copy(way: str) -> None:
    world = World()
    worker = world.join("c", "a.b", max_attempts=1)
    world.publish(message("a.b"))
    if way == "nack":
        worker.nack((0, 0))
    elif way == "loss":
        worker.leave(lost=True)
    world.advance(31)
    world.run()
    published = [event.subject for event in world.events() if isinstance(event, ev.Published)]
    assert published == ["a.b", "_dead_letter.a.b"]


def test_a_copy_missed_by_a_crash_is_made_at_the_next_start_once() -> None:
    world = World()
    worker = world.join("c", "a.b")
    world.publish(message("a.b"))
    worker.settle(Verdict.REJECT, (0, 0), attempt=1)
    world.engine.journal.flush()  # the verdict, before the turn that would copy
    world.log.commit_all()
    for _ in range(2):
        world.crash()
        assert world.state.next_offset == 2


def test_dead_letters_of_dead_letters_are_not_copied() -> None:
    world = World()
    worker = world.join("c", "a.b")
    dead = world.join("dead", "_dead_letter.>")
    world.publish(message("a.b"))
    worker.settle(Verdict.REJECT, (0, 0), attempt=1)
    world.run()
    dead.settle(Verdict.REJECT, (1, 1), attempt=1)
    world.run()
    assert world.consumer("dead").dead.count == 1
    assert world.state.next_offset == 2


def test_a_rated_replay_comes_back_second_by_second() -> None:
    world = World()
    worker = world.join(credit=20)
    world.publish(messages(5))
    worker.settle(Verdict.REJECT, (0, 4), attempt=1)
    world.run()
    members = world.engine.members
    assert members.replay(world.session, "c", [(0, 4)], messages_per_second=2) == 5
    assert members.replay(world.session, "c", [(0, 4)]) == 0
    worker.port.take()
    world.run()
    seen = []
    for _ in range(3):
        seen.append([first for first, *_ in worker.port.take() if first < 5])
        world.advance(1)
    assert seen == [[0], [2], [4]]


def test_old_dead_letters_are_given_up() -> None:
    world = World(settings=Settings(default_policy=POLICY, dead_letter_retention_ns=60 * SECOND_NS))
    worker = world.join()
    world.publish(messages(1))
    worker.settle(Verdict.REJECT, (0, 0), attempt=1)
    world.advance(60)
    world.engine.tick()
    assert world.consumer().dead.count == 1
    world.advance(1)
    world.engine.tick()
    assert world.consumer().dead.count == 0


# ------------------------------------------------------------------------- consumers


def test_a_deleted_consumer_ends_its_members_at_commit() -> None:
    world = World()
    worker = world.join()
    world.publish(messages(3))
    world.auto_commit = False
    assert world.engine.members.delete(world.session, "c") == 3
    world.run()
    assert worker.port.errors == []  # was told before it was durable
    world.log.commit_all()
    assert [type(error) for error in worker.port.errors] == [NotFoundError]


def test_a_member_of_a_deleted_consumer_cannot_settle_for_its_namesake() -> None:
    # The seat named its consumer by name only: an old member acked what the new
    # consumer's members had just received.
    world = World()
    old = world.join()
    world.publish(messages(3))
    world.engine.members.delete(world.session, "c")
    world.join("c", ">")
    with pytest.raises(NotFoundError):
        old.ack((0, 2))
    assert world.consumer().leases.count == 3


def test_a_consumer_past_its_inactivity_limit_ends() -> None:
    policy = msgspec.structs.replace(POLICY, inactivity_limit_ns=10 * SECOND_NS)
    world = World(policy=policy)
    worker = world.join()
    world.advance(60)
    world.engine.tick()
    worker.leave()
    world.advance(10)
    world.engine.tick()
    assert "c" in world.state.consumers
    world.advance(1)
    world.engine.tick()
    assert "c" not in world.state.consumers


# ------------------------------------------------------------------------------ live


def test_a_subscription_sees_what_is_published_after_it() -> None:
    world = World()
    world.publish(message("a.b"))
    number, buffer, port = world.subscribe("a.*")
    world.publish(message("a.c"), message("b"))
    world.engine.publish_live(world.session, [message("a.d")], lambda _: None)
    assert [(b.subject, b.base_offset) for b in drain(buffer)] == [("a.c", 1), ("a.d", None)]
    assert port.wakes == 2
    world.engine.unsubscribe(number)
    world.engine.unsubscribe(number)
    world.publish(message("a.c"))
    assert drain(buffer) == []


def test_a_durable_message_reaches_subscriptions_at_commit() -> None:
    world = World()
    _, buffer, _ = world.subscribe("a.*")
    world.auto_commit = False
    world.publish(message("a.c"))
    assert drain(buffer) == []
    world.log.commit_all()
    assert len(drain(buffer)) == 1


def test_a_full_buffer_loses_its_oldest_and_says_how_many() -> None:
    world = World(settings=Settings(default_policy=POLICY, subscriber_channel_capacity=5))
    _, buffer, _ = world.subscribe("a")
    for _ in range(4):
        world.publish(messages(2, "a"))
    assert [batch.base_offset for batch in drain(buffer)] == [4, 6]
    assert (buffer.take_dropped(), buffer.take_dropped(), buffer.dropped) == (4, 0, 4)
    world.host.wake()
    world.run()
    drops = [event.messages for event in world.events() if isinstance(event, ev.Dropped)]
    assert sum(drops) == 4
    world.publish(messages(9, "a"))
    assert [batch.count for batch in drain(buffer)] == [9]  # one is kept whatever its size


def test_a_group_takes_turns_and_passes_over_full_members() -> None:
    world = World(settings=Settings(default_policy=POLICY, subscriber_channel_capacity=2))
    buffers = [world.subscribe("a", "g")[1] for _ in range(3)]
    for _ in range(3):
        world.publish(message("a"))
    assert [buffer.messages for buffer in buffers] == [1, 1, 1]
    world.publish(message("a"))
    drain(buffers[1])
    drain(buffers[2])
    for _ in range(4):
        world.publish(message("a"))
    assert [buffer.messages for buffer in buffers] == [2, 2, 2]
    assert sum(buffer.dropped for buffer in buffers) == 0


def test_an_audience_is_named_once_per_segment() -> None:
    world = World()
    world.subscribe("a")
    world.publish(message("a"), message("a"))
    world.engine.roll()
    world.publish(message("a"))
    assert kinds(world).count("AudienceFormed") == 2
    assert kinds(world).count("DeliveredLive") == 3


# -------------------------------------------------------------------------- sessions


def test_a_client_is_recorded_when_it_first_causes_something() -> None:
    world = World()
    client = Client("p", "peer", "n", "v", "i")
    session = world.engine.attach(client)
    assert world.engine.attach(client) is session
    assert "SessionOpened" not in kinds(world)
    for _ in range(2):
        world.engine.publish_live(session, [message()], lambda _: None)
        world.run()
    assert kinds(world).count("SessionOpened") == 1
    world.engine.detach(session)
    world.engine.detach(session)
    world.engine.tick()
    world.run()
    assert "SessionClosed" not in kinds(world)
    world.clock.advance(LINGER_NS / SECOND_NS)
    world.engine.tick()
    world.run()
    assert kinds(world).count("SessionClosed") == 1


# ------------------------------------------------------------------------ the clock


def test_a_step_of_the_wall_clock_moves_no_lease() -> None:
    world = World()
    world.join()
    world.publish(messages(1))
    world.clock.wall_offset_ns += 3_600 * SECOND_NS
    world.engine.tick()
    world.run()
    steps = [event.step_ns for event in world.events() if isinstance(event, ev.ClockStepped)]
    assert steps == [3_600 * SECOND_NS]
    assert world.consumer().leases.count == 1
