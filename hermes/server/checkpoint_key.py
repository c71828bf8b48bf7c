"""The server's Ed25519 key, and the file that tells others its public half.

The private key is a PEM file (PKCS #8, not encrypted) that openssl reads too, mode 0600,
made when there is none. It lies in the store as `checkpoint.key` unless a setting names
another file: on a disk, or a mount of secrets, that whoever owns the store cannot read.

`checkpoint.pub` in the store holds the verifier key of every private key that has signed
there, one per line, the one in use last; so a store whose key was replaced can still be
verified. It is a convenience for who trusts the folder: an auditor keeps a copy of his own.

Rules: a private key is read here and nowhere else, and is never logged.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from hermes.checkpoint import Checkpoint, origin_of
from hermes.errors import StoreError
from hermes.signed_note import VerifierKey, sign

KEY_NAME: Final = "checkpoint.key"
PUBLIC_NAME: Final = "checkpoint.pub"
# No PEM file with one key is larger.
_KEY_BYTES_MAX: Final = 64 * 1024


class KeyFileError(StoreError):
    """The key that signs checkpoints cannot be read, made or used."""


class Signer:
    """Signs the checkpoints of one store."""

    def __init__(self, store_id: str, private: Ed25519PrivateKey) -> None:
        self._store_id = store_id
        self._private = private
        self.key = VerifierKey(origin_of(store_id), private.public_key().public_bytes_raw())

    def sign(self, lsn: int, chain: bytes, at_ns: int) -> str:
        """The signed note that record `lsn` has the link `chain`."""
        checkpoint = Checkpoint(self._store_id, lsn, chain, at_ns)
        return sign(checkpoint.text, self.key, self._private.sign)


def open_signer(store: Path, store_id: str, key_path: Path | None = None) -> Signer:
    """The signer of a store: its key is read, or made when there is none; its public half told.

    `key_path` None means `checkpoint.key` in the store. Raises KeyFileError.
    """
    path = key_path or store / KEY_NAME
    try:
        private = _read(path)
        if private is None:
            private = _make(path)
        signer = Signer(store_id, private)
        _tell(store / PUBLIC_NAME, signer.key)
    except OSError as error:
        raise KeyFileError(
            f"the key for checkpoints cannot be used: {path}: {error.strerror}",
            hint="make the file readable, name another with --checkpoint-key, "
            "or take no checkpoints: --checkpoint-interval 0",
            path=str(path),
        ) from error
    return signer


def read_public_keys(store: Path) -> list[str]:
    """Verifier keys of all that have signed in this store, the newest last; none: no file.

    Raises OSError when the file is there and cannot be read.
    """
    try:
        return (store / PUBLIC_NAME).read_text("utf-8").split()
    except FileNotFoundError:
        return []


def files_to_carry(store: Path, *, with_key: bool) -> tuple[str, ...]:
    """Names of the files that a backup takes along: the public half; the key if asked for.

    Raises KeyFileError when it is asked for and does not lie in the store.
    """
    if not with_key:
        return (PUBLIC_NAME,)
    if not (store / KEY_NAME).exists():
        raise KeyFileError(
            f"{store} has no {KEY_NAME} to copy",
            hint="leave out --with-key; a key that lies elsewhere is backed up from there",
            path=str(store),
        )
    return (PUBLIC_NAME, KEY_NAME)


def _read(path: Path) -> Ed25519PrivateKey | None:
    """The key in a file; None if there is none. Raises KeyFileError, OSError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with open(fd, "rb") as file:  # noqa: PTH123 - a descriptor, so that mode and content are of one file
        mode = os.fstat(fd).st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise KeyFileError(
                f"{path} can be read by others (mode {stat.S_IMODE(mode):04o})",
                hint=f"chmod 600 {path}; if others have seen it, remove it for a new one",
                path=str(path),
            )
        data = file.read(_KEY_BYTES_MAX)
    try:
        private = load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        private = None  # what was wrong is not said: it could show parts of the key
    if not isinstance(private, Ed25519PrivateKey):
        raise KeyFileError(
            f"{path} holds no Ed25519 private key",
            hint="expected PEM without a password, as `openssl genpkey -algorithm ed25519` makes",
            path=str(path),
        )
    return private


def _make(path: Path) -> Ed25519PrivateKey:
    """A new key, durable under its name before anything is signed with it. Raises OSError."""
    private = Ed25519PrivateKey.generate()
    data = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _write(path, data, 0o600)
    return private


def _tell(path: Path, key: VerifierKey) -> None:
    """Make the key the last line of the file of public keys."""
    told = read_public_keys(path.parent)
    line = str(key)
    if told[-1:] != [line]:
        lines = [*(other for other in told if other != line), line]
        _write(path, "".join(f"{text}\n" for text in lines).encode(), 0o644)


def _write(path: Path, data: bytes, mode: int) -> None:
    """A file that appears whole or not at all, synced."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        os.fchmod(fd, mode)  # whatever the umask says
        os.write(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
