"""What a client asks of a consumer, checked and resolved: filters, start, credit, policy.

Used by both families of RPCs. Raises InvalidArgumentError that says what was expected.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from hermes import limits
from hermes.broker.consumers import OpenConsumer
from hermes.broker.subject import validate_name, validate_pattern
from hermes.broker.v1 import broker_pb2
from hermes.errors import InvalidArgumentError, OutOfRangeError
from hermes.server.host import Host

# Ten years; beyond it a deadline is a mistake, and sums of them still fit 64 bits.
DURATION_NS_MAX: Final = 3650 * 86_400 * 10**9


class Credit(msgspec.Struct, frozen=True):
    """How much may be unsettled at one member."""

    messages: int
    bytes: int


class Started(msgspec.Struct, frozen=True):
    """A place in the line; `missed` offsets lie between what was asked for and it."""

    offset: int
    missed: int = 0


def check_filters(filters: Iterable[str]) -> tuple[str, ...]:
    """The patterns, each once, in the order given."""
    patterns = tuple(dict.fromkeys(filters))
    if len(patterns) > limits.FILTERS_MAX:
        raise InvalidArgumentError(
            f"{len(patterns)} filters given, at most {limits.FILTERS_MAX} are allowed",
            hint="a wildcard may say the same",
        )
    for pattern in patterns:
        validate_pattern(pattern)
    return patterns


def check_groups(groups: Iterable[str]) -> tuple[str, ...]:
    """Names of queue groups, each once."""
    names = tuple(dict.fromkeys(groups))
    if len(names) > limits.QUEUE_GROUPS_MAX:
        raise InvalidArgumentError(
            f"{len(names)} queue groups given, at most {limits.QUEUE_GROUPS_MAX} are allowed"
        )
    for name in names:
        validate_name("queue group", name, limits.QUEUE_GROUP_BYTES_MAX)
    return names


def check_consumer_name(name: str) -> str:
    validate_name("consumer name", name, limits.CONSUMER_NAME_BYTES_MAX)
    return name


def check_credit(asked: broker_pb2.Credit) -> Credit:
    """Credit within bounds; 0 means the default."""
    return Credit(
        min(asked.messages or limits.CREDIT_MESSAGES_DEFAULT, limits.CREDIT_MESSAGES_MAX),
        min(asked.bytes or limits.CREDIT_BYTES_DEFAULT, limits.CREDIT_BYTES_MAX),
    )


def check_duration_ns(name: str, value_ns: int, low_ns: int = 0) -> int:
    """Raises unless the duration is within low_ns and ten years."""
    if not low_ns <= value_ns <= DURATION_NS_MAX:
        raise InvalidArgumentError(
            f"{name} is {value_ns:,}, expected {low_ns:,} ns to {DURATION_NS_MAX:,} ns (ten years)"
        )
    return value_ns


def open_consumer(request: broker_pb2.ConsumeOpen, position: int) -> OpenConsumer:
    """The engine's command for a native open."""
    backoff = request.backoff if request.HasField("backoff") else None
    if backoff is not None:
        check_duration_ns("backoff.initial_ns", backoff.initial_ns)
        check_duration_ns("backoff.max_ns", backoff.max_ns, backoff.initial_ns)
    return OpenConsumer(
        name=check_consumer_name(request.consumer),
        filters=check_filters(request.filters),
        position=position,
        ack_timeout_ns=(
            check_duration_ns("ack_timeout_ns", request.ack_timeout_ns, 1_000_000)
            if request.HasField("ack_timeout_ns")
            else None
        ),
        max_attempts=request.max_attempts if request.HasField("max_attempts") else None,
        backoff_initial_ns=None if backoff is None else backoff.initial_ns,
        backoff_max_ns=None if backoff is None else backoff.max_ns,
        inactivity_limit_ns=(
            check_duration_ns("inactivity_limit_ns", request.inactivity_limit_ns)
            if request.HasField("inactivity_limit_ns")
            else None
        ),
        update=request.update,
    )


async def resolve_start(host: Host, start: broker_pb2.Start) -> Started:
    """Where in the line a Start is: at the first offset from there on that is still held.

    Raises OutOfRangeError for an offset that is not published yet.
    """
    await host.learn_retired()
    state = host.engine.state
    match start.WhichOneof("at"):
        case "newest":
            return Started(state.next_offset)
        case "offset":
            if start.offset > state.next_offset:
                raise OutOfRangeError(
                    f"offset {start.offset} is beyond the end, the next offset is "
                    f"{state.next_offset}",
                    next_offset=state.next_offset,
                )
            return _held_from(host, start.offset)
        case "time_ns":
            at_ns = start.time_ns
            found = await host.read(lambda reader: reader.offset_at_time(at_ns))
            return _held_from(host, host.engine.state.next_offset if found is None else found)
        case _:
            return _held_from(host, 0)


def _held_from(host: Host, asked: int) -> Started:
    offset = host.first_held(asked)
    return Started(offset, offset - asked)
