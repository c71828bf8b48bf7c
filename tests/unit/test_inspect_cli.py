"""hermes-inspect: what is there answers, what is not built says so."""

from __future__ import annotations

from importlib.metadata import version

import pytest
from typer.testing import CliRunner

from hermes_inspect import cli

BUILT = ["export"]
PROMISED = ["log", "trace", "consumers", "segments", "stats", "at", "verify", "sql"]


def test_version_is_the_distributions() -> None:
    result = CliRunner().invoke(cli.app, ["--version"])
    assert result.exit_code == 0
    assert result.stdout == f"hermes-inspect {version('hermes-broker')}\n"


def test_help_names_every_promised_command() -> None:
    result = CliRunner().invoke(cli.app, ["--help"])
    assert result.exit_code == 0
    assert [name for name in PROMISED + BUILT if f" {name} " not in result.stdout] == []


@pytest.mark.parametrize("name", PROMISED)
def test_unbuilt_command_refuses_in_one_line(name: str) -> None:
    result = CliRunner().invoke(cli.app, [name, "store", "--flag", "3"])
    assert result.exit_code == cli.EXIT_NOT_BUILT
    assert result.stdout == ""
    assert result.stderr == f"hermes-inspect {name}: not built yet in this version\n"
