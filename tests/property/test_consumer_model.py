"""The engine against a dict: members that come, settle, stall and go, in any order."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hermes import limits
from hermes.broker import events as ev
from hermes.broker.core import Settings
from hermes.broker.event_codec import decode
from hermes.broker.ranges import Range, intersect, normalize
from hermes.broker.recovery import recover
from hermes.broker.settling import Verdict
from hermes.broker.snapshot import canonical, decode_snapshot, encode_snapshot
from hermes.errors import InvalidArgumentError
from tests.support.consumer_model import DEAD, LEASED, SETTLED, UNSEEN, WAITING, ConsumerModel
from tests.support.world import SECOND_NS, Worker, World, messages

SUBJECT = "a.b"
MAX_ATTEMPTS = 3
POLICY = ev.Policy((), 10 * SECOND_NS, MAX_ATTEMPTS, SECOND_NS, 4 * SECOND_NS, 0)
MEMBERS_MAX = 4
CALM_STEPS = 12
CREDITS = st.integers(1, 8)
OFFSETS_MAX = 80
PICKS = st.integers(0, 1_000)
SPANS = st.lists(st.tuples(PICKS, st.integers(0, 5)), min_size=1, max_size=3)


class BrokerAgainstDict(RuleBasedStateMachine):
    """One consumer of a real engine, and the model that reads its log."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(limits, "WINDOW_BATCHES_MAX", 2)
        self.world = World(settings=Settings(default_policy=POLICY, redelivery_batch_size=3))
        self.model = ConsumerModel("c", SUBJECT, MAX_ATTEMPTS)
        self.workers: list[Worker] = []
        self.read_to = 0
        self.ring_bytes = 10**6
        self.steps = 0  # since the last of the events that end much at once

    @initialize(small_ring=st.booleans(), sizes=st.lists(CREDITS, min_size=2, max_size=3))
    def begin(self, small_ring: bool, sizes: Sequence[int]) -> None:
        self.ring_bytes = 8 if small_ring else 10**6
        self.world.engine.deliveries._ring.bytes_max = self.ring_bytes
        for credit in sizes:
            self.join(credit, 10**6)
        self.publish([(5, True), (1, False), (3, True), (1, True)])

    def teardown(self) -> None:
        try:
            self.settle_everything()
        finally:
            self.patch.undo()

    # ------------------------------------------------------------------- rules

    @precondition(lambda self: self.world.state.next_offset < OFFSETS_MAX)
    @rule(sizes=st.lists(st.tuples(st.integers(1, 6), st.booleans()), min_size=1, max_size=4))
    def publish(self, sizes: Sequence[tuple[int, bool]]) -> None:
        self.world.publish(*(messages(n, SUBJECT if matches else "b") for n, matches in sizes))

    @precondition(lambda self: len(self.workers) < MEMBERS_MAX)
    @rule(credit=CREDITS, credit_bytes=st.sampled_from([1, 10, 10**6]))
    def join(self, credit: int, credit_bytes: int) -> None:
        worker = self.world.join("c", SUBJECT, credit=credit, credit_bytes=credit_bytes, run=False)
        self.model.credit[worker.seat.member] = credit
        self.world.run()
        self.workers.append(worker)

    @precondition(lambda self: len(self.workers) > 1 or (self.workers and self.is_calm))
    @rule(pick=PICKS, lost=st.booleans())
    def leave(self, pick: int, lost: bool) -> None:
        worker = self.workers.pop(pick % len(self.workers))
        self.steps = 0
        self.read_log()
        held = self.model.held_by(worker.seat.member)
        before = {offset: self.model.messages[offset].failures for offset in held}
        worker.leave(lost=lost)
        self.world.run()
        self.read_log()
        charged = [o for o in held if self.model.messages[o].failures > before[o]]
        assert charged == (held if lost and len(held) == 1 else [])

    @precondition(lambda self: self.workers)
    @rule(pick=PICKS, spans=SPANS)
    def ack(self, pick: int, spans: Sequence[tuple[int, int]]) -> None:
        ranges = self.ranges(spans)
        counting = self.where(ranges, LEASED, WAITING)
        dead = self.where(ranges, DEAD)
        worker = self.workers[pick % len(self.workers)]
        if ranges[-1][1] >= self.world.consumer().position:
            with pytest.raises(InvalidArgumentError):
                worker.ack(*ranges)
            return
        stale = worker.ack(*ranges)
        assert self.offsets(stale) == dead
        self.world.run()
        self.read_log()
        assert all(self.model.messages[offset].state == SETTLED for offset in counting)

    @precondition(lambda self: self.workers)
    @rule(pick=PICKS)
    def ack_all(self, pick: int) -> None:
        worker = self.busy(pick)
        held = self.model.held_by(worker.seat.member)
        if held:
            assert worker.ack(*normalize((o, o) for o in held)) == []
            self.world.run()

    @precondition(lambda self: self.workers)
    @rule(
        pick=PICKS,
        spans=SPANS,
        verdict=st.sampled_from([Verdict.NACK, Verdict.REJECT, Verdict.EXTEND, Verdict.RELEASE]),
        attempt=st.sampled_from([None, None, None, 1, 2, 9]),
        delay_s=st.sampled_from([None, 0, 3]),
    )
    def judge(
        self,
        pick: int,
        spans: Sequence[tuple[int, int]],
        verdict: Verdict,
        attempt: int | None,
        delay_s: int | None,
    ) -> None:
        worker = self.busy(pick)
        ranges = self.ranges(spans, within=self.model.held_by(worker.seat.member))
        ranges = intersect(ranges, [(0, self.world.consumer().position - 1)])
        if not ranges:
            return
        first = self.model.messages.get(ranges[0][0])
        if attempt is None:
            attempt = first.attempt if first else 1
        counting = [
            offset
            for offset in self.where(ranges, LEASED)
            if self.model.messages[offset].member == worker.seat.member
            and self.model.messages[offset].attempt == attempt
        ]
        failures = {o: self.model.messages[o].failures for o in counting}
        delay_ns = None if delay_s is None else delay_s * SECOND_NS
        stale = worker.settle(verdict, *ranges, attempt=attempt, delay_ns=delay_ns)
        assert self.offsets(stale) == sorted(set(self.offsets(ranges)) - set(counting))
        self.world.run()
        self.read_log()
        for offset in counting:
            self.check_judged(offset, verdict, failures[offset])

    def check_judged(self, offset: int, verdict: Verdict, failures_before: int) -> None:
        message = self.model.messages[offset]
        failed = failures_before + (verdict is Verdict.NACK)
        assert message.failures == failed
        if verdict is Verdict.REJECT or failed == MAX_ATTEMPTS:
            assert message.state == DEAD
        else:
            assert message.state in {LEASED, WAITING}

    @precondition(lambda self: self.workers)
    @rule(pick=PICKS, credit=CREDITS)
    def change_credit(self, pick: int, credit: int) -> None:
        seat = self.workers[pick % len(self.workers)].seat
        # Less credit than is in flight takes nothing back.
        self.model.credit[seat.member] = max(credit, len(self.model.held_by(seat.member)))
        self.world.engine.members.credit(seat, credit, 10**6)
        self.world.run()
        self.read_log()
        self.model.credit[seat.member] = max(credit, len(self.model.held_by(seat.member)))

    @rule(seconds=st.sampled_from([0.1, 0.5, 1, 2, 5, 10, 21]))
    def wait(self, seconds: float) -> None:
        self.world.advance(seconds)

    @precondition(lambda self: "c" in self.world.state.consumers)
    @rule(spans=SPANS, discard=st.booleans(), per_second=st.sampled_from([0, 1, 3]))
    def dead_letters(
        self, spans: Sequence[tuple[int, int]], discard: bool, per_second: int
    ) -> None:
        ranges = self.ranges(spans, within=self.model.in_state(DEAD))
        dead = self.where(ranges, DEAD)
        members, session = self.world.engine.members, self.world.session
        if discard:
            changed = members.discard(session, "c", ranges)
        else:
            changed = members.replay(session, "c", ranges, per_second)
        assert changed == len(dead)
        self.world.run()

    @precondition(lambda self: self.is_calm)
    @rule(clean=st.booleans())
    def restart(self, clean: bool) -> None:
        if clean:
            self.world.stop()
            self.world.start(self.world.log.image())
        else:
            self.world.crash()
        self.world.engine.deliveries._ring.bytes_max = self.ring_bytes
        self.workers.clear()
        self.model.credit.clear()
        self.steps = 0

    @rule(hold=st.booleans())
    def hold_reads(self, hold: bool) -> None:
        self.world.auto_fetch = not hold
        self.world.run()

    @precondition(lambda self: self.is_calm)
    @rule()
    def roll(self) -> None:
        self.world.engine.roll()
        self.world.run()

    # -------------------------------------------------------------- invariants

    @invariant()
    def log_and_state_agree(self) -> None:
        self.steps += 1
        self.read_log()
        consumer = self.world.state.consumers.get("c")
        if consumer is None:
            return
        for offset, message in self.model.messages.items():
            assert consumer.state_of(offset).value == message.state, offset
            lease, waiting = consumer.leases.at(offset), consumer.waiting.at(offset)
            if lease is not None:
                assert (lease.member, lease.attempt, lease.failures, lease.releases) == (
                    message.member,
                    message.attempt,
                    message.failures,
                    message.releases,
                )
            if waiting is not None:
                assert (waiting.attempt, waiting.failures, waiting.releases, waiting.due_ns) == (
                    message.attempt,
                    message.failures,
                    message.releases,
                    message.due_ns,
                )
        assert consumer.position >= self.model.position
        for member, place in consumer.members.items():
            assert place.in_flight == len(self.model.held_by(member))
            assert (place.in_flight_bytes > 0) == (place.in_flight > 0)

    @invariant()
    def nothing_is_left_undone(self) -> None:
        if not self.world.auto_fetch:
            return
        now_ns = self.world.engine.core.now_ns()
        held = self.model.in_state(LEASED)
        assert not [o for o in held if self.model.messages[o].deadline_ns <= now_ns]
        idle = [
            worker
            for worker in self.workers
            if not self.model.held_by(worker.seat.member) and not worker.seat.overdue
        ]
        if idle:
            assert not self.model.in_state(UNSEEN)
            waiting = self.model.in_state(WAITING)
            assert not [o for o in waiting if self.model.messages[o].due_ns <= now_ns]

    @invariant()
    def members_were_sent_what_is_logged(self) -> None:
        for worker in self.workers:
            sent = set(worker.port.offsets())
            assert set(self.model.held_by(worker.seat.member)) <= sent

    @invariant()
    def a_snapshot_restores_the_state(self) -> None:
        state = self.world.state
        copy = decode_snapshot(encode_snapshot(state, 0).body, state.next_lsn - 1)
        assert canonical(copy) == canonical(state)
        for name, consumer in state.consumers.items():
            assert copy.consumers[name].members == consumer.members

    # ----------------------------------------------------------------- helpers

    @property
    def is_calm(self) -> bool:
        """Long enough without an end of members for leases to live their lives."""
        return self.steps >= CALM_STEPS

    def settle_everything(self) -> None:
        """When everything calms down, every message is settled or dead."""
        self.world.auto_fetch = True
        if not self.workers:
            self.join(credit=7, credit_bytes=10**6)
        for _ in range(4 * OFFSETS_MAX):
            for worker in self.workers:
                self.read_log()
                worker.ack(*normalize((o, o) for o in self.model.held_by(worker.seat.member)))
                self.world.run()
            self.read_log()
            if self.model.in_state(UNSEEN, WAITING) and not self.model.in_state(LEASED):
                self.world.advance(4)  # less than the ack timeout: these members are never late
            elif not self.model.in_state(UNSEEN, WAITING, LEASED):
                break
        assert self.model.in_state(UNSEEN, WAITING, LEASED) == []
        self.log_and_state_agree()
        assert canonical(recover(self.world.log.reader()).state) == canonical(self.world.state)

    def read_log(self) -> None:
        records = self.world.log.reader().read(self.read_to + 1, limit=10**6, limit_bytes=10**9)
        for record in records:
            event = decode(record)
            if event is not None:
                self.model.apply(event)
            self.read_to = record.lsn

    def busy(self, pick: int) -> Worker:
        """A member that holds something, if one does."""
        self.read_log()
        busy = [w for w in self.workers if self.model.held_by(w.seat.member)] or self.workers
        return busy[pick % len(busy)]

    def ranges(self, spans: Sequence[tuple[int, int]], within: Sequence[int] = ()) -> list[Range]:
        """Ranges that begin at offsets of the line, or at some that are of interest."""
        starts = within or range(max(1, self.world.state.next_offset))
        picked = [starts[pick % len(starts)] for pick, _ in spans]
        return normalize(
            (first, first + more) for first, (_, more) in zip(picked, spans, strict=True)
        )

    @staticmethod
    def offsets(ranges: Sequence[Range]) -> list[int]:
        return [offset for first, last in ranges for offset in range(first, last + 1)]

    def where(self, ranges: Sequence[Range], *states: str) -> list[int]:
        self.read_log()
        wanted = set(self.model.in_state(*states))
        return [offset for offset in self.offsets(ranges) if offset in wanted]


TestBrokerAgainstDict = BrokerAgainstDict.TestCase
if not os.environ.get("HYPOTHESIS_PROFILE"):
    TestBrokerAgainstDict.settings = settings(max_examples=150, stateful_step_count=50)
