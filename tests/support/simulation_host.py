"""What stands around the engine in the simulation: clocks, a log to watch, the host.

An `Epoch` is one life of the engine, from the opening of a log to a stop, a crash or a
failed commit. Nothing here happens by itself: commits, reads and answers wait until the
simulation releases them, in the order that its random numbers say.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from hermes.broker import events as ev
from hermes.broker.core import Settings
from hermes.broker.engine import Engine
from hermes.broker.engine_time import GAP_NS_MAX, EngineTime, resume_at
from hermes.broker.ports import Fetch, FetchAhead, Fetched
from hermes.broker.ranges import Range
from hermes.broker.recovery import recover
from hermes.broker.snapshot import canonical
from hermes.errors import SegmentDamagedError, UnavailableError
from hermes.log.memory import MemoryImage, MemoryLog
from hermes.log.port import Committed, LogReader, Outcome
from hermes.log.record import Kind, Record, StoredRecord
from hermes.server.reads import fetched, left_out, read_around_damage
from hermes.server.retired import Retired
from tests.support.simulation_consumer import Violation, require

T = TypeVar("T")

SECOND_NS = 10**9
HOUR_NS = 3600 * SECOND_NS
WALL_START_NS = 1_700_000_000 * SECOND_NS
STATES_KEPT_PART = 0.02  # of the turns: a state costs as much as some steps
TURNS_MAX = 2_000  # without anything happening outside: the engine spins


class SimulatedClock:
    """Time passes when it is told to."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.wall_lead_ns = WALL_START_NS

    def wall_ns(self) -> int:
        return self.now_ns + self.wall_lead_ns

    def monotonic_ns(self) -> int:
        return self.now_ns


class WatchedLog(MemoryLog):
    """A memory log that shows each group as it is appended, and what is durable."""

    watch: Callable[[list[StoredRecord]], None] | None = None

    @property
    def durable_lsn(self) -> int:
        return self._segments[-1].end.lsn

    def append(self, records: Sequence[Record], expected_next_lsn: int) -> int:
        first = self.next_lsn
        last = super().append(records, expected_next_lsn)
        self._show(first, records)
        return last

    def roll(self, snapshot: Record, expected_next_lsn: int) -> int:
        first = self.next_lsn
        last = super().roll(snapshot, expected_next_lsn)
        self._show(first, (Record(snapshot.at_ns, Kind.SEGMENT_SEALED), snapshot))
        return last

    def _show(self, first_lsn: int, records: Sequence[Record]) -> None:
        if self.watch is not None:
            self.watch([_stored(lsn, record) for lsn, record in enumerate(records, first_lsn)])


def _stored(lsn: int, record: Record) -> StoredRecord:
    r = record
    return StoredRecord(lsn, r.at_ns, r.kind, r.key, r.first, r.last, r.body, r.payload, None, b"")


@dataclass
class Question:
    """A read under way: asked, then read from the log, then answered."""

    request: Fetch
    answer: Fetched | None = None


class Epoch:
    """One life of the engine, and its host."""

    def __init__(
        self,
        number: int,
        image: MemoryImage | None,
        settings: Settings,
        clock: SimulatedClock,
        rng: random.Random,
    ) -> None:
        self.number = number
        self.ready = False
        self.alive = True  # False: nothing may be told to anybody any more
        self.awake = False
        self.questions: list[Question] = []
        self.states: dict[int, bytes] = {}  # canonical states by last lsn
        self.retired = Retired(())  # as far as anybody has looked
        self.pinned: Callable[[str, int], None] = lambda *_: None  # told: consumer, offset
        self.clock = clock
        self._rng = rng
        self._turning = False
        self.log = WatchedLog(self._outcome, image=image, auto_commit=False)
        recovered = recover(self.log.reader())
        require(recovered.state.next_lsn == self.log.next_lsn, "recovery stopped short")
        state = recovered.state
        self.recovered_canonical = canonical(state)
        now, wall = clock.monotonic_ns(), clock.wall_ns()
        resumed_ns = resume_at(state.engine_time_ns, recovered.last_wall_ns, wall)
        self.engine = Engine(
            self.log,
            state,
            settings,
            clock,
            EngineTime(resumed_ns, now, wall),
            self,
            folded_records=recovered.records,
        )
        gap_ns = resumed_ns - state.engine_time_ns
        require(0 <= gap_ns <= GAP_NS_MAX, "engine time goes on after a gap of", gap_ns)
        self._time_lead_ns = resumed_ns - now  # of engine time, for this whole life
        self._settings = settings
        self._clean_stop = state.clean_stop

    def start(self) -> None:
        self.engine.start(self._started, self._on_ready)

    def _started(self, now_ns: int) -> ev.ServerStarted:
        return ev.ServerStarted(
            engine_time_ns=now_ns,
            version="simulated",
            host="nowhere",
            boot_id=str(self.number),
            config_digest=b"",
            clean_stop=self._clean_stop,
            dedup_window_ns=self._settings.dedup_window_ns,
            dedup_ids_max=self._settings.dedup_ids_max,
        )

    def _on_ready(self) -> None:
        require(self.alive, "ready after the end")
        self.ready = True

    # -------------------------------------------------------------------- host

    def wake(self) -> None:
        self.awake = True

    def fetch(self, request: Fetch) -> None:
        self.questions.append(Question(request))

    def _outcome(self, outcome: Outcome) -> None:
        if isinstance(outcome, Committed):
            self.engine.committed(outcome)
        else:
            self.alive = False
            self.engine.failed(UnavailableError("the disk failed"))

    # ------------------------------------------------------------------- steps

    def turn(self) -> None:
        """One turn, as the loop would run it after a wake."""
        self.awake = False
        self.engine.turn()
        engine_ns = self.engine.core.now_ns()
        require(engine_ns == self.clock.now_ns + self._time_lead_ns, "engine time", engine_ns)
        if self._rng.random() < STATES_KEPT_PART:
            self._keep_state()

    def _keep_state(self) -> None:
        """Remember what is live, to be compared if a life ends exactly here."""
        self.states[self.log.next_lsn - 1] = canonical(self.engine.state)

    def settle_down(self) -> None:
        """Turns until the engine asks for no more. Raises Violation if it never stops."""
        for _ in range(TURNS_MAX):
            if not self.awake:
                return
            self.turn()
        require(False, "the engine spins")

    def ring_alarm(self) -> None:
        """What the host's timer does."""
        due = self.engine.next_alarm_monotonic_ns()
        if due is not None and due <= self.clock.now_ns:
            self.awake = True

    def read(self, question: Question, limit: int) -> None:
        """The reader's thread: look at what is committed now."""
        request = question.request
        narrow: Fetch = request
        if isinstance(request, FetchAhead):
            held = self.first_held(request.from_offset)
            if held > request.from_offset:
                question.answer = Fetched(request, (), held)
                return
            narrow = msgspec.structs.replace(request, limit=min(limit, request.limit))
        try:
            answer = self.look(lambda reader: fetched(reader, narrow, self.left_out()))
        except SegmentDamagedError as error:
            if not isinstance(request, FetchAhead):
                raise Violation("read what is left out") from error
            pinned = (error.fields["first_offset"], error.fields["last_offset"])
            answer = Fetched(request, (), request.from_offset, pinned=pinned)
        question.answer = msgspec.structs.replace(answer, request=request)

    def look(self, function: Callable[[LogReader], T]) -> T:
        """Read as the server does: what turns out to be damaged is quarantined, and the rest
        read again. Raises SegmentDamagedError when there is no answer without it."""
        return read_around_damage(self.log, self.log.reader(), function)

    def left_out(self) -> list[Range]:
        """Offsets in quarantine."""
        return left_out(self.log)

    def quarantined(self) -> set[int]:
        """First lsns of the segments that are left out."""
        return {damaged.first_lsn for damaged in self.log.quarantined}

    def first_held(self, offset: int) -> int:
        """As far as is known: what was retired is learned when somebody looks."""
        return self.retired.first_held(max(offset, self.engine.state.oldest_offset))

    def answer(self, question: Question) -> None:
        """The answer arrives on the loop."""
        answer = question.answer
        assert answer is not None
        self.questions.remove(question)
        self.engine.fetched(answer)
        feed = self.engine.deliveries._feeds.get(answer.request.consumer)
        if answer.pinned is not None and feed is not None and feed.pinned == answer.pinned:
            self.pinned(answer.request.consumer, feed.scanned_to)

    def end(self, keep: int) -> MemoryImage:
        """The process is gone; `keep` groups nobody heard of are on disk all the same."""
        if self.engine.state.next_lsn == self.log.next_lsn and self.engine.failure is None:
            self._keep_state()  # nothing was decided that the log has not got
        self.alive = False
        return self.log.crash(keep)
