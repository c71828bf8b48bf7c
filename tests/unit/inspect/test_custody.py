"""Each outcome that custody knows, from records as the codec writes them."""

from __future__ import annotations

from hermes.broker import events as ev
from hermes.broker.event_codec import encode
from hermes.broker.state import State
from hermes.broker.v1 import broker_pb2
from hermes.log.record import Kind, Record, StoredRecord
from hermes.log.v1 import log_pb2
from hermes_inspect import custody
from hermes_inspect.custody import OUTCOMES, PUBLISH, RETIRE, Op, Tracker
from hermes_inspect.custody_board import Board, Window
from hermes_inspect.rows import parse_body
from tests.support.world import POLICY


class Story:
    """Records of a small log, given by events, and what custody makes of them."""

    def __init__(self, tracker: Tracker | None = None) -> None:
        self.tracker = tracker or Tracker()
        self.ops: list[Op] = []
        self.lsn = 0

    def happens(self, *events: ev.Event | Record) -> Story:
        for event in events:
            self.lsn += 1
            record = event if isinstance(event, Record) else encode(event, self.lsn * 1_000)
            stored = StoredRecord(
                self.lsn,
                self.lsn * 1_000,
                record.kind,
                record.key,
                record.first,
                record.last,
                record.body,
                None,
                None,
                b"",
            )
            self.ops += self.tracker.fold(stored, parse_body(stored))
        return self

    def board(self, number: int = 0, since_lsn: int = 1) -> Board:
        publishes = [op for op in self.ops if op[0] == PUBLISH]
        window = Window(0, self.tracker.next_offset, publishes)
        board = Board(window, self.tracker.owners[number], since_lsn)
        for op in self.ops:
            if op[0] not in (PUBLISH, RETIRE) and op[5] == number:
                board.apply(op)
        board.finish([op for op in self.ops if op[0] == RETIRE])
        return board

    def outcomes(self, number: int = 0) -> list[str | None]:
        """By offset; None where there is no row."""
        board = self.board(number)
        return [
            OUTCOMES[state] if included and state != custody.UNKNOWN else None
            for state, included in zip(board.state, board.included, strict=True)
        ]


def published(first: int, count: int = 1, subject: str = "a") -> ev.Published:
    head = broker_pb2.BatchHead(count=count).SerializeToString()
    return ev.Published(
        engine_time_ns=0,
        subject=subject,
        first=first,
        last=first + count - 1,
        head=head,
        content=b"",
        sizes=(1,) * count,
    )


def created(position: int = 0, *filters: str) -> ev.ConsumerCreated:
    policy = ev.Policy(filters or ("a",), POLICY.ack_timeout_ns, POLICY.max_attempts, 0, 0, 0)
    return ev.ConsumerCreated(
        engine_time_ns=0, consumer="c", policy=policy, position=position, at_ns=0
    )


def delivered(first: int, last: int, attempt: int = 1) -> ev.Delivered:
    return ev.Delivered(
        engine_time_ns=0,
        consumer="c",
        ranges=((first, last),),
        session=0,
        member=9,
        attempt=attempt,
        deadline_ns=0,
    )


def acked(first: int, last: int) -> ev.Acked:
    return ev.Acked(engine_time_ns=0, consumer="c", ranges=((first, last),), session=0, member=9)


def sought(position: int) -> ev.ConsumerSought:
    return ev.ConsumerSought(engine_time_ns=0, consumer="c", position=position)


DELETED = ev.ConsumerDeleted(engine_time_ns=0, consumer="c", cause=ev.DeleteCause.BY_REQUEST)


def test_what_lies_before_the_start_has_a_row_that_says_so() -> None:
    story = Story().happens(published(0, 3), created(2), published(3), delivered(2, 2))
    assert story.outcomes() == ["before start", "before start", "in flight", "never delivered"]


def test_other_subjects_have_no_row() -> None:
    story = Story().happens(created(), published(0), published(1, 1, "b"), published(2))
    assert story.outcomes() == ["never delivered", None, "never delivered"]


def test_an_ack_settles_and_a_reopening_unsettles() -> None:
    story = Story().happens(created(), published(0, 2), delivered(0, 1), acked(0, 1))
    assert story.outcomes() == ["acked", "acked"]
    assert list(story.board().settled_at_ns) == [4_000, 4_000]
    story.happens(
        ev.Reopened(engine_time_ns=0, consumer="c", ranges=((1, 1),), session=0, due_ns=0),
        delivered(1, 1),
    )
    assert story.outcomes() == ["acked", "in flight"]
    board = story.board()
    assert list(board.settled_at_ns) == [4_000, 0]
    assert list(board.attempts) == [1, 2]
    assert list(board.first_at_ns) == [3_000, 3_000]
    assert story.tracker.lowest == 0


def test_deletion_ends_what_is_unsettled_and_nothing_else() -> None:
    story = Story().happens(
        created(), published(0, 4), delivered(0, 2), acked(0, 0), DELETED, published(4)
    )
    assert story.outcomes() == ["acked", *["consumer deleted"] * 3, None]
    assert list(story.board().settled_at_ns[:4]) == [4_000, 5_000, 5_000, 5_000]


def test_a_namesake_is_another_consumer() -> None:
    story = Story().happens(created(), published(0), DELETED, created(), delivered(0, 0))
    assert story.outcomes(0) == ["consumer deleted"]
    assert story.outcomes(1) == ["in flight"]
    assert [owner.created_lsn for owner in story.tracker.owners] == [1, 4]


def test_retired_payloads_matter_to_what_was_not_delivered() -> None:
    retired = log_pb2.SegmentCompacted(first_lsn=1, last_lsn=2, retired=[0, 1, 1, 1])
    story = Story().happens(
        created(),
        published(0, 4),
        delivered(0, 0),
        acked(0, 0),
        Record(0, Kind.SEGMENT_COMPACTED, None, 0, 2, retired.SerializeToString()),
    )
    gone = "payload retired undelivered"
    assert story.outcomes() == ["acked", "never delivered", gone, "never delivered"]


def test_an_erased_payload_counts_as_retired() -> None:
    erased = log_pb2.PayloadErased(published_lsn=2)
    story = Story().happens(
        created(),
        published(0, 2),
        Record(0, Kind.PAYLOAD_ERASED, None, 0, 1, erased.SerializeToString()),
    )
    assert story.outcomes() == ["payload retired undelivered"] * 2


def dead(first: int, last: int, cause: ev.DeadCause) -> ev.DeadLettered:
    return ev.DeadLettered(
        engine_time_ns=0,
        consumer="c",
        ranges=((first, last),),
        session=0,
        cause=cause,
        attempts=1,
        failures=0,
        at_ns=0,
    )


def replayed(first: int, last: int) -> ev.Replayed:
    return ev.Replayed(engine_time_ns=0, consumer="c", ranges=((first, last),), session=0, due_ns=0)


def discarded(first: int, last: int) -> ev.Discarded:
    return ev.Discarded(engine_time_ns=0, consumer="c", ranges=((first, last),), session=0)


def compacted(first: int, last: int) -> Record:
    body = log_pb2.SegmentCompacted(first_lsn=1, last_lsn=2, retired=[0, last - first + 1])
    return Record(0, Kind.SEGMENT_COMPACTED, None, first, last, body.SerializeToString())


def test_what_waited_for_a_payload_that_went_was_retired_undelivered() -> None:
    """Whatever comes after: it cannot be delivered again. A lease goes on."""
    gone = "payload retired undelivered"
    story = Story().happens(created(), published(0, 4), delivered(0, 3))
    story.happens(replayed(0, 2), compacted(0, 3))
    assert story.outcomes() == [gone, gone, gone, "in flight"]
    story.happens(
        dead(0, 1, ev.DeadCause.PAYLOAD_GONE), dead(2, 2, ev.DeadCause.REJECTED_BY_MEMBER)
    )
    assert story.outcomes() == [gone, gone, "dead", "in flight"]
    assert list(story.board().settled_at_ns) == [6_000, 6_000, 7_000, 0]
    story.happens(discarded(1, 2), acked(3, 3))
    assert story.outcomes() == [gone, gone, "discarded", "acked"]
    assert list(story.board().settled_at_ns) == [6_000, 6_000, 8_000, 9_000]
    story.happens(replayed(0, 0))
    assert story.outcomes()[0] == gone


def test_payloads_that_go_after_the_consumer_change_nothing() -> None:
    story = Story().happens(created(), published(0, 2), DELETED, compacted(0, 1))
    assert story.outcomes() == ["consumer deleted"] * 2


def test_a_seek_forward_skips_and_one_back_starts_anew() -> None:
    story = Story().happens(created(), published(0, 4), delivered(0, 1), acked(0, 0), sought(3))
    assert story.outcomes() == ["acked", "skipped", "skipped", "never delivered"]
    story.happens(sought(0))
    assert story.outcomes() == ["never delivered"] * 4
    story.happens(delivered(0, 0))
    assert story.outcomes()[0] == "in flight"


def test_new_filters_apply_from_the_position_on() -> None:
    updated = ev.ConsumerUpdated(engine_time_ns=0, consumer="c", policy=created(0, "b").policy)
    story = Story().happens(
        created(), published(0), published(1, 1, "b"), delivered(0, 0), updated, published(2)
    )
    assert story.outcomes() == ["in flight", "never delivered", None]


def test_dead_letters_are_dead_then_discarded_or_waiting_again() -> None:
    dead = ev.DeadLettered(
        engine_time_ns=0,
        consumer="c",
        ranges=((0, 2),),
        session=0,
        cause=ev.DeadCause.TOO_MANY_FAILURES,
        attempts=1,
        failures=1,
        at_ns=0,
    )
    expired = ev.Expired(
        engine_time_ns=0, consumer="c", ranges=((0, 2),), member=9, attempt=1, due_ns=0
    )
    story = Story().happens(created(), published(0, 3), delivered(0, 2), expired)
    assert story.outcomes() == ["waiting"] * 3
    story.happens(dead)
    story.happens(
        ev.Discarded(engine_time_ns=0, consumer="c", ranges=((1, 1),), session=0),
        ev.Replayed(engine_time_ns=0, consumer="c", ranges=((2, 2),), session=0, due_ns=0),
    )
    assert story.outcomes() == ["dead", "discarded", "waiting"]
    assert list(story.board().settled_at_ns) == [5_000, 6_000, 0]


def test_only_what_the_range_touched_is_changed() -> None:
    story = Story().happens(created(), published(0, 2), delivered(0, 1), acked(1, 1), published(2))
    assert list(story.board(since_lsn=4).changed) == [0, 1, 1]
    assert list(story.board(since_lsn=6).changed) == [0, 0, 0]


def test_a_consumer_from_before_the_range_keeps_its_past_to_itself() -> None:
    state = State()
    state.fold(created(), 1)
    state.fold(published(0, 3), 2)
    state.fold(delivered(0, 1), 3)
    state.fold(acked(0, 0), 4)
    tracker = Tracker()
    story = Story(tracker)
    story.ops = tracker.seed(state)
    story.lsn = 4
    story.happens(published(3), acked(1, 1), delivered(2, 2))
    story.ops.append((PUBLISH, 2, 2_000, 0, 2, "a", None))
    story.ops.sort(key=lambda op: op[1])
    assert story.outcomes() == [None, "acked", "in flight", "never delivered"]
    assert list(story.board(since_lsn=5).changed) == [0, 1, 1, 1]
