"""Statuses to errors: the broker's word, and what the transport makes up."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from hermes import errors
from hermes.client.core.codes import error_from_code, is_retryable
from hermes.client.errors import error_from_rpc

TRAVELLING = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.HermesError)
]


class FakeRpcError(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode, details: str, metadata: Any = ()) -> None:
        super().__init__()
        self._parts = (code, details, metadata)

    def code(self) -> grpc.StatusCode:
        return self._parts[0]

    def details(self) -> str:
        return self._parts[1]

    def trailing_metadata(self) -> Any:
        return self._parts[2]


@pytest.mark.parametrize("kind", TRAVELLING)
def test_the_broker_names_the_class(kind: type[errors.HermesError]) -> None:
    metadata = (("hermes-error", kind.__name__), ("hermes-hint", "try%20%C3%BC"))
    status = grpc.StatusCode[kind.code]
    error = error_from_rpc(FakeRpcError(status, "what happened", metadata))
    assert type(error) is kind
    assert (error.message, error.hint) == ("what happened", "try ü")


@pytest.mark.parametrize("code", ["UNAVAILABLE", "CANCELLED", "INTERNAL"])
def test_a_broken_transport_is_a_lost_connection(code: str) -> None:
    error = error_from_rpc(FakeRpcError(grpc.StatusCode[code], "Socket closed"))
    assert type(error) is errors.ConnectionLostError
    assert is_retryable(error)


@pytest.mark.parametrize("status", list(grpc.StatusCode))
def test_every_status_has_an_error(status: grpc.StatusCode) -> None:
    error = error_from_rpc(FakeRpcError(status, "details", None))
    assert isinstance(error, errors.HermesError)
    assert "details" in str(error)


def test_a_status_of_another_server_is_told_by_its_code() -> None:
    error = error_from_rpc(FakeRpcError(grpc.StatusCode.PERMISSION_DENIED, "no"))
    assert type(error) is errors.PermissionDeniedError
    assert not is_retryable(error)


def test_refusals_have_the_class_of_their_code() -> None:
    error = error_from_code("RESOURCE_EXHAUSTED", "too large", "smaller")
    assert type(error) is errors.LimitExceededError
    assert error.hint == "smaller"
    assert type(error_from_code("NOT_A_CODE", "odd")) is errors.HermesError


def test_what_may_be_tried_again() -> None:
    assert is_retryable(errors.UnavailableError("restarting"))
    assert not is_retryable(errors.NotFoundError("deleted"))
    assert not is_retryable(errors.FencedError("taken over"))
