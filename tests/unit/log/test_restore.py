"""A restore makes a whole store, or none: damage is named by file."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from hermes.errors import (
    HermesError,
    StoreDamagedError,
    StoreError,
    StoreFullError,
    StoreLockedError,
    StoreVersionError,
)
from hermes.log import backup_files
from hermes.log.backup_manifest import MANIFEST_NAME, Manifest, encode_manifest
from hermes.log.catalog import StoreLock
from hermes.log.head import UNFINISHED, read_head
from hermes.log.log import open_log
from hermes.log.restore import restore_backup
from tests.contract.records import Outcomes
from tests.support.backups import at_rest, backup, records_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "backup"


@pytest.fixture
def manifest(tmp_path: Path, folder: Path) -> Manifest:
    """Of a backup of three segments and a public key."""
    store = at_rest(tmp_path / "store")
    (store / "checkpoint.pub").write_text("key\n")
    return backup(store, folder, carry=("checkpoint.pub",)).manifest


def refused(folder: Path, store: Path, kind: type[HermesError], words: str) -> HermesError:
    """A restore that fails, and leaves no store."""
    with pytest.raises(kind, match=words) as caught:
        restore_backup(folder, store)
    assert not store.exists()
    return caught.value


def test_a_restored_store_is_as_it_should_be(
    tmp_path: Path, folder: Path, manifest: Manifest
) -> None:
    again = tmp_path / "deep" / "again"
    assert restore_backup(folder, again).bytes == manifest.bytes
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in again.iterdir()}
    *sealed, last = [f"{s.first_lsn:020d}.segment" for s in manifest.segments]
    assert modes == {
        **dict.fromkeys(sealed, 0o400),
        last: 0o600,
        "HEAD": 0o600,
        "LOCK": 0o600,
        "RESERVE": 0o600,
        "checkpoint.pub": modes["checkpoint.pub"],
    }
    assert stat.S_IMODE(again.stat().st_mode) == 0o700
    head = read_head(again / "HEAD")
    assert head is not None
    assert (head.mark, head.store_id, head.bad_slots) == (manifest.end, manifest.store_id, ())
    assert records_of(again) == records_of(tmp_path / "store")


def test_into_an_empty_folder_only(tmp_path: Path, folder: Path, manifest: Manifest) -> None:
    again = tmp_path / "again"
    again.mkdir()
    (again / "lost+found").mkdir()
    restore_backup(folder, again)
    assert (again / "lost+found").is_dir()
    with pytest.raises(StoreError, match="not empty"):
        restore_backup(folder, again)
    assert records_of(again)[-1].lsn == manifest.last_lsn
    with pytest.raises(StoreError, match="is a file"):
        restore_backup(folder, again / "HEAD")


def test_beside_nobody(tmp_path: Path, folder: Path, manifest: Manifest) -> None:
    again = tmp_path / "again"
    again.mkdir()
    lock = StoreLock(again)
    with pytest.raises(StoreLockedError):
        restore_backup(folder, again)
    lock.release()
    restore_backup(folder, again)


def test_what_is_no_backup(tmp_path: Path, folder: Path, manifest: Manifest) -> None:
    again = tmp_path / "again"
    refused(tmp_path / "store", again, StoreError, "no complete backup")
    refused(tmp_path / "missing", again, StoreError, "no complete backup")
    newer = encode_manifest(msgspec.structs.replace(manifest, version=2))
    (folder / MANIFEST_NAME).write_bytes(newer)
    refused(folder, again, StoreVersionError, "format 2")
    (folder / MANIFEST_NAME).write_bytes(newer[:-40])
    refused(folder, again, StoreDamagedError, MANIFEST_NAME)


def _flip(path: Path) -> None:
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _cut(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("damage", "words"),
    [(_flip, "has other content"), (_cut, "bytes instead of"), (Path.unlink, "is missing")],
)
def test_damage_is_named_by_file(
    tmp_path: Path,
    folder: Path,
    manifest: Manifest,
    damage: Callable[[Path], None],
    words: str,
) -> None:
    segment = manifest.segments[1]
    kept = {p.name: p.read_bytes() for p in folder.iterdir()}
    for file in (segment, manifest.segments[2], manifest.carried[0]):
        damage(folder / file.file)
        error = refused(folder, tmp_path / "again", StoreDamagedError, words)
        assert str(folder / file.file) in str(error)
        if file is segment:
            assert f"records {segment.first_lsn}..{segment.last_lsn}" in str(error)
        (folder / file.file).unlink(missing_ok=True)
        (folder / file.file).write_bytes(kept[file.file])
    restore_backup(folder, tmp_path / "again")


@pytest.mark.parametrize("field", ["next_offset", "chain", "store_id"])
def test_a_manifest_that_does_not_fit_its_files(
    tmp_path: Path, folder: Path, manifest: Manifest, field: str
) -> None:
    """Files and digests agree, and the ends say something else."""
    if field == "store_id":
        other = msgspec.structs.replace(manifest, store_id="00000000-0000-4000-8000-000000000000")
        words = "does not make a sound store"
    else:
        value = manifest.next_offset + 1 if field == "next_offset" else "ab" * 32
        last = msgspec.structs.replace(manifest.segments[-1], **{field: value})
        segments = (*manifest.segments[:-1], last)
        other = msgspec.structs.replace(manifest, segments=segments, **{field: value})
        words = "says that the log ends at"
    (folder / MANIFEST_NAME).write_bytes(encode_manifest(other))
    error = refused(folder, tmp_path / "again", StoreDamagedError, words)
    assert str(folder) in str(error)


def test_a_segment_left_out_of_the_manifest(
    tmp_path: Path, folder: Path, manifest: Manifest
) -> None:
    first, second, third = manifest.segments
    other = msgspec.structs.replace(manifest, segments=(first, third))
    (folder / MANIFEST_NAME).write_bytes(encode_manifest(other))
    missing = f"records {second.first_lsn}..{second.last_lsn} are missing"
    refused(folder, tmp_path / "again", StoreDamagedError, missing)


def test_no_room(
    tmp_path: Path, folder: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup_files, "free_bytes", lambda _: 1_000)
    refused(folder, tmp_path / "again", StoreFullError, "1,000 bytes free")


def test_an_unfinished_restore_is_no_store_and_is_begun_anew(
    tmp_path: Path, folder: Path, manifest: Manifest
) -> None:
    again = tmp_path / "again"
    again.mkdir()
    (again / "HEAD").write_bytes(UNFINISHED)
    shutil.copy(next((tmp_path / "store").glob("*.segment")), again)
    for accept_loss in (False, True):  # not: a new, empty store, nor what is in place so far
        with pytest.raises(StoreError, match=r"a restore into .* was not finished"):
            open_log(again, Outcomes(), accept_loss=accept_loss)
    (again / "restored.segment.new").write_bytes(b"half")
    restore_backup(folder, again)
    assert records_of(again) == records_of(tmp_path / "store")
