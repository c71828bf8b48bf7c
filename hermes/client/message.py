"""A message in the user's hands, for both clients.

A `Message` is a delivery and an index: what it holds is decoded when it is looked at.
Its verdicts take effect when they are called; the `Settled` they give may be awaited
(or not) and tells of the commit when `wait=True` was asked for.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Final, Generic, Protocol, TypeVar, cast

from hermes.broker.v1 import broker_pb2 as pb
from hermes.client.core.deliveries import Delivered
from hermes.client.core.leases import Leased
from hermes.client.core.settlements import ACK, Terms
from hermes.client.options import Seconds, reason_text, to_ns
from hermes.errors import HermesError, PreconditionError

EventT_co = TypeVar("EventT_co", covariant=True)

_log = logging.getLogger("hermes.client")

_UNDECODED: Final = object()


class Settled:
    """What a verdict gives: awaitable, and free to ignore.

    With `wait=True` awaiting it (or `result()`) returns once the verdict is committed,
    and raises `StaleError` if it did not count. Otherwise it is done at once.
    """

    __slots__ = ("_future",)

    def __init__(self, future: concurrent.futures.Future[None] | None = None) -> None:
        self._future = future

    def __await__(self) -> Generator[Any, None, None]:
        if self._future is not None:
            yield from asyncio.wrap_future(self._future).__await__()

    def result(self, timeout_s: float | None = None) -> None:
        """Block a thread until the verdict is committed. Not for an event loop's thread."""
        if self._future is not None:
            self._future.result(timeout_s)


SENT: Final = Settled()  # for the many verdicts nobody waits for


class Owner(Protocol):
    """What a message needs of the iterator it came from."""

    def decode(self, delivered: Delivered, index: int) -> Any: ...


class Lessor(Owner, Protocol):
    """What a leased message needs besides."""

    def settle(self, leased: Leased, index: int, terms: Terms, wait: bool) -> Settled: ...

    def is_settled(self, leased: Leased, index: int) -> bool: ...


class Message(Generic[EventT_co]):
    """One message. Attributes are read only; verdicts are for consumers.

    As a context manager (`with` or `async with`) it acks at the end, or nacks with the
    exception as the reason, unless a verdict was given before.
    """

    __slots__ = ("_delivered", "_event", "_index", "_owner")

    def __init__(self, delivered: Delivered, index: int, owner: Owner) -> None:
        self._delivered = delivered
        self._index = index
        self._owner = owner
        self._event: Any = _UNDECODED

    # ------------------------------------------------------------------ contents

    @property
    def index(self) -> int:
        """Place in the batch it came in."""
        return self._index

    @property
    def subject(self) -> str:
        return self._delivered.subject

    @property
    def payload(self) -> bytes:
        return self._delivered.payload(self._index)

    @property
    def headers(self) -> dict[str, str]:
        """A fresh dict; empty when there are none."""
        return self._delivered.headers(self._index)

    @property
    def id(self) -> str | None:
        """The publisher's id, if it gave one."""
        return self._delivered.message_id(self._index)

    @property
    def offset(self) -> int | None:
        """Place in the message line; None for a message published live."""
        base = self._delivered.base_offset
        return None if base is None else base + self._index

    @property
    def attempt(self) -> int:
        """How many times this consumer delivered it, this one included; 0 for live and read."""
        return self._delivered.attempt

    @property
    def published_at(self) -> datetime:
        """When the broker recorded it, in UTC, to the microsecond."""
        return _EPOCH + timedelta(microseconds=self._delivered.published_at_ns // 1000)

    @property
    def published_at_ns(self) -> int:
        """The same as Unix time in nanoseconds."""
        return self._delivered.published_at_ns

    @property
    def event(self) -> EventT_co:
        """The decoded event of a typed consumer or subscription; None of an untyped one.

        Raises `DecodeError` if the payload is not what its type says.
        """
        if self._event is _UNDECODED:
            self._event = self._owner.decode(self._delivered, self._index)
        return cast("EventT_co", self._event)

    def __repr__(self) -> str:
        return (
            f"<Message {self.subject} offset={self.offset} attempt={self.attempt} "
            f"{len(self.payload)} bytes>"
        )

    # ------------------------------------------------------------------ verdicts

    def ack(self, *, wait: bool = False) -> Settled:
        """Done with it. Idempotent. `wait` waits for the commit."""
        delivered = self._delivered
        if delivered.__class__ is Leased:  # by far the most common verdict, kept short
            owner: Any = self._owner
            settled: Settled = owner.settle(delivered, self._index, ACK, wait)
            return settled
        return self._settle(ACK, wait)

    def nack(
        self,
        delay: Seconds | None = None,
        reason: str | None = None,
        *,
        wait: bool = False,
    ) -> Settled:
        """Failed: deliver it again after `delay`, else after the consumer's backoff."""
        delay_ns = None if delay is None else to_ns(delay, "delay")
        terms = Terms(pb.VERDICT_NACK, self.attempt, delay_ns, reason_text(reason))
        return self._settle(terms, wait)

    def reject(self, reason: str | None = None, *, wait: bool = False) -> Settled:
        """Never deliver it to this consumer again: it becomes a dead letter."""
        return self._settle(Terms(pb.VERDICT_REJECT, self.attempt, None, reason_text(reason)), wait)

    def extend(self, *, wait: bool = False) -> Settled:
        """The ack timeout begins anew. The client does it by itself up to `max_lease`."""
        return self._settle(Terms(pb.VERDICT_EXTEND, self.attempt), wait)

    def release(self, *, wait: bool = False) -> Settled:
        """Hand it back unprocessed: no failure is counted."""
        return self._settle(Terms(pb.VERDICT_RELEASE, self.attempt), wait)

    def _settle(self, terms: Terms, wait: bool) -> Settled:
        if not isinstance(self._delivered, Leased):
            raise PreconditionError(
                "this message is not leased: there is nothing to settle",
                hint="only messages of consume() are acked, nacked, rejected or extended",
            )
        return cast("Lessor", self._owner).settle(self._delivered, self._index, terms, wait)

    # ---------------------------------------------------------- context manager

    def __enter__(self) -> Message[EventT_co]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.conclude(error)

    async def __aenter__(self) -> Message[EventT_co]:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.conclude(error)

    def conclude(self, error: BaseException | None) -> None:
        """Ack, nack or release by how its handling ended, unless it is settled or not leased."""
        delivered = self._delivered
        if not isinstance(delivered, Leased):
            return
        if cast("Lessor", self._owner).is_settled(delivered, self._index):
            return
        if error is None:
            self.ack()
            return
        try:
            if isinstance(error, Exception):
                self.nack(reason=failure_reason(error))
            else:  # cancelled or interrupted: not the message's fault
                self.release()
        except HermesError:
            # The stream has ended and took the lease along. What is under way, perhaps
            # a cancellation, must not be replaced by that.
            _log.debug("no verdict on %s: the stream has ended", self.subject, exc_info=True)


def failure_reason(error: BaseException) -> str:
    """What a nack says of the exception that caused it."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
