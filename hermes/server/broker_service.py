"""The broker's RPCs: one handler each, which opens the stream and hands over.

Handlers parse, call the engine, and map; what they share is in sessions.py and host.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from hermes import rpc
from hermes.broker.v1 import broker_pb2
from hermes.server.config import ServerConfig
from hermes.server.endpoint import AnyMethod, Behaviour
from hermes.server.host import Host
from hermes.server.native_consume import Consume
from hermes.server.native_publish import PublishBatches
from hermes.server.sessions import Context

GetHost = Callable[[], Host]


def broker_handlers(get_host: GetHost, config: ServerConfig) -> dict[AnyMethod, Behaviour]:
    """Method -> behaviour. `get_host` gives the present engine's host, or raises."""

    async def publish_batches(
        requests: AsyncIterator[broker_pb2.PublishBatchesRequest], context: Context
    ) -> None:
        host = get_host()
        async with host.streams.opened(context, told_of_drain=True) as stream:
            await PublishBatches(host, config, stream).run(requests)

    async def consume(requests: AsyncIterator[broker_pb2.ConsumeRequest], context: Context) -> None:
        host = get_host()
        async with host.streams.opened(context, told_of_drain=True) as stream:
            await Consume(host, stream, config.frame_bytes_max).run(requests)

    handlers: dict[AnyMethod, Callable[[Any, Context], Any]] = {
        rpc.PUBLISH_BATCHES: publish_batches,
        rpc.CONSUME: consume,
    }
    return handlers
