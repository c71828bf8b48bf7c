"""Verify an export without the store: files, chain, signature.

Theory: records/ holds exactly what the chain covers, so the chain can be computed again
from it. The manifest names every file by its digest and the chain's ends; a signature
over the manifest, or an end of the chain that somebody else knows (a checkpoint), is
what a forger cannot make. Without either this shows that the export is whole and in
itself consistent, no more.

The first break is named, and the walk stops there: what follows a break proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from hermes.log.chain import genesis, link
from hermes.log.record import Kind
from hermes.log.v1 import log_pb2
from hermes_inspect.export_arrow import count_rows, read_records
from hermes_inspect.export_folder import digest_of
from hermes_inspect.export_manifest import (
    NAME,
    SIGNATURE_NAME,
    Manifest,
    decode_manifest,
    signature_holds,
)
from hermes_inspect.export_options import NoExportError
from hermes_inspect.export_plan import NoWatcher, Watcher
from hermes_inspect.export_schema import SCHEMAS


class ExportVerified(msgspec.Struct, frozen=True):
    """`breaks` is empty when all holds; the first entry is the first break.

    `records` is how many links were recomputed; `signed` is whether a signature was
    checked and holds.
    """

    store_id: str
    first_lsn: int
    last_lsn: int
    records: int
    chain_last: str
    signed: bool
    breaks: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.breaks


class _BreakError(Exception):
    """What does not hold."""


def verify_export(
    out: Path, public_key: Ed25519PublicKey | None = None, watcher: Watcher | None = None
) -> ExportVerified:
    """Check every file and recompute the chain from records/.

    Raises NoExportError or NewerExportError when there is no manifest to check against, and
    ExportError when it is none.
    """
    try:
        data = (out / NAME).read_bytes()
    except OSError as error:
        raise NoExportError(f"{out} is no finished export: {NAME}: {error.strerror}") from error
    manifest = decode_manifest(data, out / NAME)
    walk = _Walk(out, manifest, watcher or NoWatcher())
    breaks: list[str] = []
    try:
        if public_key is not None:
            _check_signature(out, data, public_key)
        walk.check_files()
        walk.check_chain()
    except _BreakError as found:
        breaks.append(str(found))
    return ExportVerified(
        manifest.store_id,
        manifest.first_lsn,
        manifest.last_lsn,
        walk.records,
        manifest.chain_last,
        public_key is not None and not breaks,
        tuple(breaks),
    )


def _check_signature(out: Path, data: bytes, key: Ed25519PublicKey) -> None:
    try:
        signature = (out / SIGNATURE_NAME).read_bytes()
    except OSError:
        raise _BreakError(f"{SIGNATURE_NAME} is missing: the manifest is not signed") from None
    if not signature_holds(key, signature, data):
        raise _BreakError(f"{SIGNATURE_NAME} is not this key's signature of {NAME}")


class _Walk:
    """One verification."""

    def __init__(self, out: Path, manifest: Manifest, watcher: Watcher) -> None:
        self.records = 0
        self._out = out
        self._manifest = manifest
        self._watcher = watcher

    def check_files(self) -> None:
        """Every file is there as the manifest has it, and no other."""
        manifest = self._manifest
        self._watcher.begin("files", len(manifest.files))
        for entry in manifest.files:
            path = self._out / entry.path
            if not path.resolve().is_relative_to(self._out.resolve()):
                raise _BreakError(f"{entry.path} leads out of the export")
            try:
                if digest_of(path) != entry.sha256:
                    raise _BreakError(f"{entry.path} was changed: its SHA-256 differs")
                if count_rows(path) != entry.rows:
                    raise _BreakError(f"{entry.path} has other rows than the manifest says")
            except (OSError, ValueError) as error:
                raise _BreakError(f"{entry.path} cannot be read: {error}") from error
            self._watcher.advance(1, entry.rows)
        listed = {entry.path for entry in manifest.files}
        for table in SCHEMAS:
            for path in sorted((self._out / table).rglob("*")):
                name = path.relative_to(self._out).as_posix()
                if not path.is_dir() and name not in listed:
                    raise _BreakError(f"{name} is not in the manifest")
            rows = sum(entry.rows for entry in manifest.files if entry.table == table)
            if rows != manifest.rows.get(table, 0):
                raise _BreakError(
                    f"the manifest counts {manifest.rows.get(table, 0)} rows of {table}/"
                )

    def check_chain(self) -> None:
        """Links and lsns follow one another from the first to the last."""
        manifest = self._manifest
        before = bytes.fromhex(manifest.chain_before)
        if manifest.first_lsn == 1 and before != genesis(manifest.store_id):
            raise _BreakError("the chain does not begin where the store's does")
        self._watcher.begin("records", manifest.last_lsn - manifest.first_lsn + 1)
        expected, chain = manifest.first_lsn, before
        for rows in self._rows():
            for lsn, at_ns, kind, key, first, last, body, payload_hash, claimed in rows:
                if lsn != expected:
                    if kind != Kind.LOST:
                        raise _BreakError(f"record {expected} is missing: {lsn} follows")
                    chain = _lost(expected, lsn, body)
                chain = link(chain, lsn, at_ns, kind, key, first, last, body, payload_hash)
                if chain != claimed:
                    raise _BreakError(f"record {lsn} does not fit the chain")
                expected = lsn + 1
                self.records += 1
            self._watcher.advance(len(rows), len(rows))
        if expected != manifest.last_lsn + 1:
            raise _BreakError(f"records {expected}..{manifest.last_lsn} are missing")
        if chain.hex() != manifest.chain_last:
            raise _BreakError(f"the chain ends with another link than {NAME} says")

    def _rows(self) -> Iterator[list[tuple[Any, ...]]]:
        """Rows of records/, file after file in lsn order: their names sort so."""
        entries = [entry for entry in self._manifest.files if entry.table == "records"]
        for entry in sorted(entries, key=lambda entry: entry.path.rpartition("/")[2]):
            yield from read_records(self._out / entry.path)


def _lost(expected: int, lsn: int, body: bytes) -> bytes:
    """The link that a Lost record goes on from, if it names exactly this gap."""
    lost = log_pb2.Lost.FromString(body)
    if (lost.first_lsn, lost.last_lsn) != (expected, lsn - 1):
        raise _BreakError(
            f"records {expected}..{lsn - 1} are missing, and record {lsn} does not say so"
        )
    return bytes(lost.chain)
