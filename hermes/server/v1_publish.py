"""Publish and PublishDurable: a stream of envelopes in, one answer when it ends.

An envelope that is refused ends the stream with an error that says how many were
accepted before it; those stay. Durable ones are pipelined: nothing waits for the disk
but the answer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from hermes.broker.publishing import PublishResult
from hermes.broker.v1 import broker_pb2
from hermes.errors import HermesError
from hermes.server.host import Host
from hermes.server.sessions import Stream
from hermes.server.v1_envelopes import incoming

Envelopes = AsyncIterator[broker_pb2.EventEnvelope]


class V1Publish:
    """One Publish or PublishDurable stream."""

    def __init__(self, host: Host, stream: Stream, message_bytes_max: int) -> None:
        self._host = host
        self._stream = stream
        self._message_bytes_max = message_bytes_max
        self._published = 0
        self._settled = 0
        self._refused: HermesError | None = None

    async def live(self, envelopes: Envelopes) -> broker_pb2.PublishAck:
        """Forward everything at once."""
        await self._read(envelopes, durable=False)
        return broker_pb2.PublishAck(accepted=self._settled)

    async def durable(self, envelopes: Envelopes) -> broker_pb2.PublishDurableAck:
        """Store everything; answers when the last envelope is committed."""
        self._host.require_store("durable publishing")
        await self._read(envelopes, durable=True)
        return broker_pb2.PublishDurableAck(accepted=self._published, persisted=self._settled)

    async def _read(self, envelopes: Envelopes, *, durable: bool) -> None:
        error: HermesError | None = None
        try:
            with self._stream.interruptible():
                async for envelope in envelopes:
                    if self._host.engine.publish_blocked:
                        await self._host.publish_room()
                    self._publish(envelope, durable=durable)
                    if self._refused is not None:
                        break
        except HermesError as refused:
            error = refused
        if durable:
            await self._host.committed()
        error = error or self._refused
        if error is not None:
            raise self._with_count(error)

    def _publish(self, envelope: broker_pb2.EventEnvelope, *, durable: bool) -> None:
        batch = incoming(envelope, self._message_bytes_max)
        publish = self._host.engine.publish if durable else self._host.engine.publish_live
        publish(self._stream.session, [batch], self._settle)
        self._published += 1

    def _settle(self, results: Sequence[PublishResult]) -> None:
        (result,) = results
        if result.refusal is None:
            self._settled += 1
        elif self._refused is None:
            self._refused = result.refusal

    def _with_count(self, error: HermesError) -> HermesError:
        return type(error)(
            f"{error.message}; {self._settled} envelopes before it were accepted",
            hint=error.hint,
            **error.fields,
        )
