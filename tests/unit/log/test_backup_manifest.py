"""What a manifest may say, and what a backup may reuse."""

from __future__ import annotations

import msgspec
import pytest

from hermes.errors import StoreDamagedError, StoreVersionError
from hermes.log.backup_manifest import (
    CarriedFile,
    Known,
    Manifest,
    SegmentCopy,
    carried_file,
    decode_manifest,
    encode_manifest,
    is_of_backup,
    manifest_of,
    segment_file,
)
from hermes.log.facts import Mark

SHA = "ab" * 32


def copy(first_lsn: int, last_lsn: int, mtime_ns: int | None = 7) -> SegmentCopy:
    return SegmentCopy(
        file=segment_file(first_lsn, last_lsn, SHA),
        bytes=4096,
        sha256=SHA,
        first_lsn=first_lsn,
        last_lsn=last_lsn,
        next_offset=last_lsn * 3,
        chain=f"{last_lsn:064x}",
        source_mtime_ns=mtime_ns,
    )


def manifest(*segments: SegmentCopy) -> Manifest:
    carried = CarriedFile(
        file=carried_file("checkpoint.pub", SHA),
        name="checkpoint.pub",
        bytes=80,
        sha256=SHA,
        mode=0o644,
    )
    return manifest_of("id", 1_767_225_600_000_000_001, segments, (carried,), "note")


def test_a_manifest_is_read_back_as_it_was() -> None:
    written = manifest(copy(1, 9), copy(10, 12, None))
    assert decode_manifest(encode_manifest(written), "m") == written
    assert (written.first_lsn, written.last_lsn, written.next_offset) == (1, 12, 36)
    assert written.end == Mark(12, 36, (12).to_bytes(32, "big"))
    assert written.taken_at == "2026-01-01T00:00:00+00:00"
    assert written.bytes == 2 * 4096 + 80


def test_the_manifest_of_an_empty_store() -> None:
    written = manifest(copy(1, 0, None))
    assert decode_manifest(encode_manifest(written), "m") == written
    assert written.segments[0].file.startswith(f"{1:020d}-{0:020d}-")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"segments": ()}, "no segments"),
        ({"format": "tar"}, "no segments"),
        ({"segments": (copy(1, 9), copy(9, 12))}, "two files hold record 9"),
        ({"next_offset": 37}, "its end"),
        ({"chain": "zz"}, "hexadecimal"),
    ],
)
def test_what_contradicts_itself_is_refused(change: dict[str, object], problem: str) -> None:
    bad = msgspec.structs.replace(manifest(copy(1, 9), copy(10, 12)), **change)
    with pytest.raises(StoreDamagedError, match=problem) as caught:
        decode_manifest(encode_manifest(bad), "/backup/manifest.json")
    assert "/backup/manifest.json" in str(caught.value)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "", ".hidden", "a/b", "1.segment"])
def test_no_name_leads_out_of_the_folder(name: str) -> None:
    """A manifest may come from anywhere; its names are joined to folders."""
    bad = msgspec.structs.replace(copy(1, 9), file=name)
    with pytest.raises(StoreDamagedError, match="no name"):
        decode_manifest(encode_manifest(manifest(bad)), "m")
    carried = msgspec.structs.replace(manifest(copy(1, 9)).carried[0], name=name)
    whole = msgspec.structs.replace(manifest(copy(1, 9)), carried=(carried,))
    with pytest.raises(StoreDamagedError, match="no name"):
        decode_manifest(encode_manifest(whole), "m")


@pytest.mark.parametrize("name", ["HEAD", "LOCK", "RESERVE"])
def test_a_carried_file_takes_no_place_of_the_store(name: str) -> None:
    carried = msgspec.structs.replace(manifest(copy(1, 9)).carried[0], name=name)
    whole = msgspec.structs.replace(manifest(copy(1, 9)), carried=(carried,))
    with pytest.raises(StoreDamagedError, match="no name"):
        decode_manifest(encode_manifest(whole), "m")


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"\xff", b'{"format": "hermes-backup"}'])
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(StoreDamagedError, match="no manifest"):
        decode_manifest(data, "m")


def test_a_newer_format_is_refused_as_such() -> None:
    with pytest.raises(StoreVersionError, match="format 2"):
        decode_manifest(b'{"format": "hermes-backup", "version": 2, "new": {}}', "m")


def test_names_of_a_backup_are_known_again() -> None:
    assert is_of_backup(segment_file(1, 9, SHA))
    assert is_of_backup(carried_file("checkpoint.pub", SHA))
    assert is_of_backup("copy.new")
    for name in ("notes.txt", "HEAD", f"{1:020d}.segment", "abc-checkpoint.pub", "my.new"):
        assert not is_of_backup(name)


def test_a_sealed_copy_is_known_by_records_size_and_time() -> None:
    known = Known.of([copy(1, 9, 7)])
    end = copy(1, 9).end
    assert known.sealed(1, end, 4096, 7) == copy(1, 9, 7)
    assert known.sealed(1, end, 4095, 7) is None  # rewritten
    assert known.sealed(1, end, 4096, 8) is None  # rewritten to the same size
    assert known.sealed(1, Mark(9, 27, b"\1" * 32), 4096, 7) is None  # another chain
    assert known.unsealed(1, end) is None


def test_a_copy_of_what_is_written_is_known_as_long_as_nothing_came() -> None:
    known = Known.of([]).with_(copy(10, 12, None))
    assert known.unsealed(10, copy(10, 12).end) == copy(10, 12, None)
    assert known.unsealed(10, copy(10, 13).end) is None
    assert known.sealed(10, copy(10, 12).end, 4096, 7) is None
