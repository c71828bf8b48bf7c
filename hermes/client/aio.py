"""`AsyncClient`: publish, subscribe, consume and read on asyncio.

The public face only: it checks and translates arguments. Streams are kept by
`aio_connection`, what the calls return is in `aio_receivers`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from hermes import __version__
from hermes.client.aio_connection import AsyncConnection
from hermes.client.aio_messages import OnDecodeError
from hermes.client.aio_publisher import AsyncPublisher
from hermes.client.aio_receivers import AsyncConsumer, AsyncReading, AsyncSubscription
from hermes.client.core.consuming import ConsumeCore
from hermes.client.core.outgoing import PublishAck
from hermes.client.core.reading import ReadCore
from hermes.client.message import Message
from hermes.client.options import (
    DEFAULT_ADDR,
    DEFAULT_MAX_IN_FLIGHT,
    DEFAULT_MAX_LEASE,
    BackoffRange,
    Payload,
    Seconds,
    StartAt,
    client_options,
    consume_open,
    outgoing,
    queue_groups,
    to_filters,
    to_ns,
    to_start,
)
from hermes.errors import OperationTimeoutError

if TYPE_CHECKING:
    from typing_extensions import TypeForm

T = TypeVar("T")


class AsyncClient:
    """A connection to a broker, for asyncio. Use it as `async with AsyncClient() as client`.

    Durations are seconds or timedelta. `connect_timeout`: how long entering, and the
    first use of anything, waits for the broker before `ConnectionLostError`.
    `retry_timeout`: how long a durable publish waits for a lost connection to come
    back. `close_timeout`: how long closing may take to flush.

    Raises `ForkedProcessError` in a process forked from one that had used gRPC.
    """

    def __init__(
        self,
        addr: str = DEFAULT_ADDR,
        *,
        name: str | None = None,
        connect_timeout: Seconds = 5.0,
        retry_timeout: Seconds = 60.0,
        close_timeout: Seconds = 5.0,
    ) -> None:
        options = client_options(
            addr, name, __version__, connect_timeout, retry_timeout, close_timeout
        )
        self._connection = AsyncConnection(options)

    # ----------------------------------------------------------------- lifetime

    async def __aenter__(self) -> Self:
        """Connect. Raises `ConnectionLostError` when the broker cannot be reached in time."""
        await self._connection.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Leave every receiver, finish what is being published, disconnect. Idempotent."""
        await self._connection.aclose()

    # --------------------------------------------------------------- publishing

    @overload
    async def publish(
        self,
        subject: str,
        payload: Payload,
        *,
        headers: Mapping[str, str] | None = None,
        id: str | None = None,
        durable: bool = True,
        timeout: Seconds | None = None,
    ) -> PublishAck: ...

    @overload
    async def publish(
        self,
        subject: object,
        *,
        headers: Mapping[str, str] | None = None,
        id: str | None = None,
        durable: bool = True,
        timeout: Seconds | None = None,
    ) -> PublishAck: ...

    async def publish(
        self,
        subject: object,
        payload: Payload | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        id: str | None = None,
        durable: bool = True,
        timeout: Seconds | None = None,
    ) -> PublishAck:
        """Publish a payload on a subject, or an `@event` object on its own.

        Durable: returns once it is committed; sent again by itself over a new
        connection, stored once. Live (`durable=False`): returns once it is forwarded.
        With `id`, a durable message that was published before (by whomever) is stored
        once, and its ack says `duplicate`. Raises `ConnectionLostError` when a live
        message may be lost or a durable one could not be sent, `OperationTimeoutError`
        after `timeout`, and what the broker refuses it for.
        """
        connection = self._connection.check()
        message = outgoing(subject, payload, headers, id)
        if timeout is None:
            return await connection.publish(message, live=not durable)
        try:
            async with asyncio.timeout(to_ns(timeout, "timeout") / 1e9):
                return await connection.publish(message, live=not durable)
        except TimeoutError:
            raise OperationTimeoutError(
                f"no answer to a publish within {timeout} s",
                hint="it may still be stored; publish it again with the same id to be sure",
            ) from None

    def publisher(self) -> AsyncPublisher:
        """A pipeline: `send()` does not wait for the broker, `flush()` waits for all of it.

        Use it as `async with client.publisher() as publisher`: leaving flushes, and raises
        `PublishError` if something was not acknowledged.
        """
        return AsyncPublisher(self._connection.check())

    # ---------------------------------------------------------------- receiving

    @overload
    def subscribe(
        self,
        pattern: str | list[str] | tuple[str, ...],
        *,
        queue_group: str | None = None,
        on_lag: Callable[[int], object] | None = None,
    ) -> AsyncSubscription[None]: ...

    @overload
    def subscribe(
        self,
        pattern: TypeForm[T],
        *,
        queue_group: str | None = None,
        on_decode_error: OnDecodeError = "reject",
        on_lag: Callable[[int], object] | None = None,
    ) -> AsyncSubscription[T]: ...

    def subscribe(
        self,
        pattern: Any,
        *,
        queue_group: str | None = None,
        on_decode_error: OnDecodeError = "reject",
        on_lag: Callable[[int], object] | None = None,
    ) -> AsyncSubscription[Any]:
        """Live messages on a pattern (or several), or of event types.

        Registered once entered: what is published afterwards is seen. Members of one
        `queue_group` share the messages. What cannot be decoded is skipped and logged,
        or raises from `message.event` with `on_decode_error="raise"`.
        """
        connection = self._connection.check()
        patterns, kinds = to_filters(pattern)
        subscription: AsyncSubscription[Any] = AsyncSubscription(
            connection,
            patterns,
            queue_groups(queue_group),
            kinds=kinds,
            on_decode_error=on_decode_error,
            on_lag=on_lag,
        )
        connection.receivers.add(subscription)
        return subscription

    @overload
    def consume(
        self,
        consumer: str,
        filter: str | list[str] | tuple[str, ...] = (),
        *,
        start: StartAt = "all",
        max_in_flight: int = DEFAULT_MAX_IN_FLIGHT,
        ack_timeout: Seconds | None = None,
        max_attempts: int | None = None,
        backoff: Seconds | BackoffRange | None = None,
        update: bool = False,
        max_lease: Seconds = DEFAULT_MAX_LEASE,
        on_lease_lost: Callable[[Message[None]], object] | None = None,
    ) -> AsyncConsumer[None]: ...

    @overload
    def consume(
        self,
        consumer: str,
        filter: TypeForm[T],
        *,
        start: StartAt = "all",
        max_in_flight: int = DEFAULT_MAX_IN_FLIGHT,
        ack_timeout: Seconds | None = None,
        max_attempts: int | None = None,
        backoff: Seconds | BackoffRange | None = None,
        update: bool = False,
        max_lease: Seconds = DEFAULT_MAX_LEASE,
        on_decode_error: OnDecodeError = "reject",
        on_lease_lost: Callable[[Message[T]], object] | None = None,
    ) -> AsyncConsumer[T]: ...

    def consume(
        self,
        consumer: str,
        filter: Any = (),  # noqa: A002 -- the word for it
        *,
        start: StartAt = "all",
        max_in_flight: int = DEFAULT_MAX_IN_FLIGHT,
        ack_timeout: Seconds | None = None,
        max_attempts: int | None = None,
        backoff: Seconds | BackoffRange | None = None,
        update: bool = False,
        max_lease: Seconds = DEFAULT_MAX_LEASE,
        on_decode_error: OnDecodeError = "reject",
        on_lease_lost: Callable[[Message[Any]], object] | None = None,
    ) -> AsyncConsumer[Any]:
        """Join the durable consumer of that name; it is created when there is none.
        One that exists can be joined without a filter.

        `start` counts for a new one: "all", "new", an offset or an aware datetime.
        `ack_timeout`, `max_attempts` (0: never a dead letter) and `backoff` (one delay,
        or first and longest) belong to the consumer: what differs from an existing
        one's raises, unless `update` asks to change it. At most `max_in_flight`
        messages are leased to this member at once; leases are kept alive for
        `max_lease`. What cannot be decoded is rejected with the reason, or raises from
        `message.event` with `on_decode_error="raise"`.
        """
        connection = self._connection.check()
        filters, kinds = to_filters(filter)
        opening = consume_open(
            consumer,
            filters,
            start=start,
            max_in_flight=max_in_flight,
            ack_timeout=ack_timeout,
            max_attempts=max_attempts,
            backoff=backoff,
            update=update,
        )
        member: AsyncConsumer[Any] = AsyncConsumer(
            connection,
            ConsumeCore(opening, max_lease_ns=to_ns(max_lease, "max_lease")),
            kinds=kinds,
            on_decode_error=on_decode_error,
            on_lease_lost=on_lease_lost,
        )
        connection.receivers.add(member)
        return member

    @overload
    def read(
        self,
        filter: str | list[str] | tuple[str, ...] = ...,
        *,
        start: StartAt = "all",
        limit: int = 0,
        follow: bool = False,
    ) -> AsyncReading[None]: ...

    @overload
    def read(
        self,
        filter: TypeForm[T],
        *,
        start: StartAt = "all",
        limit: int = 0,
        follow: bool = False,
        on_decode_error: OnDecodeError = "reject",
    ) -> AsyncReading[T]: ...

    def read(
        self,
        filter: Any = ">",  # noqa: A002 -- the word for it
        *,
        start: StartAt = "all",
        limit: int = 0,
        follow: bool = False,
        on_decode_error: OnDecodeError = "reject",
    ) -> AsyncReading[Any]:
        """Browse the message line, leaving no trace. Nothing is leased.

        Ends at the end of the line or after `limit` messages (0: no limit); with
        `follow` it goes on with what is published later.
        """
        connection = self._connection.check()
        filters, kinds = to_filters(filter)
        reading: AsyncReading[Any] = AsyncReading(
            connection,
            ReadCore(filters, to_start(start), limit=limit, follow=follow),
            kinds=kinds,
            on_decode_error=on_decode_error,
        )
        connection.receivers.add(reading)
        return reading
