"""`AsyncPublisher`: pipelined publishing on asyncio.

`send()` puts a message into the batch that waits for the next frame, and returns. It
gives way to the event loop once per batch, so that frames leave while the caller goes
on, and waits only while the queue is full.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from types import TracebackType
from typing import Self, overload

from hermes.client.aio_connection import AsyncConnection
from hermes.client.core.outgoing import MESSAGE_OVERHEAD_BYTES, OutgoingBatch, Tally
from hermes.client.options import Payload, Seconds, outgoing, to_ns
from hermes.client.receipts import AsyncReceipt, publish_error
from hermes.errors import ClosedError, OperationTimeoutError, PublishError

_log = logging.getLogger("hermes.client")

# Messages sent on many subjects: give way to the event loop after so many.
_MESSAGES_PER_TURN = 256


class AsyncPublisher:
    """A pipeline to the broker, from `client.publisher()`. For one event loop, many tasks.

    Messages of one publisher are stored in the order in which they were sent, and each
    once, also over lost connections. Only a message that the broker refuses by itself (a
    bad id, too many headers) may be overtaken by those that had left before its refusal
    came, together with those that shared its batch. Of a live queue group one member
    gets each batch.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._check_fork = connection.guard.check
        self._tally = Tally()
        self._batch = OutgoingBatch("", None, 0)  # the durable one that may be added to
        self._turn = 0
        self._closed = False

    # ------------------------------------------------------------------ sending

    @overload
    async def send(
        self,
        subject: str,
        payload: Payload,
        *,
        headers: Mapping[str, str] | None = None,
        id: str | None = None,
        durable: bool = True,
    ) -> AsyncReceipt: ...

    @overload
    async def send(
        self,
        subject: object,
        *,
        headers: Mapping[str, str] | None = None,
        id: str | None = None,
        durable: bool = True,
    ) -> AsyncReceipt: ...

    async def send(
        self,
        subject: object,
        payload: Payload | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        id: str | None = None,
        durable: bool = True,
    ) -> AsyncReceipt:
        """Send a message or an `@event` object; what it gives may be awaited for the ack.

        Waits only for buffer space. Raises `ClosedError` after `aclose()`, and
        `LimitExceededError` for a message larger than the broker takes.
        """
        self._check_fork()
        batch = self._batch
        if (
            batch.is_plain
            and batch.subject == subject
            and payload.__class__ is bytes
            and durable
            and headers is None
            and id is None
        ):
            # By far the most common case, kept to what must be done.
            payloads = batch.payloads
            index = len(payloads)
            size = batch.size_bytes + len(payload) + MESSAGE_OVERHEAD_BYTES
            if index < batch.messages_max and size <= batch.bytes_max:
                payloads.append(payload)
                batch.size_bytes = size
                return AsyncReceipt(batch, index)
        message = outgoing(subject, payload, headers, id)
        self._turn += len(batch.payloads) or 1
        if self._turn >= _MESSAGES_PER_TURN:
            self._turn = 0
            await asyncio.sleep(0)
        while True:  # what happened while it waited counts: closed, failed, another stream
            if self._closed:
                raise ClosedError("the publisher is closed")
            core = self._connection.publishing(live=not durable)
            if not core.is_full:
                break
            await self._connection.room(core)
        now_ns = self._connection.clock.monotonic_ns()
        batch, index = core.submit(*message, now_ns=now_ns, tally=self._tally)
        if durable:
            self._batch = batch
        return AsyncReceipt(batch, index)

    async def flush(self, timeout: Seconds | None = None) -> None:
        """Return once everything sent is acknowledged.

        Raises `PublishError` if messages failed since the last flush, and
        `OperationTimeoutError` after `timeout`; what is under way then goes on.
        """
        self._check_fork()
        settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tally.wait_until_settled(settled)
        try:
            async with asyncio.timeout(
                None if timeout is None else to_ns(timeout, "timeout") / 1e9
            ):
                await settled
        except TimeoutError:
            raise OperationTimeoutError(
                f"not everything was acknowledged within {timeout} s",
                hint="it may still be; flush again",
            ) from None
        self._raise_failures()

    # ----------------------------------------------------------------- lifetime

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            await self.aclose()
            return
        try:
            await self.aclose(self._connection.options.close_timeout_ns / 1e9)
        except (PublishError, OperationTimeoutError) as failure:  # must not hide the error
            _log.warning("a publisher was left: %s", failure)

    async def aclose(self, timeout: Seconds | None = None) -> None:
        """Take nothing more and flush. Idempotent. Raises as `flush` does."""
        self._closed = True
        self._batch = OutgoingBatch("", None, 0)
        await self.flush(timeout)

    def _raise_failures(self) -> None:
        failed, error = self._tally.take_failures()
        if error is not None:
            raise publish_error(failed, error) from error
