"""Publishers that never wait for an ack: `python -m tests.support.faults.flood ADDRESS …`.

Arguments: address, publishers, bytes per message, how much each sends (`8s`, or a number
of messages), `async` or `sync`. Each publisher has a client (so a connection) of its own,
the subject flood.N, and numbers its payloads. At the end a JSON object tells how many
messages each sent, and how much the process grew from its first message on.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import hermes
from tests.support.faults.memory import peak_rss_bytes, rss_bytes

# A stream is open once that is committed, which takes its turn behind the flood.
_CONNECT_SECONDS = 120


class Amount:
    """Seconds from now on, or a number of messages."""

    def __init__(self, text: str) -> None:
        is_time = text.endswith("s")
        self._end = time.monotonic() + float(text[:-1]) if is_time else math.inf
        self._messages = math.inf if is_time else int(text)

    def is_reached(self, sent: int) -> bool:
        return sent >= self._messages or time.monotonic() >= self._end


def payload_of(number: int, size_bytes: int) -> bytes:
    return (b"%d" % number).ljust(size_bytes, b".")


async def _flood(address: str, publisher: int, size_bytes: int, amount: Amount) -> int:
    """Returns how many were sent, once all are acknowledged."""
    sent = 0
    async with (
        hermes.AsyncClient(address, connect_timeout=_CONNECT_SECONDS) as client,
        client.publisher() as pipeline,
    ):
        while not amount.is_reached(sent):
            await pipeline.send(f"flood.{publisher}", payload_of(sent, size_bytes))
            sent += 1
    return sent


async def _flood_all(address: str, publishers: int, size_bytes: int, amount: Amount) -> list[int]:
    floods = (_flood(address, n, size_bytes, amount) for n in range(publishers))
    return list(await asyncio.gather(*floods))


def _flood_sync(address: str, publisher: int, size_bytes: int, amount: Amount) -> int:
    sent = 0
    with (
        hermes.Client(address, connect_timeout=_CONNECT_SECONDS) as client,
        client.publisher() as pipeline,
    ):
        while not amount.is_reached(sent):
            pipeline.send(f"flood.{publisher}", payload_of(sent, size_bytes))
            sent += 1
    return sent


def _flood_all_sync(address: str, publishers: int, size_bytes: int, amount: Amount) -> list[int]:
    with ThreadPoolExecutor(publishers) as pool:
        flood = partial(_flood_sync, address, size_bytes=size_bytes, amount=amount)
        return list(pool.map(flood, range(publishers)))


if __name__ == "__main__":
    _address, _publishers, _size, _amount, _kind = sys.argv[1:]
    logging.basicConfig(level=logging.INFO)  # reconnects, for whoever reads a failed test
    before = rss_bytes(os.getpid())
    arguments = (_address, int(_publishers), int(_size), Amount(_amount))
    if _kind == "async":
        counts = asyncio.run(_flood_all(*arguments))
    else:
        counts = _flood_all_sync(*arguments)
    grown = peak_rss_bytes(os.getpid()) - before
    sys.stdout.write(json.dumps({"sent": counts, "grown_bytes": grown}) + "\n")
