"""`hermes serve` as the system under test, and the proof that nothing counted is missing.

While it runs, the broker is asked through Admin. After a clean stop the store is opened
like any other: every message published, delivered to the consumer and acked by it must
be a record, and offsets must be complete.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import grpc
from grpc_health.v1 import health_pb2

from hermes import __version__
from hermes.broker import events
from hermes.broker.event_codec import decode
from hermes.client.admin import AdminClient
from hermes.log.log import open_log
from hermes.log.port import LogReader
from hermes.log.record import Kind
from hermes_bench.jobs import Job, Outcome, Ranges, total, union
from hermes_bench.port import CheckFailedError
from hermes_bench.processes import ServerProcess, free_port

_READ_RECORDS: Final = 10_000
_READ_BYTES: Final = 64 << 20
_SETTLED_KINDS: Final = (Kind.DELIVERED, Kind.ACKED)


class HermesSystem:
    """One broker process with its store in a folder, at its defaults but for `settings`."""

    def __init__(self, **settings: str) -> None:
        """`settings` are environment variables without HERMES_."""
        self._settings = {f"HERMES_{name}": text for name, text in settings.items()}
        self._address = ""
        self._store = Path()
        self.server: ServerProcess | None = None

    def version(self) -> str:
        return f"Hermes {__version__}"

    def start(self, folder: Path) -> str:
        self._store = folder / "store"
        self._address = f"127.0.0.1:{free_port()}"
        self.server = ServerProcess(
            [
                *(sys.executable, "-m", "hermes", "serve", "--store", self._store),
                *("--listen", self._address, "--log-level", "warning"),
            ],
            folder / "hermes.log",
            lambda: _is_serving(self._address),
            environment=self._settings,
        )
        return self._address

    def start_ms(self) -> float:
        """From the start of the process until it served, in milliseconds."""
        assert self.server is not None
        return (self.server.serving_ns - self.server.started_ns) / 1e6

    def rss_bytes(self) -> int:
        return self.server.rss_bytes() if self.server else 0

    def rss_peak_bytes(self) -> int:
        """The highest resident memory since the start."""
        return self.server.rss_bytes(peak=True) if self.server else 0

    @property
    def store(self) -> Path:
        """Folder of the store."""
        return self._store

    def store_bytes(self) -> int:
        """Size of the store on disk."""
        return sum(file.stat().st_size for file in self._store.rglob("*") if file.is_file())

    def segment_files(self) -> int:
        """How many segments there are on disk."""
        return len(list(self._store.glob("*.segment")))

    def oldest_segment_bytes(self) -> int:
        """Size of the oldest segment's file."""
        return min(self._store.glob("*.segment")).stat().st_size

    def stop(self) -> None:
        if self.server is not None:
            code = self.server.stop()
            if code != 0:
                raise CheckFailedError(f"the broker stopped with {code}: {self.server.log_tail()}")

    # ------------------------------------------------------------------- checks

    def check(self, published: Outcome | None, consumed: Outcome | None, job: Job) -> None:
        with AdminClient(self._address) as admin:
            if published is not None:
                _compare("next_offset", admin.server().next_offset, published.messages)
            if consumed is not None:
                found = admin.consumer(job.consumer).consumer
                unsettled = found.lag + found.in_flight + found.waiting + found.dead
                _compare("unsettled messages of the consumer", unsettled, 0)
                _compare("position of the consumer", found.position, consumed.messages)

    def check_stopped(self, published: Outcome | None, consumed: Outcome | None, job: Job) -> None:
        line: Ranges = []
        custody: dict[int, Ranges] = {kind: [] for kind in _SETTLED_KINDS}
        log = open_log(self._store, lambda _: None)
        reader = log.reader()
        try:
            _walk(reader, job.consumer, line, custody)
        finally:
            reader.close()
            log.close()
        if published is not None:
            expected = [(0, published.messages - 1)]
            _compare("offsets in the store", union(line), expected)
            _compare("messages in the store", total(line), published.messages)
            if published.ranges:
                _compare("offsets the publisher was told", union(published.ranges), expected)
        if consumed is not None:
            expected = [(0, consumed.messages - 1)]
            for kind in _SETTLED_KINDS:
                _compare(f"offsets {kind.name.lower()}", union(custody[kind]), expected)


def _walk(reader: LogReader, consumer: str, line: Ranges, custody: dict[int, Ranges]) -> None:
    """Collect what was published, and what happened to it for the consumer."""
    lsn = 1
    while records := reader.read(lsn, limit=_READ_RECORDS, limit_bytes=_READ_BYTES, payloads=False):
        for record in records:
            if record.kind == Kind.PUBLISHED:
                assert record.first is not None and record.last is not None
                line.append((record.first, record.last))
            elif record.kind in custody and record.key == consumer:
                event = decode(record)
                assert isinstance(event, events.RangesEvent)
                custody[record.kind].extend(event.ranges)
        lsn = records[-1].lsn + 1


def _compare(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise CheckFailedError(f"{what}: {str(found)[:200]}, expected {str(expected)[:200]}")


def _is_serving(address: str) -> bool:
    with grpc.insecure_channel(
        address, options=(("grpc.use_local_subchannel_pool", 1),)
    ) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer = check(health_pb2.HealthCheckRequest(), timeout=1)
        except grpc.RpcError:
            return False
        serving: bool = answer.status == health_pb2.HealthCheckResponse.SERVING
        return serving
