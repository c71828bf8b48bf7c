"""`hermes-inspect log` as a person has it: the real command on a real terminal, 80x24."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from broker_process import BrokerProcess

import hermes
from tests.e2e.inspecting import inspect, on_terminal, terminal, without_escapes

# The screen is drawn here, and left again.
ENTER_SCREEN, LEAVE_SCREEN = "\x1b[?1049h", "\x1b[?1049l"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path / "store", tmp_path / "broker.log") as broker:
        yield broker


def test_a_live_log_is_watched_filtered_traced_and_left(
    broker: BrokerProcess, tmp_path: Path
) -> None:
    with (
        hermes.Client(broker.addr, name="shop") as client,
        terminal("log", tmp_path / "store") as shown,
    ):
        shown.wait_for("1[log]", "following", "server started", "q quit")
        client.publish("orders.new", b'{"order": 7}', id="order-7")
        shown.wait_for("id order-7", '"order": 7')
        with client.consume("billing", "orders.>") as member:
            (message,) = member.fetch(1, timeout=20)
            message.ack(wait=True).result(20)
        shown.wait_for("acked")
        since = shown.type("/")
        shown.wait_for("filter:", since=since)
        since = shown.type("kind:nope")
        shown.wait_for("! no kind 'nope'", since=since)
        since = shown.type("\x7f" * 4)
        shown.wait_for("! no kind ''", since=since)
        since = shown.type("published\r")
        shown.wait_for("following  kind:published", "published  lsn", since=since)
        since = shown.type("\r")
        shown.wait_for("custody of @0", "billing delivered", "billing acked", since=since)
        since = shown.type("q")
        shown.wait_for("Enter custody", since=since)
        since = shown.type("\t")
        shown.wait_for("2[consumers]", "POSITION", "billing", since=since)
        shown.type("q")
        assert shown.wait() == 0
        assert ENTER_SCREEN in shown.written
        assert LEAVE_SCREEN in shown.written[-200:]
        assert "Traceback" not in shown.written


def test_ctrl_c_leaves(scene: Path) -> None:
    with terminal("log", scene, "--kind", "acked") as shown:
        shown.wait_for("kind:acked", "acked  lsn")
        shown.type("\x03")
        assert shown.wait() == 0
        assert LEAVE_SCREEN in shown.written


def test_no_colour_is_written_when_none_is_wanted(scene: Path) -> None:
    with terminal("log", scene, NO_COLOR="1") as shown:
        shown.wait_for("server stopped", "q quit")
        shown.type("q")
        assert shown.wait() == 0
    codes = {
        code
        for sequence in re.findall(r"\x1b\[([0-9;]*)m", shown.written)
        for code in sequence.split(";")
    }
    assert not codes & {str(code) for code in (*range(30, 39), *range(40, 49), *range(90, 98))}
    assert "7" in codes  # the selection is told without colour


@pytest.mark.parametrize(
    ("arguments", "term"),
    [
        (["--no-tui"], "xterm"),
        (["--json"], "xterm"),
        (["--last", "5"], "xterm"),
        (["--limit", "5"], "xterm"),
        ([], "dumb"),
    ],
)
def test_lines_where_no_screen_is_wanted_or_possible(
    scene: Path, arguments: list[str], term: str
) -> None:
    code, out = on_terminal("log", scene, *arguments, TERM=term)
    assert code == 0
    assert ENTER_SCREEN not in out
    lines = without_escapes(out).splitlines()
    assert len(lines) >= 5
    if arguments == ["--json"]:
        assert json.loads(lines[0])["kind"] == "server_started"


def test_the_screen_is_not_loaded_for_help_or_a_pipe(scene: Path) -> None:
    for arguments in (["--help"], ["log", str(scene), "--last", "1"]):
        program = (
            "import sys; from hermes_inspect.cli import run; "
            f"code = run({arguments!r}); sys.exit(code or 'textual' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr


def test_a_store_that_is_none_is_one_line_on_a_terminal_too(tmp_path: Path) -> None:
    code, out = on_terminal("log", tmp_path)
    assert code == 3
    assert out == f"hermes-inspect: {tmp_path} holds no store (name the folder of a store)\n"
    assert inspect("log", tmp_path).code == 3
