"""The fold laws, over logs that the engine wrote: recovery is the same fold, from anywhere."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from hermes.broker import events as ev
from hermes.broker.batch import IncomingBatch
from hermes.broker.core import Settings
from hermes.broker.event_codec import decode
from hermes.broker.ranges import normalize
from hermes.broker.recovery import recover
from hermes.broker.settling import Verdict
from hermes.broker.snapshot import canonical, decode_snapshot, encode_snapshot
from hermes.broker.state import State
from hermes.log.record import StoredRecord
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


def fold(state: State, records: Sequence[StoredRecord]) -> State:
    for record in records:
        state.fold(decode(record), record.lsn)
    return state


@settings(max_examples=60)
@given(ACTIONS, NUMBERS)
def test_live_state_is_the_fold_of_the_log(actions: list[tuple[int, int, int]], pick: int) -> None:
    world = Story().play(actions)
    records = world.records()
    cut = pick % len(records)
    live = canonical(world.state)
    assert canonical(fold(State(), records)) == live
    assert canonical(recover(world.log.reader()).state) == live

    before = fold(State(), records[:cut])
    copy = decode_snapshot(encode_snapshot(before, 0).body, cut)
    assert canonical(copy) == canonical(before)
    for name, consumer in before.consumers.items():
        assert copy.consumers[name].members == consumer.members
    assert canonical(fold(copy, records[cut:])) == live
    assert canonical(recover(world.log.reader(), cut).state) == canonical(before)


@settings(max_examples=30)
@given(ACTIONS)
def test_offsets_and_lsns_are_dense_and_engine_time_never_goes_back(
    actions: list[tuple[int, int, int]],
) -> None:
    world = Story().play(actions)
    records = world.records()
    assert [record.lsn for record in records] == list(range(1, len(records) + 1))
    next_offset, time_ns = 0, 0
    for event in world.events():
        assert event.engine_time_ns >= time_ns
        time_ns = event.engine_time_ns
        if isinstance(event, ev.Published):
            assert event.first == next_offset
            next_offset = event.last + 1
    assert next_offset == world.state.next_offset
