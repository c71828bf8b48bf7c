"""The README tells the truth: its Python runs, its commands work, against a real server."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.faults.server import ServerProcess

WAIT_SECONDS = 40.0


def _blocks(repository: Path, language: str) -> list[str]:
    text = (repository / "README.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    async with ServerProcess(tmp_path / "store") as process:
        yield process


async def _run(server: ServerProcess, *command: str, stdin: bytes = b"") -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *command,
        env=os.environ | {"HERMES_SERVER": server.address},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            out, err = await process.communicate(stdin)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def _python(server: ServerProcess, block: str) -> str:
    """Run a block; the client's default address is replaced, nothing else."""
    named = re.sub(r"hermes\.(Async)?Client\(\)", rf'hermes.\1Client("{server.address}")', block)
    assert server.address in named, "the block connects to no broker"
    code, out, err = await _run(server, sys.executable, "-W", "error", "-c", named)
    assert code == 0, err
    return out


def test_every_python_block_is_known(repository: Path) -> None:
    """A new block needs its own test here."""
    assert len(_blocks(repository, "python")) == 4


async def test_durable(server: ServerProcess, repository: Path) -> None:
    block = _blocks(repository, "python")[0]
    out = (await _python(server, block)).splitlines()
    assert out[0] == "committed at offset 0"
    assert out[1] == "orders.eu.created b'{\"id\": 7}' attempt 1"


async def test_live(server: ServerProcess, repository: Path) -> None:
    out = await _python(server, _blocks(repository, "python")[1])
    assert out == "prices.eur.usd b'1.08'\n"


async def test_typed(server: ServerProcess, repository: Path) -> None:
    out = await _python(server, _blocks(repository, "python")[2])
    assert out == "eu 1999\n"


async def test_fast(server: ServerProcess, repository: Path) -> None:
    out = await _python(server, _blocks(repository, "python")[3])
    assert out == "done with 10000\n"


def _commands(repository: Path) -> list[list[str]]:
    block = next(block for block in _blocks(repository, "console") if "hermes pub" in block)
    return [shlex.split(line, comments=True) for line in block.splitlines() if line.strip()]


async def test_the_commands(server: ServerProcess, repository: Path, bin_dir: Path) -> None:
    commands = {command[1]: command for command in _commands(repository)}
    assert set(commands) == {
        "serve",
        "pub",
        "sub",
        "read",
        "consume",
        "consumers",
        "dead-letters",
        "gc",
        "backup",  # run by test_backup.py: it needs a folder that the server may fill
    }

    async def hermes(name: str, *more: str) -> str:
        command = [str(bin_dir / "hermes"), *commands[name][1:], *more]
        code, out, err = await _run(server, *command)
        assert code == 0, f"{command}: {err}"
        return out

    await hermes("pub")
    assert '{"id": 8}' in await hermes("read")
    assert '{"id": 8}' in await hermes("consume", "--count", "1", "--ack")
    assert "billing" in await hermes("consumers")
    await hermes("dead-letters")
    assert "would be freed" in await hermes("gc")
    code, out, _ = await _run(server, str(bin_dir / "hermes"), *commands["serve"][1:], "--help")
    assert code == 0
    assert "--store" in out
    listening = asyncio.create_task(hermes("sub", "--count", "1"))
    while not listening.done():
        await hermes("pub")
        await asyncio.wait({listening}, timeout=0.2)
    assert '{"id": 8}' in listening.result()


def test_every_named_file_is_there(repository: Path) -> None:
    text = (repository / "README.md").read_text()
    missing = [
        name
        for name in re.findall(r"\]\(([^)#]+)\)", text)
        if "://" not in name and not (repository / name).exists()
    ]
    assert not missing
