"""Read: browse the message line without a consumer.

Reads in bounded steps beside the loop, each in a transaction of its own, so a slow
reader holds nothing. With `follow` it goes on with what is committed later.
"""

from __future__ import annotations

from hermes import limits
from hermes.broker.dispatch import Assignment
from hermes.broker.recovery import line_batch
from hermes.broker.subject import matcher
from hermes.broker.v1 import broker_pb2
from hermes.log.port import LogReader
from hermes.log.record import StoredRecord
from hermes.server.frames import Deliveries
from hermes.server.host import Host
from hermes.server.opening import check_filters, resolve_start
from hermes.server.sessions import Stream


class Read:
    """One Read stream."""

    def __init__(self, host: Host, stream: Stream, frame_bytes_max: int) -> None:
        self._host = host
        self._stream = stream
        self._frame_bytes_max = frame_bytes_max
        self._deliveries = Deliveries(frame_bytes_max)

    async def run(self, request: broker_pb2.ReadRequest) -> None:
        self._host.require_store("reading")
        filters = check_filters(request.filters) or None
        wanted = matcher(filters) if filters else None
        offset = (await resolve_start(self._host, request.start)).offset
        await self._stream.context.send_initial_metadata(())
        left = request.limit or None
        told = False
        while left is None or left > 0:

            def step(reader: LogReader, offset: int = offset) -> tuple[list[StoredRecord], int]:
                return reader.publishes(
                    offset,
                    limit=limits.READ_BATCHES_MAX,
                    limit_bytes=self._frame_bytes_max,
                    keys=wanted,
                )

            commits = self._host.commits
            held = self._host.first_held(offset)
            if held > offset:
                offset = held
                continue
            with self._stream.interruptible():
                records, scanned_to = await self._host.read(step)
            if records:
                taken, next_offset = self._take(records, offset, scanned_to, left)
                if left is not None:
                    left -= taken
                await self._send(next_offset)
                told = True
                offset = next_offset
            elif scanned_to > offset:
                offset = scanned_to
            elif not request.follow:
                break
            else:
                await self._await_more(offset, commits)
        if not told:
            await self._send(offset)

    def _take(
        self, records: list[StoredRecord], offset: int, scanned_to: int, left: int | None
    ) -> tuple[int, int]:
        """Queue deliveries; returns how many messages, and where to go on."""
        taken = 0
        for record in records:
            batch = line_batch(record)
            if batch is None:
                continue
            first, last = max(batch.first, offset), batch.last
            if left is not None and last - first + 1 >= left - taken:
                last = first + left - taken - 1
                self._deliveries.add([Assignment(0, 0, batch, first, last)])
                return left, last + 1
            self._deliveries.add([Assignment(0, 0, batch, first, last)])
            taken += last - first + 1
        return taken, scanned_to

    async def _send(self, next_offset: int) -> None:
        """All that is queued, in as many frames as it needs; each says where to go on."""
        while True:
            frame = broker_pb2.ReadResponse(
                next_offset=next_offset, oldest_offset=self._host.first_held(0)
            )
            if self._deliveries:
                self._deliveries.take(frame.deliveries)
            if self._deliveries:
                frame.next_offset = self._deliveries.next_offset
            await self._stream.write(frame)
            if not self._deliveries:
                return

    async def _await_more(self, offset: int, commits: int) -> None:
        """Until something at or after `offset` may have been committed since."""
        host = self._host
        host.followers.add(self._stream)
        try:
            while host.commits == commits or host.engine.state.next_offset <= offset:
                await self._stream.wait()
        finally:
            host.followers.discard(self._stream)
