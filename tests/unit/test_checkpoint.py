"""Checkpoints: their text, their files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hermes.checkpoint import (
    Checkpoint,
    format_time,
    parse_checkpoint,
    parse_time,
    split_notes,
)
from hermes.signed_note import NoteError, parse_key, sign
from tests.unit.test_signed_note import KEY, SECRET

STORE_ID = "5f0c3b52-9f44-4b87-8e0f-3a1c7f1a2b3c"
CHECKPOINT = Checkpoint(STORE_ID, 184_467, bytes(range(32)), 1_769_860_800_123_456_789)


def signed(checkpoint: Checkpoint = CHECKPOINT) -> str:
    return sign(checkpoint.text, KEY, SECRET.sign)


def test_the_text_is_what_the_format_says() -> None:
    assert CHECKPOINT.text == (
        f"hermes/{STORE_ID}\n184467\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"
        "2026-01-31T12:00:00.123456789Z\n"
    )


def test_there_and_back() -> None:
    parsed = parse_checkpoint(signed())
    assert parsed.checkpoint == CHECKPOINT
    assert parsed.signer([KEY]) == KEY


def test_the_example_of_the_documentation(repository: Path) -> None:
    text = (repository / "docs" / "log-format.md").read_text()
    note, key = re.findall(r"```\n(hermes/.*?)```", text, re.DOTALL)
    signed = parse_checkpoint(note)
    assert signed.checkpoint == CHECKPOINT
    assert str(signed.signer([parse_key(key)])) == key.strip()


def test_more_extension_lines_are_ignored() -> None:
    assert parse_checkpoint(sign(CHECKPOINT.text + "more\n", KEY, SECRET.sign)).checkpoint == (
        CHECKPOINT
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("hermes/", "other/"),
        ("184467", "0184467"),
        ("184467", "-1"),
        ("184467", "x"),
        ("AAEC", "AA EC"),
        ("AAECAwQF", ""),
        ("2026-01-31", "2026-02-31"),
        (".123456789Z", "Z"),
        ("\n2026-01-31T12:00:00.123456789Z", ""),
    ],
)
def test_not_a_checkpoint(old: str, new: str) -> None:
    with pytest.raises(NoteError):
        parse_checkpoint(signed().replace(old, new))


def test_times_keep_their_nanoseconds() -> None:
    for at_ns in (0, 1, 999_999_999, 1_769_860_800_000_000_001):
        assert parse_time(format_time(at_ns)) == at_ns


def test_a_file_of_notes_is_taken_apart() -> None:
    one, two = signed(), signed(Checkpoint(STORE_ID, 2, bytes(32), 0))
    lines = f"\n{one}{two}\n\n{one}".splitlines(keepends=True)
    assert list(split_notes(lines)) == [(2, one), (8, two), (16, one)]
    assert list(split_notes([])) == []
    # What is cut off stays one note, for the parser to refuse.
    assert [n for n, _ in split_notes((one + two[:60]).splitlines(keepends=True))] == [1, 7]


def test_what_is_no_note_is_not_gathered_for_ever() -> None:
    with pytest.raises(NoteError, match="line 1"):
        list(split_notes("x" * 100 + "\n" for _ in range(10_000)))
