"""Whatever a checkpoint says, its note says the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hermes.checkpoint import Checkpoint, parse_checkpoint, split_notes
from hermes.signed_note import VerifierKey, parse_key, parse_note, sign
from tests.unit.test_signed_note import KEY, SECRET

CHECKPOINTS = st.builds(
    Checkpoint,
    store_id=st.uuids().map(str),
    lsn=st.integers(0, 2**63 - 1),
    chain=st.binary(min_size=32, max_size=32),
    at_ns=st.integers(0, 250_000_000_000 * 10**9),
)
# Any text a note may hold: lines without control characters, the first not empty.
LINES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
TEXTS = st.tuples(LINES.filter(bool), st.lists(LINES, max_size=5)).map(
    lambda lines: "\n".join([lines[0], *lines[1]]) + "\n"
)
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters="+"))


@given(st.lists(CHECKPOINTS, max_size=4), st.integers(0, 2))
def test_a_file_gives_back_its_checkpoints(taken: list[Checkpoint], blank_lines: int) -> None:
    notes = [sign(checkpoint.text, KEY, SECRET.sign) for checkpoint in taken]
    file = ("\n" * blank_lines).join(notes)
    found = [parse_checkpoint(note) for _, note in split_notes(file.splitlines(keepends=True))]
    assert [signed.checkpoint for signed in found] == taken
    assert all(signed.signer([KEY]) == KEY for signed in found)


@given(TEXTS)
def test_any_text_can_be_signed(text: str) -> None:
    note = parse_note(sign(text, KEY, SECRET.sign))
    assert note.text == text
    assert note.signer([KEY]) == KEY


@given(NAMES.filter(bool), st.binary(min_size=32, max_size=32))
def test_keys_there_and_back(name: str, public_key: bytes) -> None:
    key = VerifierKey(name, public_key)
    assert parse_key(str(key)) == key
