"""`Publisher`: pipelined publishing for threads. The sync twin of aio_publisher."""

from __future__ import annotations

import concurrent.futures
import logging
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Self, overload

from hermes.client.core.outgoing import MESSAGE_OVERHEAD_BYTES, OutgoingBatch, Tally
from hermes.client.options import Payload, Seconds, outgoing, to_ns
from hermes.client.receipts import Receipt, publish_error
from hermes.client.sync_connection import SyncConnection
from hermes.client.sync_stream import SyncStream
from hermes.errors import ClosedError, OperationTimeoutError, PublishError

_log = logging.getLogger("hermes.client")


class Publisher:
    """A pipeline to the broker, from `client.publisher()`. For many threads.

    Messages of one thread are stored in the order in which it sent them, and each once,
    also over lost connections. Only a message that the broker refuses by itself (a bad
    id, too many headers) may be overtaken by those that had left before its refusal
    came, together with those that shared its batch. Of a live queue group one member
    gets each batch.
    """

    def __init__(self, connection: SyncConnection) -> None:
        self._connection = connection
        self._check_fork = connection.guard.check
        # Durable and live have a stream each, and a stream its lock.
        self._tallies = {True: Tally(), False: Tally()}
        self._streams: dict[bool, SyncStream] = {}
        # The durable batch that may be added to, with its lock: changed as one.
        self._open = (threading.RLock(), OutgoingBatch("", None, 0))
        self._wait = self._wait_settled  # bound once, not per message
        self._closed = False

    # ------------------------------------------------------------------ sending

    @overload
    def send(
        self,
        subject: str,
        payload: Payload,
        *,
        headers: Mapping[str, str] | None = None,
        id: str | None = None,
        durable: bool = True,
    ) -> Receipt: ...

    @overload
    def send(
        self,
        subject: object,
        *,
        headers: Mapping[str, str] | None = None,
        id: str | None = None,
        durable: bool = True,
    ) -> Receipt: ...

    def send(
        self,
        subject: object,
        payload: Payload | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        id: str | None = None,
        durable: bool = True,
    ) -> Receipt:
        """Send a message or an `@event` object; `result()` of what it gives waits for the ack.

        Waits only for buffer space. Raises `ClosedError` after `close()`, and
        `LimitExceededError` for a message larger than the broker takes.
        """
        self._check_fork()
        if payload.__class__ is bytes and durable and headers is None and id is None:
            # By far the most common case, kept to what must be done.
            lock, batch = self._open
            with lock:
                if batch.is_plain and batch.subject == subject:
                    payloads = batch.payloads
                    index = len(payloads)
                    size = batch.size_bytes + len(payload) + MESSAGE_OVERHEAD_BYTES
                    if index < batch.messages_max and size <= batch.bytes_max:
                        payloads.append(payload)
                        batch.size_bytes = size
                        return Receipt(batch, index, self._wait)
        message = outgoing(subject, payload, headers, id)
        while True:
            if self._closed:
                raise ClosedError("the publisher is closed")
            core, stream = self._connection.publishing(live=not durable)
            if not core.is_full:
                break
            self._connection.room(core, stream)
        now_ns = self._connection.clock.monotonic_ns()
        with stream.lock:
            batch, index = core.submit(*message, now_ns=now_ns, tally=self._tallies[durable])
            self._streams[durable] = stream
            if durable:
                self._open = (stream.lock, batch)
        return Receipt(batch, index, self._wait)

    def flush(self, timeout: Seconds | None = None) -> None:
        """Return once everything sent is acknowledged.

        Raises `PublishError` if messages failed since the last flush, and
        `OperationTimeoutError` after `timeout`; what is under way then goes on.
        """
        self._check_fork()
        deadline_ns = self._deadline_ns(timeout)
        for durable, stream in list(self._streams.items()):
            settled: concurrent.futures.Future[None] = concurrent.futures.Future()
            with stream.lock:
                self._tallies[durable].wait_until_settled(settled)
            self._wait_for(settled, stream, deadline_ns)
        failed, first = 0, None
        for tally in self._tallies.values():
            count, error = tally.take_failures()
            failed, first = failed + count, first or error
        if first is not None:
            raise publish_error(failed, first) from first

    # ----------------------------------------------------------------- lifetime

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
            return
        try:
            self.close(self._connection.options.close_timeout_ns / 1e9)
        except (PublishError, OperationTimeoutError) as failure:  # must not hide the error
            _log.warning("a publisher was left: %s", failure)

    def close(self, timeout: Seconds | None = None) -> None:
        """Take nothing more and flush. Idempotent. Raises as `flush` does."""
        self._closed = True
        self._open = (threading.RLock(), OutgoingBatch("", None, 0))
        self.flush(timeout)

    # ------------------------------------------------------------------ details

    def _wait_settled(self, batch: OutgoingBatch, timeout: Seconds | None) -> None:
        durable = batch.tally is self._tallies[True]
        stream = self._streams[durable]
        settled: concurrent.futures.Future[None] = concurrent.futures.Future()
        with stream.lock:
            batch.watch(settled)
        self._wait_for(settled, stream, self._deadline_ns(timeout))

    def _wait_for(
        self,
        settled: concurrent.futures.Future[None],
        stream: SyncStream,
        deadline_ns: int | None,
    ) -> None:
        try:
            self._connection.wait(settled, stream.tick, deadline_ns)
        except OperationTimeoutError:
            raise OperationTimeoutError(
                "not everything was acknowledged in time", hint="it may still be"
            ) from None

    def _deadline_ns(self, timeout: Seconds | None) -> int | None:
        if timeout is None:
            return None
        return self._connection.clock.monotonic_ns() + to_ns(timeout, "timeout")
