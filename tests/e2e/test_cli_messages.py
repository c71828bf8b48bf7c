"""`hermes pub`, `sub` and `read` against a real broker."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from broker_process import BrokerProcess

from tests.e2e.cli_running import Cli, started


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    folder = tmp_path_factory.mktemp("cli")
    with BrokerProcess(folder / "store", folder / "broker.log") as broker:
        yield broker


@pytest.fixture
def hermes(
    broker: BrokerProcess,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Cli:
    return Cli(broker.addr, capsys, monkeypatch, tmp_path)


# ------------------------------------------------------------------ pub and read


def test_one_message_there_and_back(hermes: Cli) -> None:
    before = datetime.now(UTC)
    ack = hermes.good("pub", "one.a", "hello", "-H", "k: v", "--id", "m1", "--json").objects[0]
    assert ack["duplicate"] is False
    (message,) = hermes.good("read", "one.*", "--json").objects
    assert message["offset"] == ack["offset"]
    assert message["subject"] == "one.a"
    assert message["payload"] == "hello"
    assert message["headers"] == {"k": "v"}
    assert message["id"] == "m1"
    assert "attempt" not in message
    published_at = datetime.fromisoformat(message["published_at"])
    assert abs((published_at - before).total_seconds()) < 60
    assert message["published_at_ns"] // 10**9 == int(published_at.timestamp())


def test_the_offset_is_printed_and_a_duplicate_is_told(hermes: Cli) -> None:
    first = hermes.good("pub", "dup.a", "x", "--id", "same").out.strip()
    again = hermes.good("pub", "dup.a", "x", "--id", "same").out.strip()
    assert first.isdigit()
    assert again == f"{first} (duplicate)"
    assert len(hermes.good("read", "dup.>", "--json").objects) == 1


def test_a_dash_is_all_of_stdin_and_may_be_binary(hermes: Cli) -> None:
    hermes.good("pub", "bin.a", "-", stdin=b"\xff\x00\nsecond line\n")
    (message,) = hermes.good("read", "bin.a", "--json").objects
    assert "payload" not in message
    assert message["payload_base64"] == "/wAKc2Vjb25kIGxpbmUK"
    assert "(15 bytes) ff 00 0a" in hermes.good("read", "bin.a").out


def test_lines_are_messages_in_order(hermes: Cli) -> None:
    lines = [f"line {number}" for number in range(2_500)]  # more than the window
    ran = hermes.good("pub", "lines.a", stdin="\n".join(lines).encode())
    assert ran.out.startswith("published 2,500 messages, offsets ")
    messages = hermes.good("read", "lines.>", "--json").objects
    assert [message["payload"] for message in messages] == lines
    ran = hermes.good("pub", "lines.b", "--lines", "--json", stdin=b"x\ny\n")
    assert [ack["duplicate"] for ack in ran.objects] == [False, False]
    assert ran.err.startswith("published 2 messages")


def test_no_lines_are_no_messages(hermes: Cli) -> None:
    assert hermes.good("pub", "none.a").out == "published 0 messages\n"


@pytest.mark.parametrize("subject", ["", "a..b", "a.*", "bad.>", "a b", "_dead_letter.x"])
def test_a_subject_that_cannot_be_is_refused_and_nothing_is_stored(
    subject: str, hermes: Cli
) -> None:
    hermes.good("pub", "mark", "x")
    for arguments in (["x"], ["x", "--live"]):
        ran = hermes("pub", subject, *arguments)
        assert (ran.code, ran.out) == (1, "")
        assert ran.err.startswith("hermes: ")
        assert ran.err.count("\n") == 1
    last = hermes.good("read", "--json").objects[-1]
    assert last["subject"] == "mark"


def test_read_starts_where_it_is_told(hermes: Cli) -> None:
    offsets = [
        hermes.good("pub", "start.a", str(number), "--json").objects[0]["offset"]
        for number in range(4)
    ]

    def read(*arguments: str) -> list[str]:
        found = hermes.good("read", "start.a", "--json", *arguments).objects
        return [message["payload"] for message in found]

    assert read() == ["0", "1", "2", "3"]
    assert read("--from", str(offsets[2])) == ["2", "3"]
    assert read("--from", "-1h", "--limit", "2") == ["0", "1"]
    assert read("--from", "2020-01-01T00:00:00Z") == ["0", "1", "2", "3"]
    assert read("--from", "2100-01-01T00:00:00Z") == []
    assert read("--from", "new") == []


def test_the_server_may_be_named(hermes: Cli, broker: BrokerProcess) -> None:
    hermes.good("pub", "named.a", "x", "--server", broker.addr)
    assert hermes.good("read", "named.a", "--server", broker.addr, "--json").objects
    ran = hermes("consumers", "--server", "127.0.0.1:1")
    assert ran.code == 1
    assert "is `hermes serve` running at 127.0.0.1:1?" in ran.err


# --------------------------------------------------------------------------- sub


def test_sub_shows_what_is_published_from_now_on(hermes: Cli) -> None:
    hermes.good("pub", "live.a", "before")
    with started(hermes.address, "sub", "live.>", "--count", "2", "--json") as sub:
        sub.await_note("subscribed to live.>")
        assert hermes.good("pub", "live.a", "1", "--live").out == "forwarded\n"
        hermes.good("pub", "live.b", "2")
        messages = [json.loads(sub.line()) for _ in range(2)]
        assert sub.end()[0] == 0
    assert sorted(message["payload"] for message in messages) == ["1", "2"]
    offsets = {message["payload"]: message["offset"] for message in messages}
    assert offsets["1"] is None
    assert offsets["2"] is not None


def test_members_of_a_group_share(hermes: Cli) -> None:
    arguments = ("sub", "shared.a", "--group", "g", "--count", "1", "--json")
    with started(hermes.address, *arguments) as one, started(hermes.address, *arguments) as two:
        for member in (one, two):
            member.await_note("subscribed to shared.a in group g")
        hermes.good("pub", "shared.a", "--live", stdin=b"1\n2\n")
        got = {json.loads(member.line())["payload"] for member in (one, two)}
        assert one.end()[0] == two.end()[0] == 0
    assert got == {"1", "2"}


# --------------------------------------------------- terminals, pipes and Ctrl-C


@pytest.mark.parametrize(
    ("arguments", "note"),
    [
        (["sub", "quiet.>"], "subscribed"),
        (["read", "first.>", "--follow", "--json"], ""),
    ],
)
def test_ctrl_c_ends_it_quietly(arguments: list[str], note: str, hermes: Cli) -> None:
    hermes.good("pub", "first.a", "x")
    with started(hermes.address, *arguments) as command:
        if note:
            command.await_note(note)
        else:
            assert json.loads(command.line())["payload"] == "x"
        command.interrupt()
        code, err = command.end()
    assert code == 130
    assert err == ""


def test_ctrl_c_says_what_was_published(hermes: Cli) -> None:
    with started(
        hermes.address, "pub", "ctrl.a", "--lines", "--json", stdin=subprocess.PIPE
    ) as pub:
        assert pub.process.stdin is not None
        pub.process.stdin.write(b"one\ntwo\nunfinished")
        pub.process.stdin.flush()
        seen = 0
        while seen < 2:  # they are there before stdin ends
            seen = len(hermes.good("read", "ctrl.a", "--json").objects)
        pub.interrupt()
        code, err = pub.end()
    assert code == 130
    assert err.startswith("published 2 messages, offsets")
    assert err.count("\n") == 1
    assert len(hermes.good("read", "ctrl.a", "--json").objects) == 2


def test_the_reader_of_a_pipe_may_go_away(hermes: Cli) -> None:
    hermes.good("pub", "pipe.a", stdin=b"x" * 1_000 + b"\n" + b"y" * 100_000)
    reading, writing = os.pipe()
    with started(hermes.address, "read", "pipe.>", "--follow", stdout=writing) as command:
        os.close(writing)
        assert os.read(reading, 10)
        os.close(reading)
        hermes.good("pub", "pipe.a", "one more")
        code, err = command.end()
    assert code == 141
    assert err == ""


def test_a_payload_cannot_steer_the_terminal(hermes: Cli) -> None:
    nasty = "\x1b]0;title\x07\x1b[2Jred\u202e"
    hermes.good("pub", "tty.a", nasty, "-H", f"k:{nasty}")
    for arguments in ([], ["--json"]):
        terminal, inner = pty.openpty()
        with started(hermes.address, "read", "tty.a", *arguments, stdout=inner) as command:
            os.close(inner)
            shown = b""
            while chunk := _read_terminal(terminal):
                shown += chunk
            assert command.end()[0] == 0
        os.close(terminal)
        assert b"\x1b]0" not in shown
        assert b"\x1b[2J" not in shown
        assert b"\x07" not in shown
        assert "\u202e".encode() not in shown
        assert b"x1b]0;title" in shown or b"u001b]0;title" in shown


def _read_terminal(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # EIO: the other side is closed
        return b""


def test_sub_comes_back_after_a_restart(hermes: Cli, tmp_path: Path) -> None:
    with (
        BrokerProcess(tmp_path / "store", tmp_path / "log") as other,
        started(other.addr, "sub", "again.>", "--count", "1", "--json") as sub,
    ):
        sub.await_note("subscribed")
        other.kill()
        other.start()
        while sub.process.poll() is None:  # until it is registered anew, and sees one
            hermes.good("pub", "again.a", "x", "--live", "--server", other.addr)
        assert json.loads(sub.line())["payload"] == "x"
        code, err = sub.end()
    assert code == 0
    assert "reconnecting" in err
