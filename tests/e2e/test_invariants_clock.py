"""Invariant 8: the wall clock is set, by an hour, both ways: no lease moves, numbers go on."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import hermes
from hermes.log.record import Kind
from tests.support.faults.checker import Trail
from tests.support.faults.server import ServerProcess

HELD = 20
ACK_TIMEOUT_SECONDS = 4.0
# A lease begins before its message is here, and the rounds have their own pace.
EARLY_SECONDS = 0.5
STEPS_SECONDS = (3_600, -3_600, -7_200, 0)


async def test_steps_of_an_hour_move_no_lease(tmp_path: Path) -> None:
    ahead = tmp_path / "ahead"
    ahead.write_text("0", encoding="ascii")
    server = ServerProcess(
        tmp_path / "store",
        {"WALL_CLOCK_AHEAD": str(ahead)},
        module="tests.support.faults.wrong_clock",
    )
    taken: dict[int, list[float]] = {}
    offsets: list[int | None] = []
    async with server, hermes.AsyncClient(server.address) as client:
        offsets += [(await client.publish("held", b"", id=f"held-{n}")).offset for n in range(HELD)]
        async with client.consume(
            "c", "held", ack_timeout=ACK_TIMEOUT_SECONDS, max_lease=0.1, backoff=0.01
        ) as messages:

            async def take() -> None:
                async for message in messages:
                    assert message.offset is not None
                    seen = taken.setdefault(message.offset, [])
                    seen.append(time.monotonic())
                    if len(seen) == 2:
                        await message.ack(wait=True)

            taking = asyncio.create_task(take())
            for step in STEPS_SECONDS:
                ahead.write_text(str(step), encoding="ascii")
                offsets.append((await client.publish("other", b"")).offset)
                # Within the window, whatever the clock says.
                again = await client.publish("held", b"", id="held-0")
                assert (again.offset, again.duplicate) == (offsets[0], True)
                await asyncio.sleep(1.1)  # the server looks at its clock once a second
            async with asyncio.timeout(30):
                while sum(map(len, taken.values())) < 2 * HELD:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            await messages.flush()
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)
        for step in (-3_600, 3_600):
            ahead.write_text(str(step), encoding="ascii")
            await server.kill()
            await server.start()
            offsets.append((await client.publish("other", b"")).offset)
        assert not server.complaints(), server.told_of_failures()
        await server.kill()
    apart = [second - first for first, second in taken.values()]
    sys.stdout.write(
        f"{HELD} leases of {ACK_TIMEOUT_SECONDS:g} s, {len(STEPS_SECONDS)} steps of the clock: "
        f"redelivered after {min(apart):.2f} to {max(apart):.2f} s\n"
    )
    assert min(apart) >= ACK_TIMEOUT_SECONDS - EARLY_SECONDS
    assert offsets == list(range(len(offsets)))
    trail = Trail(server.store, server.said("store opened")[0]["store_id"])
    assert trail.problems == []
    assert trail.kinds[Kind.EXPIRED] > 0
    assert trail.kinds[Kind.CLOCK_STEPPED] >= 2
