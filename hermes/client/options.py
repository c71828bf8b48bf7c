"""What callers may write, turned into what the wire takes. Both clients use it.

Durations are seconds or timedelta, places in the line are "all", "new", an offset or
an aware datetime, and filters are patterns or event types. A wrong value raises
`InvalidArgumentError` that names it. No I/O.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec

from hermes.broker.v1 import broker_pb2 as pb
from hermes.client.typed import encode_event, event_subject_filters, is_event
from hermes.errors import ConnectionLostError, HermesError, InvalidArgumentError
from hermes.limits import (
    CLIENT_NAME_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    MIB,
    REASON_BYTES_MAX,
    frame_bytes_max,
)
from hermes.rpc import CLIENT_ID_KEY, CLIENT_NAME_KEY, CLIENT_VERSION_KEY

Seconds = float | timedelta
StartAt = str | int | datetime
Payload = bytes | bytearray | memoryview | str
BackoffRange = tuple[Seconds, Seconds]

DEFAULT_ADDR: Final = "127.0.0.1:4222"
DEFAULT_MAX_IN_FLIGHT: Final = 1_000
DEFAULT_MAX_LEASE: Final = timedelta(hours=1)

KEEPALIVE_TIME_MS: Final = 10_000
KEEPALIVE_TIMEOUT_MS: Final = 5_000

CHANNEL_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.max_receive_message_length", frame_bytes_max(MESSAGE_BYTES_MAX) + MIB),
    ("grpc.max_send_message_length", -1),  # the broker says what is too large
    ("grpc.keepalive_time_ms", KEEPALIVE_TIME_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_MS),  # else a minute, whatever the above
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),  # clients share no connection
    ("grpc.enable_retries", 0),  # the client's own reconnecting knows what is safe
)


class ClientOptions(msgspec.Struct, frozen=True):
    """What a client was made with. Durations in nanoseconds."""

    addr: str
    connect_timeout_ns: int
    retry_timeout_ns: int
    close_timeout_ns: int
    metadata: tuple[tuple[str, str], ...]

    def unreachable(self, cause: HermesError | None = None) -> ConnectionLostError:
        """The broker does not answer at this address."""
        detail = f": {cause.message}" if cause is not None else ""
        return ConnectionLostError(
            f"no connection to {self.addr}{detail}",
            hint=f"is `hermes serve` running at {self.addr}?",
            addr=self.addr,
        )


def client_options(
    addr: str,
    name: str | None,
    version: str,
    connect_timeout: Seconds,
    retry_timeout: Seconds,
    close_timeout: Seconds,
) -> ClientOptions:
    """Checked options, with a fresh random client id."""
    label = name or ""
    if not label.isascii() or not (label.isprintable() or not label):
        raise InvalidArgumentError(f"client name {name!r} is not printable ASCII")
    if len(label) > CLIENT_NAME_BYTES_MAX:
        raise InvalidArgumentError(f"client name is over {CLIENT_NAME_BYTES_MAX} bytes")
    return ClientOptions(
        addr=addr,
        connect_timeout_ns=to_ns(connect_timeout, "connect_timeout"),
        retry_timeout_ns=to_ns(retry_timeout, "retry_timeout"),
        close_timeout_ns=to_ns(close_timeout, "close_timeout"),
        metadata=(
            (CLIENT_NAME_KEY, label),
            (CLIENT_VERSION_KEY, f"python/{version}"),
            (CLIENT_ID_KEY, secrets.token_hex(16)),
        ),
    )


def to_ns(value: Seconds, name: str) -> int:
    """Seconds or a timedelta to whole nanoseconds."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise InvalidArgumentError(f"{name} must be seconds or a timedelta, not {value!r}")
    if not 0 <= seconds < 1e9:
        raise InvalidArgumentError(f"{name} must be between 0 and 1e9 seconds, not {value!r}")
    return round(seconds * 1e9)


def to_start(start: StartAt) -> pb.Start:
    """ "all", "new", an offset, or an aware datetime."""
    if isinstance(start, datetime):
        if start.tzinfo is None:
            raise InvalidArgumentError(
                f"start {start!r} has no time zone", hint="use datetime.now(UTC) and the like"
            )
        whole = int(start.replace(microsecond=0).timestamp())
        return pb.Start(time_ns=whole * 1_000_000_000 + start.microsecond * 1_000)
    if isinstance(start, int) and not isinstance(start, bool) and start >= 0:
        return pb.Start(offset=start)
    if start == "all":
        return pb.Start(oldest=True)
    if start == "new":
        return pb.Start(newest=True)
    raise InvalidArgumentError(
        f'start must be "all", "new", an offset or an aware datetime, not {start!r}'
    )


def to_filters(wanted: Any) -> tuple[tuple[str, ...], Any]:
    """Patterns for a pattern, several, or event types; and the types (None for patterns)."""
    if isinstance(wanted, str):
        return (wanted,), None
    if isinstance(wanted, list | tuple) and all(isinstance(item, str) for item in wanted):
        return tuple(wanted), None
    return event_subject_filters(wanted), wanted


def consume_open(
    consumer: str,
    filters: tuple[str, ...],
    *,
    start: StartAt,
    max_in_flight: int,
    ack_timeout: Seconds | None,
    max_attempts: int | None,
    backoff: Seconds | BackoffRange | None,
    update: bool,
) -> pb.ConsumeOpen:
    """The opening request of a member. `backoff` is (initial, max) or one constant delay."""
    if not 1 <= max_in_flight < 2**32:
        raise InvalidArgumentError(f"max_in_flight must be at least 1, not {max_in_flight!r}")
    request = pb.ConsumeOpen(
        consumer=consumer,
        filters=sorted(set(filters)),  # `A | B` and `B | A` are the same consumer
        start=to_start(start),
        credit=pb.Credit(messages=max_in_flight),
        max_attempts=max_attempts,
        update=update,
    )
    if ack_timeout is not None:
        request.ack_timeout_ns = to_ns(ack_timeout, "ack_timeout")
    if backoff is not None:
        first, last = backoff if isinstance(backoff, tuple) else (backoff, backoff)
        request.backoff.initial_ns = to_ns(first, "backoff")
        request.backoff.max_ns = to_ns(last, "backoff")
    return request


def reason_text(reason: str | None) -> str:
    """A reason cut to what the wire allows, at a character."""
    text = reason or ""
    return text.encode()[:REASON_BYTES_MAX].decode(errors="ignore")


def queue_groups(queue_group: str | Iterable[str] | None) -> tuple[str, ...]:
    """None, one group or several, as the wire has them."""
    if queue_group is None:
        return ()
    return (queue_group,) if isinstance(queue_group, str) else tuple(queue_group)


def producer_id() -> bytes:
    """A new producer's name."""
    return secrets.token_bytes(16)


class Outgoing(NamedTuple):
    """A message as it goes out. Subject and id can be encoded."""

    subject: str
    payload: bytes
    headers: pb.Headers | None
    message_id: str | None


def outgoing(
    subject: object,
    payload: Payload | None,
    headers: Mapping[str, str] | None,
    message_id: str | None,
) -> Outgoing:
    """The message for publish(subject, payload) or publish(event).

    Text becomes UTF-8. Headers given beside an event are added to its own.
    """
    if not isinstance(subject, str):
        if payload is not None or not is_event(subject):
            raise InvalidArgumentError(
                f"publish() takes a subject and a payload, or an @event object, not {subject!r}"
            )
        encoded = encode_event(subject)
        subject, payload = encoded.subject, encoded.payload
        headers = {**encoded.headers, **(headers or {})}
    if isinstance(payload, str):
        payload = payload.encode()
    elif not isinstance(payload, bytes):
        if not isinstance(payload, bytearray | memoryview):
            raise InvalidArgumentError(
                f"the payload must be bytes or str, not {type(payload).__name__}"
            )
        payload = bytes(payload)
    try:
        entries = pb.Headers(entries=dict(headers)) if headers else None
        subject.encode()
        if message_id is not None:
            _ = str.encode(message_id)
        return Outgoing(subject, payload, entries, message_id)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(f"subject, headers and id must be text: {error}") from error
