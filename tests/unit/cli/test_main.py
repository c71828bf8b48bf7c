"""The frame: help, wrong invocations, and a start that loads only what it needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hermes.cli.main import Commands, run


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    for name in Commands.modules:
        assert f"  {name}  " in out


@pytest.mark.parametrize("name", list(Commands.modules))
def test_each_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"]) == 0
    assert f"Usage: hermes {name}" in capsys.readouterr().out


def test_no_command_is_a_wrong_invocation(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Commands:" in captured.err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["publish"], "no command 'publish'; there are"),
        (["--nope"], "No such option"),
        (["pub"], "Missing argument"),
        (["pub", "a", "x", "-H", "no-colon"], "-H 'no-colon': expected key:value"),
        (["pub", "a", "x", "--lines"], "leave the payload out"),
        (["pub", "a", "--lines", "--id", "1"], "--id names one message"),
        (["sub"], "Missing argument"),
        (["sub", "a", "--count", "0"], "--count"),
        (["sub", "a", "--server", "nonsense"], "expected HOST:PORT"),
        (["consumers", "--server", "localhost:99999"], "expected HOST:PORT"),
        (["read", "--from", "someday"], "expected all, new, an offset"),
        (["consume"], "Missing argument"),
        (["consume", "billing", "a", "--ack-timeout", "soon"], "expected a duration"),
        (["consumers", "shw"], "Did you mean 'show'"),
        (["dead-letters", "show", "billing", "-4"], "-4"),
    ],
)
def test_a_wrong_invocation_is_one_line_and_code_2(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("hermes: ")
    assert captured.err.count("\n") == 1
    assert complaint in captured.err


def test_help_does_not_load_grpc() -> None:
    program = (
        "import sys; from hermes.cli.main import run; run(['--help']); "
        "sys.exit('grpc' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)
    assert done.returncode == 0
