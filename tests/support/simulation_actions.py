"""What can happen in one step of the simulation. Each method is one action of the plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hermes.broker.consumers import OpenConsumer
from hermes.broker.session import Client
from hermes.errors import ConflictError, HermesError, PreconditionError, UnavailableError
from tests.support.simulation_clients import Sent, Subscriber, incoming
from tests.support.simulation_collector import Collector
from tests.support.simulation_consumer import DEAD, require
from tests.support.simulation_host import HOUR_NS, SECOND_NS, Epoch
from tests.support.simulation_members import GOOD, Member
from tests.support.simulation_plan import FILTERS, SUBJECTS

if TYPE_CHECKING:
    from tests.support.simulation import World

GROUPS: tuple[tuple[str, ...], ...] = ((), (), ("g",), ("g",), ("h",), ("g", "h"))


class Actions:
    """Everything that a step may do to the world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rng = world.rng
        self._live_messages = 0
        self.collector: Collector  # of the present epoch

    @property
    def epoch(self) -> Epoch:
        return self.world.epoch

    def client(self, name: str) -> Client:
        return Client("", "peer", name, "1", str(self.epoch.number))

    # --------------------------------------------------------------- publishing

    def publish(self) -> None:
        self.rng.choice(self.world.publishers).act()

    def publish_live(self) -> None:
        self._live_messages += 1
        sent = Sent(self.rng.choice(SUBJECTS), [f"live.{self._live_messages}"])
        engine = self.epoch.engine
        session = engine.attach(self.client("live"))
        engine.publish_live(session, [incoming(self.rng, sent, ids=False)], lambda _: None)
        engine.detach(session)

    # ---------------------------------------------------------------- consumers

    def work(self) -> None:
        """Some members get a chance to answer, rather those that hold something."""
        for _ in range(self.rng.choice((1, 2, 4))):
            members = self.world.members
            busy = [m for m in members if m.held]
            if members:
                self.rng.choice(busy if busy and self.rng.random() < 0.8 else members).act()

    def work_of_former(self) -> None:
        """A frame that was on its way when its consumer was deleted."""
        for member in self.world.former[:2]:
            if member.past or member.held:
                member.ack([offset for offset, _ in member.past[:3]] or sorted(member.held))

    def join(self) -> None:
        """Somebody opens a consumer: as it is, as it is not, or a new one."""
        name = self.rng.choice(self.world.plan.consumers)
        state = self.epoch.engine.state
        there = state.consumers.get(name)
        command = self.world.plan.open_command(name, there, state)
        if there is None and not command.filters:
            return
        try:
            self.seat(command, self.rng.choice(self.world.plan.tempers))
        except (ConflictError, PreconditionError):
            require(there is not None, "refused a new consumer")

    def seat(self, command: OpenConsumer, temper: str) -> Member:
        """Join, and be told `opened` at the commit."""
        world, epoch = self.world, self.epoch
        session = epoch.engine.attach(self.client(f"worker{self.rng.randint(0, 3)}"))
        member = Member(world, epoch, session, temper)
        credit = self.rng.choice((1, 2, 5, 30, 1_000))
        try:
            joined = epoch.engine.members.join(
                session, command, credit, self.rng.choice((50, 1_000, 10**6)), member
            )
        except HermesError:
            epoch.engine.detach(session)
            raise
        member.seat = seat = joined.seat
        world.members.append(member)

        def opened() -> None:
            require(epoch.alive, "opened after the end")
            require(seat.member <= epoch.log.durable_lsn, "opened before it was durable")
            world.opened[seat.created_lsn] = seat.consumer

        epoch.engine.journal.after_commit(opened)
        return member

    def depart(self) -> None:
        if self.world.members:
            lost = not self.world.plan.gentle and self.rng.random() < 0.5
            self.leave(self.rng.choice(self.world.members), lost=lost)

    def leave(self, member: Member, *, lost: bool) -> None:
        if lost:
            self.world.broken_streams.add(member.seat.member)
        member.gone = True
        member.past += member.held.items()
        member.held.clear()
        if member in self.world.members:
            self.world.members.remove(member)
        member.epoch.engine.members.leave(member.seat, lost=lost)
        member.epoch.engine.detach(member.session)

    def delete(self) -> None:
        engine = self.epoch.engine
        names = list(engine.state.consumers)
        if not names:
            return
        name = self.rng.choice(names)
        session = engine.attach(self.client("operator"))
        engine.members.delete(session, name)
        engine.detach(session)
        gone = [m for m in self.world.members if m.seat.consumer == name]
        self.world.members = [m for m in self.world.members if m not in gone]
        self.world.former = gone

    def replay_or_discard(self) -> None:
        """An operator looks after dead letters."""
        engine = self.epoch.engine
        for name, consumer in self.world.model.consumers.items():
            dead = [o for o, m in consumer.messages.items() if m.state == DEAD]
            if not dead or engine.state.consumers.get(name) is None:
                continue
            first = self.rng.choice(dead)
            ranges = [(max(0, first - 1), first + 2)]
            session = engine.attach(self.client("operator"))
            if self.rng.random() < 0.7:
                engine.members.replay(session, name, ranges, self.rng.choice((0, 1)))
            else:
                engine.members.discard(session, name, ranges)
            engine.detach(session)
            return

    # --------------------------------------------------------------------- live

    def subscribe(self) -> None:
        engine = self.epoch.engine
        pattern = self.rng.choice(self.rng.choice(FILTERS))
        session = engine.attach(self.client("listener"))
        groups = self.rng.choice(GROUPS)
        port = Subscriber(self.world, pattern, groups, self.epoch, session)
        port.id, port.buffer = engine.subscribe(session, pattern, groups, port)
        self.world.subscribers.append(port)

    def unsubscribe(self) -> None:
        if self.world.subscribers:
            port = self.rng.choice(self.world.subscribers)
            self.world.subscribers.remove(port)
            self.epoch.engine.unsubscribe(port.id)
            self.epoch.engine.detach(port.session)

    def read_live(self) -> None:
        if self.world.subscribers:
            self.rng.choice(self.world.subscribers).read(self.rng.choice((1, 5, 100)))

    # ----------------------------------------------------------------- the host

    def turn(self) -> None:
        if self.epoch.awake:
            self.epoch.turn()

    def commit(self) -> None:
        self.epoch.log.commit(self.rng.choice((1, 1, 2, 100)))

    def read(self) -> None:
        unread = [q for q in self.epoch.questions if q.answer is None]
        if unread:
            self.epoch.read(self.rng.choice(unread), self.rng.choice((1, 3, 1_000)))

    def answer(self) -> None:
        read = [q for q in self.epoch.questions if q.answer is not None]
        if read:
            self.epoch.answer(self.rng.choice(read))

    def time_passes(self) -> None:
        self.world.clock.now_ns += self.world.plan.step_ns()
        self.epoch.ring_alarm()

    def wall_jumps(self) -> None:
        self.world.clock.wall_lead_ns += self.rng.choice((-HOUR_NS, HOUR_NS, SECOND_NS))

    def tick(self) -> None:
        self.epoch.engine.tick()

    def roll(self) -> None:
        self.epoch.engine.turn()
        self.epoch.engine.roll()

    def checkpoint(self) -> None:
        """Sign what is durable: the record changes no state but the engine's time."""
        epoch = self.epoch
        mark = epoch.log.committed
        require(mark.lsn == epoch.log.durable_lsn, "the mark is not what is durable", mark.lsn)
        at_ns = self.world.clock.wall_ns()
        epoch.engine.record_checkpoint(mark.lsn, mark.chain, at_ns, "signed")

    def collect_garbage(self) -> None:
        """The collector goes on: often one stage, sometimes through a whole plan."""
        for _ in range(self.rng.choice((1, 1, 2, 5))):
            self.collector.step()

    # ------------------------------------------------------------------- faults

    def crash(self) -> None:
        self.world.reopen(self.epoch.end(self.rng.choice((0, 0, 1, 100))))

    def fail(self) -> None:
        """A commit fails; clients go on asking for a while."""
        epoch, world = self.epoch, self.world
        epoch.log.fail(OSError("no"))
        for _ in range(self.rng.randint(0, 8)):
            try:
                self.rng.choice((self.publish, self.work, self.join, self.subscribe))()
            except UnavailableError:
                continue
        for member in list(world.members):
            self.leave(member, lost=True)
        while world.subscribers:
            self.unsubscribe()
        world.reopen(epoch.end(self.rng.choice((0, 0, 1, 100))))

    def damage(self) -> None:
        """A sealed segment cannot be read any more. Reads will find out, or the scrub does."""
        log = self.epoch.log
        sealed = [s for s in log.segments(subjects=False) if s.sealed and not s.quarantined]
        if sealed:
            segment = self.rng.choice(sealed)
            first_lsn = segment.first_lsn
            self.world.damaged[first_lsn] = segment.last_lsn
            log.damage(first_lsn, "a page of it cannot be read")
            if self.rng.random() < 0.3:
                log.quarantine(first_lsn, "found by the scrub")

    def restart(self) -> None:
        """A stop in order: drain, flush, close."""
        epoch = self.epoch
        stopped: list[int] = []
        epoch.engine.stop("restart", lambda: stopped.append(epoch.log.durable_lsn))
        epoch.turn()
        epoch.log.commit_all()
        require(stopped == [epoch.log.next_lsn - 1], "not stopped in order", stopped)
        self.world.reopen(epoch.end(0))

    # ---------------------------------------------------------------- in the end

    def staff(self) -> None:
        """Every consumer has a member that works."""
        world = self.world
        for member in world.members:
            member.temper = GOOD
        for name in self.epoch.engine.state.consumers:
            if not any(m.seat.consumer == name for m in world.members):
                self.seat(OpenConsumer(name=name), GOOD)
        for member in world.members:
            if member.seat.overdue:
                member.heartbeat()

    def widen_credit(self) -> None:
        """Everybody takes much at once from now on."""
        for member in self.world.members:
            member.credit(1_000, 10**6)
