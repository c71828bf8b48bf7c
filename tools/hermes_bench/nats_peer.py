"""NATS with JetStream: the server from PATH, and its own Python client, nats-py.

The stream is on file storage. By default JetStream acknowledges before it syncs (it
syncs every two minutes); `sync_always` asks for a sync per write, which the server has
from version 2.10 on. Publishing pipelined is `publish_async`; consuming is a push
subscription with a callback, the fastest way of nats-py, or `fetch` of a pull consumer.
Acks are explicit, and are in the server when the flush after the last one is answered.
"""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any, Final

from hermes.clock import SystemClock
from hermes_bench.jobs import Job, Outcome
from hermes_bench.payloads import RING
from hermes_bench.port import BaseDriver, CheckFailedError, UnavailableError
from hermes_bench.processes import ServerProcess, first_line, free_port, listens

STREAM: Final = "BENCH"
ALL: Final = "bench.>"
MAX_IN_FLIGHT: Final = 20_000
_SILENCE_SECONDS: Final = 3.0
_STREAM_ATTEMPTS: Final = 20
_STREAM_RETRY_SECONDS: Final = 0.05

_CLOCK: Final = SystemClock()


def _nats() -> Any:
    try:
        import nats
    except ImportError as error:
        raise UnavailableError("nats-py is not installed (the extra `bench` has it)") from error
    return nats


class NatsSystem:
    """One nats-server with JetStream below the folder."""

    def __init__(self, *, sync_always: bool = False) -> None:
        self._sync_always = sync_always
        self._address = ""
        self._server: ServerProcess | None = None

    def version(self) -> str:
        _nats()
        return first_line(["nats-server", "--version"])

    def start(self, folder: Path) -> str:
        self._address = f"127.0.0.1:{free_port()}"
        sync = "sync_interval: always" if self._sync_always else ""
        config = folder / "nats.conf"
        config.write_text(
            f'listen: "{self._address}"\njetstream {{ store_dir: "{folder / "nats"}"\n{sync}\n}}\n'
        )
        self._refuse_unknown_setting(config)
        self._server = ServerProcess(
            ["nats-server", "-c", config], folder / "nats.log", lambda: listens(self._address)
        )
        return self._address

    def _refuse_unknown_setting(self, config: Path) -> None:
        tried = subprocess.run(
            ["nats-server", "-t", "-c", str(config)], capture_output=True, text=True, check=False
        )
        if tried.returncode != 0:
            version = first_line(["nats-server", "--version"])
            missing = "has no sync_interval" if self._sync_always else "refuses its configuration"
            raise UnavailableError(f"{version} {missing}")

    def rss_bytes(self) -> int:
        return self._server.rss_bytes() if self._server else 0

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()

    def check(self, published: Outcome | None, consumed: Outcome | None, job: Job) -> None:
        asyncio.run(self._check(published, consumed, job))

    async def _check(self, published: Outcome | None, consumed: Outcome | None, job: Job) -> None:
        connection = await _nats().connect(f"nats://{self._address}")
        try:
            manager = connection.jsm()
            if published is not None:
                held = (await manager.stream_info(STREAM)).state.messages
                if held != published.messages:
                    raise CheckFailedError(f"the stream holds {held} of {published.messages}")
            if consumed is not None:
                info = await manager.consumer_info(STREAM, job.consumer)
                left = (info.num_pending, info.num_ack_pending)
                if left != (0, 0):
                    raise CheckFailedError(f"undelivered, unacked: {left}")
        finally:
            await connection.close()

    def check_stopped(self, published: Outcome | None, consumed: Outcome | None, job: Job) -> None:
        """Nothing: the stream's own count was asked while it ran."""


class NatsDriver(BaseDriver):
    """One connection; for live subscribers, one each."""

    def __init__(self, *, pull: bool = False) -> None:
        self._pull = pull
        self._connections: list[Any] = []
        self._all = asyncio.Event()
        self._target = 0
        self._outcome = Outcome()  # replaced when consuming starts
        self._subscription: Any = None

    async def open(self, job: Job) -> None:
        self._url = f"nats://{job.address}"
        self._connection = await self._connect()
        self._js = self._connection.jetstream()
        if job.role == "subscribe":
            await self._open_live(job)
        elif job.role != "publish-live":
            await self._make_stream()
        if job.role == "consume":
            await self._open_consumer(job)

    async def _make_stream(self) -> None:
        """Producer and consumer both make it, and the server refuses one that comes too close."""
        from nats.js.api import StreamConfig
        from nats.js.errors import BadRequestError

        for attempt in range(_STREAM_ATTEMPTS):
            try:
                await self._js.add_stream(StreamConfig(name=STREAM, subjects=[ALL]))
            except BadRequestError:
                if attempt + 1 == _STREAM_ATTEMPTS:
                    raise
                await asyncio.sleep(_STREAM_RETRY_SECONDS)
            else:
                return

    async def _connect(self) -> Any:
        connection = await _nats().connect(self._url)
        self._connections.append(connection)
        return connection

    async def _open_consumer(self, job: Job) -> None:
        from nats.js.api import ConsumerConfig

        config = ConsumerConfig(max_ack_pending=MAX_IN_FLIGHT)
        self._target = job.messages
        if self._pull:
            self._subscription = await self._js.pull_subscribe(
                ALL, durable=job.consumer, stream=STREAM, config=config
            )
        else:
            self._subscription = await self._js.subscribe(
                ALL,
                durable=job.consumer,
                stream=STREAM,
                config=config,
                manual_ack=True,
                cb=self._on_message,
            )

    async def _on_message(self, message: Any) -> None:
        outcome = self._outcome
        outcome.bytes += len(message.data)
        await message.ack()
        outcome.messages += 1
        if outcome.messages == self._target:
            self._all.set()

    async def publish_all(self, job: Job, payloads: list[bytes], outcome: Outcome) -> None:
        publish = self._js.publish_async
        outcome.started_ns = _CLOCK.monotonic_ns()
        answers = []
        for number in range(job.messages):
            subject = f"bench.s.{number % job.subjects}" if job.subjects > 1 else "bench.a"
            answers.append(await publish(subject, payloads[number % RING]))
        await self._js.publish_async_completed()
        outcome.ended_ns = _CLOCK.monotonic_ns()
        outcome.messages = sum(answer.result().seq > 0 for answer in answers)

    async def consume_all(self, job: Job, outcome: Outcome) -> None:
        if self._pull:
            while outcome.messages < job.messages:
                fetched = await self._subscription.fetch(500)
                for message in fetched:
                    outcome.bytes += len(message.data)
                    await message.ack()
                outcome.messages += len(fetched)
        else:
            # What came between the producer's start and ours was counted there.
            outcome.messages, outcome.bytes = self._outcome.messages, self._outcome.bytes
            self._outcome = outcome
            await self._all.wait()
        await self._connection.flush()
        outcome.ended_ns = _CLOCK.monotonic_ns()

    async def publish_one(self, subject: str, payload: bytes) -> None:
        await self._js.publish(subject, payload)

    async def publish_live(self, job: Job, payloads: list[bytes], outcome: Outcome) -> None:
        outcome.started_ns = _CLOCK.monotonic_ns()
        for number in range(job.messages):
            await self._connection.publish("bench.a", payloads[number % RING])
        await self._connection.flush()
        outcome.ended_ns = _CLOCK.monotonic_ns()
        outcome.messages = job.messages

    async def _open_live(self, job: Job) -> None:
        self._target = job.messages * job.concurrency
        for _ in range(job.concurrency):
            connection = await self._connect()
            await connection.subscribe(ALL, cb=self._on_live)
            await connection.flush()

    async def _on_live(self, message: Any) -> None:
        outcome = self._outcome
        outcome.messages += 1
        outcome.bytes += len(message.data)
        if outcome.messages == self._target:
            self._all.set()

    async def receive_live(self, job: Job, outcome: Outcome) -> None:  # noqa: ARG002
        outcome.messages, outcome.bytes = self._outcome.messages, self._outcome.bytes
        self._outcome = outcome
        before = -1
        while not self._all.is_set() and outcome.messages != before:
            before = outcome.messages
            try:
                async with asyncio.timeout(_SILENCE_SECONDS):
                    await self._all.wait()
            except TimeoutError:
                pass
        outcome.ended_ns = _CLOCK.monotonic_ns()

    async def close(self) -> None:
        for connection in self._connections:
            await connection.close()
