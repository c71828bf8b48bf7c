"""What a publisher's `send()` gives: a handle on one message of a batch on its way.

A handle is the batch and an index, nothing more: whoever asks waits for the batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any

import msgspec

from hermes.client.core.outgoing import OutgoingBatch, PublishAck
from hermes.client.options import Seconds
from hermes.errors import PublishError


class AsyncReceipt(msgspec.Struct, frozen=True, gc=False):
    """Await it for the `PublishAck`, or for the error the message failed with.

    It may be ignored: `flush()` and `aclose()` of the publisher tell of failures.
    """

    batch: OutgoingBatch
    index: int

    @property
    def done(self) -> bool:
        """The outcome is known: awaiting it does not wait."""
        return self.batch.is_settled

    def __await__(self) -> Generator[Any, None, PublishAck]:
        if not self.batch.is_settled:
            settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.batch.watch(settled)
            yield from settled
        return self.batch.ack(self.index)


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """`result()` gives the `PublishAck`, or raises the error the message failed with.

    It may be ignored: `flush()` and `close()` of the publisher tell of failures.
    """

    batch: OutgoingBatch
    index: int
    wait: Callable[[OutgoingBatch, Seconds | None], None]

    @property
    def done(self) -> bool:
        """The outcome is known: `result()` does not wait."""
        return self.batch.is_settled

    def result(self, timeout: Seconds | None = None) -> PublishAck:
        """Wait for the outcome. Raises `OperationTimeoutError` after `timeout`."""
        if not self.batch.is_settled:
            self.wait(self.batch, timeout)
        return self.batch.ack(self.index)


def publish_error(count: int, first: BaseException) -> PublishError:
    """What flush and close raise for messages that were not acknowledged."""
    return PublishError(
        f"{count} message{'s were' if count > 1 else ' was'} not acknowledged; first: {first}",
        hint="what was refused is not stored; what was lost may be",
        count=count,
        first_error=first,
    )
