"""Answers written: what must not pass for text, what stays aligned, what programs get."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from io import StringIO
from typing import Any

import pytest

from hermes.log.sql import Answer
from hermes_inspect import sql_output
from hermes_inspect.output import Output
from hermes_inspect.sql_output import (
    Limited,
    cell,
    csv_field,
    distinct,
    write_csv,
    write_json,
    write_table,
)
from hermes_inspect.sql_rows import headers_text

Write = Callable[[Output, Answer], None]


def written(
    capsys: pytest.CaptureFixture[str], write: Write, columns: Sequence[str], *rows: Any
) -> str:
    write(Output(), Answer(tuple(columns), iter(rows)))
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "NULL"),
        ("", ""),
        (b"", "x''"),
        (b"\x00\xff", "x'00ff'"),
        (bytes(40), f"x'{'00' * 32}…' (40 bytes)"),
        (7, "7"),
        (1.5, "1.5"),
        ("red\x1b[31m\nline", "red\\x1b[31m\\nline"),
    ],
)
def test_cells(value: Any, text: str) -> None:
    assert cell(value) == text


def test_a_pipe_gets_aligned_lines(capsys: pytest.CaptureFixture[str]) -> None:
    out = written(capsys, write_table, ["lsn", "subject"], (1, "a.b"), (1000, "日本"), (20, None))
    assert out.splitlines() == [" lsn  subject", "   1  a.b", "1000  日本", "  20  NULL"]


def test_rows_are_written_as_they_come(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_output, "TABLE_ROWS", 2)
    out = written(capsys, write_table, ["n", "t"], *((n, "x" * n) for n in (1, 2, 3, 12345)))
    lines = out.splitlines()
    # The first rows decide the widths; what is wider later sticks out.
    assert lines[:4] == ["n  t", "1  x", "2  xx", "3  xxx"]
    assert lines[4].startswith("12345  xxx")


def test_no_rows_still_have_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert written(capsys, write_table, ["a", "b"]) == "a  b\n"
    assert written(capsys, write_csv, ["a", "b"]) == "a,b\n"
    assert written(capsys, write_json, ["a", "b"]) == ""


def test_csv_is_read_back(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("plain", 'quo"te', "a,b", "two\nlines", ""), (1, 2.5, None, b"\x01", " x ")]
    out = written(capsys, write_csv, list("abcde"), *rows)
    assert list(csv.reader(StringIO(out)))[1:] == [
        ["plain", 'quo"te', "a,b", "two\nlines", ""],
        ["1", "2.5", "", "01", " x "],
    ]


def test_csv_tells_null_from_an_empty_text() -> None:
    assert (csv_field(None), csv_field("")) == ("", '""')


def test_json_objects(capsys: pytest.CaptureFixture[str]) -> None:
    out = written(capsys, write_json, ["lsn", "lsn", "h"], (1, 2, b"\xab"), (3, None, "\x1b"))
    assert [json.loads(line) for line in out.splitlines()] == [
        {"lsn": 1, "lsn_2": 2, "h": "ab"},
        {"lsn": 3, "lsn_2": None, "h": "\x1b"},
    ]
    assert "\x1b" not in out


def test_names_that_repeat_never_meet_another() -> None:
    assert distinct(["a", "a", "a_2", "a"]) == ["a", "a_2", "a_2_2", "a_3"]


def test_an_answer_that_is_cut_says_so() -> None:
    cut = Limited(Answer(("n",), iter([(1,), (2,), (3,)])), 2)
    assert (list(cut), cut.cut) == ([(1,), (2,)], True)
    whole = Limited(Answer(("n",), iter([(1,), (2,)])), 2)
    assert (list(whole), whole.cut) == ([(1,), (2,)], False)


def test_secrets_are_left_out_of_headers() -> None:
    headers = {"Region": "eu", "Authorization": "Bearer x", "COOKIE": "y", "a": '"'}
    assert json.loads(headers_text(headers)) == {"Region": "eu", "a": '"'}
