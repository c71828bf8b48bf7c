"""A backup is checked without restoring it: each file against the manifest."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hermes.errors import StoreDamagedError, StoreError
from hermes.log.backup import Progress
from hermes.log.backup_check import check_backup
from hermes.log.backup_manifest import Manifest
from tests.support.backups import at_rest, backup


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "backup"


@pytest.fixture
def manifest(tmp_path: Path, folder: Path) -> Manifest:
    """Of a backup of three segments and a public key."""
    store = at_rest(tmp_path / "store")
    (store / "checkpoint.pub").write_text("key\n")
    return backup(store, folder, carry=("checkpoint.pub",)).manifest


def test_a_whole_backup_is_read_to_the_last_byte(folder: Path, manifest: Manifest) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    told: list[Progress] = []
    assert check_backup(folder, told=told.append) == manifest
    assert told[-1] == Progress(manifest.bytes, manifest.bytes, len(manifest.files))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_flipped_bit_is_found_in_every_file(folder: Path, manifest: Manifest) -> None:
    for file in manifest.files:
        path = folder / file.file
        good = path.read_bytes()
        path.chmod(0o600)
        path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        with pytest.raises(StoreDamagedError, match=f"{file.file} has other content"):
            check_backup(folder)
        path.write_bytes(good)
    assert check_backup(folder) == manifest


def test_a_missing_file_is_named_with_its_records(folder: Path, manifest: Manifest) -> None:
    middle = manifest.segments[1]
    (folder / middle.file).unlink()
    held = f"records {middle.first_lsn}..{middle.last_lsn}"
    with pytest.raises(StoreDamagedError, match=f"{middle.file} is missing .{held}."):
        check_backup(folder)


def test_a_folder_without_a_manifest_is_no_backup(folder: Path, manifest: Manifest) -> None:
    (folder / "manifest.json").unlink()
    with pytest.raises(StoreError, match="holds no complete backup"):
        check_backup(folder)
    shutil.rmtree(folder)
    with pytest.raises(StoreError):
        check_backup(folder)
