"""Dead letters get their copies on `_dead_letter.<subject>`: after the event, once the
stored batch is at hand. What to publish is decided in dead_letters.py."""

from __future__ import annotations

from collections import deque
from functools import partial

from hermes.broker.batch import LineBatch
from hermes.broker.consumer import Consumer
from hermes.broker.dead_letters import copies, without_copy
from hermes.broker.events import Ranges
from hermes.broker.intake import Intake
from hermes.broker.journal import Journal
from hermes.broker.ports import Fetched, FetchRanges, Host
from hermes.broker.ranges import Range
from hermes.broker.ring import Ring

COPIES_PER_TURN = 64
READS_AT_ONCE = 4  # each of bounded size


class Copying:
    """The dead letters that still need a copy, in order."""

    def __init__(self, journal: Journal, ring: Ring, host: Host, intake: Intake) -> None:
        self._journal = journal
        self._state = journal.state
        self._ring = ring
        self._host = host
        self._intake = intake
        self._todo: deque[tuple[str, int, int, int]] = deque()  # consumer, its lsn, first, last
        self._reading = 0
        self._ready: deque[tuple[str, int, LineBatch, Range]] = deque()

    def resume(self) -> None:
        """After a start: what a crash left without a copy."""
        for consumer, dead in without_copy(self._state):
            self.add(consumer, (dead,))

    def add(self, consumer: Consumer, ranges: Ranges) -> None:
        for first, last in ranges:
            self._todo.append((consumer.name, consumer.created_lsn, first, last))
        self._host.wake()

    def run(self, now_ns: int) -> None:
        """Publish a bounded number of copies; read what is not at hand."""
        for _ in range(COPIES_PER_TURN):
            if not self._may_find:
                break
            self._find(*self._todo.popleft())
        for _ in range(min(len(self._ready), COPIES_PER_TURN)):
            self._publish(*self._ready.popleft(), now_ns)
        if self._ready or self._may_find:
            self._host.wake()

    @property
    def _may_find(self) -> bool:
        """Whether there is more to find, and room for it."""
        room = self._reading < READS_AT_ONCE and len(self._ready) < COPIES_PER_TURN
        return room and bool(self._todo)

    def _find(self, name: str, created_lsn: int, first: int, last: int) -> None:
        while first <= last:
            batch = self._ring.find(first)
            if batch is None:
                request = FetchRanges(name, created_lsn, ((first, last),), for_copies=True)
                self._reading += 1
                self._journal.after_commit(partial(self._host.fetch, request))
                return
            self._ready.append((name, created_lsn, batch, (first, min(last, batch.last))))
            first = batch.last + 1

    def fetched(self, request: FetchRanges, answer: Fetched) -> None:
        self._reading -= 1
        batches = answer.batches
        for first, last in reversed(answer.unread):
            self._todo.appendleft((request.consumer, request.created_lsn, first, last))
        for first, last in request.ranges:
            for batch in batches:
                a, b = max(first, batch.first), min(last, batch.last)
                if a <= b:
                    self._ready.append((request.consumer, request.created_lsn, batch, (a, b)))

    def _publish(
        self, name: str, created_lsn: int, batch: LineBatch, dead: Range, now_ns: int
    ) -> None:
        consumer = self._state.consumers.get(name)
        if consumer is not None and consumer.created_lsn == created_lsn:
            for event in copies(consumer, batch, *dead):
                self._intake.enter_copy(event, now_ns)
