"""Checkpoints of a real server, and what `hermes-inspect verify` makes of its store.

Here is the reason for checkpoints: whoever owns the folder can rewrite history, or cut it
off, so that everything in the folder fits. One checkpoint held elsewhere tells.
"""

from __future__ import annotations

import asyncio
import json
import os
import pty
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import hermes
from hermes.checkpoint import parse_checkpoint, split_notes
from hermes.log.record import Kind
from hermes.server.checkpoint_key import Signer, open_signer, read_public_keys
from hermes_inspect import cli
from tests.support.faults.server import ServerProcess
from tests.support.tampering import all_rows, rewrite, segment, segments, truncate

WAIT_SECS = 30


async def until(reached: Callable[[], bool]) -> None:
    """The server does it by the clock: there is nothing to await but time."""
    async with asyncio.timeout(WAIT_SECS):
        while not reached():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def verify(*arguments: str | Path) -> Result:
    """`hermes-inspect verify`, in this process."""
    return CliRunner().invoke(cli.app, ["verify", *map(str, arguments)])


def found(*arguments: str | Path) -> tuple[int, dict[str, Any]]:
    """Exit code and the object that --json prints."""
    result = verify(*arguments, "--json")
    return result.exit_code, json.loads(result.stdout)


def notes_in(path: Path) -> list[str]:
    if not path.exists():
        return []
    with path.open() as lines:
        return [note for _, note in split_notes(lines)]


async def work(address: str, messages: int) -> None:
    """Publish, deliver and ack, in several segments."""
    async with hermes.AsyncClient(address) as client:
        for n in range(messages):
            await client.publish("orders", b"%d %s" % (n, b"." * 3_000))
        async with client.consume("billing", "orders") as received:
            done = 0
            async for message in received:
                await message.ack(wait=True)
                done += 1
                if done == messages:
                    return


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A file of checkpoints that the store's owner cannot reach."""
    return tmp_path / "elsewhere" / "checkpoints"


@pytest.fixture
async def server(tmp_path: Path, elsewhere: Path) -> AsyncIterator[ServerProcess]:
    elsewhere.parent.mkdir()
    settings = {
        "HERMES_CHECKPOINT_INTERVAL": "0.05",
        "HERMES_CHECKPOINT_FILE": str(elsewhere),
        "HERMES_SEGMENT_BYTES": "65536",
    }
    async with ServerProcess(tmp_path / "store", settings) as server:
        yield server


@pytest.fixture
async def stopped(server: ServerProcess, elsewhere: Path) -> Path:
    """A store at rest after some work, with checkpoints in the log and elsewhere."""
    await work(server.address, 60)
    await until(lambda: len(notes_in(elsewhere)) >= 3)
    server.terminate()
    assert await server.wait() == 0
    return server.store


async def test_a_live_server_and_then_its_store(server: ServerProcess, elsewhere: Path) -> None:
    working = asyncio.create_task(work(server.address, 150))
    runs = 0
    while not working.done() or runs < 3:
        code, report = await asyncio.to_thread(found, server.store)
        assert code == 0, report["breaks"]
        runs += 1
    await working
    await until(lambda: len(notes_in(elsewhere)) >= 3)
    (key,) = read_public_keys(server.store)
    (said,) = server.said("checkpoints are signed")
    assert (said["public_key"], said["sinks"]) == (key, ["file"])
    code, report = found(server.store, "--checkpoints", elsewhere, "--pubkey", key)
    assert code == 0, report["breaks"]
    assert report["checkpoints"]["in_log"] >= 3
    assert report["checkpoints"]["from_outside"] >= 3
    assert report["checkpoints"]["keys_given"] is True
    assert report["segments"] >= 4
    assert report["seals"] == report["segments"] - 1

    server.terminate()
    assert await server.wait() == 0
    assert server.complaints() == []
    code, report = found(server.store, "--checkpoints", elsewhere, "--pubkey", key)
    assert code == 0, report["breaks"]
    rows = all_rows(server.store)
    assert report["last_lsn"] == rows[-1]["lsn"] == report["head_lsn"]
    last = parse_checkpoint(notes_in(elsewhere)[-1]).checkpoint
    assert (last.lsn, last.chain) == (rows[-1]["lsn"], rows[-1]["chain"]), "the stop is signed, too"
    assert (server.store / "checkpoint.key").stat().st_mode & 0o777 == 0o600
    private = (server.store / "checkpoint.key").read_text().splitlines()[1]
    assert private not in "".join(map(str, server.lines))


async def test_the_checkpoints_of_a_killed_server_hold(
    server: ServerProcess, elsewhere: Path
) -> None:
    """What is signed was on disk before: no kill makes a checkpoint untrue."""
    for _ in range(3):
        before = len(notes_in(elsewhere))
        await work(server.address, 20)
        await until(lambda: len(notes_in(elsewhere)) > before)  # noqa: B023 - awaited here
        await server.kill()
        code, report = found(server.store, "--checkpoints", elsewhere)
        assert code == 0, report["breaks"]
        await server.start()


async def test_it_says_whose_key_it_trusted(stopped: Path, elsewhere: Path) -> None:
    own = verify(stopped)
    assert own.exit_code == 0
    assert "signed by the store's own key" in own.stdout
    assert "the folder's owner can replace" in own.stdout
    assert own.stdout.splitlines()[-1] == "sound"
    (key,) = read_public_keys(stopped)
    (elsewhere.parent / "key").write_text(f"{key}\n")
    given = verify("--store", stopped, "--pubkey", elsewhere.parent / "key")
    assert (given.exit_code, "signed by the given key" in given.stdout) == (0, True)
    (stopped / "checkpoint.pub").unlink()
    unknown = verify(stopped)
    assert (unknown.exit_code, "signatures NOT checked" in unknown.stdout) == (0, True)
    wanting = verify(stopped, "--checkpoints", elsewhere)
    assert (wanting.exit_code, "needs a key" in wanting.stderr) == (2, True)


# ------------------------------------------------------------------ rewritten history


def forger(folder: Path, where: int) -> Callable[[dict[str, Any]], None]:
    """Changes one payload and one ack, somewhere in the middle."""
    rows = all_rows(folder)
    kinds = (Kind.PUBLISHED, Kind.ACKED)
    chosen = {
        next(r["lsn"] for r in rows if r["kind"] == kind and r["lsn"] >= where) for kind in kinds
    }

    def forge(row: dict[str, Any]) -> None:
        if row["lsn"] not in chosen:
            return
        if row["kind"] == Kind.PUBLISHED:
            row["payload"] = row["payload"].replace(b".", b"!", 1)
        else:
            row["at_ns"] += 1

    return forge


def own_signer(folder: Path) -> Signer:
    (key,) = read_public_keys(folder)
    return open_signer(folder, key.partition("+")[0].removeprefix("hermes/"))


def new_signer(folder: Path) -> Signer:
    """With another key, which is the only one that the folder tells of."""
    (key,) = read_public_keys(folder)
    for name in ("checkpoint.key", "checkpoint.pub"):
        (folder / name).unlink()
    return open_signer(folder, key.partition("+")[0].removeprefix("hermes/"))


@pytest.mark.parametrize("resigned", [True, False], ids=["re-signed", "not re-signed"])
async def test_a_rewritten_history_is_caught(
    stopped: Path, elsewhere: Path, resigned: bool
) -> None:
    (key,) = read_public_keys(stopped)
    assert found(stopped, "--checkpoints", elsewhere, "--pubkey", key)[0] == 0
    # After the first checkpoint held elsewhere, so that one of them is still true.
    first_lsn = parse_checkpoint(notes_in(elsewhere)[0]).checkpoint.lsn
    before = all_rows(stopped)
    rewrite(stopped, forger(stopped, first_lsn + 1), own_signer(stopped) if resigned else None)
    after = all_rows(stopped)
    assert sum(a["payload"] != b["payload"] for a, b in zip(after, before, strict=True)) == 1

    code, report = found(stopped)
    if resigned:
        assert code == 0, "nothing in the folder tells: every hash, seal and signature fits"
    else:
        assert code == 1, "the log's own checkpoints contradict it"

    code, report = found(stopped, "--checkpoints", elsewhere, "--pubkey", key)
    assert code == 1
    told = [b for b in report["breaks"] if "was rewritten" in b["text"]]
    held = [parse_checkpoint(note).checkpoint for note in notes_in(elsewhere)]
    changed_lsn = next(a["lsn"] for a, b in zip(after, before, strict=True) if a != b)
    first_untrue = min(c.lsn for c in held if c.lsn >= changed_lsn)
    assert told[0]["lsn"] == first_untrue
    assert told[0]["expected"] == before[first_untrue - 1]["chain"].hex()
    assert told[0]["found"] == after[first_untrue - 1]["chain"].hex()


async def test_a_log_that_was_cut_off_is_caught(stopped: Path, elsewhere: Path) -> None:
    last_lsn = parse_checkpoint(notes_in(elsewhere)[-1]).checkpoint.lsn
    assert last_lsn == all_rows(stopped)[-1]["lsn"]
    truncate(stopped, last_lsn - 7)
    assert found(stopped)[0] == 0
    code, report = found(stopped, "--checkpoints", elsewhere)
    assert code == 1
    assert report["breaks"][0]["text"].endswith(f"records {last_lsn - 6}..{last_lsn} were cut off")


async def test_a_key_of_the_forgers_own_is_not_the_given_one(stopped: Path) -> None:
    (key,) = read_public_keys(stopped)
    rewrite(stopped, lambda _: None, new_signer(stopped))
    assert found(stopped)[0] == 0
    code, report = found(stopped, "--pubkey", key)
    assert code == 1
    assert "none of the given keys" in report["breaks"][0]["text"]


async def test_a_flipped_bit_in_a_message_is_named(stopped: Path) -> None:
    row = [r for r in all_rows(stopped) if r["kind"] == Kind.PUBLISHED][30]
    path = [p for p in segments(stopped) if int(p.name[:20]) <= row["lsn"]][-1]
    data = bytearray(path.read_bytes())
    place = data.index(row["payload"][:200])
    data[place + 100] ^= 1
    path.write_bytes(data)
    result = verify(stopped)
    assert result.exit_code == 1
    place_named = f"record {row['lsn']} (offset {row['first']})"
    assert (
        f"BREAK        {path.name}: {place_named} has another payload than was hashed\n"
        f"  expected   {row['payload_hash'].hex()}\n" in result.stdout
    )
    assert result.stdout.splitlines()[-1].startswith(f"broken: {place_named}")


def test_a_checkpoint_file_that_is_none(stopped: Path, elsewhere: Path) -> None:
    for content, code in (("", 2), ("hello\n", 1)):
        elsewhere.write_text(content)
        assert verify(stopped, "--checkpoints", elsewhere).exit_code == code
    assert verify(stopped, "--checkpoints", elsewhere.parent / "nothing").exit_code == 2
    assert verify(stopped, "--pubkey", "hermes/x+00000000+AAAA").exit_code == 2


# ------------------------------------------------------------------- another user


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user may reach; tmp_path is the test user's alone."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def as_another_user(store: Path) -> tuple[int, dict[str, Any]]:
    """Verify with permission to read the store, and nothing else; not the private key."""
    for path in store.iterdir():
        path.chmod(0o600 if path.name == "checkpoint.key" else 0o444)
    store.chmod(0o555)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        return found(store)
    finally:
        os.seteuid(user)
        store.chmod(0o755)


async def test_another_user_may_verify_live_and_at_rest(
    server: ServerProcess, public: Path
) -> None:
    await work(server.address, 30)
    server.terminate()
    await server.wait()
    at_rest = Path(shutil.copytree(server.store, public / "rest"))
    before = content(at_rest)
    code, report = as_another_user(at_rest)
    assert code == 0, report["breaks"]
    assert report["checkpoints"]["in_log"] >= 1 and report["checkpoints"]["keys"]
    assert content(at_rest) == before

    settings = {"HERMES_CHECKPOINT_INTERVAL": "0.05"}
    async with ServerProcess(public / "live", settings) as live:
        await work(live.address, 30)
        await until(lambda: bool(list(live.store.glob("checkpoint.pub"))))
        code, report = as_another_user(live.store)
        assert code == 0, report["breaks"]
        assert report["records"] > 60


async def test_a_terminal_gets_a_bar(stopped: Path, bin_dir: Path) -> None:
    """With rate and time left, on stderr alone; stdout stays for what was found."""
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        bin_dir / "hermes-inspect",
        "verify",
        stopped,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
        stdout=asyncio.subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    out, _ = await process.communicate()
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert process.returncode == 0
    assert out.decode().splitlines()[-1] == "sound"
    assert "verifying" not in out.decode()
    assert "verifying" in shown and "/s" in shown and "MB" in shown


async def test_the_command_as_a_process(stopped: Path, bin_dir: Path) -> None:
    """The console script, several processes, and a bar that only a terminal gets."""
    with segment(segments(stopped)[0]) as db:
        (records,) = db.execute("SELECT count(*) FROM records").fetchone()
    assert records
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        bin_dir / "hermes-inspect",
        "verify",
        env=os.environ | {"HERMES_STORE_PATH": str(stopped)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert out.endswith(b"sound\n")
