"""Messages of one subject that came together, handled and settled as one.

What is asked of a `MessageBatch` is done for all of it at once: payloads are decoded in
one step, an ack is one range of offsets. Single messages are there when wanted.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar, cast

from hermes.broker.v1 import broker_pb2 as pb
from hermes.client.core.deliveries import Delivered
from hermes.client.core.leases import Leased
from hermes.client.core.settlements import ACK, Terms
from hermes.client.message import Message, Owner, Settled
from hermes.client.options import Seconds, reason_text, to_ns
from hermes.errors import PreconditionError

EventT_co = TypeVar("EventT_co", covariant=True)


class BatchLessor(Owner, Protocol):
    """What a leased batch needs of the iterator it came from."""

    def settle_all(
        self, leased: Leased, indexes: range | list[int], terms: Terms, wait: bool
    ) -> Settled: ...


class MessageBatch(Generic[EventT_co]):
    """One or more messages of one subject, in order. Verdicts are for consumers.

    A verdict on the batch is one on each of its messages that has none yet: single
    messages may be settled before the rest.
    """

    __slots__ = ("_delivered", "_indexes", "_messages", "_owner", "_payloads")

    def __init__(
        self,
        delivered: Delivered,
        indexes: range | list[int],
        owner: Owner,
        messages: list[Message[EventT_co]] | None = None,
    ) -> None:
        self._delivered = delivered
        self._indexes = indexes
        self._owner = owner
        self._messages = messages
        self._payloads: list[bytes] | None = None

    # ------------------------------------------------------------------ contents

    @property
    def subject(self) -> str:
        return self._delivered.subject

    @property
    def payloads(self) -> list[bytes]:
        """One per message; always the same list."""
        if self._payloads is None:
            self._payloads = self._delivered.payloads(self._indexes)
        return self._payloads

    @property
    def offsets(self) -> range | list[int] | None:
        """Places in the message line; a range when they are dense, None when published live."""
        base, indexes = self._delivered.base_offset, self._indexes
        if base is None:
            return None
        if isinstance(indexes, range):
            return range(base + indexes.start, base + indexes.stop)
        return [base + index for index in indexes]

    @property
    def attempt(self) -> int:
        """How many times this consumer delivered it, this one included; 0 for live and read."""
        return self._delivered.attempt

    @property
    def published_at_ns(self) -> int:
        """When the broker recorded it, as Unix time in nanoseconds."""
        return self._delivered.published_at_ns

    def messages(self) -> list[Message[EventT_co]]:
        """Its messages one by one, with headers, ids and events; made when first asked for."""
        if self._messages is None:
            delivered, owner = self._delivered, self._owner
            self._messages = [Message(delivered, index, owner) for index in self._indexes]
        return self._messages

    def __len__(self) -> int:
        return len(self._indexes)

    def __repr__(self) -> str:
        return f"<MessageBatch {self.subject} of {len(self)} attempt={self.attempt}>"

    # ------------------------------------------------------------------ verdicts

    def ack(self, *, wait: bool = False) -> Settled:
        """Done with all of it. Idempotent. `wait` waits for the commit."""
        return self._settle(ACK, wait)

    def nack(
        self, delay: Seconds | None = None, reason: str | None = None, *, wait: bool = False
    ) -> Settled:
        """Failed: deliver it again after `delay`, else after the consumer's backoff."""
        delay_ns = None if delay is None else to_ns(delay, "delay")
        terms = Terms(pb.VERDICT_NACK, self.attempt, delay_ns, reason_text(reason))
        return self._settle(terms, wait)

    def reject(self, reason: str | None = None, *, wait: bool = False) -> Settled:
        """Never deliver it to this consumer again: each becomes a dead letter."""
        return self._settle(Terms(pb.VERDICT_REJECT, self.attempt, None, reason_text(reason)), wait)

    def release(self, *, wait: bool = False) -> Settled:
        """Hand it back unprocessed: no failure is counted."""
        return self._settle(Terms(pb.VERDICT_RELEASE, self.attempt), wait)

    def _settle(self, terms: Terms, wait: bool) -> Settled:
        if not isinstance(self._delivered, Leased):
            raise PreconditionError(
                "this batch is not leased: there is nothing to settle",
                hint="only batches of consume() are acked, nacked or rejected",
            )
        return cast("BatchLessor", self._owner).settle_all(
            self._delivered, self._indexes, terms, wait
        )
