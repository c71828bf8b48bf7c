"""Keys and checkpoints that come from outside the log: who signed, and what is claimed.

Keys are given (`--pubkey`, a text or a file of them) or taken from the store's own
`checkpoint.pub`. The difference matters and is told: whoever owns the folder can replace
that file, and sign with a key of his own.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from hermes.checkpoint import format_time, parse_checkpoint, split_notes
from hermes.errors import HermesError
from hermes.log.chain_walk import Break
from hermes.signed_note import NoteError, VerifierKey, parse_key
from hermes_inspect.verify_walk import Claim

# As the server names it (docs/log-format.md).
PUBLIC_NAME: Final = "checkpoint.pub"


class Keys(msgspec.Struct, frozen=True):
    """Whose signatures count. `given`: by the caller, not found in the store's folder."""

    keys: tuple[VerifierKey, ...]
    given: bool

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(map(str, self.keys))


class UsageError(HermesError):
    """What was given on the command line cannot be used."""


def keys_of(given: Iterable[str], store: Path) -> Keys:
    """The keys given (texts, or names of files that hold them), else the store's own.

    Raises UsageError.
    """
    texts = list(given)
    try:
        if texts:
            lines = [line for text in texts for line in _lines(text)]
            return Keys(tuple(map(parse_key, lines)), given=True)
        path = store / PUBLIC_NAME
        lines = path.read_text("utf-8").split() if path.exists() else []
        return Keys(tuple(map(parse_key, lines)), given=False)
    except (NoteError, OSError, UnicodeDecodeError) as error:
        what = "--pubkey" if texts else str(store / PUBLIC_NAME)
        raise UsageError(f"{what}: {error}") from error


def _lines(text: str) -> list[str]:
    """Verifier keys in a text; one that has no key in it names a file."""
    lines = text.split()
    if len(lines) == 1 and "+" not in text:
        lines = Path(text).read_text("utf-8").split()
    return lines or [text]


class Claims(msgspec.Struct):
    """What the notes of a file claim, and what is wrong with the others."""

    claims: list[Claim] = []
    breaks: list[Break] = []


def read_notes(path: Path) -> list[tuple[int, str]]:
    """The notes of a file, each with the number of its first line. Raises UsageError."""
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            return list(split_notes(lines))
    except (OSError, UnicodeDecodeError, NoteError) as error:
        raise UsageError(f"--checkpoints {path}: {error}") from error


def claims_of(path: Path, notes: Iterable[tuple[int, str]], keys: Keys, store_id: str) -> Claims:
    """What the notes of a file claim. Notes of other stores, and unsigned ones, are breaks.

    Raises UsageError when there is none at all.
    """
    found = Claims()
    for number, note in notes:
        source = f"{path}, line {number}"
        try:
            found.claims.append(_claim(note, keys, store_id, source))
        except NoteError as error:
            text = f"a checkpoint does not verify ({source}): {error}"
            found.breaks.append(Break("checkpoint", text))
    if not found.claims and not found.breaks:
        raise UsageError(f"--checkpoints {path}: there is no checkpoint in it")
    return found


def _claim(note: str, keys: Keys, store_id: str, source: str) -> Claim:
    """Raises NoteError."""
    signed = parse_checkpoint(note)
    said = signed.checkpoint
    if said.store_id != store_id:
        raise NoteError(f"it is of store {said.store_id}, not of {store_id}")
    signer = str(signed.signer(keys.keys))
    source = f"{source}, of {format_time(said.at_ns)}"
    return Claim(said.lsn, said.chain, said.at_ns, source, signer)
