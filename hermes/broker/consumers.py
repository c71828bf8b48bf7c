"""[P] Decide on consumers themselves: open, update, join, leave, delete.

Filter, ack timeout, attempts and backoff belong to the consumer; credit belongs to the
member. An open that says nothing about a field takes the consumer's; one that differs
is refused naming the fields, unless it asks to update.
"""

from __future__ import annotations

import msgspec

from hermes.broker import events as ev
from hermes.broker.consumer import Consumer
from hermes.broker.redelivery import decide_loss, decide_release
from hermes.broker.state import State
from hermes.errors import ConflictError, InvalidArgumentError, NotFoundError, PreconditionError


class OpenConsumer(msgspec.Struct, frozen=True, kw_only=True):
    """What a client asks for. None: as the consumer has it, or the default for a new one.

    `position` is where a new consumer starts, resolved from its Start.
    """

    name: str
    filters: tuple[str, ...] = ()
    position: int = 0
    ack_timeout_ns: int | None = None
    max_attempts: int | None = None
    backoff_initial_ns: int | None = None
    backoff_max_ns: int | None = None
    inactivity_limit_ns: int | None = None
    update: bool = False
    update_when_idle: bool = False  # v1: differing fields update while no member is there

    def asked(self) -> dict[str, object]:
        """The policy fields that were said, by name."""
        names = ev.Policy.__struct_fields__
        said: dict[str, object] = {n: getattr(self, n) for n in names if n != "filters"}
        said = {name: value for name, value in said.items() if value is not None}
        if self.filters:  # a set: the order in which they are given makes no difference
            said["filters"] = tuple(sorted(set(self.filters)))
        return said


def find_consumer(state: State, name: str) -> Consumer:
    """Raises NotFoundError."""
    consumer = state.consumers.get(name)
    if consumer is None:
        raise NotFoundError(f"no consumer named {name!r}", consumer=name)
    return consumer


def decide_open(
    state: State,
    command: OpenConsumer,
    default: ev.Policy,
    *,
    session: int,
    now_ns: int,
    at_ns: int,
) -> list[ev.Event]:
    """ConsumerCreated, ConsumerUpdated, or nothing when it exists as asked.

    Raises ConflictError naming the fields that differ, PreconditionError for an update
    while members are connected that would change the filters, InvalidArgumentError for
    a new consumer without a filter.
    """
    consumer = state.consumers.get(command.name)
    if consumer is None:
        if not command.filters:
            raise InvalidArgumentError(
                f"consumer {command.name!r} does not exist and no filter was given",
                hint="give at least one subject pattern to create it",
            )
        return [
            ev.ConsumerCreated(
                engine_time_ns=now_ns,
                consumer=command.name,
                session=session,
                policy=msgspec.structs.replace(default, **command.asked()),
                position=command.position,
                at_ns=at_ns,
            )
        ]
    wanted = msgspec.structs.replace(consumer.policy, **command.asked())
    differing = [
        name
        for name in ev.Policy.__struct_fields__
        if getattr(wanted, name) != getattr(consumer.policy, name)
    ]
    if not differing:
        return []
    idle_update = command.update_when_idle and not consumer.members
    if not (command.update or idle_update):
        raise ConflictError(
            f"consumer {command.name!r} exists with other settings: "
            + "; ".join(_difference(consumer.policy, wanted, name) for name in differing),
            hint="open it as it is, or with `update`",
            consumer=command.name,
            fields=differing,
        )
    if consumer.members and "filters" in differing:
        raise PreconditionError(
            f"consumer {command.name!r} has {len(consumer.members)} members; "
            "its filters can change only while there is none",
            consumer=command.name,
        )
    return [
        ev.ConsumerUpdated(
            engine_time_ns=now_ns, consumer=command.name, session=session, policy=wanted
        )
    ]


def _difference(has: ev.Policy, wanted: ev.Policy, name: str) -> str:
    return f"{name} is {_shown(getattr(has, name))}, asked for {_shown(getattr(wanted, name))}"


def _shown(value: object) -> str:
    return " ".join(value) if isinstance(value, tuple) else f"{value}"


def decide_leave(
    consumer: Consumer,
    member: int,
    *,
    session: int,
    lost: bool,
    cause: ev.ReleaseCause,
    reason: str,
    now_ns: int,
    at_ns: int,
) -> list[ev.Event]:
    """A member's stream ended: its leases go back, then it leaves.

    `lost` tells a broken stream from one that was closed in order.
    """
    if lost:
        events = decide_loss(consumer, member, session=session, now_ns=now_ns, at_ns=at_ns)
    else:
        pieces = consumer.leases_of(member)
        events = decide_release(consumer, pieces, cause, session=session, now_ns=now_ns)
    left = ev.MemberLeft(
        engine_time_ns=now_ns, consumer=consumer.name, session=session, member=member, reason=reason
    )
    return [*events, left]


def decide_inactive(
    state: State, now_ns: int, default_limit_ns: int = 0
) -> list[ev.ConsumerDeleted]:
    """ConsumerDeleted for each that had no member for longer than its limit.

    `default_limit_ns` is that of consumers without one of their own; 0: none.
    """
    events = []
    for name, consumer in state.consumers.items():
        limit_ns = consumer.policy.inactivity_limit_ns or default_limit_ns
        if limit_ns and not consumer.members and now_ns - consumer.last_active_ns > limit_ns:
            cause = ev.DeleteCause.FOR_INACTIVITY
            events.append(ev.ConsumerDeleted(engine_time_ns=now_ns, consumer=name, cause=cause))
    return events


def decide_restart(state: State, now_ns: int) -> list[ev.Event]:
    """After ServerStarted: every lease of the run before is released, for free."""
    return [
        event
        for consumer in state.consumers.values()
        for event in decide_release(
            consumer,
            list(consumer.leases.items()),
            ev.ReleaseCause.SERVER_RESTARTED,
            session=0,
            now_ns=now_ns,
        )
    ]
