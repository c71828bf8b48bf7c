"""Signed notes, against the specification's own example."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hermes.signed_note import NoteError, VerifierKey, parse_key, parse_note, sign

# The example of c2sp.org/signed-note, and its key as Go's sumdb writes it.
EXAMPLE = """\
Ognuno sta solo sul cuor della terra
trafitto da un raggio di sole:

ed è subito sera.

— quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=
"""  # noqa: E501 - a signature is one line
# The key and the note of golang.org/x/mod/sumdb/note's documentation.
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = """\
If you think cryptography is the answer to your problem,
then you don't know what your problem is.

— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=
"""  # noqa: E501 - a signature is one line
SECRET = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEY = VerifierKey("store.example/a", SECRET.public_key().public_bytes_raw())


def test_the_note_of_another_implementation_verifies() -> None:
    key = parse_key(GO_KEY)
    assert str(key) == GO_KEY
    note = parse_note(GO_NOTE)
    assert note.signer([KEY, key]) == key
    with pytest.raises(NoteError, match="not over this text"):
        parse_note(GO_NOTE.replace("problem", "Problem", 1)).signer([key])


def test_a_text_may_hold_empty_lines() -> None:
    note = parse_note(EXAMPLE)
    assert note.text.count("\n") == 4
    assert note.text.endswith("sera.\n")
    ((name, key_id, signature),) = note.signatures
    assert (name, key_id.hex(), len(signature)) == ("quasimodo.example/salvatore", "367ba04b", 64)


def test_what_is_signed_verifies() -> None:
    text = "a\n\nb\n"
    note = sign(text, KEY, SECRET.sign)
    assert parse_note(note).text == text
    assert parse_note(note).signer([KEY]) == KEY
    with pytest.raises(NoteError, match=r"signed by store.example/a\+"):
        parse_note(note).signer([parse_key(GO_KEY)])


def test_signatures_of_others_are_ignored() -> None:
    signature = GO_NOTE.splitlines(keepends=True)[-1]
    note = parse_note(sign("a\n", KEY, SECRET.sign) + signature)
    assert note.signer([KEY]) == KEY
    with pytest.raises(NoteError, match="not over this text"):
        note.signer([KEY, parse_key(GO_KEY)])


def test_every_flipped_character_is_caught() -> None:
    note = sign("a\n1\n", KEY, SECRET.sign)
    for place, character in enumerate(note):
        changed = note[:place] + chr(ord(character) ^ 2) + note[place + 1 :]
        with pytest.raises(NoteError):
            parse_note(changed).signer([KEY])


@pytest.mark.parametrize("text", ["", "a", "\na\n", "a\tb\n", "a\rb\n"])
def test_no_note_holds_such_a_text(text: str) -> None:
    with pytest.raises(NoteError, match="control characters"):
        sign(text, KEY, SECRET.sign)


@pytest.mark.parametrize(
    "note",
    ["", "a\n", "a\n\n", "a\n\n— name\n", "a\n\n— name AAAA\n", "a\n\n- name AAAAAAAA\n", "a\n\nb"],
)
def test_not_a_note(note: str) -> None:
    with pytest.raises(NoteError):
        parse_note(note)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u00a0b", "a\nb"])
def test_no_key_has_such_a_name(name: str) -> None:
    with pytest.raises(NoteError, match="name"):
        VerifierKey(name, bytes(32))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nothing", "verifier key"),
        (GO_KEY.replace("c74f", "c74e"), "typing error"),
        (GO_KEY.replace("TW", "TX"), "typing error"),
        (GO_KEY[:-4], "32 bytes"),
        (GO_KEY.replace("+AR", "+BR"), "verifier key"),
    ],
)
def test_not_a_key(line: str, said: str) -> None:
    with pytest.raises(NoteError, match=said):
        parse_key(line)
