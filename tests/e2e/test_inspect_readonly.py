"""Reading with nothing but permission to read: as another user, and on a read-only mount.

Beside a live server, and after a kill, with records that are in a WAL only. The processes
are real: another user has given up every right of this one, and the mount is the kernel's, in
a namespace of its own that ends with its process.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from broker_process import BrokerProcess

import hermes
from hermes.log.segment import file_name
from tests.e2e.inspecting import Ran
from tests.e2e.inspecting_many import Command, inspect_many
from tests.support.exports import rows_of
from tests.support.permissions import NOBODY, public_folder

MESSAGES = 20
# A mount upon itself, then read-only: seen by nobody but what is started in it.
READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'


@pytest.fixture
def public() -> Iterator[Path]:
    with public_folder() as folder:
        yield folder


@pytest.fixture
def live(public: Path, tmp_path: Path) -> Iterator[Path]:
    """The store of a server that runs, its newest records in a WAL."""
    with BrokerProcess(public / "store", tmp_path / "broker.log") as broker:
        with hermes.Client(broker.addr) as client:
            for n in range(MESSAGES):
                client.publish("orders", b"order %d" % n)
            with client.consume("billing", "orders") as received:
                next(iter(received)).ack(wait=True)
        assert wal(public / "store").stat().st_size > 0
        yield public / "store"


@pytest.fixture
def killed(live: Path) -> Path:
    """What a kill leaves: a copy of the files, WAL and all."""
    return Path(shutil.copytree(live, live.with_name("killed")))


def wal(store: Path) -> Path:
    return store / (file_name(1) + "-wal")


def commands(store: Path, out: Path) -> list[Command]:
    at = ("--store", store)
    return [
        ("log", *at, "--json", "--payload", "text"),
        ("segments", *at, "--json"),
        ("verify", *at, "--json"),
        ("export", out, *at),
    ]


def picture(store: Path) -> dict[str, tuple[int, int, bytes]]:
    """Everything about a folder's files that a reader could change."""
    return {
        path.name: (path.stat().st_mtime_ns, path.stat().st_mode, path.read_bytes())
        for path in (store, *store.iterdir())
        if path.is_file()
    } | {".": (store.stat().st_mtime_ns, store.stat().st_mode, b"")}


def check(ran: list[Ran], out: Path) -> None:
    """Everything was seen, also what is in the WAL only."""
    assert [one.code for one in ran] == [0, 0, 0, 0], [one.err for one in ran]
    log, segments, verify, _ = ran
    lsns = [record["lsn"] for record in log.objects]
    assert lsns == list(range(1, lsns[-1] + 1))
    assert f"order {MESSAGES - 1}" in log.out
    assert [record["kind"] for record in log.objects].count("acked") == 1
    assert segments.objects[-1]["last_lsn"] >= lsns[-1]
    assert verify.objects[0]["sound"] and verify.objects[0]["records"] >= lsns[-1]
    kinds = [row["kind"] for row in rows_of(out, "events")]
    assert (kinds.count("published"), kinds.count("acked")) == (MESSAGES, 1)


def as_another_user(store: Path) -> None:
    """Run all commands with permission to read, and check; the store stays as it was."""
    space = store.with_name("space")
    space.mkdir()
    space.chmod(0o777)
    root = os.geteuid() == 0
    warm: list[Command] = []
    if root:  # with write permission a reader writes into the -shm, so on a copy
        copy = Path(shutil.copytree(store, store.with_name("copy")))
        warm = commands(copy, store.with_name("warm"))
    for path in store.iterdir():
        path.chmod(0o600 if path.name == "checkpoint.key" and root else 0o444)
    store.chmod(0o555)
    try:
        before = picture(store)
        ran = inspect_many(commands(store, space / "out"), user=NOBODY if root else None, warm=warm)
        assert picture(store) == before
    finally:
        store.chmod(0o755)
    check(ran, space / "out")


def test_another_user_beside_a_live_server(live: Path) -> None:
    as_another_user(live)


def test_another_user_after_a_kill(killed: Path) -> None:
    as_another_user(killed)


def test_another_user_can_really_write_nothing(live: Path) -> None:
    """The check on the checks above: with these rights a file cannot be made."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become another user")
    (ran,) = inspect_many([("export", live / "out", "--store", live)], user=NOBODY)
    assert ran.code == 1
    assert not (live / "out").exists()


# -------------------------------------------------------------- a read-only mount


def mounted(store: Path) -> list[str]:
    """What starts a program for which the store is mounted read-only; skips where it cannot."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("needs unshare, of util-linux")
    namespace = [unshare, "-m"] if os.geteuid() == 0 else [unshare, "-rm"]
    before = [*namespace, "sh", "-c", READ_ONLY, str(store)]
    tried = subprocess.run(
        [*before, "touch", str(store / "probe")], capture_output=True, text=True, check=False
    )
    if "Read-only" not in tried.stderr:
        pytest.skip(f"this machine refuses to mount: {tried.stderr.strip()}")
    return before


@pytest.mark.parametrize("which", ["live", "killed"])
def test_a_read_only_mount(which: str, live: Path, killed: Path) -> None:
    store = {"live": live, "killed": killed}[which]
    before = picture(store)
    out = store.with_name("out")
    check(inspect_many(commands(store, out), before=mounted(store)), out)
    assert picture(store) == before


def test_a_wal_that_a_read_only_mount_cannot_open_is_never_ignored(killed: Path) -> None:
    """Without its -shm SQLite would have to make one."""
    for path in killed.glob("*-shm"):
        path.unlink()
    before = picture(killed)
    ran = inspect_many(commands(killed, killed.with_name("out")), before=mounted(killed))
    for one in ran:
        assert (one.code, one.out) == (7, "")
        assert "-wal cannot be read" in one.err
    assert picture(killed) == before
