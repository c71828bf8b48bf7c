"""Errors on their way out: the one table from HermesError to gRPC status.

Each class of `hermes.errors` names its status by `code`. The class name and the hint
travel beside it in trailing metadata, so that a client raises the same class again.
What is not a HermesError is a bug of ours: the client gets INTERNAL and a short id,
the log the same id and the traceback.
"""

from __future__ import annotations

import uuid
from typing import Any, Final, NoReturn
from urllib.parse import quote

import grpc

from hermes import rpc
from hermes.errors import HermesError, InvalidArgumentError, LimitExceededError
from hermes.server.logs import get_logger

# Beyond 8 KiB of trailing metadata grpc refuses, the more often the more it is. Message and
# hint are percent-encoded: three times their bytes at worst, each.
_DETAILS_BYTES_MAX: Final = 1_200

STATUS_BY_CODE: Final = {status.name: status for status in grpc.StatusCode}

_log = get_logger("hermes.server")


def status_of(error: HermesError) -> grpc.StatusCode:
    """The status for an error, by its class."""
    return STATUS_BY_CODE[error.code]


def internal_error(error: BaseException, where: str) -> HermesError:
    """Log a bug with its traceback and return what the client is told of it."""
    reference = uuid.uuid4().hex[:8]
    _log.error("unexpected error", reference=reference, where=where, exc_info=error)
    return HermesError(
        f"internal error {reference}", hint="the server's log has the details under this id"
    )


def trailing_metadata(error: HermesError) -> tuple[tuple[str, str], ...]:
    """Class name and hint."""
    pairs = [(rpc.ERROR_NAME_KEY, type(error).__name__)]
    if error.hint:
        pairs.append((rpc.ERROR_HINT_KEY, quote(_shortened(error.hint))))
    return tuple(pairs)


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: HermesError) -> NoReturn:
    """End the RPC with the error's status. Raises, as grpc wants it."""
    await context.abort(status_of(error), _shortened(error.message), trailing_metadata(error))
    raise AssertionError("abort returned")


def refusal(error: HermesError) -> tuple[str, str, str]:
    """Code, message and hint, for a refusal inside a stream that goes on."""
    return error.code, _shortened(error.message), _shortened(error.hint)


def _shortened(text: str) -> str:
    encoded = text.encode(errors="replace")
    if len(encoded) <= _DETAILS_BYTES_MAX:
        return text
    return encoded[:_DETAILS_BYTES_MAX].decode(errors="ignore") + " …"


def is_refusal(error: HermesError) -> bool:
    """Whether the caller's input is at fault, so that the rest of its stream may go on."""
    return isinstance(error, InvalidArgumentError | LimitExceededError)
