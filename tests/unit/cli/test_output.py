"""What is printed: times, JSON, escapes. No broker needed."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import msgspec
import pytest

from hermes.cli.output import Printer, message_fields, message_parts, note, payload_lines
from hermes.cli.text import counted, duration, one_line, printable, rfc3339


class Sample(msgspec.Struct):
    """A message as commands receive it."""

    subject: str = "orders.created"
    payload: bytes = b"hello"
    headers: dict[str, str] = {}
    id: str | None = None
    offset: int | None = 7
    attempt: int = 0
    published_at_ns: int = 1_767_225_600_123_456_789


def printed(capsys: pytest.CaptureFixture[str], sample: Sample, **more: Any) -> dict[str, Any]:
    Printer(json=True).message(sample, **more)
    out = capsys.readouterr().out
    assert out.count("\n") == 1, "one object is one line"
    fields: dict[str, Any] = json.loads(out)
    return fields


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines_of_table(monkeypatch: pytest.MonkeyPatch, columns: int, reason: str) -> list[str]:
    """The lines below the header, on a terminal of that width."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    row = ["2026-01-01T00:00:00Z", "billing", reason]
    Printer(json=False).table(["=AT", "NAME", "~REASON"], [row])
    lines = terminal.getvalue().splitlines()[1:]
    assert all(len(line) <= columns for line in lines)
    return lines


def test_a_table_is_cut_where_told(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = lines_of_table(monkeypatch, 60, "x" * 500)
    assert line.startswith("2026-01-01T00:00:00Z  billing  xxxxxx")
    assert line.endswith("x…")
    assert len(line) == 60


def test_a_table_loses_nothing_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = lines_of_table(monkeypatch, 40, "x" * 50)
    assert "".join(lines).count("x") == 50


def test_a_table_in_a_pipe_is_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    Printer(json=False).table(["NAME", "~REASON"], [["a", "b" * 500]])
    assert "b" * 500 in capsys.readouterr().out


def test_times_keep_their_nanoseconds() -> None:
    assert rfc3339(1_767_225_600_123_456_789) == "2026-01-01T00:00:00.123456789Z"
    assert rfc3339(1) == "1970-01-01T00:00:00.000000001Z"
    assert rfc3339(-1) == "1969-12-31T23:59:59.999999999Z"


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0s"),
        (1_500_000_000, "1.5s"),
        (50_000_000, "0.05s"),
        (30 * 10**9, "30s"),
        (60 * 10**9, "1m"),
        (5_400 * 10**9, "1h 30m"),
        (7 * 86_400 * 10**9, "7d"),
    ],
)
def test_durations(ns: int, text: str) -> None:
    assert duration(ns) == text


def test_one_is_not_many() -> None:
    assert counted(1, "message") == "1 message"
    assert counted(0, "message") == "0 messages"
    assert counted(1_200, "message") == "1,200 messages"


def test_a_message_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    sample = Sample(headers={"k": "v"}, id="a1", attempt=2)
    assert printed(capsys, sample, consumer="billing") == {
        "consumer": "billing",
        "offset": 7,
        "subject": "orders.created",
        "id": "a1",
        "published_at": "2026-01-01T00:00:00.123456789Z",
        "published_at_ns": 1_767_225_600_123_456_789,
        "attempt": 2,
        "headers": {"k": "v"},
        "payload": "hello",
    }


def test_json_of_a_live_message_has_no_offset_and_no_attempt(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fields = printed(capsys, Sample(offset=None))
    assert fields["offset"] is None
    assert "attempt" not in fields


def test_a_payload_that_is_not_utf8_is_base64(capsys: pytest.CaptureFixture[str]) -> None:
    fields = printed(capsys, Sample(payload=b"\xff\x00"))
    assert "payload" not in fields
    assert base64.b64decode(fields["payload_base64"]) == b"\xff\x00"


def plain(sample: Sample) -> str:
    return "".join(text for text, _ in message_parts(sample))


NASTY = "\x1b[2J\x07\r\n\u202eevil\x9b31m\u2028\x7f\U000e0001"


def test_json_carries_control_characters_as_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    Printer(json=True).message(Sample(payload=NASTY.encode(), headers={"k": NASTY}))
    out = capsys.readouterr().out
    assert out.removesuffix("\n").isprintable()
    assert json.loads(out)["payload"] == NASTY
    assert json.loads(out)["headers"] == {"k": NASTY}


def test_json_keeps_letters_readable(capsys: pytest.CaptureFixture[str]) -> None:
    Printer(json=True).message(Sample(payload="Grüße 你好\t".encode()))
    out = capsys.readouterr().out
    assert "Grüße 你好" in out
    assert json.loads(out)["payload"] == "Grüße 你好\t"


def test_text_escapes_whatever_came_with_the_message() -> None:
    sample = Sample(subject=NASTY, payload=NASTY.encode(), headers={NASTY: NASTY}, id=NASTY)
    lines = plain(sample).split("\n")
    assert all(line.isprintable() for line in lines)
    assert "\\x1b[2J" in lines[0]
    # The payload's own newline starts a line, but an indented one.
    assert all(line.startswith("  ") for line in lines[1:])


def test_text_of_a_message() -> None:
    sample = Sample(payload=b"first\n\tsecond\n", headers={"k": "v"}, id="a1", attempt=3)
    title, *rest = plain(sample).split("\n")
    assert title.startswith("7 orders.created  20")
    assert title.endswith(".123  id a1  attempt 3")
    assert rest == ["  k: v", "  first", "          second"]
    assert not plain(Sample(offset=None)).startswith("None")


def test_binary_payloads_are_shown_as_hex_and_cut() -> None:
    assert payload_lines(b"\xff\x01") == ["(2 bytes) ff 01"]
    (long,) = payload_lines(b"\xff" * 1_000)
    assert long.startswith("(1,000 bytes) ff ff")
    assert long.endswith("ff …")
    assert payload_lines(b"") == []


def test_escapes() -> None:
    assert printable("a\tb\n\x00é\u200b") == "a\\tb\\n\\x00é\\u200b"
    assert one_line("two\n lines\x1b") == "two lines\\x1b"


def test_notes_go_to_stderr_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    note("created\nconsumer \x1b[31m")
    captured = capsys.readouterr()
    assert captured.err == "created consumer \\x1b[31m\n"
    assert captured.out == ""


def test_tables_do_not_read_markup_or_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    # rich would take [red] for a colour.
    Printer(json=False).table(["NAME", "#LAG"], [["[red]x[/red]\x1b[0m", "1,000"]])
    out = capsys.readouterr().out
    assert "[red]x[/red]\\x1b[0m" in out
    assert "\x1b" not in out
    assert out.splitlines()[0].split() == ["NAME", "LAG"]


def test_tables_are_not_folded_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    Printer(json=False).table(["REASON"], [["x" * 500]])
    assert "x" * 500 in capsys.readouterr().out


def test_message_fields_do_not_share_headers_with_the_message() -> None:
    sample = Sample(headers={"k": "v"})
    message_fields(sample)["headers"]["k"] = "changed"
    assert sample.headers == {"k": "v"}
