"""The public names of `hermes`: complete, lazy, and without grpc types."""

from __future__ import annotations

import inspect
import subprocess
import sys
import tomllib
import typing
from pathlib import Path

import pytest

import hermes
from hermes import errors
from hermes.client import aio, sync


@pytest.mark.parametrize("name", hermes.__all__)
def test_every_public_name_can_be_had(name: str) -> None:
    assert getattr(hermes, name) is not None
    assert name in dir(hermes)


def test_every_error_is_public() -> None:
    kinds = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.HermesError)
    }
    assert kinds <= set(hermes.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        hermes.nonsense  # noqa: B018


def test_the_version_is_the_distribution_s(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    assert hermes.__version__ == project["version"]


def test_importing_hermes_loads_neither_grpc_nor_protobuf() -> None:
    code = (
        "import sys, hermes, hermes.errors, hermes.clock\n"
        "sys.exit(any(name in sys.modules for name in ('grpc', 'google.protobuf', 'asyncio')))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", ["publish", "subscribe", "consume", "read"])
def test_both_clients_take_the_same_arguments(name: str) -> None:
    ours, theirs = (getattr(kind, name) for kind in (aio.AsyncClient, sync.Client))
    assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)


@pytest.mark.parametrize("kind", [aio.AsyncClient, sync.Client])
def test_no_grpc_type_is_in_the_public_surface(kind: type[object]) -> None:
    for name, member in inspect.getmembers(kind, inspect.isfunction):
        if name.startswith("_") and name != "__init__":
            continue
        hints = typing.get_type_hints(member, localns={"TypeForm": typing.Any})
        assert not any("grpc" in str(hint) for hint in hints.values()), name
