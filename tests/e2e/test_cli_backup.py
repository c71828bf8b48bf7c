"""`hermes backup` and `hermes restore` as a person calls them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from broker_process import BrokerProcess

from hermes.server.checkpoint_key import KEY_NAME, PUBLIC_NAME
from tests.e2e.cli_running import Cli
from tests.e2e.inspecting import inspect
from tests.support.backups import records_of


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("backup")


@pytest.fixture(scope="module")
def broker(place: Path) -> Iterator[BrokerProcess]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("HERMES_BACKUP_DIR", str(place / "backups"))
        with BrokerProcess(place / "store", place / "broker.log") as broker:
            yield broker


@pytest.fixture
def hermes(
    broker: BrokerProcess,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Cli:
    return Cli(broker.addr, capsys, monkeypatch, tmp_path)


def test_a_backup_and_a_restore(hermes: Cli, place: Path, tmp_path: Path) -> None:
    hermes.good("pub", "a.b", stdin=b"1\n2\n3\n")
    (done,) = hermes.good("backup", "weekly", "--json").objects
    assert done["path"] == str(place / "backups" / "weekly")
    assert done["next_offset"] >= 3
    assert done["copied_segments"] == done["segments"] == 1
    hermes.good("pub", "a.b", "4")
    lines = hermes.good("backup", str(place / "backups" / "weekly")).out.splitlines()
    assert lines[0].startswith(f"{done['path']} holds records 1..")
    assert f" of store {done['store_id']}: 1 segment, " in lines[0]
    assert lines[1].startswith("copied now: 1 segment, ")
    again = tmp_path / "again"
    ran = hermes.good("restore", str(place / "backups" / "weekly"), "--store", str(again))
    assert f"hermes-inspect verify {again}" in ran.out
    assert inspect("verify", again).code == 0
    # The public key comes along, the private one does not: the restored store gets its own.
    assert (again / PUBLIC_NAME).read_text() == (place / "store" / PUBLIC_NAME).read_text()
    assert not (again / KEY_NAME).exists()
    ran = hermes("restore", str(place / "backups" / "weekly"), "--store", str(again))
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"hermes: {again} is not empty (restore into")


def test_the_key_comes_along_when_it_is_asked_for(hermes: Cli, place: Path, tmp_path: Path) -> None:
    hermes.good("backup", "with-key", "--with-key")
    (restored,) = hermes.good(
        "restore", str(place / "backups" / "with-key"), "--store", str(tmp_path / "s"), "--json"
    ).objects
    assert restored["path"] == str(tmp_path / "s")
    key = tmp_path / "s" / KEY_NAME
    assert key.read_bytes() == (place / "store" / KEY_NAME).read_bytes()
    assert key.stat().st_mode & 0o777 == 0o600


def test_a_store_is_backed_up_from_its_folder(hermes: Cli, place: Path, tmp_path: Path) -> None:
    """Beside its server; at rest it is the same."""
    store = str(place / "store")
    (done,) = hermes.good("backup", str(tmp_path / "b"), "--store", store, "--json").objects
    assert done["path"] == str(tmp_path / "b")
    hermes.good("restore", str(tmp_path / "b"), "--store", str(tmp_path / "s"))
    assert records_of(tmp_path / "s") == records_of(place / "store", done["last_lsn"])
    (linked,) = hermes.good(
        "backup", str(tmp_path / "b"), "--store", store, "--link", "--json"
    ).objects
    assert linked["segments"] == done["segments"]
    ran = hermes("backup", str(tmp_path / "c"), "--store", str(tmp_path / "nowhere"))
    assert (ran.code, ran.err.count("\n")) == (1, 1)
    assert "holds no store" in ran.err


def test_a_backup_is_checked_without_restoring_it(hermes: Cli, tmp_path: Path, place: Path) -> None:
    folder = tmp_path / "b"
    hermes.good("backup", str(folder), "--store", str(place / "store"))
    ran = hermes.good("restore", str(folder), "--check")
    assert "every file has the content of the manifest" in ran.out
    segment = next(folder.glob("*.sqlite"))
    segment.chmod(0o600)
    segment.write_bytes(segment.read_bytes()[:-1] + b"\xff")
    ran = hermes("restore", str(folder), "--check")
    assert (ran.code, ran.err.count("\n")) == (1, 1)
    assert f"{segment} has other content than the manifest says (records " in ran.err


def test_what_a_server_refuses(hermes: Cli, place: Path) -> None:
    elsewhere = hermes("backup", "/somewhere/else")
    assert elsewhere.code == 1
    assert f"is not below {place / 'backups'}" in elsewhere.err
    assert hermes("backup", "../store").code == 1
    (place / "backups" / "papers").mkdir(parents=True)
    (place / "backups" / "papers" / "letter").touch()
    ran = hermes("backup", "papers")
    assert (ran.code, ran.err.count("\n")) == (1, 1)
    assert "holds other files and no backup" in ran.err
    assert hermes("backup", "").code == 2
