"""Many clients at once: `python -m tests.support.faults.crowd ADDRESS CONNECTIONS STREAMS`.

Each connection is its own, and opens so many live subscriptions. When each has been
answered a JSON object tells how many are open, and how the others ended, by status. The
crowd stays until its standard input is closed.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter

import grpc

from hermes import rpc
from hermes.broker.v1 import broker_pb2 as pb

_OPENING = 50  # connections at once
_PATIENCE_SECONDS = 30


async def _subscribe(channel: grpc.aio.Channel, number: int) -> str:
    """OPEN, or the name of the status."""
    request = pb.SubscribeRequest(subject=b"crowd.%d" % number)
    stub = channel.unary_stream(
        rpc.SUBSCRIBE.path,
        request_serializer=pb.SubscribeRequest.SerializeToString,
        response_deserializer=pb.EventEnvelope.FromString,
    )
    call = stub(request, timeout=3600)
    _calls.append(call)
    try:
        await asyncio.wait_for(call.initial_metadata(), _PATIENCE_SECONDS)
    except TimeoutError:
        return "TIMEOUT"
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return (await call.code()).name if call.done() else "OPEN"


_calls: list[grpc.aio.Call] = []


async def main(address: str, connections: int, streams: int) -> None:
    turns = asyncio.Semaphore(_OPENING)
    told: Counter[str] = Counter()
    channels = [
        grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        for _ in range(connections)
    ]

    async def enter(channel: grpc.aio.Channel) -> None:
        async with turns:
            told.update([await _subscribe(channel, n) for n in range(streams)])

    await asyncio.gather(*map(enter, channels))
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
