"""gRPC status to HermesError, so that no grpc type reaches a user.

The broker sends the class name and the hint in trailing metadata. A status without
them comes from the transport: those that mean a broken connection become
`ConnectionLostError`, which is what the client reconnects on.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import unquote

import grpc

from hermes.client.core.codes import error_from_code
from hermes.errors import ConnectionLostError, HermesError
from hermes.rpc import ERROR_HINT_KEY, ERROR_NAME_KEY

# Statuses the transport makes up when a connection or a stream breaks under a call.
_TRANSPORT_CODES: Final = frozenset({"UNAVAILABLE", "CANCELLED", "INTERNAL"})


def error_from_rpc(error: grpc.RpcError) -> HermesError:
    """The HermesError for a failed call, sync or asyncio."""
    call: Any = error
    status = call.code()
    code: str = status.name if status is not None else "UNKNOWN"
    details: str = call.details() or ""
    metadata = dict(_text_pairs(call.trailing_metadata()))
    name = metadata.get(ERROR_NAME_KEY, "")
    if name:
        return error_from_code(code, details, unquote(metadata.get(ERROR_HINT_KEY, "")), name)
    if code in _TRANSPORT_CODES or "Stream removed" in details:
        return ConnectionLostError(f"connection lost: {details or code}")
    return error_from_code(code, details)


def _text_pairs(metadata: Iterable[Any] | None) -> Iterable[tuple[str, str]]:
    for key, value in metadata or ():
        yield key, value.decode("utf-8", "replace") if isinstance(value, bytes) else value
