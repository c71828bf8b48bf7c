"""Raw calls to a server under test: what any client in any language can send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from hermes import rpc
from hermes.broker.v1 import broker_pb2 as pb
from hermes.server import Server, ServerConfig, serving

WAIT_SECS = 20.0
EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]


def config(tmp_path: Path | None, **settings: Any) -> ServerConfig:
    """Port 0; a store in `tmp_path`, or none."""
    store = None if tmp_path is None else tmp_path / "store"
    defaults = {"listen_addr": "127.0.0.1:0", "store_path": store, "shutdown_grace_secs": 2}
    return ServerConfig(**{**defaults, **settings})


class Peer:
    """A channel to a server."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel

    def call(self, method: rpc.Method[Any, Any], requests: Any = None, **options: Any) -> Any:
        """Begin a call; `requests` is the one request, or what the client streams."""
        kinds = {
            (False, False): self.channel.unary_unary,
            (False, True): self.channel.unary_stream,
            (True, False): self.channel.stream_unary,
            (True, True): self.channel.stream_stream,
        }
        make: Any = kinds[method.client_streaming, method.server_streaming]
        stub = make(
            method.path,
            request_serializer=method.request_class.SerializeToString,
            response_deserializer=method.response_class.FromString,
        )
        return stub(requests, **options) if requests is not None else stub(**options)

    async def publish(self, subject: str, *payloads: bytes, **columns: Any) -> int:
        """Publish one durable batch; returns its base offset."""
        call = self.call(rpc.PUBLISH_BATCHES)
        opening = pb.PublishBatchesRequest(
            open=pb.PublishOpen(first_sequence=1), sequence=1, batches=[batch(subject, *payloads)]
        )
        await call.write(opening)
        await call.done_writing()
        results = [result async for frame in call for result in frame.results]
        assert len(results) == 1 and not results[0].refusal.code, results
        offset: int = results[0].base_offset
        return offset

    async def publish_v1(self, *envelopes: pb.EventEnvelope) -> pb.PublishDurableAck:
        """PublishDurable."""
        ack: pb.PublishDurableAck = await self.call(rpc.PUBLISH_DURABLE, each(envelopes))
        return ack


class Consuming:
    """A Consume stream: deliveries one by one, settlements by offset."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.opened = pb.ConsumeOpened()
        self.frames: list[pb.ConsumeResponse] = []  # read, apart from deliveries
        self._deliveries: list[pb.Delivery] = []

    async def open(self, consumer: str, *filters: str, **fields: Any) -> pb.ConsumeOpened:
        opening = pb.ConsumeOpen(consumer=consumer, filters=filters, **fields)
        await self.call.write(pb.ConsumeRequest(open=opening))
        self.opened = (await self.frame()).opened
        assert self.opened.member
        return self.opened

    async def frame(self) -> pb.ConsumeResponse:
        """The next response; its deliveries are kept for `delivery`."""
        response: pb.ConsumeResponse = await asyncio.wait_for(self.call.read(), WAIT_SECS)
        assert response is not EOF, await self.call.details()
        self._deliveries += response.deliveries
        self.frames.append(response)
        return response

    async def delivery(self) -> pb.Delivery:
        while not self._deliveries:
            await self.frame()
        return self._deliveries.pop(0)

    async def settle(self, verdict: int, *ranges: int, **fields: Any) -> None:
        settlement = pb.Settlement(verdict=verdict, ranges=ranges, **fields)  # type: ignore[arg-type]
        await self.call.write(pb.ConsumeRequest(settlements=[settlement]))

    async def confirmed(self, token: int) -> None:
        while not any(token in frame.confirmed for frame in self.frames):
            await self.frame()

    async def stale(self) -> pb.Stale:
        while True:
            found = [stale for frame in self.frames for stale in frame.stale]
            if found:
                return found[0]
            await self.frame()


def batch(subject: str, *payloads: bytes, ids: Iterable[str] = ()) -> pb.Batch:
    head = pb.BatchHead(count=len(payloads), ids=ids)
    content = pb.BatchContent(payloads=payloads)
    return pb.Batch(
        subject=subject, head=head.SerializeToString(), content=content.SerializeToString()
    )


def request(sequence: int, *batches: pb.Batch, live: bool = False) -> pb.PublishBatchesRequest:
    return pb.PublishBatchesRequest(sequence=sequence, batches=batches, live=live)


def opening(producer_id: bytes = b"", first_sequence: int = 1) -> pb.PublishBatchesRequest:
    return pb.PublishBatchesRequest(
        open=pb.PublishOpen(producer_id=producer_id, first_sequence=first_sequence)
    )


async def results_of(peer: Peer, *requests: pb.PublishBatchesRequest) -> list[pb.PublishResult]:
    call = peer.call(rpc.PUBLISH_BATCHES, each(requests))
    return [result async for frame in call for result in frame.results]


def envelope(subject: str, id: str, payload: bytes = b"x", **fields: Any) -> pb.EventEnvelope:
    return pb.EventEnvelope(id=id, subject=subject.encode(), payload=payload, **fields)


async def each(items: Iterable[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item


async def next_of(call: AsyncIterable[Any]) -> Any:
    """The next response; fails the test when there is none for long."""
    response = await asyncio.wait_for(call.read(), WAIT_SECS)  # type: ignore[attr-defined]
    assert response is not EOF
    return response


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what no event tells of."""
    async with asyncio.timeout(WAIT_SECS):
        while not condition():  # noqa: ASYNC110 - state of the engine, watched from outside
            await asyncio.sleep(0.002)


async def rest_of(call: Any) -> list[Any]:
    """Every response that is still to come, whatever ends the call."""
    responses = []
    try:
        while (response := await asyncio.wait_for(call.read(), WAIT_SECS)) is not EOF:
            responses.append(response)
    except grpc.aio.AioRpcError:
        pass
    return responses


async def error_of(call: Any) -> Any:
    """The call's end, which is an error; has code() and details()."""
    async with asyncio.timeout(WAIT_SECS):
        try:
            if hasattr(call, "read"):
                while await call.read() is not EOF:
                    pass
            else:
                await call
        except grpc.aio.AioRpcError as error:
            return error
    raise AssertionError("it ended without an error")


@asynccontextmanager
async def peer_of(server: Server) -> AsyncIterator[Peer]:
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield Peer(channel)


@asynccontextmanager
async def server_and_peer(config: ServerConfig) -> AsyncIterator[tuple[Server, Peer]]:
    async with serving(config) as server, peer_of(server) as peer:
        yield server, peer


async def subscribed(peer: Peer, subject: bytes, *groups: str) -> Any:
    """A live subscription that is registered."""
    call = peer.call(rpc.SUBSCRIBE, pb.SubscribeRequest(subject=subject, queue_groups=groups))
    await asyncio.wait_for(call.initial_metadata(), 10)
    return call


class Durable:
    """A SubscribeDurable stream."""

    def __init__(self, peer: Peer) -> None:
        self.call = peer.call(rpc.SUBSCRIBE_DURABLE)

    async def open(self, name: str, subject: str, **fields: Any) -> Durable:
        request = pb.DurableSubscribeRequest(subject=subject.encode(), consumer_name=name, **fields)
        await self.call.write(pb.DurableClientMessage(subscribe=request))
        await asyncio.wait_for(self.call.initial_metadata(), 10)
        return self

    async def next(self) -> tuple[str, int]:
        """(id, attempt) of the next message."""
        message = await next_of(self.call)
        if message.WhichOneof("msg") == "envelope":
            return message.envelope.id, 1
        assert message.redelivery.attempt > 1
        return message.redelivery.envelope.id, message.redelivery.attempt

    async def ack(self, message_id: str) -> None:
        await self.call.write(pb.DurableClientMessage(ack=pb.Ack(message_id=message_id)))

    async def nack(self, message_id: str, *, requeue: bool) -> None:
        nack = pb.Nack(message_id=message_id, requeue=requeue)
        await self.call.write(pb.DurableClientMessage(nack=nack))

    async def nothing_but(self, peer: Peer, subject: str, marker: str) -> None:
        """Nothing else comes before a message that is published now."""
        await peer.publish_v1(envelope(subject, marker))
        assert await self.next() == (marker, 1)
        await self.ack(marker)
