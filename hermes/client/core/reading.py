"""[P] Browsing the message line: where a Read continues after a broken connection."""

from __future__ import annotations

from hermes.broker.v1 import broker_pb2 as pb
from hermes.client.core.deliveries import Delivered, selected_indexes
from hermes.client.core.inbox import Inbox
from hermes.errors import HermesError

# Above this the stream is not read further: the reader's pace goes back to the broker.
READ_AHEAD_MESSAGES_MAX = 1_024


class ReadCore:
    """One Read over any number of calls. `limit` 0 means no limit."""

    def __init__(
        self, filters: tuple[str, ...], start: pb.Start, *, limit: int, follow: bool
    ) -> None:
        self.inbox: Inbox[Delivered] = Inbox()
        self.last_error: HermesError | None = None
        self._filters = filters
        self._start = start
        self._left = limit
        self._limited = limit > 0
        self._follow = follow

    @property
    def is_complete(self) -> bool:
        """As many messages as asked for have come."""
        return self._limited and self._left <= 0

    @property
    def is_ahead(self) -> bool:
        return self.inbox.buffered >= READ_AHEAD_MESSAGES_MAX

    def request(self) -> pb.ReadRequest:
        """From the start, or from where the last call broke off."""
        return pb.ReadRequest(
            filters=self._filters, start=self._start, limit=self._left, follow=self._follow
        )

    def on_response(self, response: pb.ReadResponse) -> None:
        next_offset = response.next_offset
        for delivery in response.deliveries:
            delivered = Delivered(delivery.batch, delivery.base_offset, 0, delivery.published_at_ns)
            indexes = selected_indexes(delivered.count, list(delivery.selection))
            next_offset = max(next_offset, delivery.base_offset + indexes[-1] + 1)
            if self._limited:
                self._left -= len(indexes)
            self.inbox.put(delivered, indexes)
        if next_offset:
            self._start = pb.Start(offset=next_offset)
