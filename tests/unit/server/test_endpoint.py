"""The gRPC server around a behaviour: statuses, health, reflection, addresses."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from urllib.parse import quote, unquote

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from hermes import errors, rpc
from hermes.admin.v1 import admin_pb2
from hermes.server.config import ServerConfig
from hermes.server.endpoint import AddressError, Behaviour, Context, Endpoint
from hermes.server.status import STATUS_BY_CODE

Serve = Callable[[Behaviour], AbstractAsyncContextManager[grpc.aio.Channel]]


@asynccontextmanager
async def served(behaviour: Behaviour) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a server whose GetServer behaves as given."""
    endpoint = Endpoint(ServerConfig(listen_addr="127.0.0.1:0"), {rpc.GET_SERVER: behaviour})
    await endpoint.start()
    await endpoint.set_serving(serving=True)
    try:
        async with grpc.aio.insecure_channel(endpoint.address) as channel:
            yield channel
    finally:
        await endpoint.stop(0)


def get_server(channel: grpc.aio.Channel) -> Any:
    call: Any = channel.unary_unary(
        rpc.GET_SERVER.path,
        request_serializer=admin_pb2.GetServerRequest.SerializeToString,
        response_deserializer=admin_pb2.ServerInfo.FromString,
    )
    return call(admin_pb2.GetServerRequest())


async def failing(error: BaseException) -> grpc.aio.AioRpcError:
    async def behaviour(request: Any, context: Context) -> Any:
        raise error

    async with served(behaviour) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await get_server(channel)
        return caught.value


def subclasses(cls: type[errors.HermesError]) -> list[type[errors.HermesError]]:
    return [cls, *(below for sub in cls.__subclasses__() for below in subclasses(sub))]


def test_every_error_has_a_status() -> None:
    for cls in subclasses(errors.HermesError):
        assert STATUS_BY_CODE[cls.code].name == cls.code


async def test_an_error_travels_with_its_name_and_hint() -> None:
    answer = await failing(errors.NotFoundError("no consumer named 'ü'", hint="look: ü\n100 %"))
    assert answer.code() is grpc.StatusCode.NOT_FOUND
    assert answer.details() == "no consumer named 'ü'"
    metadata: dict[str, Any] = dict(iter(answer.trailing_metadata()))  # type: ignore[arg-type]
    assert metadata[rpc.ERROR_NAME_KEY] == "NotFoundError"
    assert unquote(metadata[rpc.ERROR_HINT_KEY]) == "look: ü\n100 %"


async def test_a_long_message_still_arrives() -> None:
    """Trailing metadata beyond 8 KiB would replace the status by RESOURCE_EXHAUSTED.

    Found as a test that failed once in a while: between 8 and 16 KiB grpc refuses at random.
    """
    answer = await failing(errors.ConflictError("é" * 5_000, hint="ß" * 5_000))
    metadata: list[tuple[str, str]] = list(answer.trailing_metadata() or ())  # type: ignore[arg-type]
    sent = [len(quote(str(answer.details()))), *(len(k) + len(v) for k, v in metadata)]
    assert sum(sent) < 7_936  # and some for the rest
    assert answer.code() is grpc.StatusCode.ALREADY_EXISTS
    assert str(answer.details()).endswith(" …")


async def test_a_bug_is_internal_and_shows_nothing_but_an_id() -> None:
    answer = await failing(ZeroDivisionError("secret"))
    assert answer.code() is grpc.StatusCode.INTERNAL
    assert str(answer.details()).startswith("internal error ")
    assert "secret" not in str(answer.details())


async def answering(request: Any, context: Context) -> Any:
    return admin_pb2.ServerInfo(version="1")


async def test_health_and_reflection() -> None:
    async with served(answering) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        for service in ("", rpc.ADMIN_SERVICE):
            reply = await health.Check(health_pb2.HealthCheckRequest(service=service))
            assert reply.status == health_pb2.HealthCheckResponse.SERVING
        reflecting: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest
        asked = [
            request(list_services=""),
            request(file_containing_symbol="hermes.admin.v1.Admin"),
        ]
        listed, described = [
            answer async for answer in reflecting.ServerReflectionInfo(iter(asked))
        ]
        names = {service.name for service in listed.list_services_response.service}
        assert {rpc.ADMIN_SERVICE, "grpc.health.v1.Health"} <= names
        assert described.file_descriptor_response.file_descriptor_proto


async def test_not_serving_before_it_is_told_to() -> None:
    endpoint = Endpoint(ServerConfig(listen_addr="127.0.0.1:0"), {rpc.GET_SERVER: answering})
    await endpoint.start()
    async with grpc.aio.insecure_channel(endpoint.address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        reply = await health.Check(health_pb2.HealthCheckRequest())
        assert reply.status == health_pb2.HealthCheckResponse.NOT_SERVING
    await endpoint.stop(0)


async def test_an_oversized_frame_is_refused() -> None:
    async with served(answering) as channel:
        raw: Any = channel
        send = raw.unary_unary(rpc.GET_SERVER.path)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await send(b"\0" * (ServerConfig().frame_bytes_max + 1))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await get_server(channel)).version == "1"


async def test_a_taken_port_is_named_with_its_reason() -> None:
    """grpc's default shares the port among servers, silently."""
    endpoint = Endpoint(ServerConfig(listen_addr="127.0.0.1:0"), {rpc.GET_SERVER: answering})
    await endpoint.start()
    try:
        with pytest.raises(AddressError, match=f"{endpoint.address}: Address already in use"):
            Endpoint(ServerConfig(listen_addr=endpoint.address), {rpc.GET_SERVER: answering})
    finally:
        await endpoint.stop(0)


async def test_a_port_taken_by_another_program() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(AddressError, match="Address already in use"):
            Endpoint(ServerConfig(listen_addr=address), {rpc.GET_SERVER: answering})
        await asyncio.sleep(0)


async def test_a_host_that_does_not_exist() -> None:
    config = ServerConfig(listen_addr="nowhere.invalid:4222", insecure=True)
    with pytest.raises(AddressError, match=r"nowhere\.invalid:4222"):
        Endpoint(config, {rpc.GET_SERVER: answering})
