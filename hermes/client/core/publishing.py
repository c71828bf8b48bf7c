"""[P] Publishing over one PublishBatches stream: numbering, matching, resending.

What is submitted waits in the `Outbox`. A batch gets its sequence when it is put into a
frame, and stays in `_in_flight` until its result arrives. Results come in order, so what
is unsettled is always the tail of what was sent.

Rules
- Durable batches go on a stream with a producer id. After a lost connection those in
  flight are sent again, as they were, under their old sequences; the broker stores
  each once.
- Live batches go on a stream of their own, without memory: those in flight are lost
  with the connection, because sending them again could show them twice.
- `publish()` joins no live messages: of a queue group one member gets each batch, and
  work is shared out by message unless a pipeline was asked for.
- What its caller stopped waiting for is dropped while it is queued, never afterwards.
- A refusal is about one message, but takes the whole batch: so its messages are sent
  again one by one, in order, before what is still queued.
- A fatal error fails all that waits and starts a new producer with sequence 1.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from hermes.broker.v1 import broker_pb2 as pb
from hermes.client.core.codes import error_from_code
from hermes.client.core.outbox import Outbox, Pending
from hermes.client.core.outgoing import OutgoingBatch, PublishAck, Tally, message_size_bytes
from hermes.client.core.stream import Waiter
from hermes.errors import ConnectionLostError, HermesError, LimitExceededError
from hermes.limits import FRAME_BYTES_MIN, MIB, PRODUCER_SEQUENCES_KEPT

# The broker remembers this many sequences per producer: more could not be resent safely.
IN_FLIGHT_BATCHES_MAX = PRODUCER_SEQUENCES_KEPT
IN_FLIGHT_BYTES_MAX = 16 * MIB
# Larger frames are no faster, and the broker holds one per stream while its log is full.
FRAME_BYTES_WANTED = MIB


def _ignore() -> None:
    """Nobody to wake yet."""


class PublishCore:
    """One stream of publishes, durable or live.

    `producer_ids` yields a fresh random producer id (16 bytes) each time it is called.
    `connect_timeout_ns` is how long a message waits for a first connection,
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
        self._outbox = Outbox()
        self._resend: deque[Pending] = deque()
        self._in_flight: deque[Pending] = deque()
        self._in_flight_bytes = 0
        self._is_open = False
        self._draining = False
        self._closing = False
        self._lost_at_ns: int | None = None
        self._last_error: HermesError | None = None
        self.message_bytes_max: int | None = None
        self._frame_bytes_max = FRAME_BYTES_MIN

    # ------------------------------------------------------------------ callers

    def submit(
        self,
        subject: str,
        payload: bytes,
        headers: pb.Headers | None,
        message_id: str | None,
        *,
        now_ns: int,
        waiter: Waiter | None = None,
        tally: Tally | None = None,
    ) -> tuple[OutgoingBatch, int]:
        """Queue a message; gives its batch and its index there.

        Either `waiter` gets a PublishAck or an error, or the batch belongs to `tally`.
        Raises `LimitExceededError` when the message is larger than the broker takes.
        """
        self._check_size(len(payload))
        if self._live and tally is None:
            self._outbox.close_last()
        batch = self._outbox.batch_for(
            subject, tally, message_size_bytes(payload, headers, message_id), now_ns
        )
        index = batch.add(payload, headers, message_id)
        if waiter is not None:
            batch.waiters.append(waiter)
        if not index:
            self.wake()
        self._outbox.offer_room()
        return batch, index

    @property
    def is_full(self) -> bool:
        """True while callers should wait for room (see `wait_for_room`)."""
        return self._outbox.is_full

    def wait_for_room(self, waiter: Waiter) -> None:
        """`waiter` gets None once it may submit. If it does not, it must `offer_room`."""
        self._outbox.wait_for_room(waiter)

    def offer_room(self) -> None:
        """Pass room on that a caller was offered and does not use."""
        self._outbox.offer_room()

    @property
    def unsettled(self) -> int:
        """Batches queued or in flight."""
        return len(self._outbox) + len(self._resend) + len(self._in_flight)

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
        self.offer_room()
        if self._resend or self._outbox or self._draining or self._closing:
            self.wake()

    def next_request(self) -> pb.PublishBatchesRequest | None:
        if not self._is_open or self._draining:
            return None
        taken: list[pb.Batch] = []
        sequence = 0
        room_bytes = min(self._frame_bytes_max, FRAME_BYTES_WANTED)
        while len(self._in_flight) < IN_FLIGHT_BATCHES_MAX:
            pending = self._resend[0] if self._resend else self._outbox.first
            if pending is None or self._in_flight_bytes >= IN_FLIGHT_BYTES_MAX:
                break
            if taken and pending.size_bytes > room_bytes:
                break
            if self._resend:
                self._resend.popleft()
            elif not self._number(self._outbox.take()):
                continue
            assert pending.wire is not None
            sequence = sequence or pending.sequence
            room_bytes -= pending.size_bytes
            taken.append(pending.wire)
            self._in_flight.append(pending)
            self._in_flight_bytes += pending.size_bytes
        self.offer_room()
        if not taken:
            return None
        return pb.PublishBatchesRequest(sequence=sequence, batches=taken, live=self._live)

    def next_timer_ns(self) -> int | None:
        """When the oldest unsettled batch gives up waiting for a connection."""
        if self._is_open:
            return None
        oldest = self._resend[0] if self._resend else self._outbox.first
        return None if oldest is None else self._deadline_ns(oldest)

    def on_timer(self, now_ns: int) -> None:
        if self._is_open:
            return
        while self._resend and self._deadline_ns(self._resend[0]) <= now_ns:
            self._resend.popleft().fail(self._unreachable(self._last_error))
        while (first := self._outbox.first) and self._deadline_ns(first) <= now_ns:
            self._outbox.take().fail(self._unreachable(self._last_error))
        self.offer_room()

    def on_lost(self, error: HermesError, now_ns: int) -> None:
        was_open, self._is_open = self._is_open, False
        self._outbox.connected = False
        self._outbox.close_last()
        self._last_error = error
        if was_open:
            self._lost_at_ns = now_ns
        in_flight, self._in_flight, self._in_flight_bytes = self._in_flight, deque(), 0
        if self._live:
            for pending in in_flight:
                pending.fail(ConnectionLostError(f"the live publish is lost: {error}"))
        else:
            in_flight.extend(self._resend)
            self._resend = in_flight
        self.offer_room()

    def on_failed(self, error: HermesError) -> None:
        self._is_open = self._outbox.connected = False
        for source in (self._in_flight, self._resend):
            while source:
                source.popleft().fail(error)
        self._outbox.drop_if(lambda _: error)
        self._in_flight_bytes = 0
        self._next_sequence = 1
        if not self._live:
            self._producer_id = self._producer_ids()
        self.offer_room()

    # ------------------------------------------------------------------ details

    def _number(self, pending: Pending) -> bool:
        """Give it a sequence and its final form; False when nobody waits for it."""
        batch = pending.batch
        if not pending.count:
            batch.drop_cancelled()
            pending.count = batch.seal()
            if not pending.count:
                return False
        pending.wire = batch.wire(pending.first, pending.count)
        pending.sequence = self._next_sequence
        self._next_sequence += 1
        return True

    def _on_opened(self, opened: pb.PublishOpened) -> None:
        self._is_open = self._outbox.connected = True
        self._lost_at_ns = None
        limit = self.message_bytes_max = opened.max_message_bytes or None
        self._frame_bytes_max = opened.max_frame_bytes or FRAME_BYTES_MIN
        self._outbox.refit(limit, opened.max_batch_messages, self._frame_bytes_max)
        self._outbox.drop_if(self._too_large)
        self.wake()

    def _too_large(self, pending: Pending) -> HermesError | None:
        try:
            self._check_size(pending.largest_bytes)
        except LimitExceededError as error:
            return error
        return None

    def _on_result(self, result: pb.PublishResult) -> None:
        if result.HasField("refusal"):
            refusal = result.refusal
            for _ in range(max(1, result.batches)):
                error = error_from_code(refusal.code, refusal.message, refusal.hint)
                self._on_refused(self._settle_next(), error)
            return
        offset = result.base_offset if result.HasField("base_offset") else None
        duplicates = dict(zip(result.duplicate_indexes, result.duplicate_offsets, strict=False))
        for _ in range(max(1, result.batches)):
            pending = self._settle_next()
            if duplicates or (result.duplicate and result.count != pending.count):
                self._on_duplicates(pending, offset, duplicates)
                return
            pending.batch.settle(pending.first, pending.count, offset)
            if offset is not None:
                offset += pending.count

    def _on_refused(self, pending: Pending, error: HermesError) -> None:
        if pending.count == 1:
            pending.batch.fail(pending.first, 1, error)
            return
        self._outbox.put_first(pending.one_by_one())

    def _on_duplicates(
        self, pending: Pending, offset: int | None, duplicates: dict[int, int]
    ) -> None:
        """Some were there already. An answer to a resend does not say which."""
        acks: list[PublishAck] = []
        for index in range(pending.count):
            if not duplicates:
                acks.append(PublishAck(None, duplicate=True))
            elif index in duplicates:
                acks.append(PublishAck(duplicates[index], duplicate=True))
            else:
                acks.append(PublishAck(offset))
                offset = None if offset is None else offset + 1
        pending.batch.settle_each(pending.first, acks)

    def _settle_next(self) -> Pending:
        if not self._in_flight:
            raise HermesError("the broker answered a publish that was not sent")
        pending = self._in_flight.popleft()
        self._in_flight_bytes -= pending.size_bytes
        return pending

    def _check_size(self, message_bytes: int) -> None:
        limit = self.message_bytes_max
        if limit is not None and message_bytes > limit:
            raise LimitExceededError(
                f"a message of {message_bytes} bytes exceeds max_message_bytes = {limit}",
                hint="raise HERMES_MAX_MESSAGE_BYTES on the broker, or send a reference",
                limit_bytes=limit,
            )

    def _deadline_ns(self, pending: Pending) -> int:
        deadline = pending.batch.submitted_ns + self._connect_timeout_ns
        if self._lost_at_ns is not None:
            return max(deadline, self._lost_at_ns + self._retry_timeout_ns)
        return deadline
