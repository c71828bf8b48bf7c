"""The gRPC server: its options, the services it offers, and the address it takes.

One grpc.aio server with generic handlers from the method table (`hermes.rpc`), the
standard health service and reflection. It knows no broker: behaviours are handed in,
and every one is guarded, so that an error leaves as a status and never as a traceback.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio  # type: ignore[attr-defined]
from grpc_reflection.v1alpha import reflection

from hermes import limits, rpc
from hermes.errors import HermesError, InvalidArgumentError
from hermes.server.config import ServerConfig
from hermes.server.config_checks import split_address
from hermes.server.descriptors import connections_max
from hermes.server.status import abort, internal_error

Context = grpc.aio.ServicerContext[Any, Any]
AnyMethod = rpc.Method[Any, Any]
# Unary requests: (request, context); streams of requests: (request iterator, context).
Behaviour = Callable[[Any, Context], Awaitable[Any]]

HEALTH_SERVICE: Final = "grpc.health.v1.Health"
# A peer that vanished is noticed after time + timeout.
KEEPALIVE_TIME_MS: Final = 10_000
KEEPALIVE_TIMEOUT_MS: Final = 5_000
# Between the server's own pings, below the time above to allow for jitter.
PING_INTERVAL_MIN_MS: Final = 5_000
# What grpc allows itself beside the RPCs: the default of 100 would stop streams early.
_METADATA_BYTES_MAX: Final = 16 * limits.KIB


class AddressError(HermesError):
    """The server cannot listen on its address."""


class Endpoint:
    """A gRPC server that is bound but does not serve before `start`."""

    def __init__(self, config: ServerConfig, handlers: Mapping[AnyMethod, Behaviour]) -> None:
        """Raises AddressError when the address cannot be taken."""
        self.serving = False  # what health says of it
        # Before there is a server: one that never ran does not go without a warning.
        _check_free(config.listen_addr)
        self._server = grpc.aio.server(
            options=server_options(config), maximum_concurrent_rpcs=limits.STREAMS_MAX
        )
        services = sorted({method.service for method in handlers})
        for service in services:
            methods = {
                method.name: _rpc_handler(method, behaviour)
                for method, behaviour in handlers.items()
                if method.service == service
            }
            generic = grpc.method_handlers_generic_handler(service, methods)
            self._server.add_generic_rpc_handlers((generic,))
        self._services = ["", *services]
        self._health = health_aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (*services, HEALTH_SERVICE, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        self.address = self._bind(config.listen_addr)

    def _bind(self, address: str) -> str:
        host, _ = split_address(address)
        try:
            bound_port = self._server.add_insecure_port(address)
        except RuntimeError:
            raise AddressError(
                f"cannot listen on {address}", hint="choose another with --listen"
            ) from None
        return f"[{host}]:{bound_port}" if ":" in host else f"{host}:{bound_port}"

    async def start(self) -> None:
        """Accept connections; health says NOT_SERVING until told otherwise."""
        await self.set_serving(serving=False)
        await self._server.start()

    async def set_serving(self, *, serving: bool) -> None:
        """What the health service answers, for the server and each service."""
        self.serving = serving
        status = health_pb2.HealthCheckResponse.ServingStatus
        for service in self._services:
            await self._health.set(service, status.SERVING if serving else status.NOT_SERVING)

    async def stop(self, grace_secs: float) -> None:
        """Refuse new RPCs, wait so long for those running, then cancel them. Idempotent."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_secs)


def server_options(config: ServerConfig) -> list[tuple[str, int]]:
    """grpc channel arguments, each with its reason."""
    return [
        # Without it two servers share a port silently, each getting some connections.
        ("grpc.so_reuseport", 0),
        ("grpc.max_concurrent_streams", limits.STREAMS_PER_CONNECTION_MAX),
        ("grpc.max_allowed_incoming_connections", connections_max()),
        ("grpc.max_receive_message_length", config.frame_bytes_max),
        # What a peer may have on its way per stream. Left to itself grpc widens that with
        # the bandwidth it sees, and a message that is refused takes tens of megabytes.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", limits.STREAM_WINDOW_BYTES),
        ("grpc.max_send_message_length", -1),  # frames are bounded where they are built
        ("grpc.max_metadata_size", _METADATA_BYTES_MAX),
        ("grpc.keepalive_time_ms", KEEPALIVE_TIME_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        # How long a ping is waited for: a minute by default, whatever the line above says.
        ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),  # an idle consumer stays
        ("grpc.http2.min_ping_interval_without_data_ms", PING_INTERVAL_MIN_MS),
        # Every ping is answered, however many: that takes grpc well under a microsecond, and
        # it stops reading from a peer that leaves its answers unread. To end a connection
        # instead took it 15 to 27 ms of processor time, and the peer only came again.
        ("grpc.http2.max_ping_strikes", 0),
    ]


def _check_free(address: str) -> None:
    """Learn why an address cannot be taken, which grpc does not tell."""
    host, port = split_address(address)
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, target = infos[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(target)
    except OSError as error:
        reason = error.strerror or os.strerror(error.errno or 0)
        raise AddressError(
            f"cannot listen on {address}: {reason}",
            hint="another server may be running there; choose another address with --listen",
        ) from None


def _rpc_handler(method: AnyMethod, behaviour: Behaviour) -> grpc.RpcMethodHandler[Any, Any]:
    make: Callable[..., grpc.RpcMethodHandler[Any, Any]]
    if method.client_streaming:
        make = (
            grpc.stream_stream_rpc_method_handler
            if method.server_streaming
            else grpc.stream_unary_rpc_method_handler
        )
    else:
        make = (
            grpc.unary_stream_rpc_method_handler
            if method.server_streaming
            else grpc.unary_unary_rpc_method_handler
        )
    parse = _parser(method.request_class)
    return make(
        _guarded(method.path, behaviour, None if method.client_streaming else parse),
        # What raises in here before a unary behaviour runs would leave as UNKNOWN.
        request_deserializer=parse if method.client_streaming else None,
        response_serializer=method.response_class.SerializeToString,
    )


def _parser(message_class: type[Message]) -> Callable[[bytes], Message]:
    def parse(data: bytes) -> Message:
        try:
            return message_class.FromString(data)
        except DecodeError as error:
            raise InvalidArgumentError(
                f"the request is not a {message_class.DESCRIPTOR.full_name}: {error}"
            ) from error

    return parse


def _guarded(
    path: str, behaviour: Behaviour, parse: Callable[[bytes], Message] | None
) -> Behaviour:
    """The behaviour, whose errors end the RPC with a status."""

    async def guarded(request: Any, context: Context) -> Any:
        try:
            try:
                return await behaviour(request if parse is None else parse(request), context)
            except HermesError as error:
                await abort(context, error)
            except (grpc.aio.AbortError, grpc.aio.UsageError, grpc.aio.InternalError):
                raise
            except Exception as error:  # noqa: BLE001 - a bug must not reach the client raw
                await abort(context, internal_error(error, path))
        except grpc.aio.InternalError:
            # A frame or a status that could not be sent: the call has ended. Mostly grpc
            # cancels the handler first, but not if a write was waiting for the client.
            raise asyncio.CancelledError from None

    return guarded
