"""[P] The error tree. One root, few kinds; each tells what to do next.

`code` is the gRPC status name the server sends and the client maps back. Errors
that never travel (a locked store, a bad setting) keep the root's INTERNAL.
"""

from __future__ import annotations

from typing import Any, ClassVar


class HermesError(Exception):
    """Root of everything Hermes raises.

    `hint` says what to do about it; `fields` are named facts for programs and logs.
    """

    code: ClassVar[str] = "INTERNAL"

    def __init__(self, message: str, *, hint: str = "", **fields: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.fields = fields

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


# ------------------------------------------------------- errors that travel


class InvalidArgumentError(HermesError):
    """The request can never be right as it is."""

    code = "INVALID_ARGUMENT"


class NotFoundError(HermesError):
    """No such consumer, dead letter or message."""

    code = "NOT_FOUND"


class ConflictError(HermesError):
    """It exists and differs, or somebody else holds it."""

    code = "ALREADY_EXISTS"


class FencedError(ConflictError):
    """A newer stream of the same producer or client took over."""

    code = "ABORTED"


class PreconditionError(HermesError):
    """Not in this state of the broker: no store, members connected, wrong order of frames."""

    code = "FAILED_PRECONDITION"


class LimitExceededError(HermesError):
    """A named limit: message size, connections, disk space."""

    code = "RESOURCE_EXHAUSTED"


class UnauthenticatedError(HermesError):
    """No credentials, or not valid ones."""

    code = "UNAUTHENTICATED"


class PermissionDeniedError(HermesError):
    """Known, but not allowed to."""

    code = "PERMISSION_DENIED"


class UnavailableError(HermesError):
    """The broker is starting, stopping or reopening its log. Safe to try again."""

    code = "UNAVAILABLE"


class OutOfRangeError(HermesError):
    """A sequence or offset outside what is kept."""

    code = "OUT_OF_RANGE"


class DataLossError(HermesError):
    """Stored bytes are damaged or missing."""

    code = "DATA_LOSS"


class NotBuiltYetError(HermesError):
    """Promised by the wire, not built in this version."""

    code = "UNIMPLEMENTED"


class OperationTimeoutError(HermesError):
    """Not done within the time given; it may still happen."""

    code = "DEADLINE_EXCEEDED"


# ----------------------------------------------------- errors of this process


class ConfigError(HermesError):
    """One or more settings are wrong; the message lists all of them."""


class StoreError(HermesError):
    """A store cannot be opened or used."""


class StoreLockedError(StoreError):
    """Another process has the store open for writing."""


class StoreVersionError(StoreError):
    """The store was written by a newer version."""


class StoreDamagedError(StoreError):
    """Committed records are missing or corrupt; the message names the exact range."""

    code = "DATA_LOSS"


class SegmentDamagedError(StoreDamagedError):
    """One sealed segment cannot be read or lies; the log around it can still be served.

    Fields: `first_lsn`, `last_lsn`, and `first_offset`, `last_offset` (None where no message
    was published in it), all inclusive; `reason`.
    """


class StoreFullError(StoreError):
    """No space left for the log."""

    code = "RESOURCE_EXHAUSTED"


class LogClosedError(StoreError):
    """The log was closed or has failed; it must be opened again."""

    code = "UNAVAILABLE"


# ------------------------------------------------------- errors of the client


class ConnectionLostError(UnavailableError):
    """The broker cannot be reached. The outcome of what was under way is unknown."""


class PublishError(HermesError):
    """Messages of a publisher were not acknowledged: `count` of them, and the `first_error`."""

    def __init__(self, message: str, *, hint: str = "", **fields: Any) -> None:
        super().__init__(message, hint=hint, **fields)
        self.count: int = fields.get("count", 0)
        self.first_error: BaseException | None = fields.get("first_error")


class StaleError(HermesError):
    """The lease was lost (expired, settled, handed to another); the verdict did not count."""

    code = "ABORTED"


class ClosedError(HermesError):
    """The client, publisher or iterator was closed."""

    code = "CANCELLED"


class DecodeError(HermesError):
    """A payload is not what its type says."""


class ForkedProcessError(HermesError):
    """This object was made before a fork; grpc cannot be used across one."""
