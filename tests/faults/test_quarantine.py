"""Damage in a sealed segment under a real server: that segment is left out, the rest served.

The bytes are changed while the server runs, before anything has read them, or while it is
stopped. What a consumer gets must be what was published, in order, and never go on behind
the damage unseen; with the file restored and the server started again everything is offered.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

import hermes
from hermes.client.admin import AdminClient
from hermes.client.admin_types import ConsumerInfo, ServerInfo
from hermes.errors import HermesError
from hermes.log.catalog import list_segments
from hermes.log.schema import PAGE_BYTES
from hermes.server.quarantine import EVENT
from tests.support.faults.server import ServerProcess

COUNT = 500
HALF = 250  # where the consumer `inside` has got to
# Without the scrub: it would read the bytes, and keep pages of them, before they are changed.
ENVIRONMENT = {"HERMES_SEGMENT_BYTES": "262144", "HERMES_SCRUB_RATE": "0"}


def payload(n: int) -> bytes:
    return b"message-%04d " % n + b"." * 2_000


def holder(store: Path, offset: int) -> tuple[Path, int, int]:
    """The segment that holds an offset, and its first and last offset."""
    for _, path in list_segments(store):
        db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        row = db.execute("SELECT min(first), max(last) FROM records WHERE kind = 1").fetchone()
        db.close()
        if row is not None and row[0] is not None and row[0] <= offset <= row[1]:
            return path, int(row[0]), int(row[1])
    raise AssertionError(offset)


def write(path: Path, at: int, data: bytes) -> None:
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def flip_in_a_payload(path: Path) -> None:
    """SQLite does not notice: the page is a good one, the message is another."""
    at = path.read_bytes().index(b"message-%04d " % (HALF + 5))
    write(path, at, b"Message")


def break_the_index(path: Path) -> None:
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    pages = [row[0] for row in db.execute("SELECT rootpage FROM sqlite_schema WHERE type='index'")]
    db.close()
    for page in pages:
        write(path, (page - 1) * PAGE_BYTES, b"\xff" * 64)


def break_the_header(path: Path) -> None:
    write(path, 0, b"\xff" * 100)


async def fill(address: str) -> None:
    async with hermes.AsyncClient(address) as client:
        for name in ("before", "inside", "behind"):
            async with client.consume(name, "job.>"):
                pass
        for n in range(COUNT):
            await client.publish("job.a", payload(n))
        assert await consume(client, "inside", HALF) == list(range(HALF))
        assert await consume(client, "behind", COUNT) == list(range(COUNT))


async def consume(client: hermes.AsyncClient, name: str, count: int) -> list[int]:
    """Take and ack up to a number of messages, each as it was published; their offsets.

    Ends early when nothing comes for a while. One in flight: its position is exact.
    """
    offsets: list[int] = []
    async with client.consume(name, max_in_flight=1) as messages:
        while len(offsets) < count:
            found = await messages.fetch(1, timeout=1.0)
            if not found:
                break
            offset = found[0].offset
            assert offset is not None
            assert found[0].payload == payload(offset)
            offsets.append(offset)
            await found[0].ack(wait=True)
    return offsets


@pytest.mark.parametrize("damage", [flip_in_a_payload, break_the_index, break_the_header])
async def test_a_damaged_segment_is_left_out_and_the_rest_served(
    damage: Callable[[Path], None], tmp_path: Path
) -> None:
    """A bad page in a sealed segment stopped the engine when a consumer came to it, and the
    server exited when that happened again."""
    async with ServerProcess(tmp_path / "store", ENVIRONMENT) as server:
        await fill(server.address)
        await server.kill()
        await server.start()
        path, first, last = holder(server.store, HALF)
        assert first < HALF < last < COUNT - 20
        shutil.copy(path, tmp_path / "sound")
        damage(path)
        async with hermes.AsyncClient(server.address) as client:
            # One was under way at the kill: it may be read before the damage is met.
            got = await consume(client, "inside", 9)
            assert got in ([], [HALF]), "waits inside the damage"
            await server.says(EVENT)
            (told,) = server.said(EVENT)
            assert (told["first_offset"], told["last_offset"]) == (first, last)
            assert (told["path"], told["level"]) == (str(path), "error")
            assert sorted(told["pinned"]) == ["before", "inside"]
            assert await consume(client, "before", COUNT) == list(range(first)), "in front of it"
            await client.publish("job.a", payload(COUNT))
            assert await consume(client, "behind", 9) == [COUNT]
            async with client.read("job.>", start=last + 1) as behind:
                assert [m.offset async for m in behind] == list(range(last + 1, COUNT + 1))
            # It is refused at the opening or at the first message, whichever is seen first.
            with pytest.raises(HermesError, match=f"offsets {first}..{last}") as caught:
                async with client.read("job.>", start=first) as inside:
                    await anext(aiter(inside))
            assert caught.value.code == "DATA_LOSS"
        assert [line["event"] for line in server.complaints()] == [EVENT]
        await server.kill()

        shutil.copy(tmp_path / "sound", path)
        await server.start()
        async with hermes.AsyncClient(server.address) as client:
            assert await consume(client, "before", COUNT) == list(range(first, COUNT + 1))
            rest = await consume(client, "inside", COUNT)
            assert sorted(got + rest) == list(range(HALF, COUNT + 1))
        assert len(server.said(EVENT)) == 1


def flip_bits(path: Path) -> None:
    """One bit in every 64 bytes of the first page: the file is no database any more."""
    first_page = bytearray(path.read_bytes()[:PAGE_BYTES])
    for at in range(0, PAGE_BYTES, 64):
        first_page[at] ^= 1 << 3
    write(path, 0, bytes(first_page))


async def inspected(*arguments: str) -> tuple[int | None, str]:
    """Exit code and output of hermes-inspect."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hermes_inspect", *arguments, stdout=PIPE, stderr=STDOUT
    )
    out, _ = await process.communicate()
    return process.returncode, out.decode()


def json_lines(text: str) -> list[str]:
    """Without what was said to a person on standard error."""
    return [line for line in text.splitlines() if line.startswith("{")]


def asked(address: str) -> tuple[ServerInfo, dict[str, ConsumerInfo]]:
    with AdminClient(address) as admin:
        return admin.server(), {consumer.name: consumer for consumer in admin.consumers()}


async def test_a_store_that_was_damaged_while_stopped_starts_and_says_so(tmp_path: Path) -> None:
    """It was refused, and nothing of it was served before a backup was found."""
    async with ServerProcess(tmp_path / "store", ENVIRONMENT) as server:
        await fill(server.address)
        await server.kill()
        path, first, last = holder(server.store, HALF)
        shutil.copy(path, tmp_path / "sound")
        flip_bits(path)
        damaged = path.read_bytes()

        await server.start()
        await server.says(EVENT)
        (told,) = server.said(EVENT)
        assert (told["path"], told["first_offset"], told["last_offset"]) == (str(path), first, last)
        assert told["pinned"] == ["before", "inside"]
        async with hermes.AsyncClient(server.address) as client:
            assert await consume(client, "before", COUNT) == list(range(first)), "in front of it"
            await client.publish("job.a", payload(COUNT))
            assert await consume(client, "behind", 9) == [COUNT]
            async with client.read("job.>", start=last + 1) as behind:
                assert [m.offset async for m in behind] == list(range(last + 1, COUNT + 1))
        info, consumers = await asyncio.to_thread(asked, server.address)
        (segment,) = info.quarantined
        assert (segment.first_lsn, segment.last_lsn) == (told["first_lsn"], told["last_lsn"])
        assert (segment.first_offset, segment.last_offset) == (first, last)
        assert segment.pinned == ("before", "inside")
        (withheld,) = consumers["before"].withheld
        assert (withheld.first_lsn, withheld.unread) == (segment.first_lsn, last - first + 1)
        assert not consumers["behind"].withheld
        await server.kill()

        code, said = await inspected("verify", str(server.store))
        assert code == 1
        assert path.name in said
        _, said = await inspected("segments", str(server.store), "--json")
        (row,) = [r for r in map(json.loads, json_lines(said)) if "damage" in r]
        assert (row["first_lsn"], row["last_lsn"]) == (segment.first_lsn, segment.last_lsn)
        assert (row["first_offset"], row["last_offset"], row["sealed"]) == (first, last, True)
        assert row["pinned_by"] == f"consumer 'before' still needs offset {first}"
        _, said = await inspected("segments", str(server.store))
        assert "DAMAGED: records to" in said
        assert path.read_bytes() == damaged, "it is evidence"
        shutil.copy(tmp_path / "sound", path)
        await server.start()
        async with hermes.AsyncClient(server.address) as client:
            assert await consume(client, "before", COUNT) == list(range(first, COUNT + 1))
        assert len(server.said(EVENT)) == 1
    code, said = await inspected("verify", str(tmp_path / "store"))
    assert code == 0, said
