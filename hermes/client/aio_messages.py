"""What subscribe, consume and read of the asyncio client have in common.

`AsyncMessages` is a context manager and an iterator in one. Entering registers,
leaving releases. Waiting and taking are two steps: a message is taken from the inbox
only when the caller is about to get it, so cancelling a waiting task costs nothing.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar

from hermes.client.aio_connection import AsyncConnection
from hermes.client.core.deliveries import Delivered
from hermes.client.core.inbox import Inbox
from hermes.client.message import Message
from hermes.client.message_batch import MessageBatch
from hermes.client.options import Seconds, to_ns
from hermes.client.typed import decode_event
from hermes.errors import ClosedError, DecodeError, InvalidArgumentError, PreconditionError

EventT = TypeVar("EventT")
OnDecodeError = Literal["reject", "raise"]

_log = logging.getLogger("hermes.client")

# A full inbox would keep the event loop to its consumer: give way after so many messages.
_MESSAGES_PER_TURN = 256


class AsyncMessages(ABC, Generic[EventT]):
    """A context manager and async iterator of messages. Not to be made by users."""

    def __init__(
        self, connection: AsyncConnection, kinds: Any, on_decode_error: OnDecodeError
    ) -> None:
        self._connection = connection
        self._guard = connection.guard
        self._kinds = kinds
        self._decodes_early = kinds is not None and on_decode_error == "reject"
        self._arrived = asyncio.Event()
        self._inbox: Inbox[Any] | None = None
        self._left = False
        self._turn = 0

    # ---------------------------------------------------------- context manager

    async def __aenter__(self) -> Self:
        self._guard.check()
        if self._inbox is not None or self._left:
            raise PreconditionError("this object was entered before", hint="make a new one")
        try:
            inbox = await self._open()
        except BaseException:
            await self.aclose()
            raise
        inbox.ready = self._arrived.set
        self._inbox = inbox
        self._arrived.set()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Leave: iterators end, what is unsettled is released. Idempotent."""
        if not self._left:
            self._left = True
            if self._guard.forked:
                return
            try:
                await self._close()
            finally:
                self._connection.receivers.discard(self)
        self._arrived.set()

    @abstractmethod
    async def _open(self) -> Inbox[Any]:
        """Register with the broker."""

    @abstractmethod
    async def _close(self) -> None:
        """Release, flush and end."""

    # ---------------------------------------------------------------- iteration

    def __aiter__(self) -> Self:
        self._entered()
        return self

    async def __anext__(self) -> Message[EventT]:
        """The next message. Cancelling it loses none."""
        inbox = self._inbox
        if inbox is None or self._turn >= _MESSAGES_PER_TURN:
            inbox = self._entered()
            self._turn = 0
            await asyncio.sleep(0)
        self._turn += 1
        while (message := self._take(inbox)) is None:
            await self._wait(inbox)
        return message

    def batches(self) -> AsyncBatches[EventT]:
        """The same messages by batch, as they came: by far the cheapest way to many."""
        self._entered()
        return AsyncBatches(self)

    async def next_batch(self) -> MessageBatch[EventT]:
        """The next batch. Cancelling it loses none. Raises StopAsyncIteration at the end."""
        inbox = self._entered()
        if self._turn >= _MESSAGES_PER_TURN:
            self._turn = 0
            await asyncio.sleep(0)
        while (batch := self._take_batch(inbox)) is None:
            await self._wait(inbox)
        self._turn += len(batch)
        return batch

    async def _wait(self, inbox: Inbox[Any]) -> None:
        """Wait for something to take, or for the end and raise it."""
        self._guard.check()
        if inbox.ended or self._left:
            if inbox.error is not None and not self._left:
                raise inbox.error
            raise StopAsyncIteration
        self._arrived.clear()
        self._ask()
        await self._arrived.wait()

    async def fetch(
        self,
        max: int = 100,  # noqa: A002 -- the word for it
        timeout: Seconds | None = 1.0,
    ) -> list[Message[EventT]]:
        """Up to `max` messages: as soon as so many are there, else what is there in time.

        Without a timeout it waits for the first message and gives what is there then.
        The list may be empty. Cancelling it loses no message.
        """
        inbox = self._entered()
        wanted = max if timeout is not None else 1
        try:
            async with asyncio.timeout(
                None if timeout is None else to_ns(timeout, "timeout") / 1e9
            ):
                while inbox.buffered < wanted and not self._is_all(inbox):
                    self._arrived.clear()
                    self._ask()
                    await self._arrived.wait()
        except TimeoutError:
            pass
        messages: list[Message[EventT]] = []
        while len(messages) < max and (message := self._take(inbox)) is not None:
            messages.append(message)
        if not messages and inbox.error is not None and not self._left:
            raise inbox.error
        return messages

    async def run(
        self,
        handler: Callable[[Message[EventT]], Awaitable[object] | object],
        concurrency: int = 16,
    ) -> None:
        """Handle messages until the end: ack when `handler` returns, nack when it raises.

        At most `concurrency` handlers run at once. Cancelling `run` cancels them and
        releases their messages. Raises what ends the stream.
        """
        self._entered()
        if concurrency < 1:
            raise InvalidArgumentError(f"concurrency must be at least 1, not {concurrency!r}")
        workers = [asyncio.create_task(self._work(handler)) for _ in range(concurrency)]
        try:
            done, _ = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
            for worker in done:
                worker.result()
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, handler: Callable[[Message[EventT]], object]) -> None:
        async for message in self:
            try:
                result = handler(message)
                if inspect.isawaitable(result):
                    await result
            except Exception as error:  # noqa: BLE001 -- the nack carries it
                _log.warning("handler failed on %s", message.subject, exc_info=True)
                message.conclude(error)
            except BaseException as error:
                message.conclude(error)
                raise
            else:
                message.conclude(None)

    # ------------------------------------------------------------------ details

    def _entered(self) -> Inbox[Any]:
        self._guard.check()
        if self._inbox is None:
            if self._left:
                raise ClosedError("this object was left")
            raise PreconditionError(
                "not entered yet: nothing is registered",
                hint="use it as `async with client.…(…) as messages:`",
            )
        return self._inbox

    def _ask(self) -> None:
        """The user is about to wait."""

    def _is_all(self, inbox: Inbox[Any]) -> bool:
        """No more can come before something is settled."""
        return inbox.ended or self._left

    def _take(self, inbox: Inbox[Any]) -> Message[EventT] | None:
        while (taken := inbox.take()) is not None:
            message: Message[EventT] = Message(taken[0], taken[1], self)
            if not self._decodes_early:
                return message
            try:
                _ = message.event
            except DecodeError as error:
                self._on_undecodable(message, error)
            else:
                return message
        return None

    def _take_batch(self, inbox: Inbox[Any]) -> MessageBatch[EventT] | None:
        while (taken := inbox.take_batch()) is not None:
            delivered, indexes = taken
            if not self._decodes_early:
                return MessageBatch(delivered, indexes, self)
            batch: MessageBatch[EventT] = MessageBatch(delivered, indexes, self)
            good: list[Message[EventT]] = []
            for message in batch.messages():
                try:
                    _ = message.event
                except DecodeError as error:
                    self._on_undecodable(message, error)
                else:
                    good.append(message)
            if len(good) == len(batch):
                return batch
            if good:
                return MessageBatch(delivered, [message.index for message in good], self, good)
        return None

    def _on_undecodable(self, message: Message[EventT], error: DecodeError) -> None:
        _log.warning("skipped %s: %s", message.subject, error)

    # ------------------------------------------------- what messages ask of this

    def decode(self, delivered: Delivered, index: int) -> Any:
        """The event of a message; None without types. Raises `DecodeError`."""
        if self._kinds is None:
            return None
        return decode_event(
            self._kinds, delivered.subject, delivered.payload(index), delivered.headers(index)
        )


class AsyncBatches(Generic[EventT]):
    """Iterates over what a receiver gets, batch by batch."""

    __slots__ = ("_messages",)

    def __init__(self, messages: AsyncMessages[EventT]) -> None:
        self._messages = messages

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[MessageBatch[EventT]]:
        return self._messages.next_batch()
