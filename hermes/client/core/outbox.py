"""[P] What waits to be put into a frame: batches that still grow, in order, bounded.

A message joins the last batch while that has the same subject and room: so what waits
together leaves together, without a timer. What was refused as a whole comes back to
the front, message by message.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec

from hermes.broker.v1 import broker_pb2 as pb
from hermes.client.core.outgoing import (
    MERGED_BYTES_MAX,
    MERGED_MESSAGES_MAX,
    OutgoingBatch,
    Tally,
)
from hermes.client.core.stream import Waiter, resolve
from hermes.errors import HermesError
from hermes.limits import MIB

QUEUE_BYTES_MAX = 8 * MIB
# Without a connection what came later may wait longer: so it joins no older batch.
_MERGED_AGE_MAX_NS = 50_000_000


class Pending(msgspec.Struct):
    """Messages of a batch under one sequence. `count` 0: all of it, and not counted yet."""

    batch: OutgoingBatch
    first: int = 0
    count: int = 0
    part_bytes: int = 0
    sequence: int = 0
    wire: pb.Batch | None = None

    @property
    def size_bytes(self) -> int:
        return self.part_bytes or self.batch.size_bytes

    @property
    def largest_bytes(self) -> int:
        """Its largest payload."""
        last = self.first + self.count if self.count else None
        return max(map(len, self.batch.payloads[self.first : last]), default=0)

    def one_by_one(self) -> list[Pending]:
        """Its messages, each to be numbered by itself."""
        sizes = self.batch.sizes_bytes()
        last = self.first + (self.count or self.batch.seal())
        return [Pending(self.batch, i, 1, sizes[i]) for i in range(self.first, last)]

    def fail(self, error: HermesError) -> None:
        self.batch.fail(self.first, self.count or self.batch.seal(), error)


class Outbox:
    """The queue of one stream. Only its last batch may be open."""

    def __init__(self) -> None:
        self.merged_bytes_max = MERGED_BYTES_MAX
        self.merged_messages_max = MERGED_MESSAGES_MAX
        self.connected = False  # set by the owner
        self._queue: deque[Pending] = deque()
        self._queued_bytes = 0  # without the last batch while that is open
        self._last: OutgoingBatch | None = None
        self._room: deque[Waiter] = deque()

    def __len__(self) -> int:
        """Batches, or what is left of them."""
        return len(self._queue)

    # ------------------------------------------------------------------ filling

    def batch_for(
        self, subject: str, tally: Tally | None, size_bytes: int, now_ns: int
    ) -> OutgoingBatch:
        """The batch that a message joins: the last one, or a new one."""
        batch = self._last
        if (
            batch is not None
            and batch.subject == subject
            and batch.tally is tally
            and len(batch.payloads) < self.merged_messages_max
            and batch.size_bytes + size_bytes <= self.merged_bytes_max
            and (self.connected or now_ns - batch.submitted_ns <= _MERGED_AGE_MAX_NS)
        ):
            return batch
        self.close_last()
        batch = self._last = OutgoingBatch(subject, tally, now_ns)
        batch.messages_max, batch.bytes_max = self.merged_messages_max, self.merged_bytes_max
        batch.is_plain = self.connected
        self._queue.append(Pending(batch))
        return batch

    def close_last(self) -> None:
        """What comes next begins a new batch."""
        if self._last is not None:
            self._last.close()
            self._queued_bytes += self._last.size_bytes
            self._last = None

    def put_first(self, pendings: list[Pending]) -> None:
        """Before everything that waits, in this order."""
        self._queue.extendleft(reversed(pendings))
        self._queued_bytes += sum(pending.size_bytes for pending in pendings)

    # ----------------------------------------------------------------- emptying

    @property
    def first(self) -> Pending | None:
        return self._queue[0] if self._queue else None

    def take(self) -> Pending:
        """Remove the first. It is closed."""
        pending = self._queue.popleft()
        if pending.batch is self._last:
            self.close_last()
        self._queued_bytes -= pending.size_bytes
        return pending

    def drop_if(self, reason: Callable[[Pending], HermesError | None]) -> None:
        """Fail everything for which there is a reason to."""
        self.close_last()
        for _ in range(len(self._queue)):
            pending = self.take()
            error = reason(pending)
            if error is not None:
                pending.fail(error)
            else:
                self._append(pending)

    def refit(self, message_bytes: int | None, messages: int, frame_bytes: int) -> None:
        """Keep to the broker's limits (0, None: it has none), for what waits already too."""
        self.merged_bytes_max = min(MERGED_BYTES_MAX, message_bytes or frame_bytes, frame_bytes)
        self.merged_messages_max = min(MERGED_MESSAGES_MAX, messages or MERGED_MESSAGES_MAX)
        self.close_last()
        for _ in range(len(self._queue)):
            pending = self.take()
            batch = pending.batch
            if pending.count or (
                len(batch.payloads) <= self.merged_messages_max
                and batch.size_bytes <= self.merged_bytes_max
            ):
                self._append(pending)
                continue
            batch.drop_cancelled()
            for single in pending.one_by_one():
                self._append(single)

    def _append(self, pending: Pending) -> None:
        self._queue.append(pending)
        self._queued_bytes += pending.size_bytes

    # --------------------------------------------------------------------- room

    @property
    def is_full(self) -> bool:
        last = self._last
        open_bytes = 0 if last is None else last.size_bytes
        return self._queued_bytes + open_bytes >= QUEUE_BYTES_MAX

    def wait_for_room(self, waiter: Waiter) -> None:
        """`waiter` gets None once it may add. If it does not, it must `offer_room`."""
        self._room.append(waiter)

    def offer_room(self) -> None:
        """Let the next caller add, if there is room. One at a time: each offers on."""
        while self._room and not self.is_full:
            waiter = self._room.popleft()
            if not waiter.done():
                resolve(waiter, None)
                return
