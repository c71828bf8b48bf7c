"""Many `hermes-inspect` commands for the price of one process, also as another user.

The program imports what the commands need, then forks once per command: each is a process of
its own from `main()` to its exit code, with its own user. Another user need not be able to
reach the interpreter: what a command imports is loaded by running `warm` first.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.e2e.inspecting import Ran

Command = Sequence[str | Path]


def inspect_many(
    commands: Sequence[Command],
    *,
    user: int | None = None,
    warm: Sequence[Command] = (),
    before: Sequence[str] = (),
) -> list[Ran]:
    """Run commands one after the other. `user`: as whom. `before`: a program to start it by."""
    with tempfile.TemporaryDirectory() as folder:
        asked = {
            "commands": [list(map(str, command)) for command in commands],
            "warm": [list(map(str, command)) for command in warm],
            "user": user,
            "folder": folder,
        }
        done = subprocess.run(
            [*before, sys.executable, __file__, json.dumps(asked)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert done.returncode == 0, done.stderr
        codes = json.loads(done.stdout)
        return [
            Ran(code, Path(folder, f"{n}.out").read_text(), Path(folder, f"{n}.err").read_text())
            for n, code in enumerate(codes)
        ]


def _run_all(asked: dict[str, object], folder: str) -> list[int]:
    from hermes_inspect.cli import main, run

    commands, warm, user = asked["commands"], asked["warm"], asked["user"]
    assert isinstance(commands, list) and isinstance(warm, list)
    shown = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for arguments in warm:
        run(arguments)
    os.dup2(shown, 1)
    codes = []
    for n, arguments in enumerate(commands):
        child = os.fork()
        if not child:
            for number, name in ((1, "out"), (2, "err")):
                flags = os.O_WRONLY | os.O_CREAT
                os.dup2(os.open(f"{folder}/{n}.{name}", flags, 0o600), number)
            if isinstance(user, int):
                os.setgroups([])
                os.setresgid(user, user, user)
                os.setresuid(user, user, user)
            main(arguments)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    return codes


if __name__ == "__main__":
    wish = json.loads(sys.argv[1])
    sys.stdout.write(json.dumps(_run_all(wish, wish["folder"])))
