"""The deterministic simulation: the real engine in a world that a seed decides.

`World(seed).run(steps)` lets publishers, members, live subscribers and an operator act in
an order drawn from one random generator, while time passes, the wall clock jumps, commits
and reads are held back, the disk fails and the process crashes. Which of that happens how
often is drawn first (a *swarm*: runs differ in kind, not only in order). At the end all
faults stop, members ack what they get, and everything must come to rest.

The same seed gives the same run, record for record. What must hold stands in
simulation_model.py, simulation_clients.py and simulation_members.py; what was promised to
clients, and what must be true at rest, stands here.
"""

from __future__ import annotations

import random
from contextlib import ExitStack
from unittest.mock import patch

from hermes import limits
from hermes.broker import delivery
from hermes.broker.event_codec import decode
from hermes.broker.recovery import recover
from hermes.broker.snapshot import canonical
from hermes.broker.state import State
from hermes.log.memory import MemoryImage
from hermes.log.record import Kind, StoredRecord
from tests.support.simulation_actions import Actions
from tests.support.simulation_clients import IDS, PLAIN, PRODUCER, Publisher, Subscriber
from tests.support.simulation_collector import Collector
from tests.support.simulation_consumer import DEAD, require
from tests.support.simulation_host import Epoch, SimulatedClock
from tests.support.simulation_members import Member
from tests.support.simulation_model import Entry, Model
from tests.support.simulation_plan import SUBJECTS, Plan

CALM_ROUNDS_MAX = 20_000
BOUNDS_EVERY_STEPS = 20  # looking at every lease at each step would cost too much
SMALL_CREDIT_ROUNDS = 30  # then members take more at once, and the backlog ends


class World:
    """Everything around the engine, in one seeded run."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.plan = Plan(self.rng)
        self.subjects = SUBJECTS
        self.clock = SimulatedClock()
        self.epochs = 0
        self.steps = 0
        self.mending = self.plan.mending  # how likely a restart finds files restored
        self.damaged: dict[int, int] = {}  # segments: first lsn -> last lsn
        self.groups: list[list[Entry]] = []  # every record so far
        self._folded = State()  # of the first groups, to go on from
        self._groups_folded = 0
        self.members: list[Member] = []
        self.former: list[Member] = []  # their consumer was deleted under them
        self.subscribers: list[Subscriber] = []
        self.published: dict[str, int] = {}  # promised: token -> offset
        self.acked: set[tuple[int, str, int]] = set()  # promised: creation lsn, name, offset
        self.opened: dict[int, str] = {}  # promised: creation lsn -> consumer
        self.broken_streams: set[int] = set()
        kinds = (PLAIN, IDS, IDS, PRODUCER, PRODUCER)
        self.publishers = [Publisher(self, i, kind) for i, kind in enumerate(kinds)]
        self.actions = Actions(self)
        self.model = self._new_model()
        self.epoch = self._open(None)

    # ------------------------------------------------------------------- running

    def run(self, steps: int) -> None:
        """Act `steps` times, then let everything come to rest, and check."""
        with ExitStack() as stack:
            for owner, name, value in self.plan.bounds:
                stack.enter_context(patch.object(owner, name, value))
            for _ in range(steps):
                self.step()
            self.calm_down()
            self.check_rest()
            self.mending = 1.0
            self.actions.restart()
            self.calm_down()
            require(not self.epoch.log.quarantined, "damaged again")
            self.check_rest()

    def step(self) -> None:
        """One action, drawn by weight."""
        self.steps += 1
        getattr(self.actions, self.plan.draw())()
        if self.epoch.awake and self.rng.random() < self.plan.promptness:
            self.epoch.turn()
        if self.steps % BOUNDS_EVERY_STEPS == 0:
            self._check_bounds()

    def _check_bounds(self) -> None:
        """Nothing is held for too long, and not too much of it."""
        engine = self.epoch.engine
        if not self.epoch.awake:
            for name, offset in self.model.overdue(engine.core.now_ns()):
                require(False, name, "keeps", offset, "leased for ever")
        batches_max = limits.WINDOW_BATCHES_MAX + delivery.READ_AHEAD_BATCHES
        for name, feed in engine.deliveries._feeds.items():
            require(len(feed.window) <= batches_max, name, "has", len(feed.window), "batches read")

    def leave(self, member: Member, *, lost: bool) -> None:
        self.actions.leave(member, lost=lost)

    def _credit_of(self, member: int) -> int:
        return self.epoch.engine.deliveries.seats[member].credit_messages

    # -------------------------------------------------------------------- epochs

    def _open(self, image: MemoryImage | None) -> Epoch:
        self.epochs += 1
        epoch = Epoch(self.epochs, image, self.plan.settings, self.clock, self.rng)
        epoch.engine.deliveries._ring.bytes_max = self.plan.ring_bytes
        epoch.log.watch = self._watch
        epoch.pinned = self._pinned
        self.model.line.durable_lsn = lambda: epoch.log.durable_lsn
        self.model.retention.quarantined = epoch.quarantined
        self.epoch = epoch
        self.actions.collector = Collector(epoch, self.plan.retention)
        if image is not None:
            self._check_opened()
        epoch.start()
        epoch.settle_down()
        epoch.log.commit_all()
        require(epoch.ready, "the engine did not become ready")
        return epoch

    def _watch(self, records: list[StoredRecord]) -> None:
        group = [(record, decode(record)) for record in records]
        self.groups.append(group)
        self.model.group(group)

    def _pinned(self, name: str, offset: int) -> None:
        """The members of a consumer get nothing from this offset on: it is in what is damaged."""
        self._check_custody()
        inside = any(first <= offset <= last for first, last in self.epoch.left_out())
        require(inside, name, "is pinned at", offset, "which is not damaged")
        created_lsn = self.epoch.engine.state.consumers[name].created_lsn
        consumer = self.model.consumers.get(name)
        if consumer is not None and consumer.created_lsn == created_lsn:
            consumer.pinned_from = offset

    def reopen(self, image: MemoryImage) -> None:
        """A new epoch on what is durable; the promises of the old ones must hold."""
        old, durable_lsn = self.epoch, self.epoch.log.durable_lsn
        old.alive = False
        self._lose_after(durable_lsn)
        self._check_image(image)
        self._check_promises()
        if self.rng.random() < self.mending:
            image.mend()
            self.damaged.clear()
        self.members, self.former, self.subscribers = [], [], []
        for publisher in self.publishers:
            publisher.epoch_ended()
        epoch = self._open(image)
        for _ in range(self.rng.choice((0, 3, 6))):
            self.actions.join()  # they come back
        if durable_lsn in old.states:
            same = old.states[durable_lsn] == epoch.recovered_canonical
            require(same, "recovered another state than was live at lsn", durable_lsn)

    def _lose_after(self, durable_lsn: int) -> None:
        """Forget the groups that did not get to the disk, and what they meant."""
        if durable_lsn == self.model.next_lsn - 1:
            return  # nothing is lost: the model has read what is on disk, and no more
        while self.groups and self.groups[-1][-1][0].lsn > durable_lsn:
            self.groups.pop()
        self.model = self._new_model()
        self.model.quiet = True
        for group in self.groups:
            self.model.group(group)
        self.model.quiet = False

    def _new_model(self) -> Model:
        return Model(self._credit_of, self.broken_streams, self.plan.retention)

    def _check_opened(self) -> None:
        log = self.epoch.log
        stuck = {compaction.first_lsn for compaction in log.compactions}
        self.model.retention.check_opened(log.segments(subjects=False), stuck)

    def _check_custody(self) -> None:
        self.model.retention.check_custody(self.epoch.log.quarantined, self.damaged)

    def _check_image(self, image: MemoryImage) -> None:
        """What is on disk is what was appended, whole groups only."""
        held = [record for segment in image.segments for record in segment.records]
        appended = [record for group in self.groups for record, _ in group]
        require(len(appended) == image.segments[-1].end.lsn, "half a group is on disk")
        for record in held:
            other = appended[record.lsn - 1]
            same = (record.lsn, record.kind, record.key) == (other.lsn, other.kind, other.key)
            sealed = record.kind == Kind.SEGMENT_SEALED
            require(same and (sealed or record.body == other.body), "another record", record.lsn)
            if record.payload != other.payload:
                gone = record.payload is None and record.first in self.model.line.retired
                live = record.kind == Kind.PUBLISHED_LIVE
                require(gone or live, "lost the payload of", record.first)

    def _check_promises(self) -> None:
        model = self.model
        for token, offset in self.published.items():
            there = offset < len(model.tokens) and model.tokens[offset] == token
            require(there, "published and acknowledged, but not in the log:", token, offset)
        for created_lsn, name in self.opened.items():
            consumer = model.consumers.get(name)
            there = consumer is not None and consumer.created_lsn == created_lsn
            require(there or created_lsn in model.deleted_lsn, "lost consumer", name)
        for created_lsn, name, offset in self.acked:
            consumer = model.consumers.get(name)
            if consumer is not None and consumer.created_lsn == created_lsn:
                require(consumer.is_settled(offset), "forgot the ack of", name, offset)

    def promise_published(self, token: str, subject: str, offset: int) -> None:
        """A publisher was told that its message has this offset."""
        model = self.model
        require(offset < len(model.tokens), "no such offset yet:", offset)
        require(model.tokens[offset] == token, token, "is not at", offset)
        require(model.subjects[offset] == subject, token, "is under another subject")
        require(model.lsns[offset] <= self.epoch.log.durable_lsn, "acked before it was durable")
        self.published[token] = offset

    # ------------------------------------------------------------------- at rest

    def calm_down(self) -> None:
        """No more faults: everybody works until nothing is left to do.

        The host's upper bound on waking is left out on purpose: the engine must ask for
        every turn it needs.
        """
        self.actions.staff()
        for publisher in self.publishers:
            if publisher.unknown:
                publisher.act()
        for rounds in range(CALM_ROUNDS_MAX):
            if rounds == SMALL_CREDIT_ROUNDS:
                self.actions.widen_credit()
            if self._go_on():
                continue
            now_ns, left_out = self.epoch.engine.core.now_ns(), self.epoch.left_out()
            for name, offset, state in self.model.overlooked(now_ns, left_out):
                require(False, name, "overlooks", offset, "which is", state)
            due_ns = self.epoch.engine.next_alarm_monotonic_ns()
            if due_ns is None:
                return
            self.clock.now_ns = max(self.clock.now_ns, due_ns)
            self.epoch.ring_alarm()
        require(False, "no rest after", CALM_ROUNDS_MAX, "rounds")

    def _go_on(self) -> bool:
        """One round of everybody; False when nobody had anything to do."""
        epoch = self.epoch
        busy = epoch.awake or bool(epoch.questions)
        epoch.settle_down()
        busy |= bool(epoch.log.commit_all())
        for question in list(epoch.questions):
            epoch.read(question, 1_000)
            epoch.answer(question)
        for member in self.members:
            if member.held:
                busy = True
                member.ack(sorted(member.held))
            if member.seat.overdue:
                member.heartbeat()
        return busy or epoch.awake

    def check_rest(self) -> None:
        """Nothing is left, and what is in memory is what the log says."""
        model, epoch = self.model, self.epoch
        self._check_custody()
        left_out = epoch.left_out()
        for consumer, offset, state in model.outstanding(left_out):
            require(False, "offset", offset, "stays", state, "at consumer", consumer.name)
        if self.plan.gentle:
            dead = [
                (name, offset)
                for name, consumer in model.consumers.items()
                for offset, message in consumer.messages.items()
                if message.state == DEAD and not message.forsaken
            ]
            require(not dead, "died although nobody failed:", dead)
        for name, offset in model.dead_without_copy():
            withheld = any(first <= offset <= last for first, last in left_out)
            require(withheld, "no copy of the dead letter", offset, "of", name)
        for subscriber in self.subscribers:
            subscriber.check_whole(model)
        for publisher in self.publishers:
            require(not publisher.pending, publisher.name, "waits for ever")
        live = canonical(epoch.engine.state)
        require(live == canonical(recover(epoch.log.reader()).state), "recovery differs")
        if self.plan.folds_all:
            require(live == canonical(self._fold_all()), "the fold of all records differs")

    def _fold_all(self) -> State:
        """Every record from the first on, without a snapshot."""
        for group in self.groups[self._groups_folded :]:
            for record, event in group:
                self._folded.fold(event, record.lsn)
        self._groups_folded = len(self.groups)
        return self._folded
