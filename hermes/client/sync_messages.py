"""What subscribe, consume and read of the sync client have in common.

`Messages` is a context manager and an iterator in one. Entering registers, leaving
releases. Iterating waits in short slices, so Ctrl-C is seen within a second and
`close()` from another thread ends it. Several threads may iterate at once.
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar

from hermes.client.core.deliveries import Delivered
from hermes.client.core.inbox import Inbox
from hermes.client.message import Message
from hermes.client.message_batch import MessageBatch
from hermes.client.options import Seconds, to_ns
from hermes.client.sync_connection import SyncConnection
from hermes.client.sync_stream import WAIT_SLICE_S
from hermes.client.typed import decode_event
from hermes.errors import ClosedError, DecodeError, InvalidArgumentError, PreconditionError

EventT = TypeVar("EventT")
TakenT = TypeVar("TakenT")
OnDecodeError = Literal["reject", "raise"]

_log = logging.getLogger("hermes.client")


class Messages(ABC, Generic[EventT]):
    """A context manager and iterator of messages. Not to be made by users.

    `_inbox_lock` guards the inbox and the core behind it: the stream's, once entered.
    """

    def __init__(
        self, connection: SyncConnection, kinds: Any, on_decode_error: OnDecodeError
    ) -> None:
        self._connection = connection
        self._guard = connection.guard
        self._check_fork = connection.guard.check
        self._kinds = kinds
        self._decodes_early = kinds is not None and on_decode_error == "reject"
        self._inbox_lock = threading.RLock()
        self._arrived = threading.Condition(self._inbox_lock)
        self._inbox: Inbox[Any] | None = None
        self._left = False

    # ---------------------------------------------------------- context manager

    def __enter__(self) -> Self:
        self._guard.check()
        if self._inbox is not None or self._left:
            raise PreconditionError("this object was entered before", hint="make a new one")
        try:
            inbox, lock = self._open()
        except BaseException:
            self.close()
            raise
        with lock:
            self._inbox_lock = lock
            self._arrived = threading.Condition(lock)
            inbox.ready = self._arrived.notify_all
            self._inbox = inbox
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave: iterators end, what is unsettled is released. From any thread; idempotent."""
        if self._left or self._guard.forked:
            return
        self._left = True
        try:
            self._close()
        finally:
            self._connection.receivers.discard(self)
            with self._arrived:
                self._arrived.notify_all()

    @abstractmethod
    def _open(self) -> tuple[Inbox[Any], threading.RLock]:
        """Register with the broker."""

    @abstractmethod
    def _close(self) -> None:
        """Release, flush and end."""

    # ---------------------------------------------------------------- iteration

    def __iter__(self) -> Self:
        self._entered()
        return self

    def __next__(self) -> Message[EventT]:
        """The next message."""
        inbox = self._inbox
        if inbox is not None and not self._decodes_early:
            # By far the most common case, kept to what must be done.
            self._check_fork()
            with self._inbox_lock:
                taken = inbox.take()
            if taken is not None:
                return Message(taken[0], taken[1], self)
        message = self._next(self._take, _never)
        if message is None:
            raise StopIteration
        return message

    def batches(self) -> Batches[EventT]:
        """The same messages by batch, as they came: by far the cheapest way to many."""
        self._entered()
        return Batches(self)

    def next_batch(self) -> MessageBatch[EventT] | None:
        """The next batch; None at the end."""
        return self._next(self._take_batch, _never)

    def fetch(
        self,
        max: int = 100,  # noqa: A002 -- the word for it
        timeout: Seconds | None = 1.0,
    ) -> list[Message[EventT]]:
        """Up to `max` messages: as soon as so many are there, else what is there in time.

        Without a timeout it waits for the first message and gives what is there then.
        The list may be empty.
        """
        inbox = self._entered()
        clock = self._connection.clock
        wanted = max if timeout is not None else 1
        timeout_ns = None if timeout is None else to_ns(timeout, "timeout")
        started_ns = clock.monotonic_ns()
        messages: list[Message[EventT]] = []
        with self._arrived:
            while inbox.buffered < wanted and not self._is_all(inbox):
                wait_s = WAIT_SLICE_S
                if timeout_ns is not None:
                    left_ns = started_ns + timeout_ns - clock.monotonic_ns()
                    if left_ns <= 0:
                        break
                    wait_s = min(wait_s, left_ns / 1e9)
                self._ask()
                self._arrived.wait(wait_s)
                self._guard.check()
            while len(messages) < max and (message := self._take(inbox)) is not None:
                messages.append(message)
        if not messages and inbox.error is not None and not self._left:
            raise inbox.error
        return messages

    def run(self, handler: Callable[[Message[EventT]], object], concurrency: int = 16) -> None:
        """Handle messages on threads until the end: ack on return, nack when it raises.

        At most `concurrency` handlers run at once. Ctrl-C and `close()` let those that
        run finish. Raises what ends the stream.
        """
        self._entered()
        if concurrency < 1:
            raise InvalidArgumentError(f"concurrency must be at least 1, not {concurrency!r}")
        stop = threading.Event()
        failures: list[BaseException] = []
        workers = [
            threading.Thread(
                target=self._work, args=(handler, stop, failures), name="hermes run", daemon=True
            )
            for _ in range(concurrency)
        ]
        for worker in workers:
            worker.start()
        try:
            for worker in workers:
                while worker.is_alive():
                    worker.join(WAIT_SLICE_S)
        finally:
            stop.set()
            for worker in workers:
                worker.join()
        if failures:
            raise failures[0]

    def _work(
        self,
        handler: Callable[[Message[EventT]], object],
        stop: threading.Event,
        failures: list[BaseException],
    ) -> None:
        try:
            while (message := self._next(self._take, stop.is_set)) is not None:
                try:
                    handler(message)
                except Exception as error:  # noqa: BLE001 -- the nack carries it
                    _log.warning("handler failed on %s", message.subject, exc_info=True)
                    message.conclude(error)
                except BaseException as error:
                    message.conclude(error)
                    raise
                else:
                    message.conclude(None)
        except BaseException as error:  # noqa: BLE001 -- run() raises it on the caller's thread
            failures.append(error)
            stop.set()

    # ------------------------------------------------------------------ details

    def _next(
        self, take: Callable[[Inbox[Any]], TakenT | None], stopped: Callable[[], bool]
    ) -> TakenT | None:
        """The next message or batch; None at the end. Raises what ended the stream."""
        inbox = self._entered()
        with self._arrived:
            while not stopped():
                taken = take(inbox)
                if taken is not None:
                    return taken
                if inbox.error is not None and not self._left:
                    raise inbox.error
                if inbox.ended or self._left:
                    return None
                self._ask()
                self._arrived.wait(WAIT_SLICE_S)
                self._guard.check()
        return None

    def _entered(self) -> Inbox[Any]:
        self._guard.check()
        if self._inbox is None:
            if self._left:
                raise ClosedError("this object was left")
            raise PreconditionError(
                "not entered yet: nothing is registered",
                hint="use it as `with client.…(…) as messages:`",
            )
        return self._inbox

    def _ask(self) -> None:
        """The user is about to wait."""

    def _is_all(self, inbox: Inbox[Any]) -> bool:
        """No more can come before something is settled."""
        return inbox.ended or self._left

    def _take(self, inbox: Inbox[Any]) -> Message[EventT] | None:
        while (taken := inbox.take()) is not None:
            message: Message[EventT] = Message(*taken, self)
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

    def decode(self, delivered: Delivered, index: int) -> Any:
        """The event of a message; None without types. Raises `DecodeError`."""
        if self._kinds is None:
            return None
        return decode_event(
            self._kinds, delivered.subject, delivered.payload(index), delivered.headers(index)
        )


class Batches(Generic[EventT]):
    """Iterates over what a receiver gets, batch by batch. Several threads may."""

    __slots__ = ("_messages",)

    def __init__(self, messages: Messages[EventT]) -> None:
        self._messages = messages

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> MessageBatch[EventT]:
        batch = self._messages.next_batch()
        if batch is None:
            raise StopIteration
        return batch


def _never() -> bool:
    return False
