"""A flood of HTTP/2 frames: `python -m tests.support.faults.h2_flood ADDRESS KIND SECONDS`.

Kinds: `ping`, `settings`, `reset` (calls begun and cancelled at once) and `garbage`. From
four connections, each made anew when the server ends it. At the end a JSON object tells how many
frames were sent and how many connections were ended by the server.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time

from hermes import rpc
from tests.support.faults.h2_peer import PING, SETTINGS, H2Peer, frame, request_headers

_CONNECTIONS = 4
_FRAMES = 100  # at once
_BLOCK = request_headers(rpc.SUBSCRIBE.path)


def _frames(peer: H2Peer, kind: str) -> bytes:
    match kind:
        case "ping":
            return frame(PING, bytes(8)) * _FRAMES
        case "settings":
            return frame(SETTINGS) * _FRAMES
        case "reset":
            return peer.resets(_BLOCK, _FRAMES)
        case "garbage":
            return random.Random(0).randbytes(_FRAMES * 20)
    raise ValueError(kind)


def flood(address: str, kind: str, seconds: float) -> dict[str, int]:
    end = time.monotonic() + seconds
    peers = [H2Peer(address) for _ in range(_CONNECTIONS)]
    sent = ended = 0
    while time.monotonic() < end:
        for n, peer in enumerate(peers):
            peer.send(_frames(peer, kind))
            peer.take()
            sent += _FRAMES
            if peer.closed or peer.told_to_go is not None:
                ended += 1
                peer.__exit__()
                peers[n] = H2Peer(address)
    for peer in peers:
        peer.__exit__()
    return {"sent": sent, "ended": ended}


if __name__ == "__main__":
    os.nice(10)  # the attacker's machine is another one
    told = flood(sys.argv[1], sys.argv[2], float(sys.argv[3]))
    sys.stdout.write(json.dumps(told) + "\n")
