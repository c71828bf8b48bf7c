"""`hermes-inspect export` as a command, beside a running server, and in a terminal."""

from __future__ import annotations

import asyncio
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

import hermes
from hermes_inspect.export_verify import verify_export
from tests.support.exports import outcomes_of, rows_of
from tests.support.faults.server import ServerProcess

MAIN = "import sys; from hermes_inspect.cli import main; sys.exit(main())"


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-c", MAIN, "export", *map(str, arguments)]


def run_now(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=60, check=False
    )


async def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command, while the loop goes on."""
    return await asyncio.to_thread(run_now, *arguments)


async def verify(out: Path) -> subprocess.CompletedProcess[str]:
    """`hermes-inspect verify --export OUT`."""
    arguments = [sys.executable, "-c", MAIN, "verify", "--export", str(out)]
    return await asyncio.to_thread(
        subprocess.run, arguments, capture_output=True, text=True, timeout=60, check=False
    )


async def test_mid_flight_then_acked_then_reconciled(tmp_path: Path) -> None:
    store, out = tmp_path / "store", tmp_path / "out"
    async with ServerProcess(store) as server:
        async with hermes.AsyncClient(server.address) as client:
            async with client.publisher() as publisher:
                for n in range(50):
                    await publisher.send("orders.eu", b"%d" % n, headers={"Cookie": "secret"})
            async with client.consume("billing", "orders.>", max_in_flight=30) as messages:
                held = await messages.fetch(30, timeout=10)
                assert len(held) == 30
                first = await run(out, "--store", store)
                assert first.returncode == 0, first.stderr
                assert "without a clean stop" in first.stderr
                seen = list(outcomes_of(out).values())
                assert (seen.count("in flight"), seen.count("never delivered")) == (30, 20)
                for message in held:
                    message.ack()
                await messages.flush()
                for message in await messages.fetch(20, timeout=10):
                    message.ack()
                await messages.flush()
            second = await run(out, "--store", store, "--incremental")
            assert second.returncode == 0, second.stderr
        await server.kill()
        await server.start()
        server.terminate()
        assert await server.wait() == 0
    third = await run(out, "--store", store, "--incremental")
    assert third.returncode == 0
    assert third.stderr.count("did not stop cleanly before record") == 1
    assert "without a clean stop" not in third.stderr
    assert set(outcomes_of(out).values()) == {"acked"} and len(outcomes_of(out)) == 50
    assert not any(dict(row["headers"] or ()) for row in rows_of(out, "events"))
    assert verify_export(out).ok
    nothing = await run(out, "--store", store, "--incremental")
    assert (nothing.returncode, nothing.stderr) == (0, "")
    assert nothing.stdout.startswith("nothing new since record")


@pytest.fixture
async def store(tmp_path: Path) -> Path:
    async with ServerProcess(tmp_path / "store") as server:
        async with hermes.AsyncClient(server.address) as client:
            await client.publish("a", b"x")
        server.terminate()
        await server.wait()
    return tmp_path / "store"


async def test_refusals_are_one_line_with_a_code(store: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "file").touch()
    for code, *arguments in (
        (1, foreign, "--store", store),
        (3, tmp_path / "out", "--store", tmp_path / "none"),
        (1, tmp_path / "out", "--store", store, "--kind", "published?"),
        (1, tmp_path / "out", "--store", store, "--sign", store / "HEAD"),
        (2, tmp_path / "out", "--store", store, "--since", "yesterday"),
        (2, tmp_path / "out", "--store", store, "--from-lsn", "3", "--to-lsn", "2"),
    ):
        done = await run(*arguments)  # type: ignore[arg-type]
        assert done.returncode == code, done
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert done.stderr.startswith("hermes-inspect export: ")
    assert not (tmp_path / "out").exists()


async def test_verify_tells_the_last_link_or_the_break(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert (await run(out, "--store", store)).returncode == 0
    good = await verify(out)
    assert good.returncode == 0 and "chain holds" in good.stdout
    next((out / "records").rglob("*.parquet")).unlink()
    bad = await verify(out)
    assert bad.returncode == 1 and "cannot be read" in bad.stderr


async def test_a_terminal_sees_progress_and_a_pipe_does_not(store: Path, tmp_path: Path) -> None:
    assert (await run(tmp_path / "piped", "--store", store)).stderr == ""
    code, out, shown = await asyncio.to_thread(in_terminal, tmp_path / "shown", "--store", store)
    assert code == 0
    assert b"records and events" in shown and b"custody" in shown
    assert out.startswith(b"records 1..")


def in_terminal(*arguments: str | Path) -> tuple[int, bytes, bytes]:
    """Exit code, stdout and what a terminal was shown on stderr."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command(*arguments),
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 4_096):
            shown += chunk
    except OSError:  # Linux: the other end was closed
        pass
    finally:
        os.close(ours)
    out, _ = process.communicate(timeout=60)
    return process.returncode, out, shown
