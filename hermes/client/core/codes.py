"""[P] Status names to error classes: the client's half of the one error table."""

from __future__ import annotations

from typing import Final

from hermes import errors
from hermes.errors import HermesError, UnavailableError

_BY_NAME: Final[dict[str, type[HermesError]]] = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, HermesError)
}

# For a broker that names no class, and for refusals: the class that says it best.
_BY_CODE: Final[dict[str, type[HermesError]]] = {
    kind.code: kind
    for kind in (
        errors.InvalidArgumentError,
        errors.NotFoundError,
        errors.ConflictError,
        errors.FencedError,
        errors.PreconditionError,
        errors.LimitExceededError,
        errors.UnauthenticatedError,
        errors.PermissionDeniedError,
        errors.UnavailableError,
        errors.OutOfRangeError,
        errors.DataLossError,
        errors.NotBuiltYetError,
        errors.OperationTimeoutError,
        errors.ClosedError,
    )
}


def error_from_code(code: str, message: str, hint: str = "", name: str = "") -> HermesError:
    """The error for a gRPC status name, or for the class name when it is a known one."""
    kind = _BY_NAME.get(name) or _BY_CODE.get(code, HermesError)
    return kind(message or code, hint=hint)


def is_retryable(error: HermesError) -> bool:
    """True when the same stream may be opened again: the broker is away, not unwilling."""
    return isinstance(error, UnavailableError)
