"""Clients that leave without having read what the server is sending."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from hermes import rpc
from tests.e2e.rpc_calls import Consuming, config, peer_of, server_and_peer
from tests.support.faults.memory import MIB
from tests.support.faults.never_reads import HELD_BYTES, open_and_never_read

MESSAGES = 24
PAYLOAD = bytes(MIB // 2)  # 12 MiB in all: more than fits between the two without a reader


@pytest.mark.parametrize("kind", HELD_BYTES)
async def test_a_client_that_leaves_amid_a_write_is_no_error(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    # A write that waited for the client failed when the client cancelled, before grpc cancelled
    # the handler: that was logged as an unexpected error, with a traceback.
    caplog.set_level(logging.WARNING)
    async with (
        server_and_peer(config(tmp_path)) as (server, peer),
        peer_of(server) as leaving,
    ):
        call = await open_and_never_read(leaving, kind, "leaves", "work")
        healthy = Consuming(peer.call(rpc.CONSUME))
        await healthy.open("healthy", "work")
        for _ in range(MESSAGES):
            await peer.publish("work", PAYLOAD)
        for _ in range(MESSAGES):
            await healthy.delivery()
        call.cancel()
        await healthy.call.done_writing()
        assert await server.host().streams.gone(10)
    assert not caplog.records
