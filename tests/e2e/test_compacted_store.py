"""A store whose segments were compacted, as the inspector and the next server find it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

import hermes
from hermes.log.log import open_log
from hermes.log.port import SegmentInfo
from hermes_inspect.export import Request, export
from hermes_inspect.export_options import Options
from tests.contract.records import Outcomes, compacted
from tests.e2e.inspecting import inspect_well
from tests.support.backups import until
from tests.support.exports import outcomes_of
from tests.support.faults.server import ServerProcess

MESSAGES = 60


@pytest.fixture
async def store(tmp_path: Path) -> Path:
    """At rest; of all but the last segment every payload is retired but those of one batch."""
    async with ServerProcess(tmp_path / "store", {"HERMES_SEGMENT_BYTES": "262144"}) as server:
        async with (
            hermes.AsyncClient(server.address) as client,
            client.consume("billing", "orders") as received,
        ):
            messages = aiter(received)
            for n in range(MESSAGES):
                await client.publish("orders", b"%d %s" % (n, b"." * 9_000), id=f"order-{n}")
                await (await anext(messages)).ack(wait=True)
        server.terminate()
        assert await server.wait() == 0
    outcomes = Outcomes()
    with closing(open_log(server.store, outcomes)) as log:
        for info in log.segments()[:-1]:
            record = compacted(info.first_lsn, info.last_lsn, *retired(info))
            outcomes.wait_for(log.append([record], log.next_lsn))
            log.compact(info.first_lsn)
        until(lambda: not log.compactions)
    return server.store


def retired(info: SegmentInfo) -> list[tuple[int, int]]:
    """All offsets of a segment but the second."""
    first, last = info.first_offset, info.last_offset
    assert first is not None and last is not None and first + 2 <= last
    return [(first, first), (first + 2, last)]


async def test_the_trail_holds_without_the_payloads(store: Path, tmp_path: Path) -> None:
    (report,) = inspect_well("verify", "--indexes", "--json", store).objects
    assert report["breaks"] == []
    told = inspect_well("segments", "--json", "--store", store).objects
    assert len(told) >= 3
    for segment in told[:-1]:
        assert segment["retired"] == segment["last_offset"] - segment["first_offset"]
    traced = inspect_well("trace", "order-0", "--payload", "text", "--store", store).out
    assert "its payload is no longer held" in traced
    assert "segment compacted" in traced, "the announcement is in the trail"
    kept = inspect_well("trace", "order-1", "--payload", "text", "--store", store).out
    assert "....." in kept and "no longer held" not in kept
    (state,) = inspect_well("at", str(told[1]["first_lsn"]), "--json", "--store", store).objects
    assert "billing" in str(state)
    export(Request(store, tmp_path / "out", Options(payloads=True)))
    outcomes = outcomes_of(tmp_path / "out")
    assert outcomes == {(offset, "billing"): "acked" for offset in range(MESSAGES)}
    async with ServerProcess(store, {}) as server:
        async with hermes.AsyncClient(server.address) as client:
            assert (await client.publish("orders", b"more")).offset == MESSAGES
        server.terminate()
        assert await server.wait() == 0
        assert server.complaints() == []
