"""A broker without a process: the real engine over the log in memory, on a virtual clock.

`World` drives the engine as a server would, but only when told to: `run()` gives it turns,
commits and reads until nothing is left to do. Switch `auto_commit` or `auto_fetch` off to
hold commits or reads back, and let them go one by one.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from hermes.broker import events as ev
from hermes.broker.batch import IncomingBatch, LineBatch, LiveBatch, check_batch, single
from hermes.broker.consumer import Consumer
from hermes.broker.consumers import OpenConsumer
from hermes.broker.core import Settings
from hermes.broker.delivery import Seat
from hermes.broker.dispatch import Assignment
from hermes.broker.engine import Engine
from hermes.broker.engine_time import EngineTime, resume_at
from hermes.broker.event_codec import decode
from hermes.broker.live import LiveBuffer
from hermes.broker.membership import Joined
from hermes.broker.ports import Fetch, FetchAhead, Fetched
from hermes.broker.publishing import PublishResult
from hermes.broker.ranges import Range
from hermes.broker.recovery import line_batch, recover
from hermes.broker.session import Client
from hermes.broker.settling import Settle, Verdict
from hermes.broker.subject import matcher
from hermes.broker.v1 import broker_pb2
from hermes.errors import HermesError
from hermes.log.memory import MemoryImage, MemoryLog
from hermes.log.port import Committed, LogReader, Outcome
from hermes.log.record import StoredRecord

SECOND_NS = 10**9
WALL_START_NS = 1_700_000_000 * SECOND_NS
TURNS_MAX = 20_000

POLICY = ev.Policy(
    filters=(),
    ack_timeout_ns=30 * SECOND_NS,
    max_attempts=5,
    backoff_initial_ns=0,
    backoff_max_ns=0,
    inactivity_limit_ns=0,
)


class VirtualClock:
    """A clock that only tests move. The wall can jump by itself."""

    def __init__(self) -> None:
        self.elapsed_ns = 0
        self.wall_offset_ns = WALL_START_NS

    def wall_ns(self) -> int:
        return self.wall_offset_ns + self.elapsed_ns

    def monotonic_ns(self) -> int:
        return self.elapsed_ns

    def advance(self, seconds: float) -> None:
        self.elapsed_ns += int(seconds * SECOND_NS)


class ScriptedHost:
    """Remembers what the engine asked of it."""

    def __init__(self) -> None:
        self.woken = False
        self.fetches: list[Fetch] = []

    def wake(self) -> None:
        self.woken = True

    def fetch(self, request: Fetch) -> None:
        self.fetches.append(request)


class RecordingPort:
    """A member's stream that remembers everything it was sent."""

    def __init__(self) -> None:
        self.assignments: list[Assignment] = []
        self.errors: list[HermesError] = []

    def deliver(self, assignments: Sequence[Assignment]) -> None:
        self.assignments.extend(assignments)

    def end(self, error: HermesError) -> None:
        self.errors.append(error)

    @property
    def got(self) -> list[tuple[int, int, int]]:
        """(first, last, attempt) of every delivery so far."""
        return [(a.first, a.last, a.attempt) for a in self.assignments]

    def take(self) -> list[tuple[int, int, int]]:
        """The deliveries since the last call."""
        got = self.got
        self.assignments.clear()
        return got

    def offsets(self) -> list[int]:
        """Every offset delivered, in order of arrival."""
        return [o for first, last, _ in self.got for o in range(first, last + 1)]


class LiveRecorder:
    """A live subscription's stream; counts its wake-ups."""

    def __init__(self) -> None:
        self.wakes = 0
        self.errors: list[HermesError] = []

    def wake(self) -> None:
        self.wakes += 1

    def end(self, error: HermesError) -> None:
        self.errors.append(error)


class Worker(msgspec.Struct):
    """A member with its port, and the verdicts it can give."""

    world: World
    seat: Seat
    port: RecordingPort
    joined: Joined

    def settle(
        self, verdict: Verdict, *ranges: Range, attempt: int = 0, delay_ns: int | None = None
    ) -> list[Range]:
        command = Settle(
            member=self.seat.member,
            session=self.seat.session,
            verdict=verdict,
            ranges=list(ranges),
            attempt=attempt,
            delay_ns=delay_ns,
        )
        return self.world.engine.members.settle(self.seat, command)

    def ack(self, *ranges: Range) -> list[Range]:
        return self.settle(Verdict.ACK, *ranges)

    def nack(self, *ranges: Range, attempt: int = 1, delay_ns: int | None = None) -> list[Range]:
        return self.settle(Verdict.NACK, *ranges, attempt=attempt, delay_ns=delay_ns)

    def leave(self, *, lost: bool = False) -> None:
        self.world.engine.members.leave(self.seat, lost=lost)


class World:
    """One broker over one log, from its start to as many restarts as a test wants."""

    def __init__(self, *, policy: ev.Policy = POLICY, settings: Settings | None = None) -> None:
        self.clock = VirtualClock()
        self.host = ScriptedHost()
        self.settings = settings or Settings(default_policy=policy)
        self.auto_commit = True
        self.auto_fetch = True
        self.ready = 0
        self.outcomes: list[Outcome] = []
        self.start(None)

    def start(self, image: MemoryImage | None) -> None:
        """Open the log (what an image holds, or an empty one) and start an engine on it."""
        self.log = MemoryLog(self._listen, image=image, auto_commit=False)
        recovered = recover(self.log.reader())
        now_ns = resume_at(
            recovered.state.engine_time_ns, recovered.last_wall_ns, self.clock.wall_ns()
        )
        time = EngineTime(now_ns, self.clock.monotonic_ns(), self.clock.wall_ns())
        self.host.fetches.clear()
        self.engine = Engine(
            self.log,
            recovered.state,
            self.settings,
            self.clock,
            time,
            self.host,
            folded_records=recovered.records,
        )
        self.state = self.engine.state
        self.engine.start(self._started, self._on_ready)
        self.session = self.engine.attach(Client("", "peer", "test", "1", ""))
        self.run()

    def _started(self, now_ns: int) -> ev.ServerStarted:
        return ev.ServerStarted(
            engine_time_ns=now_ns,
            version="1",
            host="host",
            boot_id="boot",
            config_digest=b"",
            clean_stop=True,
            dedup_window_ns=self.settings.dedup_window_ns,
            dedup_ids_max=self.settings.dedup_ids_max,
        )

    def _on_ready(self) -> None:
        self.ready += 1

    def _listen(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        if isinstance(outcome, Committed):
            self.engine.committed(outcome)
        else:
            assert isinstance(outcome.error, HermesError)
            self.engine.failed(outcome.error)

    # ------------------------------------------------------------------- time

    def run(self) -> None:
        """Turns, commits and reads until nothing is left to do."""
        for _ in range(TURNS_MAX):
            if not self.step():
                return
        raise AssertionError(f"the engine never comes to rest: {TURNS_MAX} turns")

    def step(self) -> bool:
        """One turn, commit or read; False when there is none to make."""
        if self.host.woken:
            self.turn()
        elif self.auto_commit and self.log.pending:
            self.log.commit_all()
        elif self.auto_fetch and self.host.fetches:
            self.answer(self.host.fetches.pop(0))
        else:
            return False
        return True

    def turn(self) -> None:
        self.host.woken = False
        self.engine.turn()

    def advance(self, seconds: float) -> None:
        """Let time pass and give the engine the turns that a server's timer would."""
        end_ns = self.clock.elapsed_ns + int(seconds * SECOND_NS)
        for _ in range(TURNS_MAX):
            alarm_ns = self.engine.next_alarm_monotonic_ns()
            if alarm_ns is None or alarm_ns > end_ns:
                break
            self.clock.elapsed_ns = max(self.clock.elapsed_ns, alarm_ns)
            self.host.wake()
            self.run()
        self.clock.elapsed_ns = end_ns
        self.run()

    def answer(self, request: Fetch) -> None:
        """Read what the engine asked for, and tell it."""
        self.engine.fetched(read_for(self.log.reader(), request))

    # --------------------------------------------------------------- commands

    def publish(
        self,
        *batches: IncomingBatch,
        producer_id: bytes = b"",
        first_sequence: int = 0,
        run: bool = True,
    ) -> list[PublishResult]:
        """Publish durably; the results, which stay empty until the commit."""
        results: list[PublishResult] = []
        self.engine.publish(
            self.session,
            list(batches),
            results.extend,
            producer_id=producer_id,
            first_sequence=first_sequence,
        )
        if run:
            self.run()
        return results

    def join(
        self,
        name: str = "c",
        *filters: str,
        credit: int = 10,
        credit_bytes: int = 10**6,
        position: int = 0,
        run: bool = True,
        **asked: int | bool,
    ) -> Worker:
        """Open a consumer (of everything, if no filter is given) and become a member."""
        if not filters and name not in self.state.consumers:
            filters = (">",)
        port = RecordingPort()
        command = OpenConsumer(name=name, filters=filters, position=position, **asked)  # type: ignore[arg-type]
        joined = self.engine.members.join(self.session, command, credit, credit_bytes, port)
        if run:
            self.run()
        return Worker(self, joined.seat, port, joined)

    def subscribe(self, pattern: str, *groups: str) -> tuple[int, LiveBuffer, LiveRecorder]:
        port = LiveRecorder()
        number, buffer = self.engine.subscribe(self.session, pattern, groups, port)
        self.run()
        return number, buffer, port

    def consumer(self, name: str = "c") -> Consumer:
        return self.state.consumers[name]

    # ---------------------------------------------------------------- restarts

    def crash(self, keep: int = 0) -> None:
        """Lose the process; what was not committed is gone, but for `keep` groups."""
        self.start(self.log.crash(keep))

    def stop(self) -> None:
        """Stop in order."""
        self.engine.stop("test", lambda: None)
        self.run()
        self.log.close()

    # ------------------------------------------------------------- what is logged

    def records(self) -> list[StoredRecord]:
        """Every committed record."""
        return self.log.reader().read(1, limit=10**9, limit_bytes=10**12)

    def events(self) -> list[ev.Event]:
        """Every committed event that changes the state."""
        decoded = (decode(record) for record in self.records())
        return [event for event in decoded if event is not None]


def read_for(reader: LogReader, request: Fetch) -> Fetched:
    """Answer a fetch as a server does."""
    if isinstance(request, FetchAhead):
        records, scanned_to = reader.publishes(
            request.from_offset,
            limit=request.limit,
            limit_bytes=request.limit_bytes,
            keys=matcher(request.filters),
        )
        return Fetched(request, [b for b in map(line_batch, records) if b is not None], scanned_to)
    batches: list[LineBatch] = []
    for first, last in request.ranges:
        at = first
        while at <= last:
            record = reader.publish_of(at)
            if record is None or record.last is None:
                break
            batch = line_batch(record)
            if batch is not None and batch not in batches:
                batches.append(batch)
            at = record.last + 1
    return Fetched(request, batches)


def message(subject: str = "a.b", payload: bytes = b"x", **columns: str) -> IncomingBatch:
    """A batch of one message."""
    return single(subject, payload, **columns)  # type: ignore[arg-type]


def messages(count: int, subject: str = "a.b", *, size: int = 1) -> IncomingBatch:
    """A batch of `count` messages without ids."""
    head = broker_pb2.BatchHead(count=count).SerializeToString()
    content = broker_pb2.BatchContent(payloads=[bytes(size)] * count).SerializeToString()
    return check_batch(subject, head, content, 2**20)


def drain(buffer: LiveBuffer) -> list[LiveBatch]:
    """Everything in a live buffer, oldest first."""
    popped: list[LiveBatch] = []
    while (batch := buffer.pop()) is not None:
        popped.append(batch)
    return popped
