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
from hermes.server.native_read import Read
from hermes.server.native_subscribe import SubscribeBatches
from hermes.server.sessions import Context
from hermes.server.v1_durable import V1Durable
from hermes.server.v1_publish import V1Publish
from hermes.server.v1_subscribe import V1Subscribe

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

    async def subscribe_batches(
        requests: AsyncIterator[broker_pb2.SubscribeBatchesRequest], context: Context
    ) -> None:
        host = get_host()
        async with host.streams.opened(context, told_of_drain=True) as stream:
            await SubscribeBatches(host, stream, config.frame_bytes_max).run(requests)

    async def read(request: broker_pb2.ReadRequest, context: Context) -> None:
        host = get_host()
        async with host.streams.opened(context, told_of_drain=False) as stream:
            await Read(host, stream, config.frame_bytes_max).run(request)

    async def publish(
        requests: AsyncIterator[broker_pb2.EventEnvelope], context: Context
    ) -> broker_pb2.PublishAck:
        host = get_host()
        async with host.streams.opened(context, told_of_drain=False) as stream:
            return await V1Publish(host, stream, config.max_message_bytes).live(requests)

    async def publish_durable(
        requests: AsyncIterator[broker_pb2.EventEnvelope], context: Context
    ) -> broker_pb2.PublishDurableAck:
        host = get_host()
        async with host.streams.opened(context, told_of_drain=False) as stream:
            return await V1Publish(host, stream, config.max_message_bytes).durable(requests)

    async def subscribe(request: broker_pb2.SubscribeRequest, context: Context) -> None:
        host = get_host()
        async with host.streams.opened(context, told_of_drain=False) as stream:
            await V1Subscribe(host, stream, config.grpc_output_buffer).run(request)

    async def subscribe_durable(
        requests: AsyncIterator[broker_pb2.DurableClientMessage], context: Context
    ) -> None:
        host = get_host()
        async with host.streams.opened(context, told_of_drain=False) as stream:
            await V1Durable(host, config, stream).run(requests)

    handlers: dict[AnyMethod, Callable[[Any, Context], Any]] = {
        rpc.PUBLISH: publish,
        rpc.SUBSCRIBE: subscribe,
        rpc.PUBLISH_DURABLE: publish_durable,
        rpc.SUBSCRIBE_DURABLE: subscribe_durable,
        rpc.PUBLISH_BATCHES: publish_batches,
        rpc.CONSUME: consume,
        rpc.SUBSCRIBE_BATCHES: subscribe_batches,
        rpc.READ: read,
    }
    return handlers
