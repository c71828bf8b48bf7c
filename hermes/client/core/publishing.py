"""[P] Publishing over one PublishBatches stream: numbering, merging, matching, resending.

Each submitted batch waits in `_queue`, gets its sequence when it is put into a frame,
and stays in `_in_flight` until its result arrives. Results come in order, so what is
unsettled is always the tail of what was sent.

Rules
- Durable batches go on a stream with a producer id. After a lost connection those in
  flight are sent again under their old sequences; the broker stores each once.
- Live batches go on a stream of their own, without memory: those in flight are lost
  with the connection, because sending them again could show them twice.
- A batch whose caller stopped waiting is dropped while it is queued, never afterwards.
- A fatal error fails all that waits and starts a new producer with sequence 1.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec

from hermes.broker.v1 import broker_pb2 as pb
from hermes.client.core.codes import error_from_code
from hermes.client.core.stream import Waiter, fail, resolve
from hermes.errors import ConnectionLostError, HermesError, LimitExceededError
from hermes.limits import FRAME_BYTES_MIN, MIB, PRODUCER_SEQUENCES_KEPT

# The broker remembers this many sequences per producer: more could not be resent safely.
IN_FLIGHT_BATCHES_MAX = PRODUCER_SEQUENCES_KEPT
QUEUE_BYTES_MAX = 16 * MIB
_BATCH_OVERHEAD_BYTES = 8  # tag and length of a batch within a frame


class PublishAck(msgspec.Struct, frozen=True, gc=False):
    """The broker has the message. `offset` is None for a live one.

    `duplicate` is true when a message with this id was there already; `offset` is then
    the one it has.
    """

    offset: int | None
    duplicate: bool = False


class Pending(msgspec.Struct):
    """A batch on its way. `size_bytes` is its serialized size."""

    batch: pb.Batch
    size_bytes: int
    message_bytes: int  # largest payload
    submitted_ns: int
    waiter: Waiter
    sequence: int = 0


def _ignore() -> None:
    """Nobody to wake yet."""


class PublishCore:
    """One stream of publishes, durable or live.

    `producer_ids` yields a fresh random producer id (16 bytes) each time it is called.
    `connect_timeout_ns` is how long a batch waits for a first connection,
    `retry_timeout_ns` how long for a lost one, before it fails with ConnectionLostError.
    """

    def __init__(
        self,
        *,
        live: bool,
        producer_ids: Callable[[], bytes],
        connect_timeout_ns: int,
        retry_timeout_ns: int,
        unreachable: Callable[[HermesError | None], ConnectionLostError],
    ) -> None:
        self.wake: Callable[[], None] = _ignore
        self._live = live
        self._producer_ids = producer_ids
        self._producer_id = b"" if live else producer_ids()
        self._connect_timeout_ns = connect_timeout_ns
        self._retry_timeout_ns = retry_timeout_ns
        self._unreachable = unreachable
        self._next_sequence = 1
        self._queue: deque[Pending] = deque()
        self._queued_bytes = 0
        self._resend: deque[Pending] = deque()
        self._in_flight: deque[Pending] = deque()
        self._room: deque[Waiter] = deque()
        self._settled: deque[Waiter] = deque()
        self._is_open = False
        self._draining = False
        self._closing = False
        self._lost_at_ns: int | None = None
        self._last_error: HermesError | None = None
        self.message_bytes_max: int | None = None
        self._frame_bytes_max = FRAME_BYTES_MIN

    # ------------------------------------------------------------------ callers

    def submit(self, batch: pb.Batch, message_bytes: int, waiter: Waiter, now_ns: int) -> None:
        """Queue a batch of one message; `waiter` gets a PublishAck or an error.

        Raises `LimitExceededError` when the message is larger than the broker takes.
        """
        self._check_size(message_bytes)
        size = batch.ByteSize() + _BATCH_OVERHEAD_BYTES
        self._queue.append(Pending(batch, size, message_bytes, now_ns, waiter))
        self._queued_bytes += size
        self.wake()
        self.offer_room()

    @property
    def is_full(self) -> bool:
        """True while callers should wait for room (see `wait_for_room`)."""
        return self._queued_bytes >= QUEUE_BYTES_MAX

    def wait_for_room(self, waiter: Waiter) -> None:
        """`waiter` gets None once it may submit. If it does not, it must `offer_room`."""
        self._room.append(waiter)

    def offer_room(self) -> None:
        """Let the next caller submit, if there is room. One at a time: each offers on."""
        while self._room and not self.is_full:
            waiter = self._room.popleft()
            if not waiter.done():
                resolve(waiter, None)
                return

    def wait_until_settled(self, waiter: Waiter) -> None:
        """`waiter` gets None once nothing is queued or in flight."""
        if self.unsettled:
            self._settled.append(waiter)
        else:
            resolve(waiter, None)

    @property
    def unsettled(self) -> int:
        """Batches queued or in flight."""
        return len(self._queue) + len(self._resend) + len(self._in_flight)

    def close(self) -> None:
        """Finish what is unsettled, then half-close."""
        self._closing = True
        self.wake()

    # ------------------------------------------------------------------- driver

    @property
    def is_open(self) -> bool:
        return self._is_open

    @property
    def is_finished(self) -> bool:
        if self._draining:
            return not self._in_flight
        return self._closing and self.unsettled == 0

    @property
    def is_ahead(self) -> bool:
        return False  # what can be under way is bounded

    def opening(self) -> pb.PublishBatchesRequest:
        self._draining = False
        first = self._resend[0].sequence if self._resend else self._next_sequence
        return pb.PublishBatchesRequest(
            open=pb.PublishOpen(producer_id=self._producer_id, first_sequence=first),
            live=self._live,
        )

    def on_response(self, response: pb.PublishBatchesResponse, _now_ns: int) -> None:
        if response.HasField("opened"):
            self._on_opened(response.opened)
        for result in response.results:
            self._on_result(result)
        if response.HasField("drain"):
            self._draining = True
        self._tell_waiters()
        if self._resend or self._queue or self._draining or self._closing:
            self.wake()

    def next_request(self) -> pb.PublishBatchesRequest | None:
        if not self._is_open or self._draining:
            return None
        taken: list[pb.Batch] = []
        sequence = 0
        room_bytes = self._frame_bytes_max
        while len(self._in_flight) < IN_FLIGHT_BATCHES_MAX:
            source = self._resend or self._queue
            if not source or (taken and source[0].size_bytes > room_bytes):
                break
            pending = source.popleft()
            if not pending.sequence:
                self._queued_bytes -= pending.size_bytes
                if pending.waiter.done():
                    continue
                pending.sequence = self._next_sequence
                self._next_sequence += 1
            sequence = sequence or pending.sequence
            room_bytes -= pending.size_bytes
            taken.append(pending.batch)
            self._in_flight.append(pending)
        self._tell_waiters()
        if not taken:
            return None
        return pb.PublishBatchesRequest(sequence=sequence, batches=taken, live=self._live)

    def next_timer_ns(self) -> int | None:
        """When the oldest unsettled batch gives up waiting for a connection."""
        if self._is_open:
            return None
        oldest = self._resend or self._queue
        return self._deadline_ns(oldest[0]) if oldest else None

    def on_timer(self, now_ns: int) -> None:
        if self._is_open:
            return
        for source in (self._resend, self._queue):
            while source and self._deadline_ns(source[0]) <= now_ns:
                pending = source.popleft()
                if not pending.sequence:
                    self._queued_bytes -= pending.size_bytes
                fail(pending.waiter, self._unreachable(self._last_error))
        self._tell_waiters()

    def on_lost(self, error: HermesError, now_ns: int) -> None:
        was_open, self._is_open = self._is_open, False
        self._last_error = error
        if was_open:
            self._lost_at_ns = now_ns
        if self._live:
            for pending in self._in_flight:
                fail(pending.waiter, ConnectionLostError(f"the live publish is lost: {error}"))
        else:
            self._in_flight.extend(self._resend)
            self._resend = self._in_flight
        self._in_flight = deque()
        self._tell_waiters()

    def on_failed(self, error: HermesError) -> None:
        self._is_open = False
        for source in (self._in_flight, self._resend, self._queue):
            for pending in source:
                fail(pending.waiter, error)
            source.clear()
        self._queued_bytes = 0
        self._next_sequence = 1
        if not self._live:
            self._producer_id = self._producer_ids()
        self._tell_waiters()

    # ------------------------------------------------------------------ details

    def _on_opened(self, opened: pb.PublishOpened) -> None:
        self._is_open = True
        self._lost_at_ns = None
        self.message_bytes_max = opened.max_message_bytes or None
        self._frame_bytes_max = opened.max_frame_bytes or FRAME_BYTES_MIN
        fitting: deque[Pending] = deque()
        for pending in self._queue:
            try:
                self._check_size(pending.message_bytes)
            except LimitExceededError as error:
                self._queued_bytes -= pending.size_bytes
                fail(pending.waiter, error)
            else:
                fitting.append(pending)
        self._queue = fitting
        self.wake()

    def _on_result(self, result: pb.PublishResult) -> None:
        if result.HasField("refusal"):
            refusal = result.refusal
            for _ in range(max(1, result.batches)):
                error = error_from_code(refusal.code, refusal.message, refusal.hint)
                fail(self._settle_next().waiter, error)
            return
        if result.duplicate_indexes:
            ack = PublishAck(result.duplicate_offsets[0], duplicate=True)
            resolve(self._settle_next().waiter, ack)
            return
        base = result.base_offset if result.HasField("base_offset") else None
        for index in range(max(1, result.batches)):
            offset = None if base is None else base + index
            resolve(self._settle_next().waiter, PublishAck(offset))

    def _settle_next(self) -> Pending:
        if not self._in_flight:
            raise HermesError("the broker answered a publish that was not sent")
        return self._in_flight.popleft()

    def _check_size(self, message_bytes: int) -> None:
        limit = self.message_bytes_max
        if limit is not None and message_bytes > limit:
            raise LimitExceededError(
                f"a message of {message_bytes} bytes exceeds max_message_bytes = {limit}",
                hint="raise HERMES_MAX_MESSAGE_BYTES on the broker, or send a reference",
                limit_bytes=limit,
            )

    def _deadline_ns(self, pending: Pending) -> int:
        deadline = pending.submitted_ns + self._connect_timeout_ns
        if self._lost_at_ns is not None:
            return max(deadline, self._lost_at_ns + self._retry_timeout_ns)
        return deadline

    def _tell_waiters(self) -> None:
        self.offer_room()
        while self._settled and self.unsettled == 0:
            resolve(self._settled.popleft(), None)
