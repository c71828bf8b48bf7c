"""A bit flips in a sealed segment under a real server, and nobody reads it: the scrub does.

The scrub runs all the time here. What it says must be exact, what it leaves out must come
back with the file, and everything else must go on as if nothing had happened.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner

import hermes
from hermes.errors import HermesError
from hermes.log.record import Kind
from hermes.log.schema import PAGE_BYTES
from hermes.log.segment import is_sealed_file
from hermes.server.quarantine import EVENT as LEFT_OUT
from hermes.server.scrub import EVENT as DAMAGED
from hermes_inspect import cli
from tests.support.faults.seeds import seed_of_run, tell_seed
from tests.support.faults.server import ServerProcess
from tests.support.scraping import scraped_until

COUNT = 60
PART_BYTES = 2_000  # of a message, on one page
GIB = 1 << 30
ENVIRONMENT = {
    "HERMES_SCRUB_RATE": str(GIB),
    "HERMES_SCRUB_INTERVAL": "0.05",
    "HERMES_SEGMENT_BYTES": "100000",
    "HERMES_METRICS_ADDR": "127.0.0.1:0",
}


def payload(n: int) -> bytes:
    return b"%04d" % n * 5_000


class Record(NamedTuple):
    """A publish in a file, and where a part of its message lies."""

    lsn: int
    offset: int
    at: int


def a_publish(path: Path, chosen: random.Random) -> Record:
    query = "SELECT lsn, first FROM records WHERE kind = ?"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        lsn, offset = chosen.choice(db.execute(query, (int(Kind.PUBLISHED),)).fetchall())
    # On an overflow page: a page of the tree may still show what was moved away from it.
    data = path.read_bytes()
    starts = range(8, len(data), PAGE_BYTES)
    return Record(lsn, offset, next(n for n in starts if data[n:][:PART_BYTES] in payload(offset)))


def flip(path: Path, at: int, bit: int) -> None:
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(at)
        (old,) = file.read(1)
        file.seek(at)
        file.write(bytes([old ^ 1 << bit]))
    path.chmod(0o400)


async def fill(client: hermes.AsyncClient) -> None:
    """COUNT messages; `done` has acked them all, `new` was never sent one."""
    for name in ("done", "new"):
        async with client.consume(name, "job.>"):
            pass
    for n in range(COUNT):
        await client.publish("job.a", payload(n))
    assert await consume(client, "done", COUNT) == list(range(COUNT))


async def consume(client: hermes.AsyncClient, name: str, count: int) -> list[int]:
    """Take and ack up to a number of messages; their offsets. Ends when nothing comes."""
    offsets: list[int] = []
    async with client.consume(name) as messages:
        while len(offsets) < count and (found := await messages.fetch(1, timeout=1.0)):
            offset = found[0].offset
            assert offset is not None and found[0].payload == payload(offset)
            offsets.append(offset)
            await found[0].ack(wait=True)
    return offsets


async def sealed(path: Path) -> None:
    """Until it is read-only: that is done behind a roll."""
    async with asyncio.timeout(30):
        while not is_sealed_file(path):  # noqa: ASYNC110 - a file tells of nothing
            await asyncio.sleep(0.02)


def breaks_of(store: Path) -> list[dict[str, Any]]:
    result = CliRunner().invoke(cli.app, ["verify", str(store), "--json"])
    breaks: list[dict[str, Any]] = json.loads(result.stdout)["breaks"]
    return breaks


def second_segment(store: Path) -> Path:
    return sorted(store.glob("*.segment"))[1]


async def test_a_flipped_bit_is_found_named_and_left_out(tmp_path: Path) -> None:
    seed = seed_of_run()
    tell_seed(seed, "tests/faults/test_scrub.py")
    chosen = random.Random(seed)
    async with ServerProcess(tmp_path / "store", ENVIRONMENT) as server:
        async with hermes.AsyncClient(server.address) as client:
            await fill(client)
        await server.kill()  # nothing is served from memory now
        await server.start()
        path = second_segment(server.store)
        await sealed(path)
        shutil.copy(path, tmp_path / "sound")
        record = a_publish(path, chosen)
        flip(path, record.at + chosen.randrange(PART_BYTES), chosen.randrange(8))

        async with asyncio.timeout(30):
            await server.says(DAMAGED)
            await server.says(LEFT_OUT)
        (told,), (left_out,) = server.said(DAMAGED), server.said(LEFT_OUT)
        (found,) = await asyncio.to_thread(breaks_of, server.store)
        assert (told["path"], told["level"]) == (str(path), "error")
        assert told["first_lsn"] == told["last_lsn"] == found["lsn"] == record.lsn
        assert told["first_offset"] == told["last_offset"] == found["offset"] == record.offset
        assert (told["found"], told["more_breaks"]) == (found["text"], 0)
        assert left_out["reason"] == found["text"] and left_out["pinned"] == ["new"]
        first, last = left_out["first_offset"], left_out["last_offset"]
        assert 0 < first <= record.offset <= last < COUNT

        serving = server.said("serving")[-1]
        metrics = await scraped_until(serving["metrics"], lambda s: s["scrub_passes_total"] > 2)
        assert metrics["scrub_damaged_segments"] == 1
        assert metrics["scrub_segments_total"] > 2
        assert metrics["scrub_bytes_total"] > 50_000
        assert metrics["scrub_last_pass_timestamp_seconds"] > 1.7e9

        async with hermes.AsyncClient(server.address) as client:
            assert await consume(client, "new", COUNT) == list(range(first)), "waits there"
            assert (await client.publish("job.a", payload(COUNT))).offset == COUNT
            assert await consume(client, "done", 9) == [COUNT]
            async with client.read("job.>", start=last + 1) as behind:
                assert [m.offset async for m in behind] == list(range(last + 1, COUNT + 1))
            with pytest.raises(HermesError) as caught:
                async with client.read("job.>", start=first) as inside:
                    await anext(aiter(inside))
            assert caught.value.code == "DATA_LOSS"
        events = [line["event"] for line in server.complaints()]
        assert sorted(events) == [LEFT_OUT, DAMAGED], "each once, however many passes there are"

        # Nothing about it is on the disk but the damage: it is found again, and healed by the file.
        await server.kill()
        await server.start()
        async with asyncio.timeout(30):
            while len(server.said(DAMAGED)) < 2:  # noqa: ASYNC110 - says() knows the first
                await asyncio.sleep(0.02)
        assert server.said(DAMAGED)[1]["first_lsn"] == record.lsn
        await server.kill()
        shutil.copy(tmp_path / "sound", path)
        await server.start()
        async with hermes.AsyncClient(server.address) as client:
            assert await consume(client, "new", COUNT + 1) == list(range(first, COUNT + 1))
        assert len(server.said(DAMAGED)) == 2
        server.terminate()
        assert await server.wait() == 0


async def test_a_kill_in_the_middle_of_a_pass_leaves_nothing_behind(tmp_path: Path) -> None:
    """A pass changes no file: names, sizes and bytes are what they were."""
    slow = {**ENVIRONMENT, "HERMES_SCRUB_RATE": "50000"}
    async with ServerProcess(tmp_path / "store", {**ENVIRONMENT, "HERMES_SCRUB_RATE": "0"}) as one:
        async with hermes.AsyncClient(one.address) as client:
            await fill(client)
        one.terminate()
        assert await one.wait() == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "store").glob("*.segment")}
    async with ServerProcess(tmp_path / "store", slow) as two:
        (serving,) = two.said("serving")
        under_way = await scraped_until(serving["metrics"], lambda s: s["scrub_bytes_total"] > 0)
        assert under_way["scrub_passes_total"] == 0
        await two.kill()
    after = {path.name: path.read_bytes() for path in (tmp_path / "store").glob("*.segment")}
    for name in sorted(before)[:-1]:
        assert after[name] == before[name]
    assert set(after) == set(before)
    async with ServerProcess(tmp_path / "store", ENVIRONMENT) as three:
        (serving,) = three.said("serving")
        whole = await scraped_until(serving["metrics"], lambda s: s["scrub_passes_total"] > 0)
        assert whole["scrub_damaged_segments"] == 0
        assert three.complaints() == []
