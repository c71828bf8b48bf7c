"""Verdicts: coalesced, confirmed, kept over a lost connection."""

from __future__ import annotations

from concurrent.futures import Future
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes.broker.v1 import broker_pb2 as pb
from hermes.client.core.settlements import (
    ACK,
    Settlements,
    Terms,
    first_common,
    join_runs,
    to_ranges,
)
from hermes.errors import ClosedError, ConnectionLostError, StaleError
from hermes.limits import SETTLEMENT_RANGES_MAX

NACK = Terms(pb.VERDICT_NACK, 2, None, "why")


def waiter() -> Future[None]:
    return Future()


def as_set(ranges: list[int]) -> set[int]:
    pairs = zip(ranges[::2], ranges[1::2], strict=True)
    return {offset for first, last in pairs for offset in range(first, last + 1)}


@given(st.lists(st.integers(0, 60)))
def test_ranges_hold_exactly_the_offsets(offsets: list[int]) -> None:
    ranges = to_ranges(list(offsets))
    assert as_set(ranges) == set(offsets)
    # Ascending, disjoint and not adjacent: as few as possible.
    flat = list(zip(ranges[::2], ranges[1::2], strict=True))
    assert all(last + 1 < first for (_, last), (first, _) in pairwise(flat))
    for offset in range(61):
        expected = offset if offset in set(offsets) else None
        assert first_common(offset, offset, ranges) == expected


RUNS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)).map(lambda r: (r[0], sum(r))))


@given(RUNS)
def test_runs_are_joined_into_as_few_as_possible(runs: list[tuple[int, int]]) -> None:
    ranges = join_runs(list(runs))
    assert as_set(ranges) == {offset for first, last in runs for offset in range(first, last + 1)}
    flat = list(zip(ranges[::2], ranges[1::2], strict=True))
    assert all(last + 1 < first for (_, last), (first, _) in pairwise(flat))


def test_runs_and_single_offsets_leave_together() -> None:
    out = Settlements()
    out.add_run(ACK, 10, 19)
    out.add(ACK, (20,))
    out.add_run(ACK, 0, 4)
    (settlement,) = out.take()
    assert list(settlement.ranges) == [0, 4, 10, 20]


def test_a_run_is_stale_when_one_of_it_is() -> None:
    out = Settlements()
    good, bad = waiter(), waiter()
    out.add_run(NACK, 0, 9, good)
    out.add_run(NACK, 10, 19, bad)
    (settlement,) = out.take()
    out.on_stale(pb.Stale(token=settlement.token, ranges=[15, 15]))
    out.on_confirmed([settlement.token])
    assert good.result(0) is None
    with pytest.raises(StaleError, match="offset 15"):
        bad.result(0)


def test_acked_runs_are_kept_over_a_lost_connection() -> None:
    out = Settlements()
    kept = waiter()
    out.add_run(ACK, 0, 9, kept)
    out.take()
    out.add_run(ACK, 10, 12)
    out.on_lost()
    (settlement,) = out.take()
    assert list(settlement.ranges) == [0, 12]
    out.on_confirmed([settlement.token])
    assert kept.result(0) is None


def test_acks_gather_into_ranges_under_one_token() -> None:
    out = Settlements()
    for offset in (5, 3, 4, 9):
        out.add(ACK, (offset,))
    (settlement,) = out.take()
    assert list(settlement.ranges) == [3, 5, 9, 9]
    assert settlement.verdict == pb.VERDICT_ACK
    assert settlement.token
    assert out.is_empty
    assert not out.is_confirmed
    out.on_confirmed([settlement.token])
    assert out.is_confirmed


def test_verdicts_that_differ_leave_apart_and_in_order() -> None:
    out = Settlements()
    out.add(NACK, (1,))
    out.add(ACK, (2,))
    out.add(Terms(pb.VERDICT_NACK, 3, 5, "why"), (3,))
    out.add(NACK, (4,))
    taken = out.take()
    assert [(s.verdict, list(s.ranges), s.attempt, s.reason) for s in taken] == [
        (pb.VERDICT_NACK, [1, 1, 4, 4], 2, "why"),
        (pb.VERDICT_ACK, [2, 2], 0, ""),
        (pb.VERDICT_NACK, [3, 3], 3, "why"),
    ]
    assert not taken[0].HasField("delay_ns")
    assert taken[2].delay_ns == 5


def test_waiters_get_the_commit_or_stale() -> None:
    out = Settlements()
    good, bad = waiter(), waiter()
    out.add(NACK, (1,), good)
    out.add(NACK, (2,), bad)
    (settlement,) = out.take()
    stale = pb.Stale(verdict=pb.VERDICT_NACK, ranges=[2, 2], token=settlement.token)
    out.on_stale(stale)
    assert not good.done()
    with pytest.raises(StaleError) as caught:
        bad.result(0)
    assert caught.value.fields == {"offset": 2}
    out.on_confirmed([settlement.token])
    assert good.result(0) is None


def test_too_many_ranges_for_a_frame_stay_for_the_next() -> None:
    out = Settlements()
    offsets = [2 * number for number in range(SETTLEMENT_RANGES_MAX + 5)]
    late = waiter()
    out.add(ACK, offsets[:-1])
    out.add(ACK, offsets[-1:], late)
    (first,) = out.take()
    assert len(first.ranges) == 2 * SETTLEMENT_RANGES_MAX
    out.on_confirmed([first.token])
    assert not late.done()
    (second,) = out.take()
    assert as_set(list(first.ranges)) | as_set(list(second.ranges)) == set(offsets)
    out.on_confirmed([second.token])
    assert late.done()


def test_unconfirmed_acks_survive_a_lost_connection_and_other_verdicts_do_not() -> None:
    out = Settlements()
    acked, nacked, unsent_ack, unsent_nack = waiter(), waiter(), waiter(), waiter()
    out.add(ACK, (1, 2), acked)
    out.add(NACK, (3,), nacked)
    out.take()
    out.add(ACK, (4,), unsent_ack)
    out.add(NACK, (5,), unsent_nack)
    out.on_lost()
    with pytest.raises(ConnectionLostError):
        nacked.result(0)
    with pytest.raises(StaleError):
        unsent_nack.result(0)
    (again,) = out.take()
    assert (again.verdict, list(again.ranges)) == (pb.VERDICT_ACK, [1, 2, 4, 4])
    out.on_confirmed([again.token])
    assert acked.done()
    assert unsent_ack.done()


def test_an_end_fails_all_who_wait() -> None:
    out = Settlements()
    sent, unsent = waiter(), waiter()
    out.add(ACK, (1,), sent)
    out.take()
    out.add(ACK, (2,), unsent)
    out.on_failed(ClosedError("closed"))
    for each in (sent, unsent):
        with pytest.raises(ClosedError):
            each.result(0)
    assert out.is_confirmed
