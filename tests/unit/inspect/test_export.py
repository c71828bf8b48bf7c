"""What an export promises beside its rows: same bytes, whole files, refusals, signatures."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from hermes.errors import HermesError, StoreError
from hermes_inspect import export_pass
from hermes_inspect.export import Request, export
from hermes_inspect.export_manifest import load_key, load_public_key
from hermes_inspect.export_options import ExportError, Options
from hermes_inspect.export_verify import verify_export
from tests.support.exports import files_of, outcomes_of, rows_of
from tests.support.stored import store_records
from tests.support.world import WALL_START_NS, World, message


@pytest.fixture
def world() -> World:
    """A consumer that acked one of three messages, and an unread other subject."""
    world = World()
    worker = world.join("c", "a.*")
    headers = {"trace": "t", "Authorization": "secret", "x-token": "secret"}
    world.publish(message("a.b", b"one", id="first", headers=headers))  # type: ignore[arg-type]
    world.publish(message("a.b", b"two"), message("b", b"three"), message("a.c", b"four"))
    worker.ack((0, 0))
    world.run()
    return world


@pytest.fixture
def store(tmp_path: Path, world: World) -> Path:
    return store_records(tmp_path / "store", world.records())


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A private key in PEM; its public key beside it as key.pub."""
    private = Ed25519PrivateKey.generate()
    path = tmp_path / "key"
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    path.with_suffix(".pub").write_bytes(public)
    return path


# ----------------------------------------------------------------------- rows


def test_events_and_custody_tell_the_story(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    manifest = export(Request(store, out)).manifest
    events = rows_of(out, "events")
    first = [row for row in events if row["message_offset"] == 0]
    assert [row["kind"] for row in first] == ["published", "delivered", "acked"]
    assert {row["message_id"] for row in first} == {"first"}
    assert [row["consumer"] for row in first] == [None, "c", "c"]
    assert {row["peer"] for row in first} == {"peer"}
    assert [row["attempt"] for row in first] == [None, 1, None]
    assert first[0]["payload_bytes"] == 3 and first[0]["payload"] is None
    assert len(first[0]["payload_hash"]) == 32
    assert dict(first[0]["headers"]) == {"trace": "t", "x-token": "secret"}
    assert first[0]["recorded_at"] == datetime.fromtimestamp(WALL_START_NS / 1e9, UTC)
    assert manifest.headers_dropped == {"authorization": 1}
    assert outcomes_of(out) == {(0, "c"): "acked", (1, "c"): "in flight", (3, "c"): "in flight"}
    assert (out / "events/date=2023-11-14").is_dir()


def test_filters_narrow_all_but_records_and_count_what_they_leave_out(
    store: Path, tmp_path: Path
) -> None:
    whole = export(Request(store, tmp_path / "whole")).manifest
    kinds = ("published", "acked")
    options = Options(subjects=("a.b",), kinds=kinds, payloads=True)
    out = tmp_path / "out"
    manifest = export(Request(store, out, options)).manifest
    assert manifest.rows["records"] == whole.rows["records"]
    kept = [(row["kind"], row["payload"]) for row in rows_of(out, "events")]
    assert kept == [("published", b"one"), ("published", b"two"), ("acked", None)]
    for table in ("events", "custody"):
        assert manifest.rows[table] + manifest.rows_omitted[table] == whole.rows[table]
    assert set(outcomes_of(out)) == {(0, "c"), (1, "c")}
    assert verify_export(out).ok


def test_consumer_and_time_filters(store: Path, tmp_path: Path) -> None:
    nobody = export(Request(store, tmp_path / "a", Options(consumers=("x",)))).manifest
    assert nobody.rows["events"] == nobody.rows["custody"] == 0
    late = Options(since_ns=WALL_START_NS + 1)
    assert export(Request(store, tmp_path / "b", late)).manifest.rows["custody"] == 0
    early = Options(until_ns=WALL_START_NS + 1)
    assert export(Request(store, tmp_path / "c", early)).manifest.rows_omitted["events"] == 0


def test_a_range_has_its_records_and_what_changed_in_it(
    store: Path, tmp_path: Path, world: World
) -> None:
    last = len(world.records())
    out = tmp_path / "out"
    manifest = export(Request(store, out, from_lsn=last)).manifest
    assert [row["lsn"] for row in rows_of(out, "records")] == [last]
    assert outcomes_of(out) == {(0, "c"): "acked"}
    assert rows_of(out, "custody")[0]["first_delivered_at"] is not None
    assert verify_export(out).ok
    whole = tmp_path / "whole"
    export(Request(store, whole))
    assert manifest.chain_before == rows_of(whole, "records")[-2]["chain"].hex()


def test_wrong_wishes_are_refused(store: Path, tmp_path: Path) -> None:
    for request in (
        Request(store, tmp_path / "out", from_lsn=10_000),
        Request(store, tmp_path / "out", Options(kinds=("ackt",))),
        Request(store, tmp_path / "out", Options(subjects=("a..b",))),
        Request(store, tmp_path / "none" / "out"),
        Request(store, store / "out"),
        Request(store, tmp_path),
    ):
        with pytest.raises(HermesError):
            export(request)
    assert not (tmp_path / "out").exists()
    with pytest.raises(StoreError):
        export(Request(tmp_path / "nothing", tmp_path / "out"))


# ---------------------------------------------------------------------- bytes


def test_the_same_range_gives_the_same_bytes(store: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        export(Request(store, tmp_path / name, Options(payloads=True)))
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


@pytest.mark.parametrize("at_file", range(7))
def test_an_interrupted_export_goes_on_and_ends_with_the_same_bytes(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_file: int
) -> None:
    monkeypatch.setattr(export_pass, "STEP_RECORDS", 4)
    whole, out = tmp_path / "whole", tmp_path / "out"
    export(Request(store, whole))
    link, calls = os.link, 0

    def fail(source: Path, path: Path) -> None:
        nonlocal calls
        calls += 1
        if calls > at_file:
            raise OSError(28, "No space left on device")
        link(source, path)

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(OSError, match="No space"):
        export(Request(store, out))
    assert not (out / "manifest.json").exists()
    with pytest.raises(ExportError):
        verify_export(out)
    monkeypatch.setattr(os, "link", link)
    with pytest.raises(ExportError, match="interrupted export with other options"):
        export(Request(store, out, Options(payloads=True)))
    assert export(Request(store, out)).resumed
    assert files_of(out) == files_of(whole)
    assert verify_export(out).ok


def test_two_exports_do_not_mix(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with (out / ".hermes-export.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ExportError, match="another export is writing"):
            export(Request(store, out))
    export(Request(store, out))


def test_what_is_not_ours_is_left_alone(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(ExportError, match="holds other files"):
        export(Request(store, out))
    assert {path.name for path in out.iterdir()} == {"thesis.txt"}


def test_a_name_that_is_taken_is_not_overwritten(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(Request(store, out, to_lsn=3))
    taken = out / f"records/date=2023-11-14/{4:020d}.parquet"
    taken.write_text("mine")
    with pytest.raises(ExportError, match="exists and is not of this export"):
        export(Request(store, out, incremental=True))
    assert taken.read_text() == "mine"
    taken.unlink()
    assert export(Request(store, out, incremental=True)).resumed
    assert verify_export(out).ok


def test_a_folder_that_leads_elsewhere_is_refused(store: Path, tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    export(Request(store, out, to_lsn=3))
    shutil.rmtree(out / "custody", ignore_errors=True)
    elsewhere.mkdir()
    (out / "custody").symlink_to(elsewhere)
    with pytest.raises(ExportError, match="leads out of"):
        export(Request(store, out, incremental=True))
    assert list(elsewhere.rglob("*.parquet")) == []


# ------------------------------------------------------------------ increments


def test_increments_refuse_what_does_not_fit(store: Path, tmp_path: Path, world: World) -> None:
    out = tmp_path / "out"
    export(Request(store, out, to_lsn=4))
    with pytest.raises(ExportError, match="already"):
        export(Request(store, out))
    with pytest.raises(ExportError, match="other filters"):
        export(Request(store, out, Options(payloads=True), incremental=True))
    other = World()
    for n in range(9):
        other.publish(message("a", b"%d" % n))
    foreign = store_records(tmp_path / "foreign", other.records())
    with pytest.raises(ExportError, match="not of"):
        export(Request(foreign, out, incremental=True))
    first = (out / "manifest.json").read_bytes()
    done = export(Request(store, out, incremental=True))
    assert done.added and done.manifest.earlier is not None
    assert (out / done.manifest.earlier.path).read_bytes() == first
    assert not export(Request(store, out, incremental=True)).added
    assert not (out / ".hermes-export").exists()


def test_a_rewritten_log_is_not_continued(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(Request(store, out, to_lsn=4))
    path = out / "manifest.json"
    text = path.read_text()
    chain = json.loads(text)["chain_last"]
    path.write_text(text.replace(chain, "00" * 32))
    with pytest.raises(ExportError, match="is not the one that was exported"):
        export(Request(store, out, incremental=True))


# ---------------------------------------------------------- checking, signing


def test_a_signature_holds_for_its_key_and_bytes_only(
    store: Path, tmp_path: Path, key: Path
) -> None:
    out = tmp_path / "out"
    export(Request(store, out), load_key(key))
    public = load_public_key(key.with_suffix(".pub"))
    assert verify_export(out, public).signed
    assert not verify_export(out, Ed25519PrivateKey.generate().public_key()).ok
    manifest = out / "manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b" ")
    assert verify_export(out).ok
    assert not verify_export(out, public).ok
    (out / "manifest.json.sig").unlink()
    assert "missing" in verify_export(out, public).breaks[0]


def test_keys_that_cannot_sign_are_refused(tmp_path: Path, key: Path) -> None:
    with pytest.raises(ExportError, match="no PEM private key"):
        load_key(key.with_suffix(".pub"))
    with pytest.raises(ExportError, match="cannot be read"):
        load_key(tmp_path / "none")
    with pytest.raises(ExportError, match="no PEM public key"):
        load_public_key(key)


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda files: _flip(files[0]), "was changed"),
        (lambda files: files[0].unlink(), "cannot be read"),
        (lambda files: shutil.copy(files[0], files[0].with_name("x.parquet")), "not in the man"),
    ],
)
def test_changed_files_are_named(
    store: Path, tmp_path: Path, damage: Callable[[list[Path]], None], says: str
) -> None:
    out = tmp_path / "out"
    export(Request(store, out))
    damage(sorted((out / "records").rglob("*.parquet")))
    found = verify_export(out)
    assert not found.ok and says in found.breaks[0]


def test_a_forged_record_breaks_the_chain_though_all_digests_fit(
    tmp_path: Path, world: World
) -> None:
    """Somebody changes a row, and makes file and manifest anew; the chain shows it."""
    records = world.records()
    out = tmp_path / "out"
    export(Request(store_records(tmp_path / "store", records), out))
    forged = [
        msgspec.structs.replace(r, body=r.body + b"\x08\x01") if r.lsn == 5 else r for r in records
    ]
    other = tmp_path / "forged"
    export(Request(store_records(tmp_path / "other", forged), other))
    real = json.loads((out / "manifest.json").read_text())
    fake = json.loads((other / "manifest.json").read_text())
    assert verify_export(other).ok  # a chain alone can be rebuilt; what is known cannot
    fake |= {name: real[name] for name in ("store_id", "chain_before", "chain_last")}
    (other / "manifest.json").write_text(json.dumps(fake))
    assert verify_export(other).breaks == ("record 1 does not fit the chain",)
