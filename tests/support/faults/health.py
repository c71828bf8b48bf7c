"""What a server's health service says, as a watcher sees it."""

from __future__ import annotations

import asyncio
from typing import Any, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class HealthWatch:
    """Follows the health of one service; every change is kept."""

    def __init__(self, address: str, service: str = "") -> None:
        self._service = service
        self._channel = grpc.aio.insecure_channel(address)
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self.seen: list[int] = []

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        await self.says(SERVING)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._channel.close(None)

    async def says(self, status: int, timeout_secs: float = 30) -> None:
        """Until that is the last thing it said."""
        async with asyncio.timeout(timeout_secs), self._changed:
            await self._changed.wait_for(lambda: bool(self.seen) and self.seen[-1] == status)

    async def _watch(self) -> None:
        stub: Any = health_pb2_grpc.HealthStub(self._channel)
        request = health_pb2.HealthCheckRequest(service=self._service)
        async for answer in stub.Watch(request):
            async with self._changed:
                self.seen.append(answer.status)
                self._changed.notify_all()
