"""[P] A batch on its way out: what callers put in, and what became of each message.

Messages of one subject that wait together leave as one batch. Its columns are lists
that grow until the batch is put into a frame; its outcome is one offset for all of
them, and a dictionary only for those that went another way. So a message costs its
place in a list, and a handle on it is the batch and an index.

Rules
- `publish()` shares batches between its callers: each waits by itself, and who stopped
  waiting before the batch left is taken out.
- A publisher's batches are its own: nobody waits for a single message unless asked to,
  and what became of them is counted in the publisher's `Tally`.
- Payloads are let go of when all is settled, however long a handle is kept.
"""

from __future__ import annotations

from itertools import repeat

import msgspec

from hermes.batch_of_one import HEAD_OF_ONE, content_of_one
from hermes.broker.v1 import broker_pb2 as pb
from hermes.client.core.stream import Waiter, fail, resolve
from hermes.errors import HermesError

# What waits together is joined up to this. More saves no time, and a consumer's credit
# (1,000 messages unless it asks for more) should be worth more than one batch.
MERGED_MESSAGES_MAX = 512
MERGED_BYTES_MAX = 256 * 1024
# What a message costs beside its bytes: more than its tags on the wire, and about what
# its objects take while it waits.
MESSAGE_OVERHEAD_BYTES = 64


class PublishAck(msgspec.Struct, frozen=True, gc=False):
    """The broker has the message. `offset` is None for a live one.

    `duplicate` is true when a message with this id was there already; `offset` is then
    the one it has. It is None when the broker no longer tells which: a batch that was
    sent again after a lost connection and had held duplicates the first time.
    """

    offset: int | None
    duplicate: bool = False


class Tally:
    """What one publisher has under way, and what of it failed since it last asked."""

    __slots__ = ("_waiters", "batches", "failed", "first_error")

    def __init__(self) -> None:
        self.batches = 0  # not settled yet
        self.failed = 0  # messages
        self.first_error: HermesError | None = None
        self._waiters: list[Waiter] = []

    def count_failure(self, error: HermesError) -> None:
        self.failed += 1
        self.first_error = self.first_error or error

    def count_settled(self) -> None:
        """One batch less is under way."""
        self.batches -= 1
        if not self.batches:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                resolve(waiter, None)

    def wait_until_settled(self, waiter: Waiter) -> None:
        """`waiter` gets None once nothing is under way."""
        if self.batches:
            self._waiters.append(waiter)
        else:
            resolve(waiter, None)

    def take_failures(self) -> tuple[int, HermesError | None]:
        """How many messages failed, and the first error; counting begins anew."""
        taken = self.failed, self.first_error
        self.failed, self.first_error = 0, None
        return taken


class OutgoingBatch:
    """Messages of one subject, in order. `tally` None: of `publish()`, with `waiters`."""

    __slots__ = (
        "_base_offset",
        "_outcomes",
        "_unsettled",
        "_watchers",
        "bytes_max",
        "headers",
        "ids",
        "is_open",
        "is_plain",
        "messages_max",
        "payloads",
        "size_bytes",
        "subject",
        "submitted_ns",
        "tally",
        "waiters",
    )

    def __init__(self, subject: str, tally: Tally | None, now_ns: int) -> None:
        self.subject = subject
        self.tally = tally
        self.submitted_ns = now_ns
        self.payloads: list[bytes] = []
        self.headers: list[pb.Headers] | None = None
        self.ids: list[str] | None = None
        self.size_bytes = len(subject) * 4 + MESSAGE_OVERHEAD_BYTES
        self.waiters: list[Waiter] = []  # of publish(): one per message
        self.is_open = True  # may be added to
        self.messages_max = self.bytes_max = 0  # while it is plain
        self.is_plain = False  # may be added to without a look at the clock or the columns
        self._base_offset: int | None = None
        self._outcomes: dict[int, PublishAck | HermesError] = {}
        self._unsettled = -1  # not counted yet
        self._watchers: list[Waiter] = []
        if tally is not None:
            tally.batches += 1

    # ------------------------------------------------------------------ filling

    def add(self, payload: bytes, headers: pb.Headers | None, message_id: str | None) -> int:
        """Append a message; gives its index."""
        index = len(self.payloads)
        if headers is not None and self.headers is None:
            self.headers = [_NO_HEADERS] * index
            self.is_plain = False
        if message_id and self.ids is None:
            self.ids = [""] * index
            self.is_plain = False
        self.payloads.append(payload)
        if self.headers is not None:
            self.headers.append(_NO_HEADERS if headers is None else headers)
        if self.ids is not None:
            self.ids.append(message_id or "")
        self.size_bytes += message_size_bytes(payload, headers, message_id)
        return index

    def close(self) -> None:
        """Nothing is added any more."""
        self.is_open = self.is_plain = False

    def drop_cancelled(self) -> None:
        """Take out the messages nobody waits for. Before it is sent."""
        waiting = [index for index, waiter in enumerate(self.waiters) if not waiter.done()]
        if len(waiting) == len(self.waiters):
            return
        self.payloads = [self.payloads[index] for index in waiting]
        self.waiters = [self.waiters[index] for index in waiting]
        if self.headers is not None:
            self.headers = [self.headers[index] for index in waiting]
        if self.ids is not None:
            self.ids = [self.ids[index] for index in waiting]

    def sizes_bytes(self) -> list[int]:
        """What each message counts, in order."""
        headers = self.headers or repeat(None)
        ids = self.ids or repeat(None)
        return list(map(message_size_bytes, self.payloads, headers, ids))

    def seal(self) -> int:
        """It leaves as it is now: `outcome` counts on it. Gives the number of messages."""
        self.close()
        self._unsettled = len(self.payloads)
        return self._unsettled

    def wire(self, first: int, count: int) -> pb.Batch:
        """`count` of its messages as they go over the wire. Columns nobody uses stay out."""
        if count == 1 and self.headers is None and self.ids is None:
            only = content_of_one(self.payloads[first])
            if only is not None:
                return pb.Batch(subject=self.subject, head=HEAD_OF_ONE, content=only)
        chosen = slice(first, first + count)
        content = pb.BatchContent(payloads=self.payloads[chosen])
        if self.headers is not None and any(h.entries for h in self.headers[chosen]):
            content.headers.extend(self.headers[chosen])
        head = HEAD_OF_ONE
        ids = self.ids[chosen] if self.ids is not None else None
        if count > 1 or (ids and ids[0]):
            used = ids if ids and any(ids) else None
            head = pb.BatchHead(count=count, ids=used).SerializeToString()
        return pb.Batch(subject=self.subject, head=head, content=content.SerializeToString())

    # ------------------------------------------------------------------ outcome

    @property
    def is_settled(self) -> bool:
        """It was sent, and the outcome of every message is known."""
        return not self._unsettled

    def watch(self, waiter: Waiter) -> None:
        """`waiter` gets None once everything is settled."""
        if self.is_settled:
            resolve(waiter, None)
        else:
            self._watchers.append(waiter)

    def ack(self, index: int) -> PublishAck:
        """What became of a message, once all is settled. Raises what it failed with."""
        outcome = self._outcomes.get(index)
        if outcome is None:
            base = self._base_offset
            return PublishAck(None if base is None else base + index)
        if isinstance(outcome, HermesError):
            raise outcome
        return outcome

    def settle(self, first: int, count: int, base_offset: int | None) -> None:
        """`count` messages were taken, with dense offsets from `base_offset` on."""
        base = None if base_offset is None else base_offset - first
        if count == self._unsettled and not self._outcomes:
            self._base_offset = base
        else:
            for index in range(first, first + count):
                self._outcomes[index] = PublishAck(None if base is None else base + index)
        if self.waiters:
            for index in range(first, first + count):
                resolve(self.waiters[index], PublishAck(None if base is None else base + index))
        self._count_settled(count)

    def settle_each(self, first: int, acks: list[PublishAck]) -> None:
        """Messages were taken or were there already, each in its own place."""
        for index, ack in enumerate(acks, first):
            self._outcomes[index] = ack
            if self.waiters:
                resolve(self.waiters[index], ack)
        self._count_settled(len(acks))

    def fail(self, first: int, count: int, error: HermesError) -> None:
        """`count` messages were not taken, or may not have been."""
        for index in range(first, first + count):
            self._outcomes[index] = error
            if self.waiters:
                fail(self.waiters[index], error)
            if self.tally is not None:
                self.tally.count_failure(error)
        self._count_settled(count)

    def _count_settled(self, count: int) -> None:
        self._unsettled -= count
        if self._unsettled:
            return
        self.payloads = []
        self.headers = self.ids = None
        for waiter in self._watchers:
            resolve(waiter, None)
        self._watchers = []
        if self.tally is not None:
            self.tally.count_settled()


def message_size_bytes(payload: bytes, headers: pb.Headers | None, message_id: str | None) -> int:
    """What a message counts against the limits of batches, frames and queues: a bit too much."""
    size = len(payload) + MESSAGE_OVERHEAD_BYTES
    if headers is not None:
        size += headers.ByteSize()
    if message_id:
        size += len(message_id) * 4
    return size


_NO_HEADERS = pb.Headers()
