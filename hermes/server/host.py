"""The asyncio world around one engine: turns, timers, readers, and the log's outcomes.

Theory: the engine is synchronous. The host calls `turn` once per loop iteration in which
something happened, so that all commands of that iteration share one group of records;
reads beside the loop on a few threads; and brings outcomes from the log's thread.

A host lives as long as its engine. When the log fails, or the engine itself breaks, it
fails once: every stream ends with UNAVAILABLE and `failed` is set; what follows is the
work of app.py. Decisions do not belong here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import TypeVar

from hermes import limits
from hermes.broker.core import Settings
from hermes.broker.engine import Engine
from hermes.broker.engine_time import EngineTime, resume_at
from hermes.broker.ports import Fetch, FetchAhead, Fetched
from hermes.broker.ranges import Range, normalize
from hermes.broker.recovery import Recovered
from hermes.clock import Clock
from hermes.errors import HermesError, PreconditionError, SegmentDamagedError, UnavailableError
from hermes.log.port import Committed, Log, LogReader, Outcome, SegmentInfo
from hermes.server.healing import reopening_error
from hermes.server.reads import fetched, left_out, read_around_damage
from hermes.server.retired import Retired
from hermes.server.sessions import Stream, Streams

T = TypeVar("T")
NS_PER_SEC = 1e9
# There is a turn every second at least; after longer than this the process was stopped,
# suspended or starved, and gets so long to read what came in meanwhile.
STANDSTILL_NS = 3_000_000_000
CATCH_UP_NS = 1_000_000_000


class Host:
    """Drives an engine on the running event loop."""

    def __init__(self, log: Log, recovered: Recovered, settings: Settings, clock: Clock) -> None:
        self._loop = asyncio.get_running_loop()
        self._clock = clock
        self._readers = ThreadPoolExecutor(limits.READER_THREADS_MAX, "hermes-reader")
        self._turn_is_due = False
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at_ns: int | None = None
        self._room: list[asyncio.Future[None]] = []  # publishers that wait for the log
        self._tasks: set[asyncio.Task[None]] = set()
        self.log = log
        self.started_at_ns = clock.wall_ns()
        state = recovered.state
        wall_ns = clock.wall_ns()
        resumed_ns = resume_at(state.engine_time_ns, recovered.last_wall_ns, wall_ns)
        time = EngineTime(resumed_ns, clock.monotonic_ns(), wall_ns)
        self.engine = Engine(
            log, state, settings, clock, time, self, folded_records=recovered.records
        )
        self.streams = Streams(self.engine)
        self.commits = 0  # outcomes so far
        self.followers: set[Stream] = set()  # to be woken at each commit
        self.producers: dict[bytes, Stream] = {}  # who publishes under which producer id
        self.failed: asyncio.Future[HermesError] = self._loop.create_future()
        self._turned_at_ns = clock.monotonic_ns()
        self._retired: Retired | None = None  # None: not looked for yet

    # ------------------------------------------------- for the engine (Host)

    def wake(self) -> None:
        """Run a turn after what is running now. On the loop's thread."""
        if not self._turn_is_due:
            self._turn_is_due = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_is_due = False
        now_ns = self._clock.monotonic_ns()
        stood_still = now_ns - self._turned_at_ns > STANDSTILL_NS
        self._turned_at_ns = now_ns
        try:
            if stood_still:
                self.engine.hold_expiry(CATCH_UP_NS)
            self.engine.turn()
        except Exception as error:  # noqa: BLE001 - state and log may disagree: stop
            self.fail(error)
            return
        self._set_alarm()

    def _set_alarm(self) -> None:
        at_ns = self.engine.next_alarm_monotonic_ns()
        if at_ns == self._alarm_at_ns:
            return
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._alarm_at_ns = at_ns
        if at_ns is not None:
            delay_ns = max(0, at_ns - self._clock.monotonic_ns())
            self._alarm = self._loop.call_later(delay_ns / NS_PER_SEC, self._ring)

    def _ring(self) -> None:
        self._alarm = self._alarm_at_ns = None
        self.wake()

    def fetch(self, request: Fetch) -> None:
        """Read beside the loop, then hand the answer to the engine."""
        task = self._loop.create_task(self._fetch(request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fetch(self, request: Fetch) -> None:
        try:
            if isinstance(request, FetchAhead):
                held = self.first_held(request.from_offset)
                if held > request.from_offset:
                    self.engine.fetched(Fetched(request, (), held))
                    return
            answer = await self.read(lambda reader: fetched(reader, request, left_out(self.log)))
            self.engine.fetched(answer)
        except UnavailableError:
            return  # this engine is over
        except SegmentDamagedError as error:
            # Not a failed log: what cannot be read is one segment, and the rest goes on.
            assert isinstance(request, FetchAhead), "left out before"
            first, last = error.fields["first_offset"], error.fields["last_offset"]
            self.engine.fetched(Fetched(request, (), request.from_offset, pinned=(first, last)))
        except Exception as error:  # noqa: BLE001 - without the answer a consumer stalls
            self.fail(error)

    # ------------------------------------------------------------ for others

    def tick(self) -> None:
        """What the engine does once in a while."""
        try:
            self.engine.tick()
        except Exception as error:  # noqa: BLE001 - state and log may disagree: stop
            self.fail(error)

    def roll(self) -> None:
        """Begin a new segment, between turns."""
        try:
            self.engine.turn()
            self.engine.roll()
        except Exception as error:  # noqa: BLE001 - state and log may disagree: stop
            self.fail(error)

    def on_outcome(self, outcome: Outcome) -> None:
        """What became of an append. On the loop's thread."""
        if not isinstance(outcome, Committed):
            self.fail(outcome.error)
            return
        try:
            self.engine.committed(outcome)
        except Exception as error:  # noqa: BLE001 - an effect is lost: stop
            self.fail(error)
            return
        if self._room and not self.engine.publish_blocked:
            _release(self._room)
        self.commits += 1
        for stream in self.followers:
            stream.wake()

    def fail(self, cause: Exception) -> None:
        """Fail stop: release nothing more, end every stream. Idempotent."""
        if self.failed.done():
            return
        error = (
            cause
            if isinstance(cause, HermesError)
            else HermesError(f"{type(cause).__name__}: {cause}")
        )
        if error is not cause:
            error.__cause__ = cause
        self.engine.failed(error)
        self.failed.set_result(error)
        self.streams.end(reopening_error(error))
        _release(self._room)

    async def read(self, function: Callable[[LogReader], T]) -> T:
        """Run `function` on a thread with a reader of its own.

        A sealed segment that turns out to be damaged is quarantined, and `function` run
        again. Raises SegmentDamagedError when it cannot be answered without that segment,
        UnavailableError when the log is being closed.
        """

        def run() -> T:
            with closing(self.log.reader()) as reader:
                return read_around_damage(self.log, reader, function)

        if self.failed.done():
            raise reopening_error(self.failed.result())
        try:
            future = self._readers.submit(run)
        except RuntimeError:  # the executor was shut down
            raise reopening_error() from None
        return await asyncio.wrap_future(future)

    # --------------------------------------------------------- retired payloads

    def note_retired(self, segments: Iterable[SegmentInfo]) -> None:
        """Learn which offsets have no payload any more."""
        self._retired = Retired(segment.retired for segment in segments)

    async def learn_retired(self) -> None:
        """Make sure that `first_held` and `retired_in` can answer. Raises UnavailableError."""
        if self._retired is None and self.log.durable:
            self.note_retired(await self.read(lambda _: self.log.segments(subjects=False)))

    def first_held(self, offset: int) -> int:
        """The first offset from this one on that is neither dropped nor retired, as far as is
        known; next_offset when there is none."""
        offset = max(offset, self.engine.state.oldest_offset)
        return offset if self._retired is None else self._retired.first_held(offset)

    def retired_in(self, ranges: Sequence[Range]) -> list[Range]:
        """The part of these (normal) ranges that has no payload any more."""
        oldest = self.engine.state.oldest_offset
        gone = [(first, min(last, oldest - 1)) for first, last in ranges if first < oldest]
        if self._retired is not None:
            gone += self._retired.within(ranges)
        return normalize(gone)

    async def publish_room(self) -> None:
        """Wait while the log cannot keep up with publishing."""
        while self.engine.publish_blocked and not self.failed.done():
            future: asyncio.Future[None] = self._loop.create_future()
            self._room.append(future)
            await future

    async def committed(self) -> None:
        """Until all that was decided so far is durable. Raises UnavailableError if it fails."""
        future: asyncio.Future[None] = self._loop.create_future()
        self.engine.journal.after_commit(partial(_release, [future]))
        self.wake()
        await asyncio.wait((future, self.failed), return_when=asyncio.FIRST_COMPLETED)
        if not future.done():
            raise reopening_error(self.failed.result())

    def require_store(self, what: str) -> None:
        """Raise PreconditionError when this broker keeps nothing."""
        if not self.log.durable:
            raise PreconditionError(
                f"{what} needs a store, and this broker has none (HERMES_STORE_PATH)",
                hint="start it with --store PATH",
            )

    async def close(self) -> None:
        """Stop reading and close the log: what is queued is committed, the lock released."""
        if self._alarm is not None:
            self._alarm.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.to_thread(self._close)
        if not self.failed.done():
            self.failed.cancel()

    def _close(self) -> None:
        self._readers.shutdown(wait=True, cancel_futures=True)
        self.log.close()


def _release(waiting: list[asyncio.Future[None]]) -> None:
    for future in waiting:
        if not future.done():
            future.set_result(None)
    waiting.clear()
