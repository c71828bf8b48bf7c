"""A worker process: `python -m tests.support.faults.worker ADDRESS CONSUMER PATTERN [CREDIT]`.

Acks what it gets, one after the other, and says so on stdout. Payloads are orders:
b"die" kills the process with SIGKILL, b"hold" is kept without a verdict. Ends after
b"end".
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import hermes


async def main(address: str, consumer: str, pattern: str, credit: int) -> None:
    async with (
        hermes.AsyncClient(address, name="worker", connect_timeout=20) as client,
        client.consume(consumer, pattern, max_in_flight=credit) as messages,
    ):
        _say("ready")
        async for message in messages:
            _say(f"{message.payload.decode()} {message.offset} {message.attempt}")
            if message.payload == b"die":
                os.kill(os.getpid(), signal.SIGKILL)
            if message.payload != b"hold":
                await message.ack(wait=True)
            if message.payload == b"end":
                return


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int((sys.argv[4:] or ["100"])[0])))
