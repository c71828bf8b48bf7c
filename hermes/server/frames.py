"""From assignments to Delivery messages: joined, cut when they must be, frame by frame.

Neighbouring assignments of one batch and attempt leave as one Delivery with a selection;
the batch's own bytes are forwarded as published. A frame takes as many as fit, and always
at least one. A batch that alone is larger than a frame (a dead letter's copy with its
added headers may be) is cut into parts that fit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

from hermes import limits
from hermes.broker.batch import LineBatch, part, take
from hermes.broker.dispatch import Assignment
from hermes.broker.ranges import Range, count
from hermes.broker.v1 import broker_pb2

# What a delivery adds to its batch and subject: tags, offset, attempt, time.
_DELIVERY_BYTES: Final = 64


class DeliveryList(Protocol):
    """The repeated field that is filled."""

    def add(self) -> broker_pb2.Delivery: ...


class Deliveries:
    """Committed assignments that wait for their frame."""

    def __init__(self, frame_bytes_max: int) -> None:
        self._budget_bytes = frame_bytes_max - limits.DELIVERY_OVERHEAD_BYTES
        self._queue: deque[Assignment] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def next_offset(self) -> int:
        """Where the next frame begins; only while there is something."""
        return self._queue[0].first

    def add(self, assignments: Sequence[Assignment]) -> None:
        self._queue.extend(assignments)

    def unsent(self, ranges: Sequence[Range]) -> int | None:
        """One of these offsets of which nobody can have received anything: its first
        attempt still waits for a frame. None if there is none."""
        for assignment in self._queue:
            if assignment.attempt == 1:
                for first, last in ranges:
                    if first <= assignment.last and assignment.first <= last:
                        return max(first, assignment.first)
        return None

    def take(self, out: DeliveryList) -> None:
        """Move what fits into one frame; at least one delivery."""
        queue = self._queue
        left_bytes = self._budget_bytes
        while queue:
            head = queue[0]
            batch = head.batch
            size_bytes = batch.bytes
            if size_bytes > left_bytes and left_bytes < self._budget_bytes:
                return
            if head.first == batch.first and head.last == batch.last and size_bytes <= left_bytes:
                queue.popleft()
                fill(out.add(), batch, head.attempt, ())
                left_bytes -= size_bytes + len(batch.subject) + _DELIVERY_BYTES
            else:
                left_bytes -= self._write(out, batch, head.attempt, self._next_ranges())

    def _next_ranges(self) -> list[Range]:
        """Take the head and those that follow of the same batch and attempt."""
        queue = self._queue
        head = queue.popleft()
        ranges = [(head.first, head.last)]
        while queue:
            follower = queue[0]
            first, last = ranges[-1]
            if (
                follower.batch is not head.batch
                or follower.attempt != head.attempt
                or follower.first <= last
            ):
                break
            if follower.first == last + 1:
                ranges[-1] = (first, follower.last)
            else:
                ranges.append((follower.first, follower.last))
            queue.popleft()
        return ranges

    def _write(self, out: DeliveryList, batch: LineBatch, attempt: int, ranges: list[Range]) -> int:
        """Returns about how many bytes were added."""
        sent, selection = part(batch, ranges)
        if sent.bytes > self._budget_bytes and count(ranges) > 1:
            return self._write_cut(out, batch, attempt, ranges)
        fill(out.add(), sent, attempt, selection)
        return sent.bytes + len(sent.subject) + _DELIVERY_BYTES + 8 * len(selection)

    def _write_cut(
        self, out: DeliveryList, batch: LineBatch, attempt: int, ranges: list[Range]
    ) -> int:
        """Send the first half now; the rest goes back to the head of the queue."""
        first, last = ranges[0]
        member = 0
        for a, b in reversed(ranges[1:]):
            self._queue.appendleft(Assignment(member, attempt, batch, a, b))
        upto = min(last, first + max(1, batch.count // 4) - 1)
        if upto < last:
            self._queue.appendleft(Assignment(member, attempt, batch, upto + 1, last))
        keep = range(first - batch.first, upto - batch.first + 1)
        head, content = take(batch.head, batch.content, keep)
        smaller = LineBatch(
            first,
            upto,
            batch.subject,
            head,
            content,
            batch.published_at_ns,
            batch.published_lsn,
        )
        if smaller.bytes > self._budget_bytes and smaller.count > 1:
            return self._write_cut(out, smaller, attempt, [(first, upto)])
        fill(out.add(), smaller, attempt, ())
        return self._budget_bytes


def fill(
    delivery: broker_pb2.Delivery, batch: LineBatch, attempt: int, selection: Sequence[Range]
) -> None:
    """Write one Delivery."""
    delivery.base_offset = batch.first
    delivery.attempt = attempt
    delivery.published_at_ns = batch.published_at_ns
    target = delivery.batch
    target.subject, target.head, target.content = batch.subject, batch.head, batch.content
    for first, last in selection:
        delivery.selection.extend((first, last))
