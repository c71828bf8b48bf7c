"""Who gets what: whole batches, cuts, credit, fairness, redeliveries first."""

from __future__ import annotations

import pytest

from hermes import limits
from hermes.broker import dispatch
from hermes.broker.batch import LineBatch
from hermes.broker.consumer import Consumer, Waiting
from hermes.broker.dispatch import Slot, plan
from hermes.broker.feed import Feed
from tests.support.world import POLICY

NEXT_OFFSET = 10_000


def line(first: int, last: int, message_bytes: int = 10) -> LineBatch:
    content = bytes(message_bytes * (last - first + 1))
    return LineBatch(first, last, "a.b", b"", content, 0, 0)


def slot(member: int = 1, credit: int = 10, in_flight: int = 0, **changes: int | bool) -> Slot:
    values = {"credit_bytes": 10**6, "in_flight_bytes": 0, "alone": False, "served": 0} | changes
    return Slot(member=member, credit_messages=credit, in_flight=in_flight, **values)  # type: ignore[arg-type]


class Bench:
    """A consumer and a feed that is filled by hand."""

    def __init__(self, *batches: LineBatch, position: int = 0) -> None:
        self.consumer = Consumer("c", 1, 0, POLICY, position)
        self.feed = Feed(position, NEXT_OFFSET)
        self.feed.fill(batches, NEXT_OFFSET, NEXT_OFFSET)

    def waits(self, first: int, last: int, *, due_ns: int = 0, releases: int = 0) -> None:
        """Messages that were delivered once and fell due: they are in the feed again."""
        self.consumer.position = max(self.consumer.position, last + 1)
        self.consumer.restore_waiting(first, last, Waiting(1, 0, releases, due_ns))
        self.feed.redeliveries.append((line(first, last), first, last))

    def plan(self, *slots: Slot, now_ns: int = 0) -> list[tuple[int, int, int, int]]:
        """(member, attempt, first, last) of each assignment."""
        planned = plan(self.consumer, self.feed, slots, now_ns)
        return [(a.member, a.attempt, a.first, a.last) for d in planned for a in d.assignments]


# ------------------------------------------------------------------ whole and cut


def test_a_batch_goes_whole_where_it_fits() -> None:
    assert Bench(line(0, 9)).plan(slot(credit=10)) == [(1, 1, 0, 9)]


def test_a_batch_that_does_not_fit_goes_to_the_member_where_it_does() -> None:
    nearly_full = slot(1, credit=40, in_flight=39)
    assert Bench(line(0, 9)).plan(nearly_full, slot(2, credit=10)) == [(2, 1, 0, 9)]


def test_a_batch_is_cut_when_a_quarter_of_the_credit_is_free() -> None:
    bench = Bench(line(0, 99))
    assert bench.plan(slot(credit=40, in_flight=31)) == []
    assert bench.plan(slot(credit=40, in_flight=30)) == [(1, 1, 0, 9)]
    assert len(bench.feed.window) == 1  # the rest stays


def test_the_rest_of_a_cut_batch_begins_at_the_position() -> None:
    bench = Bench(line(0, 99), position=90)
    assert bench.plan(slot(credit=4), slot(2, credit=4)) == [(1, 1, 90, 93), (2, 1, 94, 97)]


def test_a_consumer_that_begins_in_a_batch_gets_its_end() -> None:
    bench = Bench(line(0, 9), line(10, 19), position=7)
    assert bench.plan(slot(credit=20)) == [(1, 1, 7, 9), (1, 1, 10, 19)]
    assert not bench.feed.window


def test_batches_below_the_position_are_passed_over() -> None:
    bench = Bench(line(0, 4), line(5, 9))
    bench.consumer.position = 5
    assert bench.plan(slot()) == [(1, 1, 5, 9)]


def test_one_at_a_time_for_a_credit_of_one() -> None:
    bench = Bench(line(0, 9))
    assert bench.plan(slot(credit=1)) == [(1, 1, 0, 0)]
    assert bench.plan(slot(credit=1, in_flight=1)) == []


# ------------------------------------------------------------------------- credit


def test_credit_in_bytes_bounds_like_credit_in_messages() -> None:
    batch = line(0, 9, message_bytes=100)
    assert Bench(batch).plan(slot(credit=100, credit_bytes=300)) == [(1, 1, 0, 2)]
    used_up = slot(credit=100, in_flight=1, credit_bytes=300, in_flight_bytes=300)
    assert Bench(batch).plan(used_up) == []


def test_a_batch_is_cut_when_a_quarter_of_the_credit_in_bytes_is_free() -> None:
    # Found by it: one long-running message kept all others from a member whose credit in
    # bytes was smaller than a batch, and whose credit in messages was large.
    batch = line(0, 4, message_bytes=100)
    busy = slot(credit=1_000, in_flight=1, credit_bytes=400, in_flight_bytes=100)
    assert Bench(batch).plan(busy) == [(1, 1, 0, 2)]
    nearly_full = slot(credit=1_000, in_flight=4, credit_bytes=800, in_flight_bytes=701)
    assert Bench(batch).plan(nearly_full) == []


def test_a_member_that_holds_nothing_gets_one_whatever_its_credit() -> None:
    batch = line(0, 9, message_bytes=1000)
    assert Bench(batch).plan(slot(credit_bytes=10)) == [(1, 1, 0, 0)]


def test_credit_below_what_is_in_flight_gives_nothing() -> None:
    lowered = slot(credit=5, in_flight=50, in_flight_bytes=10**7)
    assert Bench(line(0, 0)).plan(lowered) == []


def test_a_credit_of_zero_divides_nothing() -> None:
    # With two such members the comparison of their loads divided by their credit.
    bench = Bench(line(0, 9))
    assert bench.plan(slot(1, credit=0), slot(2, credit=0)) == [(1, 1, 0, 0), (2, 1, 1, 1)]


# ----------------------------------------------------------------------- fairness


def test_the_member_with_the_smallest_share_in_use_wins() -> None:
    busy, idle = slot(1, credit=10, in_flight=5), slot(2, credit=100, in_flight=10)
    assert Bench(line(0, 0)).plan(busy, idle) == [(2, 1, 0, 0)]


def test_between_equals_the_one_served_longest_ago_wins() -> None:
    assert Bench(line(0, 0)).plan(slot(1, served=7), slot(2, served=3)) == [(2, 1, 0, 0)]


def test_small_batches_alternate_between_members() -> None:
    bench = Bench(*(line(i, i) for i in range(6)))
    members = [member for member, *_ in bench.plan(slot(1), slot(2), slot(3))]
    assert members == [1, 2, 3, 1, 2, 3]


def test_no_more_assignments_in_a_turn_than_the_limit() -> None:
    bench = Bench(*(line(i, i) for i in range(dispatch.ASSIGNMENTS_MAX + 5)))
    assert len(bench.plan(slot(credit=10_000))) == dispatch.ASSIGNMENTS_MAX
    assert len(bench.feed.window) == 5


# ------------------------------------------------------------------- redeliveries


def test_redeliveries_come_before_first_attempts() -> None:
    bench = Bench(line(10, 10))
    bench.waits(3, 4)
    assert bench.plan(slot()) == [(1, 2, 3, 4), (1, 1, 10, 10)]


def test_a_redelivery_is_cut_along_what_still_waits() -> None:
    bench = Bench()
    bench.waits(0, 9)
    bench.consumer.waiting.remove(2, 2)  # a late ack
    assert bench.plan(slot(credit=20)) == [(1, 2, 0, 1), (1, 2, 3, 9)]


def test_what_is_due_later_again_is_left_out() -> None:
    bench = Bench()
    bench.waits(0, 1, due_ns=100)
    assert bench.plan(slot(), now_ns=99) == []
    bench.feed.redeliveries.append((line(0, 1), 0, 1))
    assert bench.plan(slot(), now_ns=100) == [(1, 2, 0, 1)]


def test_attempts_count_from_what_is_remembered() -> None:
    bench = Bench()
    bench.consumer.position = 1
    bench.consumer.restore_waiting(0, 0, Waiting(6, 2, 1, 0))
    bench.feed.redeliveries.append((line(0, 0), 0, 0))
    assert bench.plan(slot()) == [(1, 7, 0, 0)]


def test_an_offset_is_planned_once_though_the_feed_holds_it_twice() -> None:
    # The due heap, built anew when it outgrew what waits, gave out again what the feed
    # held already. The second Delivered of one plan found the message leased and raised.
    bench = Bench()
    bench.waits(0, 9)
    bench.feed.redeliveries.append((line(0, 9), 2, 5))
    bench.feed.redeliveries.append((line(0, 9), 0, 9))
    assert bench.plan(slot(1, credit=6), slot(2, credit=40)) == [(1, 2, 0, 5), (2, 2, 6, 9)]


def test_what_finds_no_room_stays_in_the_feed() -> None:
    bench = Bench()
    bench.waits(0, 9)
    assert bench.plan(slot(credit=4)) == [(1, 2, 0, 3)]
    bench.consumer.waiting.remove(0, 3)
    assert bench.plan(slot(credit=6)) == [(1, 2, 4, 9)]
    assert not bench.feed.redeliveries


def test_first_attempts_do_not_take_the_room_that_a_redelivery_waits_for() -> None:
    # Small first attempts filled every gap, so that a large redelivery, which needs a
    # quarter of the credit, waited for as long as anybody published.
    bench = Bench(line(50, 50), line(51, 51))
    bench.waits(0, 49)
    assert bench.plan(slot(credit=100, in_flight=95)) == []
    assert bench.plan(slot(credit=100, in_flight=75)) == [(1, 2, 0, 24)]


# -------------------------------------------------------------------------- alone


def test_a_message_released_too_often_goes_to_an_idle_member_by_itself() -> None:
    bench = Bench(line(10, 12))
    bench.waits(0, 1, releases=limits.RELEASES_BEFORE_ALONE)
    assert bench.plan(slot(1, in_flight=1), slot(2), slot(3)) == [
        (2, 2, 0, 0),
        (3, 2, 1, 1),
        (1, 1, 10, 12),
    ]


def test_a_member_with_such_a_message_gets_nothing_else() -> None:
    assert Bench(line(0, 0)).plan(slot(in_flight=1, alone=True)) == []


def test_the_least_busy_member_is_kept_free_for_it_and_the_others_go_on() -> None:
    # Under steady traffic no member ever ran empty, and the message was never delivered.
    # Then nobody got anything until one did, and a long-running message stalled them all.
    bench = Bench(line(10, 10), line(11, 11))
    bench.waits(0, 0, releases=limits.RELEASES_BEFORE_ALONE)
    bench.waits(2, 2)
    busy, busier = slot(1, in_flight=1), slot(2, in_flight=2)
    assert bench.plan(busy, busier) == [(2, 2, 2, 2), (2, 1, 10, 10), (2, 1, 11, 11)]
    assert bench.plan(slot(1), slot(2, in_flight=5)) == [(1, 2, 0, 0)]


def test_several_of_them_keep_one_member_free_not_all() -> None:
    bench = Bench(line(10, 10))
    bench.waits(0, 1, releases=limits.RELEASES_BEFORE_ALONE)
    assert bench.plan(slot(1, in_flight=1), slot(2, in_flight=2)) == [(2, 1, 10, 10)]
    assert [(first, last) for _, first, last in bench.feed.redeliveries] == [(0, 1)]


def test_a_lone_member_is_drained_for_it() -> None:
    bench = Bench(line(10, 10))
    bench.waits(0, 0, releases=limits.RELEASES_BEFORE_ALONE)
    assert bench.plan(slot(in_flight=1)) == []
    assert bench.plan(slot()) == [(1, 2, 0, 0)]


# ----------------------------------------------------------------------- holding back


def test_a_paused_consumer_gets_nothing() -> None:
    bench = Bench(line(10, 10))
    bench.waits(0, 0)
    bench.consumer.paused = True
    assert bench.plan(slot()) == []
    bench.consumer.paused = False
    assert len(bench.plan(slot())) == 2


def test_nobody_there_means_nothing_taken() -> None:
    bench = Bench(line(0, 0))
    assert bench.plan() == []
    assert len(bench.feed.window) == 1


def test_first_attempts_pause_when_too_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WAITING_MAX", 3)
    bench = Bench(line(10, 10))
    bench.consumer.restore_waiting(0, 2, Waiting(1, 0, 0, 10**9))
    assert bench.plan(slot()) == []
    bench.consumer.waiting.remove(0, 0)
    assert bench.plan(slot()) == [(1, 1, 10, 10)]


def test_a_silent_member_is_not_the_one_kept_free() -> None:
    # Found by it: a message that goes alone waited for a member that had nearly nothing,
    # and never gave it back, while the others were kept busy.
    bench = Bench(line(20, 20))
    bench.waits(0, 0, releases=limits.RELEASES_BEFORE_ALONE)
    bench.consumer.position = 20
    silent = slot(1, in_flight=1, silent=True)
    assert bench.plan(silent, slot(2, in_flight=3)) == [(1, 1, 20, 20)]
    assert bench.plan(silent, slot(2)) == [(2, 2, 0, 0)]
