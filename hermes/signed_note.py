"""[P] Signed notes: a text, and lines that say who signed it (c2sp.org/signed-note).

    text, any number of lines, the last one ended
                                                        (an empty line)
    — key-name base64(key id, 4 bytes, then the signature)

A key is known by its name and its id, the first 4 bytes of SHA-256 over the name, a
newline, the type of signature and the public key. A verifier key is written in one line,
as Go's sumdb does: `name+id in hex+base64(type, public key)`. Only Ed25519 (type 1) is
known here; lines of other keys are ignored, as the specification asks, so a note may
carry the signatures of others too.

Keeping a private key is the server's business; here it is a function that signs.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from hermes.errors import HermesError

ED25519: Final = b"\x01"
PUBLIC_KEY_BYTES: Final = 32
KEY_ID_BYTES: Final = 4
# More than anybody signs a note with; a bound for what is parsed.
SIGNATURES_MAX: Final = 64

_LINE_START: Final = "\N{EM DASH} "
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f]")


class NoteError(HermesError):
    """Not a signed note, or not signed by whom it should be."""


class VerifierKey(msgspec.Struct, frozen=True):
    """A name and an Ed25519 public key (32 bytes): enough to check who signed a note."""

    name: str
    public_key: bytes

    def __post_init__(self) -> None:
        if not is_key_name(self.name):
            raise NoteError(f"{self.name!r} cannot name a key: blanks and + are not allowed")
        if len(self.public_key) != PUBLIC_KEY_BYTES:
            raise NoteError(f"an Ed25519 public key has 32 bytes, not {len(self.public_key)}")

    @property
    def key_id(self) -> bytes:
        """What tells keys of one name apart, 4 bytes."""
        front = self.name.encode() + b"\n" + ED25519
        return sha256(front + self.public_key).digest()[:KEY_ID_BYTES]

    def __str__(self) -> str:
        encoded = b64encode(ED25519 + self.public_key).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"

    def verifies(self, signature: bytes, text: str) -> bool:
        """Whether the signature (64 bytes) is this key's over the text."""
        try:
            key = Ed25519PublicKey.from_public_bytes(self.public_key)
            key.verify(signature, text.encode())
        except (InvalidSignature, ValueError):
            return False
        return True


def is_key_name(name: str) -> bool:
    """Whether a name may stand in a signature line."""
    return bool(name) and "+" not in name and not any(c.isspace() or c < " " for c in name)


def parse_key(line: str) -> VerifierKey:
    """A verifier key from its line. Raises NoteError that says what is wrong."""
    name, _, rest = line.strip().partition("+")
    key_id, _, encoded = rest.partition("+")
    try:
        data = b64decode(encoded, validate=True)
    except binascii.Error:
        data = b""
    if data[:1] != ED25519:
        raise NoteError(
            f"{line.strip()!r} is not an Ed25519 verifier key",
            hint="expected NAME+ID+KEY, as `hermes key` prints it",
        )
    key = VerifierKey(name, data[1:])
    if key.key_id.hex() != key_id:
        raise NoteError(f"the id of key {name} is {key.key_id.hex()}, not {key_id}: a typing error")
    return key


class Note(msgspec.Struct, frozen=True):
    """A parsed note, nothing checked yet. `signatures`: key name, key id (4 bytes), signature."""

    text: str
    signatures: tuple[tuple[str, bytes, bytes], ...]

    def signer(self, keys: Iterable[VerifierKey]) -> VerifierKey:
        """Which of the keys signed it.

        Raises NoteError when none did, or when a line that names one of them is forged.
        """
        known = {(key.name, key.key_id): key for key in keys}
        found = None
        for name, key_id, signature in self.signatures:
            key = known.get((name, key_id))
            if key is None:
                continue
            if not key.verifies(signature, self.text):
                raise NoteError(f"the signature of {name} is not over this text")
            found = found or key
        if found is None:
            names = ", ".join(f"{name}+{key_id.hex()}" for name, key_id, _ in self.signatures)
            raise NoteError(f"signed by {names}, which is none of the given keys")
        return found


def sign(text: str, key: VerifierKey, signing: Callable[[bytes], bytes]) -> str:
    """The note of a text. `signing` makes the key's Ed25519 signature (64 bytes) of bytes.

    Raises NoteError for a text that no note can hold.
    """
    _check_text(text)
    line = b64encode(key.key_id + signing(text.encode())).decode()
    return f"{text}\n{_LINE_START}{key.name} {line}\n"


def parse_note(note: str) -> Note:
    """Take a note apart. Raises NoteError."""
    text, blank, lines = note.rpartition("\n\n")
    if not blank or not lines.endswith("\n"):
        raise NoteError("not a signed note: no empty line before the signatures")
    text += "\n"
    _check_text(text)
    signed = lines.removesuffix("\n").split("\n")
    if len(signed) > SIGNATURES_MAX:
        raise NoteError(f"a note with {len(signed)} signatures, at most {SIGNATURES_MAX} are read")
    return Note(text, tuple(_parse_line(line) for line in signed))


def _parse_line(line: str) -> tuple[str, bytes, bytes]:
    name, _, encoded = line.removeprefix(_LINE_START).partition(" ")
    try:
        data = b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not line.startswith(_LINE_START) or not is_key_name(name) or len(data) <= KEY_ID_BYTES:
        raise NoteError(f"not a signature line: {line!r}")
    return name, data[:KEY_ID_BYTES], data[KEY_ID_BYTES:]


def _check_text(text: str) -> None:
    if not text.endswith("\n") or text.startswith("\n") or _CONTROL.search(text):
        raise NoteError("the text of a note is lines without control characters, the last ended")
