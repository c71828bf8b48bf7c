"""A network between a client and a broker that can lose what it carries.

It listens on a port of its own and forwards. `swallow` loses the answers; `cut` loses both
ways, and tells neither side: no FIN, no RST, as when a cable is pulled. `reset` closes
every connection, and the network is whole again for the next.
"""

from __future__ import annotations

import asyncio
from typing import Self

_CHUNK_BYTES = 65_536


class Proxy:
    """Forwards to `target` (host:port) while it is entered."""

    def __init__(self, target: str) -> None:
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._lost_ways: frozenset[str] = frozenset()
        self.address = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.reset()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def swallow(self) -> None:
        """Requests still get through, answers do not."""
        self._lost_ways = frozenset(("down",))

    def cut(self) -> None:
        """Nothing gets through any more."""
        self._lost_ways = frozenset(("up", "down"))

    def reset(self) -> None:
        """Close the connections of both sides."""
        self._lost_ways = frozenset()
        for writer in self._writers:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            up_reader, up_writer = await asyncio.open_connection(self._host, self._port)
            self._writers.add(up_writer)
            await asyncio.gather(
                self._forward("up", reader, up_writer), self._forward("down", up_reader, writer)
            )
            up_writer.transport.abort()
            self._writers.discard(up_writer)
        except OSError:
            pass  # nobody listens there
        finally:
            writer.transport.abort()
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _forward(
        self, way: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while data := await reader.read(_CHUNK_BYTES):
                if way not in self._lost_ways:
                    writer.write(data)
                    await writer.drain()
        except ConnectionError:
            pass
        if way not in self._lost_ways:
            writer.transport.abort()
