"""Subscribe: a live subscription, one envelope per frame.

Response headers go out as soon as it is registered: clients wait for them before they
say that they are subscribed. How many messages a full buffer lost is told in the header
`hermes-dropped` of the next envelope.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from hermes.broker.batch import views
from hermes.broker.live import LiveBuffer
from hermes.broker.subject_wire import Encoding
from hermes.broker.v1 import broker_pb2
from hermes.errors import HermesError
from hermes.server.host import Host
from hermes.server.opening import check_groups
from hermes.server.sessions import Stream
from hermes.server.v1_envelopes import envelope_of, pattern_of

DROPPED_HEADER: Final = "hermes-dropped"


class V1Subscribe:
    """One Subscribe stream. It is the buffer's port."""

    def __init__(self, host: Host, stream: Stream, output_buffer: int) -> None:
        self._host = host
        self._stream = stream
        self._output_buffer = output_buffer
        self._output: deque[broker_pb2.EventEnvelope] = deque()

    async def run(self, request: broker_pb2.SubscribeRequest) -> None:
        pattern, encoding = pattern_of(request.subject)
        groups = check_groups(request.queue_groups)
        engine = self._host.engine
        subscription, buffer = engine.subscribe(self._stream.session, pattern, groups, self)
        try:
            await self._stream.context.send_initial_metadata(())
            while True:
                self._refill(buffer, encoding)
                if not self._output:
                    await self._stream.wait()
                while self._output:
                    await self._stream.write(self._output.popleft())
        finally:
            engine.unsubscribe(subscription)

    def _refill(self, buffer: LiveBuffer, encoding: Encoding) -> None:
        """Make envelopes of what is there, some ahead of the network."""
        while len(self._output) < self._output_buffer:
            dropped = buffer.take_dropped()
            batch = buffer.pop()
            if batch is None:
                return
            for _, view in views(batch):
                envelope = envelope_of(view, batch.subject, encoding)
                if dropped:
                    envelope.headers[DROPPED_HEADER] = str(dropped)
                    dropped = 0
                self._output.append(envelope)

    def wake(self) -> None:
        """The buffer has something."""
        self._stream.wake()

    def end(self, error: HermesError) -> None:
        """The broker ends the subscription."""
        self._stream.end(error)
