"""Streams that a client opens and never reads, of every kind, and what each may hold.

Each kind is held up somewhere else: a durable member by its credit, a live subscription
by its buffer, which loses the oldest, a reading by the frame that nobody takes.
"""

from __future__ import annotations

import asyncio
from typing import Any

from hermes import rpc
from hermes.broker.v1 import broker_pb2 as pb
from hermes.limits import CREDIT_BYTES_DEFAULT, LIVE_BUFFER_BYTES_MAX
from tests.e2e.rpc_calls import Peer
from tests.support.faults.memory import MIB

# What the server may hold for one client of the kind.
HELD_BYTES = {
    "consume": CREDIT_BYTES_DEFAULT,
    "durable v1": CREDIT_BYTES_DEFAULT,
    "subscribe": LIVE_BUFFER_BYTES_MAX,
    "subscribe v1": LIVE_BUFFER_BYTES_MAX,
    "read": 16 * MIB,
}
# By how much a server that has seen a load before may grow under it all the same.
REST_BYTES = 64 * MIB


async def open_and_never_read(peer: Peer, kind: str, name: str, pattern: str) -> Any:
    """The call, registered with the broker. `name` is the consumer's, where there is one."""
    match kind:
        case "consume":
            call = peer.call(rpc.CONSUME)
            credit = pb.Credit(messages=1_000_000)
            opening = pb.ConsumeOpen(consumer=name, filters=[pattern], credit=credit)
            await call.write(pb.ConsumeRequest(open=opening))
        case "durable v1":
            call = peer.call(rpc.SUBSCRIBE_DURABLE)
            wanted = pb.DurableSubscribeRequest(
                subject=pattern.encode(), consumer_name=name, max_in_flight=1_000_000
            )
            await call.write(pb.DurableClientMessage(subscribe=wanted))
        case "subscribe":
            call = peer.call(rpc.SUBSCRIBE_BATCHES)
            subscription = pb.SubscriptionOpen(number=1, pattern=pattern)
            await call.write(pb.SubscribeBatchesRequest(open=[subscription]))
        case "subscribe v1":
            call = peer.call(rpc.SUBSCRIBE, pb.SubscribeRequest(subject=pattern.encode()))
        case _:
            call = peer.call(rpc.READ, pb.ReadRequest(filters=[pattern], follow=True))
    await asyncio.wait_for(call.initial_metadata(), 20)
    return call
