"""`hermes key`: the public keys of a store, one per line."""

from __future__ import annotations

from pathlib import Path

import pytest

from hermes.cli.main import run
from hermes.server.checkpoint_key import open_signer

STORE_ID = "5f0c3b52-9f44-4b87-8e0f-3a1c7f1a2b3c"


def test_it_shows_the_public_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    signer = open_signer(tmp_path, STORE_ID)
    assert run(["key", "--store", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{signer.key}\n"
    monkeypatch.setenv("HERMES_STORE_PATH", str(tmp_path))
    assert run(["key"]) == 0
    assert capsys.readouterr().out == f"{signer.key}\n"


def test_a_store_without_a_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["key", "--store", str(tmp_path)]) == 1
    assert "has no checkpoint.pub" in capsys.readouterr().err
    assert run(["key", "--store", str(tmp_path / "nowhere")]) == 1
    assert "is not a folder" in capsys.readouterr().err
