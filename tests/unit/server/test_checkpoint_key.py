"""The key that signs: made once, kept private, refused when it is not."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from hermes.checkpoint import parse_checkpoint
from hermes.server.checkpoint_key import KeyFileError, open_signer, read_public_keys
from hermes.signed_note import parse_key

STORE_ID = "5f0c3b52-9f44-4b87-8e0f-3a1c7f1a2b3c"
# openssl genpkey -algorithm ed25519; openssl pkey -pubout
MADE_BY_OPENSSL = """\
-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEINX/0G3vXr47lJ8J06EuXoheSHyaQ3kWPoYNA2hzAkzT
-----END PRIVATE KEY-----
"""
ITS_PUBLIC_KEY = "f855ef7bd536eebddd2a7e5bb4ac07744d60ff1b2cccd9873e4710b158cb05aa"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_made_once_and_kept_private(tmp_path: Path) -> None:
    assert read_public_keys(tmp_path) == []
    first = open_signer(tmp_path, STORE_ID)
    again = open_signer(tmp_path, STORE_ID)
    assert first.key == again.key
    assert first.key.name == f"hermes/{STORE_ID}"
    assert (mode(tmp_path / "checkpoint.key"), mode(tmp_path / "checkpoint.pub")) == (0o600, 0o644)
    assert read_public_keys(tmp_path) == [str(first.key)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.key", "checkpoint.pub"]


def test_what_it_signs_verifies_with_the_public_file_alone(tmp_path: Path) -> None:
    note = open_signer(tmp_path, STORE_ID).sign(7, bytes(32), 1)
    keys = [parse_key(line) for line in read_public_keys(tmp_path)]
    signed = parse_checkpoint(note)
    assert signed.signer(keys) == keys[0]
    assert (signed.checkpoint.store_id, signed.checkpoint.lsn) == (STORE_ID, 7)


def test_a_replaced_key_leaves_the_old_one_known(tmp_path: Path) -> None:
    old = open_signer(tmp_path, STORE_ID)
    (tmp_path / "checkpoint.key").unlink()
    new = open_signer(tmp_path, STORE_ID)
    assert read_public_keys(tmp_path) == [str(old.key), str(new.key)]


def test_a_key_elsewhere_that_another_program_made(tmp_path: Path) -> None:
    path = tmp_path / "elsewhere.pem"
    path.write_text(MADE_BY_OPENSSL)
    path.chmod(0o600)
    store = tmp_path / "store"
    store.mkdir()
    signer = open_signer(store, STORE_ID, path)
    assert [p.name for p in store.iterdir()] == ["checkpoint.pub"]
    assert read_public_keys(store) == [str(signer.key)]
    assert signer.key.public_key.hex() == ITS_PUBLIC_KEY


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    open_signer(tmp_path, STORE_ID)
    (tmp_path / "checkpoint.key").chmod(0o640)
    with pytest.raises(KeyFileError, match="0640") as caught:
        open_signer(tmp_path, STORE_ID)
    assert "chmod 600" in caught.value.hint


def pem(key: Ed25519PrivateKey | EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"secret",
        pem(Ed25519PrivateKey.generate())[:-40],
        pem(generate_private_key(SECP256R1())),
    ],
    ids=["empty", "text", "cut", "another kind"],
)
def test_what_is_no_key_is_refused_without_showing_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "checkpoint.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="no Ed25519 private key") as caught:
        open_signer(tmp_path, STORE_ID)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert path.read_bytes() == content, "what is there is never overwritten"


def test_a_place_that_cannot_hold_a_key(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="No such file"):
        open_signer(tmp_path, STORE_ID, tmp_path / "nowhere" / "key")
