"""The frame of hermes-inspect: names, help, refusals, and a start that loads little."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

from hermes_inspect import cli

NAMES = ["log", "trace", "consumers", "segments", "stats", "at", "verify", "export", "sql"]


def test_version_is_the_distributions(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out == f"hermes-inspect {version('hermes-broker')}\n"


def test_help_names_every_promised_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--help"]) == 0
    out = capsys.readouterr().out
    assert [name for name in NAMES if f"  {name} " not in out] == []


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_each_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"Usage: hermes-inspect {name}" in out
    assert "--store" in out


def test_no_command_is_a_wrong_invocation(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([]) == 2
    assert "Commands:" in capsys.readouterr().err


def test_help_loads_neither_the_log_nor_the_renderer() -> None:
    code = (
        "import sys; from hermes_inspect.cli import run; run(['--help']); "
        "print(sorted({'apsw', 'rich', 'grpc', 'google.protobuf', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
