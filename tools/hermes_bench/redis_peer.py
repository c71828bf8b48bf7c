"""Redis Streams with `appendfsync always`: the server from PATH, and redis-py.

Pipelined work uses the blocking client, which is the faster one, with hiredis if it is
there: `XADD`s of a batch in one pipeline, `XREADGROUP` of a batch, and one `XACK` for
all of it, or one per message in a pipeline. Awaited publishes use redis.asyncio with up
to 64 connections, so that the server can share its fsync among them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from hermes.clock import SystemClock
from hermes_bench.jobs import Job, Outcome
from hermes_bench.payloads import RING
from hermes_bench.port import BaseDriver, CheckFailedError, UnavailableError
from hermes_bench.processes import ServerProcess, first_line, free_port, listens

STREAM: Final = "bench"
# Of the pool that awaited publishes share: as many as the busiest workload has tasks.
CONNECTIONS: Final = 64
_BLOCK_MS: Final = 5_000

_CLOCK: Final = SystemClock()


def _redis() -> Any:
    try:
        import redis
        import redis.asyncio
    except ImportError as error:
        raise UnavailableError("redis-py is not installed (the extra `bench` has it)") from error
    return redis


def _connect(address: str) -> Any:
    host, port = address.split(":")
    return _redis().Redis(host=host, port=int(port))


class RedisSystem:
    """One redis-server with its append-only file below the folder."""

    def __init__(self) -> None:
        self._address = ""
        self._server: ServerProcess | None = None

    def version(self) -> str:
        _redis()
        words = first_line(["redis-server", "--version"]).split()
        return " ".join(words[:3]).replace("v=", "")

    def start(self, folder: Path) -> str:
        port = free_port()
        self._address = f"127.0.0.1:{port}"
        data = folder / "redis"
        data.mkdir()
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        durable = ["--appendonly", "yes", "--appendfsync", "always", "--dir", str(data)]
        self._server = ServerProcess(
            command + durable, folder / "redis.log", lambda: listens(self._address)
        )
        return self._address

    def rss_bytes(self) -> int:
        return self._server.rss_bytes() if self._server else 0

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()

    def check(
        self,
        published: Outcome | None,
        consumed: Outcome | None,
        job: Job,  # noqa: ARG002
    ) -> None:
        with _connect(self._address) as client:
            if client.config_get("appendfsync")["appendfsync"] != "always":
                raise CheckFailedError("redis-server does not sync every write")
            if published is not None and client.xlen(STREAM) != published.messages:
                raise CheckFailedError(f"the stream holds {client.xlen(STREAM)} messages")
            if consumed is not None:
                (group,) = client.xinfo_groups(STREAM)
                if group["pending"] or group["lag"]:
                    raise CheckFailedError(
                        f"unacked {group['pending']}, undelivered {group['lag']}"
                    )

    def check_stopped(self, published: Outcome | None, consumed: Outcome | None, job: Job) -> None:
        """Nothing: the stream was asked while the server ran."""


class RedisDriver(BaseDriver):
    """A blocking connection, and an asyncio pool for what is awaited."""

    async def open(self, job: Job) -> None:
        host, port = job.address.split(":")
        self._client = _connect(job.address)
        aio = _redis().asyncio
        pool = aio.BlockingConnectionPool(
            host=host, port=int(port), max_connections=CONNECTIONS, timeout=None
        )
        self._async = aio.Redis(connection_pool=pool)
        if job.role == "consume":
            self._client.xgroup_create(STREAM, job.consumer, id="0", mkstream=True)

    async def publish_all(self, job: Job, payloads: list[bytes], outcome: Outcome) -> None:
        sent = 0
        outcome.started_ns = _CLOCK.monotonic_ns()
        while sent < job.messages:
            pipeline = self._client.pipeline(transaction=False)
            for number in range(sent, min(sent + job.batch, job.messages)):
                pipeline.xadd(STREAM, {"p": payloads[number % RING]})
            sent += len(pipeline.execute())
        outcome.ended_ns = _CLOCK.monotonic_ns()
        outcome.messages = sent

    async def consume_all(self, job: Job, outcome: Outcome) -> None:
        messages = size = 0
        while messages < job.messages:
            answer = self._client.xreadgroup(
                job.consumer, "worker", {STREAM: ">"}, count=job.batch, block=_BLOCK_MS
            )
            if not answer:
                raise CheckFailedError(f"nothing came after {messages} messages")
            # A list of pairs by the older protocol, a dict of lists by the newer.
            entries = answer[STREAM.encode()][0] if isinstance(answer, dict) else answer[0][1]
            for _, fields in entries:
                size += len(fields[b"p"])
            if job.by_message:
                pipeline = self._client.pipeline(transaction=False)
                for entry, _ in entries:
                    pipeline.xack(STREAM, job.consumer, entry)
                acked = sum(pipeline.execute())
            else:
                acked = self._client.xack(STREAM, job.consumer, *[entry for entry, _ in entries])
            messages += acked
        outcome.ended_ns = _CLOCK.monotonic_ns()
        outcome.messages, outcome.bytes = messages, size

    async def publish_one(self, subject: str, payload: bytes) -> None:
        await self._async.xadd(STREAM, {"s": subject, "p": payload})

    async def close(self) -> None:
        self._client.close()
        await self._async.aclose()
