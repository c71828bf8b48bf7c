"""The fold laws, over logs that the engine wrote: recovery is the same fold, from anywhere."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings

from hermes.broker import events as ev
from hermes.broker.event_codec import decode
from hermes.broker.recovery import recover
from hermes.broker.snapshot import canonical, decode_snapshot, encode_snapshot
from hermes.broker.state import State
from hermes.log.record import StoredRecord
from tests.support.story import ACTIONS, NUMBERS, Story


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
