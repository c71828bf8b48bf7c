"""Opening a consumer: created, taken as it is, refused, updated."""

from __future__ import annotations

import pytest

from hermes.broker import events as ev
from hermes.broker.consumers import OpenConsumer, decide_open
from hermes.broker.state import State
from hermes.errors import ConflictError, InvalidArgumentError, PreconditionError

DEFAULT = ev.Policy(
    filters=(),
    ack_timeout_ns=30,
    max_attempts=5,
    backoff_initial_ns=1,
    backoff_max_ns=300,
    inactivity_limit_ns=0,
)


def decide(state: State, command: OpenConsumer) -> list[ev.Event]:
    return decide_open(state, command, DEFAULT, session=1, now_ns=10, at_ns=100)


def with_consumer(*, members: int = 0) -> State:
    state = State()
    for event in decide(state, OpenConsumer(name="c", filters=("a", "b.*"))):
        state.fold(event, state.next_lsn)
    for _ in range(members):
        joined = ev.MemberJoined(
            engine_time_ns=11, consumer="c", session=1, credit_messages=1, credit_bytes=1
        )
        state.fold(joined, state.next_lsn)
    return state


def test_a_new_consumer_takes_the_defaults_for_what_is_not_said() -> None:
    (created,) = decide(State(), OpenConsumer(name="c", filters=("a",), max_attempts=2))
    assert isinstance(created, ev.ConsumerCreated)
    assert (created.policy.max_attempts, created.policy.ack_timeout_ns) == (2, 30)


def test_a_new_consumer_needs_a_filter() -> None:
    with pytest.raises(InvalidArgumentError, match="no filter"):
        decide(State(), OpenConsumer(name="c"))


def test_what_is_not_said_is_taken_as_it_is() -> None:
    assert decide(with_consumer(), OpenConsumer(name="c")) == []


def test_the_order_of_filters_makes_no_difference() -> None:
    # A | B and B | A of a typed consumer were once a conflict.
    assert decide(with_consumer(), OpenConsumer(name="c", filters=("b.*", "a", "a"))) == []


def test_fields_that_differ_are_refused_by_name() -> None:
    command = OpenConsumer(name="c", filters=("z",), ack_timeout_ns=99)
    with pytest.raises(ConflictError) as caught:
        decide(with_consumer(), command)
    assert caught.value.fields["fields"] == ["filters", "ack_timeout_ns"]
    assert "30" in caught.value.message and "99" in caught.value.message


def test_an_update_changes_what_it_says() -> None:
    command = OpenConsumer(name="c", ack_timeout_ns=99, update=True)
    (updated,) = decide(with_consumer(members=1), command)
    assert isinstance(updated, ev.ConsumerUpdated)
    assert updated.policy.ack_timeout_ns == 99
    assert updated.policy.filters == ("a", "b.*")


def test_filters_change_only_without_members() -> None:
    command = OpenConsumer(name="c", filters=("z",), update=True)
    with pytest.raises(PreconditionError, match="1 members"):
        decide(with_consumer(members=1), command)
    assert decide(with_consumer(), command)


def test_a_v1_open_updates_only_an_idle_consumer() -> None:
    command = OpenConsumer(name="c", ack_timeout_ns=99, update_when_idle=True)
    assert decide(with_consumer(), command)
    with pytest.raises(ConflictError):
        decide(with_consumer(members=1), command)
