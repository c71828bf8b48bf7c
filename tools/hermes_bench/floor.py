"""The floor: what disk, SQLite and gRPC give on this machine with nothing on top.

Each rate is measured for about a second. No broker on this machine, with these parts,
is faster than its floor.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import apsw
import grpc

from hermes.clock import SystemClock

SECONDS: Final = 1.0
SERVICE: Final = "floor"
METHOD: Final = "Sink"
_BLOB_BYTES: Final = 256 * 1024
_GRPC_OPTIONS: Final = (
    ("grpc.max_receive_message_length", 4 << 20),
    ("grpc.use_local_subchannel_pool", 1),
)

_CLOCK: Final = SystemClock()

FSYNC: Final = "fdatasync of a 4 KiB append, per s"
ROWS_1: Final = "apsw, 100 B rows, 1 per commit, rows/s"
ROWS_1000: Final = "apsw, 100 B rows, 1,000 per commit, rows/s"
BLOB: Final = "apsw, one 256 KiB blob per commit, KiB/s"
FRAMES: Final = "grpc.aio, 100 B frames one way, frames/s"
FRAMES_256K: Final = "grpc.aio, 256 KiB frames one way, MB/s"


def _per_second(step: Callable[[], object]) -> float:
    """How often `step` runs in a second."""
    steps = 0
    start_ns = _CLOCK.monotonic_ns()
    while (elapsed_ns := _CLOCK.monotonic_ns() - start_ns) < SECONDS * 1e9:
        step()
        steps += 1
    return steps * 1e9 / elapsed_ns


def fdatasync(folder: Path) -> float:
    """Appends of 4 KiB, each synced, per second."""
    page = bytes(4096)
    with (folder / "fdatasync").open("wb", buffering=0) as file:

        def append() -> None:
            file.write(page)
            os.fdatasync(file.fileno())

        return _per_second(append)


def append_rows(folder: Path, row_bytes: int, rows: int) -> float:
    """Rows per second into a WAL table with synchronous=FULL, so many per commit."""
    connection = apsw.Connection(str(folder / f"rows-{row_bytes}-{rows}"))
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "page_size = 8192"):
        list(connection.execute(f"PRAGMA {pragma}"))
    connection.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, body BLOB)")
    body = bytes(row_bytes)
    bodies = [(body,)] * rows

    def commit() -> None:
        with connection:
            connection.executemany("INSERT INTO rows (body) VALUES (?)", bodies)

    try:
        return _per_second(commit) * rows
    finally:
        connection.close()


async def _send_frames(address: str, size_bytes: int) -> float:
    """Frames per second over one stream, until the other side has all of them."""
    async with grpc.aio.insecure_channel(address, options=_GRPC_OPTIONS) as channel:
        factory: Any = channel.stream_unary(f"/{SERVICE}/{METHOD}", None, None)
        call = factory()
        frame = bytes(size_bytes)
        frames = 0
        start_ns = _CLOCK.monotonic_ns()
        while _CLOCK.monotonic_ns() - start_ns < SECONDS * 1e9:
            await call.write(frame)
            frames += 1
        await call.done_writing()
        assert int(await call) == frames
        return frames * 1e9 / (_CLOCK.monotonic_ns() - start_ns)


async def _serve() -> None:
    """Count the frames of each stream. Runs in a process of its own."""

    async def sink(requests: Any, _: object) -> bytes:
        frames = 0
        async for _frame in requests:
            frames += 1
        return str(frames).encode()

    handlers: Any = {METHOD: grpc.stream_unary_rpc_method_handler(sink)}
    server = grpc.aio.server(options=_GRPC_OPTIONS)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


@contextmanager
def _sink() -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "hermes_bench.floor"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield f"127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def measure(folder: Path) -> dict[str, float]:
    """Every rate of the floor, by its name. Takes some seconds."""
    rates = {
        FSYNC: fdatasync(folder),
        ROWS_1: append_rows(folder, 100, 1),
        ROWS_1000: append_rows(folder, 100, 1_000),
        BLOB: append_rows(folder, _BLOB_BYTES, 1) * _BLOB_BYTES / 1024,
    }
    with _sink() as address:
        rates[FRAMES] = asyncio.run(_send_frames(address, 100))
        rates[FRAMES_256K] = asyncio.run(_send_frames(address, _BLOB_BYTES)) * _BLOB_BYTES / 1e6
    return rates


if __name__ == "__main__":
    asyncio.run(_serve())
