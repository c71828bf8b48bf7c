"""Numbering, merging, matching and resending of publishes, without a server."""

from __future__ import annotations

from concurrent.futures import Future
from itertools import count

import pytest

from hermes.broker.v1 import broker_pb2 as pb
from hermes.client.core.outbox import QUEUE_BYTES_MAX
from hermes.client.core.outgoing import PublishAck, Tally
from hermes.client.core.publishing import (
    FRAME_BYTES_WANTED,
    IN_FLIGHT_BATCHES_MAX,
    PublishCore,
)
from hermes.errors import (
    ConnectionLostError,
    InvalidArgumentError,
    LimitExceededError,
    UnavailableError,
)
from hermes.limits import MIB
from tests.unit.client.fake_broker import publish_opened

SECOND = 1_000_000_000
LOST = UnavailableError("gone")


def make_core(*, live: bool = False) -> PublishCore:
    ids = iter(bytes([number]) * 16 for number in range(1, 100))
    return PublishCore(
        live=live,
        producer_ids=lambda: next(ids),
        connect_timeout_ns=5 * SECOND,
        retry_timeout_ns=60 * SECOND,
        unreachable=lambda cause: ConnectionLostError(f"unreachable: {cause}"),
    )


def opened_core(*, live: bool = False, **fields: int) -> PublishCore:
    core = make_core(live=live)
    core.opening()
    core.on_response(publish_opened(**fields), 0)
    return core


_subjects = (f"a.{number}" for number in count())


def submit(core: PublishCore, payload: bytes = b"x", now_ns: int = 0) -> Future[PublishAck]:
    """A message on a subject of its own, so that it is a batch of its own."""
    waiter: Future[PublishAck] = Future()
    core.submit(next(_subjects), payload, None, None, now_ns=now_ns, waiter=waiter)
    return waiter


def finished(core: PublishCore) -> bool:
    return core.is_finished


def full(core: PublishCore) -> bool:
    return core.is_full


def results(*values: pb.PublishResult) -> pb.PublishBatchesResponse:
    return pb.PublishBatchesResponse(results=values)


def run(sequence: int, batches: int, base_offset: int) -> pb.PublishBatchesResponse:
    return results(
        pb.PublishResult(sequence=sequence, batches=batches, count=batches, base_offset=base_offset)
    )


def test_what_is_ready_shares_a_frame() -> None:
    core = opened_core()
    waiters = [submit(core) for _ in range(3)]
    request = core.next_request()
    assert request is not None
    assert (request.sequence, len(request.batches), request.live) == (1, 3, False)
    assert core.next_request() is None
    core.on_response(run(1, 3, 40), 0)
    assert [waiter.result(0).offset for waiter in waiters] == [40, 41, 42]
    assert core.unsettled == 0


@pytest.mark.parametrize("tally", [None, Tally()], ids=["publish", "publisher"])
def test_an_idle_stream_sends_each_message_at_once(tally: Tally | None) -> None:
    """Nothing is held back to be joined: there is no timer, and the frame is ready."""
    core = opened_core()
    woken = 0

    def wake() -> None:
        nonlocal woken
        woken += 1

    core.wake = wake
    for number in range(1, 6):
        core.submit("a", b"x", None, None, now_ns=0, tally=tally)
        assert woken == number
        assert core.next_timer_ns() is None
        request = core.next_request()
        assert request is not None
        assert (request.sequence, len(request.batches)) == (number, 1)
        core.on_response(run(number, 1, number), 0)


def test_frames_are_no_larger_than_is_of_use() -> None:
    core = opened_core(max_message_bytes=8 * MIB, max_frame_bytes=16 * MIB)
    for _ in range(40):
        submit(core, bytes(100_000))
    sizes = []
    while (request := core.next_request()) is not None:
        sizes.append(request.ByteSize())
    assert len(sizes) == 4
    assert max(sizes) <= FRAME_BYTES_WANTED
    submit(core, bytes(3 * MIB))  # one message is never cut
    assert core.next_request() is not None


def test_nothing_leaves_before_the_stream_is_opened() -> None:
    core = make_core()
    submit(core)
    assert core.next_request() is None
    opening = core.opening()
    assert opening.open.first_sequence == 1
    assert len(opening.open.producer_id) == 16
    assert not opening.batches


def test_frames_stay_below_the_limit_and_sequences_go_on() -> None:
    core = opened_core(max_frame_bytes=2_500)
    for _ in range(3):
        submit(core, b"x" * 1_000)
    first, second = core.next_request(), core.next_request()
    assert first is not None
    assert second is not None
    assert (first.sequence, len(first.batches)) == (1, 2)
    assert (second.sequence, len(second.batches)) == (3, 1)


def test_a_message_larger_than_a_frame_still_goes_alone() -> None:
    core = opened_core(max_frame_bytes=500)
    submit(core, b"x" * 1_000)
    request = core.next_request()
    assert request is not None
    assert len(request.batches) == 1


def test_a_message_beyond_the_limit_is_refused_here_once_the_limit_is_known() -> None:
    core = make_core()
    early = submit(core, b"x" * 101)
    core.opening()
    core.on_response(publish_opened(max_message_bytes=100), 0)
    with pytest.raises(LimitExceededError, match="max_message_bytes = 100"):
        early.result(0)
    with pytest.raises(LimitExceededError) as caught:
        submit(core, b"x" * 101)
    assert caught.value.fields == {"limit_bytes": 100}
    submit(core, b"x" * 100)
    request = core.next_request()
    assert request is not None
    assert request.sequence == 1


def test_a_refused_batch_uses_up_its_sequence() -> None:
    core = opened_core()
    bad, good = submit(core), submit(core)
    core.next_request()
    refusal = pb.Refusal(code="INVALID_ARGUMENT", message="no such subject", hint="look")
    core.on_response(
        results(
            pb.PublishResult(sequence=1, batches=1, refusal=refusal),
            pb.PublishResult(sequence=2, batches=1, count=1, base_offset=9),
        ),
        0,
    )
    with pytest.raises(InvalidArgumentError, match="no such subject") as caught:
        bad.result(0)
    assert caught.value.hint == "look"
    assert good.result(0) == PublishAck(9)


def test_a_duplicate_id_gives_the_offset_it_has() -> None:
    core = opened_core()
    waiter = submit(core)
    core.next_request()
    core.on_response(
        results(
            pb.PublishResult(sequence=1, batches=1, duplicate_indexes=[0], duplicate_offsets=[5])
        ),
        0,
    )
    assert waiter.result(0) == PublishAck(5, duplicate=True)


def test_a_live_ack_has_no_offset() -> None:
    core = opened_core(live=True)
    waiter = submit(core)
    request = core.next_request()
    assert request is not None
    assert request.live
    core.on_response(results(pb.PublishResult(sequence=1, batches=1, count=1)), 0)
    assert waiter.result(0) == PublishAck(None)


def test_durable_batches_in_flight_are_sent_again_under_their_sequences() -> None:
    core = opened_core()
    first, second, third = submit(core, b"1"), submit(core, b"2"), submit(core, b"3")
    core.next_request()
    core.on_response(run(1, 1, 10), 0)
    producer = core.opening().open.producer_id
    core.on_lost(LOST, 0)
    late = submit(core, b"4")
    opening = core.opening()
    assert (opening.open.producer_id, opening.open.first_sequence) == (producer, 2)
    core.on_response(publish_opened(), 0)
    request = core.next_request()
    assert request is not None
    assert request.sequence == 2
    contents = [pb.BatchContent.FromString(batch.content).payloads[0] for batch in request.batches]
    assert contents == [b"2", b"3", b"4"]
    again = pb.PublishResult(sequence=2, batches=1, count=1, base_offset=11, duplicate=True)
    rest = pb.PublishResult(sequence=3, batches=2, count=2, base_offset=12)
    core.on_response(results(again, rest), 0)
    # To the user a batch that was there already is simply stored.
    acks = [waiter.result(0) for waiter in (first, second, third, late)]
    assert acks == [PublishAck(10), PublishAck(11), PublishAck(12), PublishAck(13)]


def test_a_resend_that_is_lost_again_keeps_its_order() -> None:
    core = opened_core(max_frame_bytes=2_500)
    for number in range(4):
        submit(core, bytes([number]) * 1_000)
    core.next_request()
    core.next_request()
    core.on_lost(LOST, 0)
    core.opening()
    core.on_response(publish_opened(max_frame_bytes=2_500), 0)
    core.next_request()  # half of them
    core.on_lost(LOST, 0)
    assert core.opening().open.first_sequence == 1
    core.on_response(publish_opened(), 0)
    request = core.next_request()
    assert request is not None
    order = [pb.BatchContent.FromString(batch.content).payloads[0][0] for batch in request.batches]
    assert (request.sequence, order) == (1, [0, 1, 2, 3])


def test_live_batches_in_flight_are_lost_with_the_connection() -> None:
    core = opened_core(live=True)
    sent = submit(core)
    core.next_request()
    queued = submit(core)
    core.on_lost(LOST, 0)
    with pytest.raises(ConnectionLostError):
        sent.result(0)
    assert not queued.done()
    assert core.opening().open.first_sequence == 2
    core.on_response(publish_opened(), 0)
    request = core.next_request()
    assert request is not None
    assert request.sequence == 2


def test_no_more_is_in_flight_than_the_broker_remembers() -> None:
    core = opened_core()
    for _ in range(IN_FLIGHT_BATCHES_MAX + 1):
        submit(core)
    request = core.next_request()
    assert request is not None
    assert len(request.batches) == IN_FLIGHT_BATCHES_MAX
    assert core.next_request() is None
    core.on_response(run(1, 1, 0), 0)
    request = core.next_request()
    assert request is not None
    assert (request.sequence, len(request.batches)) == (IN_FLIGHT_BATCHES_MAX + 1, 1)


def test_who_stopped_waiting_is_dropped_from_the_queue_without_a_gap() -> None:
    core = opened_core()
    submit(core).cancel()
    kept = submit(core, b"kept")
    request = core.next_request()
    assert request is not None
    assert (request.sequence, len(request.batches)) == (1, 1)
    core.on_response(run(1, 1, 3), 0)
    assert kept.result(0).offset == 3


def test_a_full_queue_makes_callers_wait_for_room() -> None:
    core = opened_core(max_message_bytes=QUEUE_BYTES_MAX * 2)
    submit(core, b"x" * QUEUE_BYTES_MAX)
    assert full(core)
    room: Future[None] = Future()
    core.wait_for_room(room)
    assert not room.done()
    core.next_request()
    assert not full(core)
    assert room.done()


def test_room_is_offered_to_one_caller_at_a_time_and_passed_on() -> None:
    core = opened_core(max_message_bytes=QUEUE_BYTES_MAX * 2)
    submit(core, b"x" * QUEUE_BYTES_MAX)
    gone, first, second = Future[None](), Future[None](), Future[None]()
    for room in (gone, first, second):
        core.wait_for_room(room)
    gone.cancel()
    core.next_request()
    assert first.done()
    assert not second.done()
    submit(core)
    assert second.done()


def test_without_a_first_connection_it_gives_up_after_the_connect_timeout() -> None:
    core = make_core()
    waiter = submit(core, now_ns=SECOND)
    core.on_lost(LOST, 2 * SECOND)
    assert core.next_timer_ns() == 6 * SECOND
    core.on_timer(6 * SECOND - 1)
    assert not waiter.done()
    core.on_timer(6 * SECOND)
    with pytest.raises(ConnectionLostError, match="unreachable: gone"):
        waiter.result(0)
    assert core.next_timer_ns() is None


def test_a_lost_connection_is_waited_for_longer() -> None:
    core = opened_core()
    sent = submit(core)
    core.next_request()
    assert core.next_timer_ns() is None
    core.on_lost(LOST, 10 * SECOND)
    core.on_lost(LOST, 20 * SECOND)  # another attempt in vain moves nothing
    assert core.next_timer_ns() == 70 * SECOND
    core.on_timer(70 * SECOND)
    with pytest.raises(ConnectionLostError):
        sent.result(0)
    # Its outcome is unknown and it is not sent again: it is settled for the producer.
    assert core.opening().open.first_sequence == 2


def test_a_fatal_error_fails_all_and_begins_a_new_producer() -> None:
    core = opened_core()
    before = core.opening().open.producer_id
    sent = submit(core)
    core.next_request()
    queued = submit(core)
    core.on_failed(InvalidArgumentError("no"))
    for waiter in (sent, queued):
        with pytest.raises(InvalidArgumentError):
            waiter.result(0)
    opening = core.opening().open
    assert opening.first_sequence == 1
    assert opening.producer_id != before


def test_drain_sends_nothing_more_and_finishes_what_is_in_flight() -> None:
    core = opened_core()
    sent = submit(core)
    core.next_request()
    core.on_response(pb.PublishBatchesResponse(drain=pb.Drain(reason="restart")), 0)
    late = submit(core)
    assert core.next_request() is None
    assert not finished(core)
    core.on_response(run(1, 1, 0), 0)
    assert sent.done()
    assert finished(core)
    core.on_lost(LOST, 0)
    core.opening()
    core.on_response(publish_opened(), 0)
    assert not finished(core)
    assert core.next_request() is not None
    assert not late.done()


def test_close_finishes_what_is_unsettled() -> None:
    core = opened_core()
    submit(core)
    core.close()
    assert not finished(core)
    core.next_request()
    core.on_response(run(1, 1, 0), 0)
    assert finished(core)


def test_whoever_waits_is_woken() -> None:
    core = opened_core()
    woken: list[int] = []
    core.wake = lambda: woken.append(1)
    submit(core)
    assert woken
