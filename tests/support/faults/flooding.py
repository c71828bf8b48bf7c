"""Running floods (see flood.py) beside a test, in a process of their own."""

from __future__ import annotations

import asyncio
import sys

import msgspec


class Told(msgspec.Struct, frozen=True):
    """What a flood says at its end: messages sent per publisher, and its growth."""

    sent: list[int]
    grown_bytes: int


async def flood(
    address: str, publishers: int, message_bytes: int, amount: str, kind: str = "async"
) -> Told:
    """Returns once every message it sent is acknowledged; fails if one was not."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.faults.flood",
        *(address, str(publishers), str(message_bytes), amount, kind),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, "the flood failed"
    return msgspec.json.decode(out, type=Told)
