"""The manifest: what an export holds, so that somebody else can check it. And its signature.

The manifest names each file with its SHA-256, so whoever trusts its bytes trusts the
export. It holds nothing that would make two exports of the same range differ: no time of
the export, no machine, no path. `docs/audit.md` tells how to check it without Hermes.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
    load_pem_public_key,
)

from hermes.log.record import StoredRecord
from hermes.log.v1 import log_pb2
from hermes_inspect.export_options import ExportError, NewerExportError, Options

FORMAT: Final = "hermes-export"
SCHEMA_VERSION: Final = 1
NAME: Final = "manifest.json"
SIGNATURE_NAME: Final = "manifest.json.sig"
# Manifests that later ones of an incremental export replaced.
EARLIER_FOLDER: Final = "manifests"


class FileEntry(msgspec.Struct, frozen=True):
    """A data file: path below the export, with slashes."""

    path: str
    table: str
    rows: int
    bytes: int
    sha256: str


class Range(msgspec.Struct, frozen=True):
    """One run of the export: the records it added."""

    first_lsn: int
    last_lsn: int


class Earlier(msgspec.Struct, frozen=True):
    """The manifest that this one goes on from."""

    path: str
    sha256: str


class CheckpointEntry(msgspec.Struct, frozen=True):
    """The newest checkpoint in the range's log: its record's lsn, and what it says."""

    record_lsn: int
    lsn: int
    chain: str
    note: str


class Manifest(msgspec.Struct, frozen=True):
    """What manifest.json holds. Digests and links are lower-case hex."""

    format: str
    schema_version: int
    tool: str
    store_id: str
    first_lsn: int
    last_lsn: int
    chain_before: str
    chain_last: str
    options: Options
    runs: tuple[Range, ...]
    rows: dict[str, int]
    rows_omitted: dict[str, int]
    headers_dropped: dict[str, int]
    # lsns of ServerStarted records whose run before ended without ServerStopped.
    unclean_stops: tuple[int, ...]
    # The range ends while a server was running, or after one that was killed.
    open_end: bool
    damage: tuple[str, ...]
    checkpoint: CheckpointEntry | None
    signed_by: str | None
    earlier: Earlier | None
    files: tuple[FileEntry, ...]

    def encode(self) -> bytes:
        """The bytes of manifest.json."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def decode_manifest(data: bytes, path: Path) -> Manifest:
    """Raises ExportError for what is no manifest, NewerExportError for a newer one."""
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except msgspec.MsgspecError as error:
        raise ExportError(f"{path} is not the manifest of an export: {error}") from error
    if manifest.format != FORMAT or manifest.schema_version > SCHEMA_VERSION:
        kind = NewerExportError if manifest.format == FORMAT else ExportError
        raise kind(
            f"{path} is of {manifest.format} {manifest.schema_version}, "
            f"this version reads {FORMAT} {SCHEMA_VERSION}"
        )
    return manifest


def checkpoint_entry(record: StoredRecord | None) -> CheckpointEntry | None:
    if record is None:
        return None
    body = log_pb2.Checkpoint.FromString(record.body)
    return CheckpointEntry(record.lsn, body.lsn, body.chain.hex(), body.note)


# ------------------------------------------------------------------- signature


def load_key(path: Path) -> Ed25519PrivateKey:
    """An Ed25519 private key in PEM, without a passphrase. Raises ExportError."""
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise ExportError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise ExportError(f"{path} is no PEM private key without a passphrase") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ExportError(
            f"{path} is not an Ed25519 key",
            hint="make one: openssl genpkey -algorithm ed25519 -out FILE",
        )
    return key


def load_public_key(path: Path) -> Ed25519PublicKey:
    """An Ed25519 public key in PEM. Raises ExportError."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise ExportError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ExportError(f"{path} is no PEM public key") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ExportError(f"{path} is not an Ed25519 key")
    return key


def key_id(key: Ed25519PublicKey) -> str:
    """SHA-256 of the public key's 32 bytes, in hex."""
    return sha256(key.public_bytes_raw()).hexdigest()


def signature_holds(key: Ed25519PublicKey, signature: bytes, data: bytes) -> bool:
    try:
        key.verify(signature, data)
    except InvalidSignature:
        return False
    return True
