"""A run of the real engine that numbers decide: what is done, and to which of those there are.

`ACTIONS` is the strategy, `Story().play(actions)` gives the world afterwards, with its log.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from hermes.broker import events as ev
from hermes.broker.batch import IncomingBatch
from hermes.broker.core import Settings
from hermes.broker.ranges import normalize
from hermes.broker.settling import Verdict
from tests.support.world import SECOND_NS, Worker, World, message, messages

POLICY = ev.Policy((), 5 * SECOND_NS, 2, SECOND_NS, 2 * SECOND_NS, 20 * SECOND_NS)
SETTINGS = Settings(
    default_policy=POLICY,
    dedup_window_ns=10 * SECOND_NS,
    dedup_ids_max=4,
    snapshot_interval_records=25,
    dead_letter_retention_ns=15 * SECOND_NS,
)
NUMBERS = st.integers(0, 999)
ACTIONS = st.lists(st.tuples(st.integers(0, 12), NUMBERS, NUMBERS), min_size=5, max_size=40)


class Story:
    """A run of the engine, told by numbers: what is done, and to which of those there are."""

    def __init__(self) -> None:
        self.world = World(settings=SETTINGS)
        self.workers: list[Worker] = []
        self.live: list[int] = []
        self.sequence = 1

    def play(self, actions: Sequence[tuple[int, int, int]]) -> World:
        for action, a, b in actions:
            self.act(action, a, b)
            self.world.run()
        return self.world

    def act(self, action: int, a: int, b: int) -> None:
        world = self.world
        match action:
            case 0 | 1:
                world.publish(*self.batches(a, b))
            case 2:
                world.publish(message(), producer_id=b"%d" % (a % 3), first_sequence=self.sequence)
                self.sequence += b % 2
            case 3:
                filters = ((">",), ("a.*",), ("b",))[a % 3]
                self.workers.append(world.join(f"c{a % 3}", *filters, credit=1 + b % 6))
            case 4 | 5 | 6 if self.workers:
                self.settle(self.workers[a % len(self.workers)], b)
            case 7 if self.workers:
                self.workers.pop(a % len(self.workers)).leave(lost=b % 2 == 0)
            case 8:
                world.advance(a % 9)
                world.engine.tick()
            case 9:
                self.admin(a, b)
            case 10:
                self.live.append(world.subscribe("a.*", *(["g"] if a % 2 else []))[0])
            case 11:
                world.engine.publish_live(world.session, self.batches(a, b), lambda _: None)
                if self.live:
                    world.engine.unsubscribe(self.live.pop(a % len(self.live)))
            case 12:
                self.interrupt(a)

    @staticmethod
    def batches(a: int, b: int) -> list[IncomingBatch]:
        return [message("a.b", id=f"m{a % 7}"), messages(1 + a % 4, "b"), message("a.c")][
            : 1 + b % 3
        ]

    def settle(self, worker: Worker, number: int) -> None:
        consumer = self.world.state.consumers.get(worker.seat.consumer)
        if consumer is None or not consumer.leases_of(worker.seat.member):
            return
        held = consumer.leases_of(worker.seat.member)
        first, last, lease = held[number % len(held)]
        verdict = list(Verdict)[number % len(Verdict)]
        delay_ns = SECOND_NS if number % 2 else None
        ranges = normalize([(first, first + (last - first) // 2)])
        worker.settle(verdict, *ranges, attempt=lease.attempt, delay_ns=delay_ns)

    def admin(self, a: int, b: int) -> None:
        names = list(self.world.state.consumers)
        if not names:
            return
        name, members, session = (
            names[a % len(names)],
            self.world.engine.members,
            self.world.session,
        )
        everything = [(0, self.world.state.next_offset)]
        if b % 4 == 0:
            members.delete(session, name)
            self.workers = [w for w in self.workers if w.seat.consumer != name]
        elif b % 4 == 1:
            members.discard(session, name, everything)
        else:
            members.replay(session, name, everything, b % 3)

    def interrupt(self, a: int) -> None:
        if a % 3 == 0:
            self.world.engine.roll()
            return
        if a % 3 == 1:
            self.world.stop()
            self.world.start(self.world.log.image())
        else:
            self.world.crash()
        self.workers.clear()
        self.live.clear()
