"""A broker that only does what a test tells it: every stream is scripted by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import grpc

from hermes.broker.v1 import broker_pb2 as pb
from hermes.client.core.deliveries import batch_of_one
from hermes.errors import HermesError
from hermes.rpc import (
    BROKER_SERVICE,
    CONSUME,
    ERROR_HINT_KEY,
    ERROR_NAME_KEY,
    PUBLISH_BATCHES,
    READ,
    SUBSCRIBE_BATCHES,
)


class FakeStream:
    """One stream as the broker sees it. `receive` gives None when the client half-closed."""

    def __init__(self, method: str, context: Any) -> None:
        self.method = method
        self.context = context
        self.metadata = dict(context.invocation_metadata() or ())
        self.gone = asyncio.Event()
        self._requests: asyncio.Queue[Any] = asyncio.Queue()
        self._end: asyncio.Future[HermesError | None] = asyncio.get_running_loop().create_future()

    async def receive(self) -> Any:
        async with asyncio.timeout(10):
            return await self._requests.get()

    async def send(self, response: Any) -> None:
        await self.context.write(response)

    def end(self, error: HermesError | None = None) -> None:
        if not self._end.done():
            self._end.set_result(error)

    async def serve(self, requests: AsyncIterator[Any] | None) -> None:
        pump = asyncio.create_task(self._pump(requests)) if requests is not None else None
        try:
            error = await self._end
            if error is not None:
                self.context.set_trailing_metadata(
                    ((ERROR_NAME_KEY, type(error).__name__), (ERROR_HINT_KEY, quote(error.hint)))
                )
                await self.context.abort(grpc.StatusCode[error.code], error.message)
        finally:
            self.gone.set()
            if pump is not None:
                pump.cancel()

    async def _pump(self, requests: AsyncIterator[Any]) -> None:
        async for request in requests:
            self._requests.put_nowait(request)
        self._requests.put_nowait(None)


class FakeBroker:
    """Hands each new stream to the test through `stream()`."""

    def __init__(self) -> None:
        self.port = 0
        self._streams: dict[str, asyncio.Queue[FakeStream]] = {}
        self._server: Any = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def stream(self, method: str) -> FakeStream:
        async with asyncio.timeout(10):
            return await self._queue(method).get()

    async def start(self) -> None:
        server = grpc.aio.server()
        handlers = {
            method.name: grpc.stream_stream_rpc_method_handler(
                self._bidi(method.name),
                request_deserializer=method.request_class.FromString,
                response_serializer=method.response_class.SerializeToString,
            )
            for method in (PUBLISH_BATCHES, CONSUME, SUBSCRIBE_BATCHES)
        }
        handlers["Read"] = grpc.unary_stream_rpc_method_handler(
            self._read,
            request_deserializer=READ.request_class.FromString,
            response_serializer=READ.response_class.SerializeToString,
        )
        generic = grpc.method_handlers_generic_handler(BROKER_SERVICE, handlers)
        server.add_generic_rpc_handlers((generic,))
        self.port = server.add_insecure_port(f"127.0.0.1:{self.port}")
        await server.start()
        self._server = server

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    def _queue(self, method: str) -> asyncio.Queue[FakeStream]:
        return self._streams.setdefault(method, asyncio.Queue())

    def _bidi(self, name: str) -> Any:
        async def handle(requests: AsyncIterator[Any], context: Any) -> None:
            stream = FakeStream(name, context)
            self._queue(name).put_nowait(stream)
            await stream.serve(requests)

        return handle

    async def _read(self, request: Any, context: Any) -> None:
        stream = FakeStream("Read", context)
        stream._requests.put_nowait(request)
        await context.send_initial_metadata(())
        self._queue("Read").put_nowait(stream)
        await stream.serve(None)


@asynccontextmanager
async def fake_broker() -> AsyncIterator[FakeBroker]:
    broker = FakeBroker()
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()


def publish_opened(**fields: Any) -> pb.PublishBatchesResponse:
    values: dict[str, Any] = {
        "max_message_bytes": 1 << 20,
        "max_batch_messages": 1000,
        "max_frame_bytes": 4 << 20,
    }
    return pb.PublishBatchesResponse(opened=pb.PublishOpened(**(values | fields)))


def consume_opened(**fields: Any) -> pb.ConsumeResponse:
    values: dict[str, Any] = {"created": True, "ack_timeout_ns": 30_000_000_000, "member": 1}
    return pb.ConsumeResponse(opened=pb.ConsumeOpened(**(values | fields)))


def delivery(offset: int, payload: bytes, *, attempt: int = 1, subject: str = "a.b") -> pb.Delivery:
    return pb.Delivery(
        base_offset=offset,
        attempt=attempt,
        batch=batch_of_one(subject, payload, None, None),
        published_at_ns=1_700_000_000_000_000_000,
    )


def batch_delivery(offset: int, payloads: list[bytes], **fields: Any) -> pb.Delivery:
    batch = pb.Batch(
        subject="a.b",
        head=pb.BatchHead(count=len(payloads)).SerializeToString(),
        content=pb.BatchContent(payloads=payloads).SerializeToString(),
    )
    return pb.Delivery(base_offset=offset, attempt=1, batch=batch, **fields)


async def open_publisher(broker: FakeBroker, first_sequence: int = 1) -> FakeStream:
    stream = await broker.stream("PublishBatches")
    request = await stream.receive()
    assert request.open.first_sequence == first_sequence
    await stream.send(publish_opened())
    return stream


async def open_member(broker: FakeBroker) -> FakeStream:
    stream = await broker.stream("Consume")
    assert (await stream.receive()).open.consumer == "c"
    await stream.send(consume_opened())
    return stream


async def deliver(stream: FakeStream, *deliveries: pb.Delivery) -> None:
    await stream.send(pb.ConsumeResponse(deliveries=deliveries))


def published(sequence: int, batches: int, base_offset: int) -> pb.PublishBatchesResponse:
    result = pb.PublishResult(
        sequence=sequence, batches=batches, count=batches, base_offset=base_offset
    )
    return pb.PublishBatchesResponse(results=[result])
