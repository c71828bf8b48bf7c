"""Hermes: an event broker in which every publish, delivery and ack is an event in a log.

The public names are loaded when they are first used, so that `import hermes.log` does
not load gRPC.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from hermes.client.aio import AsyncClient
    from hermes.client.aio_publisher import AsyncPublisher
    from hermes.client.core.outgoing import PublishAck
    from hermes.client.message import Message
    from hermes.client.message_batch import MessageBatch
    from hermes.client.receipts import AsyncReceipt, Receipt
    from hermes.client.sync import Client
    from hermes.client.sync_publisher import Publisher
    from hermes.client.typed import event
    from hermes.errors import (
        ClosedError,
        ConfigError,
        ConflictError,
        ConnectionLostError,
        DataLossError,
        DecodeError,
        FencedError,
        ForkedProcessError,
        HermesError,
        InvalidArgumentError,
        LimitExceededError,
        LogClosedError,
        NotBuiltYetError,
        NotFoundError,
        OperationTimeoutError,
        OutOfRangeError,
        PermissionDeniedError,
        PreconditionError,
        PublishError,
        SegmentDamagedError,
        StaleError,
        StoreDamagedError,
        StoreError,
        StoreFullError,
        StoreLockedError,
        StoreVersionError,
        UnauthenticatedError,
        UnavailableError,
    )

__version__: Final = "0.1.0"

__all__ = [
    "AsyncClient",
    "AsyncPublisher",
    "AsyncReceipt",
    "Client",
    "ClosedError",
    "ConfigError",
    "ConflictError",
    "ConnectionLostError",
    "DataLossError",
    "DecodeError",
    "FencedError",
    "ForkedProcessError",
    "HermesError",
    "InvalidArgumentError",
    "LimitExceededError",
    "LogClosedError",
    "Message",
    "MessageBatch",
    "NotBuiltYetError",
    "NotFoundError",
    "OperationTimeoutError",
    "OutOfRangeError",
    "PermissionDeniedError",
    "PreconditionError",
    "PublishAck",
    "PublishError",
    "Publisher",
    "Receipt",
    "SegmentDamagedError",
    "StaleError",
    "StoreDamagedError",
    "StoreError",
    "StoreFullError",
    "StoreLockedError",
    "StoreVersionError",
    "UnauthenticatedError",
    "UnavailableError",
    "__version__",
    "event",
]

_MODULES: Final = {
    "AsyncClient": "hermes.client.aio",
    "AsyncPublisher": "hermes.client.aio_publisher",
    "AsyncReceipt": "hermes.client.receipts",
    "Client": "hermes.client.sync",
    "Message": "hermes.client.message",
    "MessageBatch": "hermes.client.message_batch",
    "PublishAck": "hermes.client.core.outgoing",
    "Publisher": "hermes.client.sync_publisher",
    "Receipt": "hermes.client.receipts",
    "event": "hermes.client.typed",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'hermes' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES.get(name, "hermes.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
