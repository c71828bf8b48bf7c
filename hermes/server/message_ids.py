"""Which offset a message id means to a consumer, by the log's index of ids.

For acks that name a message which this stream did not send: after a reconnect, or late.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from hermes.broker.consumers import find_consumer
from hermes.broker.event_codec import ids_of_head
from hermes.broker.subject import matcher
from hermes.errors import InvalidArgumentError
from hermes.log.port import LogReader
from hermes.log.record import Kind, StoredRecord, look_up_term
from hermes.log.v1 import log_pb2
from hermes.server.host import Host

# One id on so many subjects, or so often after the dedup window, is considered.
_CANDIDATES_MAX: Final = 1_000


async def find_offset(host: Host, consumer_name: str, message_id: str) -> int:
    """The newest offset under the id that the consumer was delivered.

    Prefers one that is not settled yet. Raises InvalidArgumentError when there is none,
    NotFoundError when the consumer is gone.
    """
    wanted = matcher(find_consumer(host.engine.state, consumer_name).policy.filters)
    number = message_id.removeprefix("@")
    if message_id.startswith("@") and number.isascii() and number.isdigit():
        found = [int(number)]
    else:
        found = await host.read(lambda reader: offsets_of_id(reader, message_id, wanted))
    consumer = find_consumer(host.engine.state, consumer_name)
    received = [offset for offset in found if offset < consumer.position]
    if not received:
        raise InvalidArgumentError(
            f"consumer {consumer_name!r} was never delivered a message with id {message_id[:80]!r}",
            hint="ack the id of a message that was received",
        )
    unsettled = [
        offset
        for offset in received
        if consumer.leases.at(offset) is not None or consumer.waiting.at(offset) is not None
    ]
    return max(unsettled or received)


def offsets_of_id(reader: LogReader, message_id: str, wanted: Callable[[str], bool]) -> list[int]:
    """Offsets of durable messages with the id, on subjects that are wanted."""
    if not message_id:
        return []
    found = []
    for record in reader.with_term(look_up_term(message_id), limit=_CANDIDATES_MAX):
        if record.kind == Kind.PUBLISHED and record.key is not None and wanted(record.key):
            found += _offsets_in(record, message_id)
    return found


def _offsets_in(record: StoredRecord, message_id: str) -> list[int]:
    """A term is a digest: the ids themselves decide."""
    assert record.first is not None
    ids = ids_of_head(log_pb2.Published.FromString(record.body).head)
    return [record.first + i for i, text in enumerate(ids) if text == message_id]
