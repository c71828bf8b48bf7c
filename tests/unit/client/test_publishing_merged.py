"""Messages that wait together leave as one batch, and each gets its own answer."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest

from hermes.broker.v1 import broker_pb2 as pb
from hermes.client.core.outbox import QUEUE_BYTES_MAX
from hermes.client.core.outgoing import (
    MERGED_BYTES_MAX,
    MERGED_MESSAGES_MAX,
    PublishAck,
    Tally,
)
from hermes.client.core.publishing import IN_FLIGHT_BYTES_MAX, PublishCore
from hermes.errors import (
    ConnectionLostError,
    HermesError,
    InvalidArgumentError,
    LimitExceededError,
    UnavailableError,
)
from tests.unit.client.fake_broker import publish_opened

SECOND = 1_000_000_000
LOST = UnavailableError("gone")


def make_core(*, live: bool = False) -> PublishCore:
    return PublishCore(
        live=live,
        producer_ids=lambda: b"p" * 16,
        connect_timeout_ns=5 * SECOND,
        retry_timeout_ns=60 * SECOND,
        unreachable=lambda cause: ConnectionLostError(f"unreachable: {cause}"),
    )


def opened_core(*, live: bool = False, **fields: int) -> PublishCore:
    core = make_core(live=live)
    core.opening()
    core.on_response(publish_opened(**fields), 0)
    return core


def submit(
    core: PublishCore,
    payload: bytes = b"x",
    *,
    subject: str = "a",
    headers: dict[str, str] | None = None,
    id: str | None = None,
    now_ns: int = 0,
) -> Future[PublishAck]:
    waiter: Future[PublishAck] = Future()
    entries = pb.Headers(entries=headers) if headers else None
    core.submit(subject, payload, entries, id, now_ns=now_ns, waiter=waiter)
    return waiter


def sent(core: PublishCore) -> pb.PublishBatchesRequest:
    request = core.next_request()
    assert request is not None
    return request


def payloads(batch: pb.Batch) -> list[bytes]:
    return list(pb.BatchContent.FromString(batch.content).payloads)


def head(batch: pb.Batch) -> pb.BatchHead:
    return pb.BatchHead.FromString(batch.head)


def answer(core: PublishCore, sequence: int, **fields: Any) -> None:
    values = {"batches": 1, "sequence": sequence} | fields
    core.on_response(pb.PublishBatchesResponse(results=[pb.PublishResult(**values)]), 0)


def refuse(core: PublishCore, sequence: int, message: str = "no") -> None:
    answer(core, sequence, refusal=pb.Refusal(code="INVALID_ARGUMENT", message=message))


def test_messages_of_one_subject_leave_as_one_batch() -> None:
    core = opened_core()
    waiters = [submit(core, b"%d" % n) for n in range(3)]
    request = sent(core)
    (batch,) = request.batches
    assert (request.sequence, batch.subject) == (1, "a")
    assert payloads(batch) == [b"0", b"1", b"2"]
    assert head(batch) == pb.BatchHead(count=3)  # no columns that nobody uses
    assert not pb.BatchContent.FromString(batch.content).headers
    answer(core, 1, count=3, base_offset=40)
    assert [waiter.result(0) for waiter in waiters] == [PublishAck(n) for n in (40, 41, 42)]


def test_live_messages_of_publish_stay_apart_and_those_of_a_publisher_do_not() -> None:
    """Joined, they all went to one member of a queue group."""
    core, tally = opened_core(live=True), Tally()
    waiters = [submit(core) for _ in range(3)]
    for _ in range(4):
        put(core, tally)
    submit(core)
    assert [len(payloads(batch)) for batch in sent(core).batches] == [1, 1, 1, 4, 1]
    answer(core, 1, batches=5, count=8)
    assert [waiter.result(0) for waiter in waiters] == [PublishAck(None)] * 3


def test_a_run_of_batches_gives_each_message_its_offset() -> None:
    core = opened_core()
    waiters = [submit(core, subject=subject) for subject in "aabbba"]
    request = sent(core)
    assert [len(payloads(batch)) for batch in request.batches] == [2, 3, 1]
    answer(core, 1, batches=3, count=6, base_offset=7)
    assert [waiter.result(0).offset for waiter in waiters] == list(range(7, 13))


def test_columns_are_there_for_all_once_one_message_has_them() -> None:
    core = opened_core()
    submit(core, b"1")
    submit(core, b"2", headers={"k": "v"})
    submit(core, b"3", id="three")
    submit(core, b"4")
    (batch,) = sent(core).batches
    headers = pb.BatchContent.FromString(batch.content).headers
    assert [dict(each.entries) for each in headers] == [{}, {"k": "v"}, {}, {}]
    assert list(head(batch).ids) == ["", "", "three", ""]


def test_batches_are_bounded_in_messages_and_bytes() -> None:
    core = opened_core()
    for _ in range(MERGED_MESSAGES_MAX + 1):
        submit(core)
    assert [len(payloads(batch)) for batch in sent(core).batches] == [MERGED_MESSAGES_MAX, 1]
    answer(core, 1, batches=2, count=MERGED_MESSAGES_MAX + 1, base_offset=0)
    for _ in range(3):
        submit(core, b"x" * (MERGED_BYTES_MAX // 3))
    assert [len(payloads(batch)) for batch in sent(core).batches] == [2, 1]


def test_what_waited_before_the_limits_were_known_is_made_to_fit() -> None:
    core = make_core()
    large = submit(core, b"x" * 101)
    small = [submit(core, b"x") for _ in range(5)]
    core.opening()
    core.on_response(publish_opened(max_message_bytes=100, max_batch_messages=2), 0)
    with pytest.raises(LimitExceededError, match="max_message_bytes = 100"):
        large.result(0)
    assert [len(payloads(batch)) for batch in sent(core).batches] == [1] * 5
    answer(core, 1, batches=5, count=5, base_offset=3)
    assert [waiter.result(0).offset for waiter in small] == [3, 4, 5, 6, 7]
    for _ in range(3):
        submit(core, b"")
    assert all(len(payloads(batch)) <= 2 for batch in sent(core).batches)


def test_who_stopped_waiting_is_taken_out_of_the_batch() -> None:
    core = opened_core()
    waiters = [submit(core, b"%d" % n, id=f"{n}", headers={"n": f"{n}"}) for n in range(3)]
    waiters[1].cancel()
    (batch,) = sent(core).batches
    assert payloads(batch) == [b"0", b"2"]
    assert list(head(batch).ids) == ["0", "2"]
    headers = pb.BatchContent.FromString(batch.content).headers
    assert [each.entries["n"] for each in headers] == ["0", "2"]
    answer(core, 1, count=2, base_offset=5)
    assert (waiters[0].result(0).offset, waiters[2].result(0).offset) == (5, 6)


def test_duplicates_are_matched_by_index_and_the_others_count_on() -> None:
    core = opened_core()
    waiters = [submit(core, id=f"{n}") for n in range(4)]
    sent(core)
    answer(core, 1, count=2, base_offset=10, duplicate_indexes=[0, 2], duplicate_offsets=[3, 4])
    assert [waiter.result(0) for waiter in waiters] == [
        PublishAck(3, duplicate=True),
        PublishAck(10),
        PublishAck(4, duplicate=True),
        PublishAck(11),
    ]


def test_a_resent_batch_that_had_held_duplicates_makes_up_no_offsets() -> None:
    core = opened_core()
    waiters = [submit(core, id=f"{n}") for n in range(3)]
    sent(core)
    core.on_lost(LOST, 0)
    core.opening()
    core.on_response(publish_opened(), 0)
    sent(core)
    answer(core, 1, count=2, base_offset=10, duplicate=True)
    assert [waiter.result(0) for waiter in waiters] == [PublishAck(None, duplicate=True)] * 3


def test_a_refused_batch_is_sent_again_message_by_message() -> None:
    core = opened_core()
    waiters = [submit(core, b"%d" % n) for n in range(3)]
    sent(core)
    other = submit(core, subject="b")
    refuse(core, 1)
    assert not any(waiter.done() for waiter in waiters)
    request = sent(core)
    assert request.sequence == 2
    assert [payloads(batch) for batch in request.batches] == [[b"0"], [b"1"], [b"2"], [b"x"]]
    answer(core, 2, count=1, base_offset=0)
    refuse(core, 3, "id not valid")
    answer(core, 4, batches=2, count=2, base_offset=1)
    assert [waiters[0].result(0).offset, waiters[2].result(0).offset] == [0, 1]
    with pytest.raises(InvalidArgumentError, match="id not valid"):
        waiters[1].result(0)
    assert other.result(0).offset == 2
    assert core.unsettled == 0


def test_what_was_refused_keeps_its_single_form_over_a_lost_connection() -> None:
    core = opened_core()
    waiters = [submit(core, b"%d" % n) for n in range(2)]
    sent(core)
    refuse(core, 1)
    first = sent(core)
    core.on_lost(LOST, 0)
    assert core.opening().open.first_sequence == 2
    core.on_response(publish_opened(), 0)
    again = sent(core)
    assert (again.sequence, list(again.batches)) == (2, list(first.batches))
    answer(core, 2, batches=2, count=2, base_offset=0)
    assert [waiter.result(0).offset for waiter in waiters] == [0, 1]


def test_a_lost_batch_is_sent_again_as_it_was() -> None:
    core = opened_core()
    waiters = [submit(core, b"%d" % n) for n in range(3)]
    first = sent(core)
    waiters[1].cancel()  # too late to be taken out
    late = submit(core, b"late")
    core.on_lost(LOST, 0)
    later = submit(core, b"later", now_ns=SECOND)
    core.opening()
    core.on_response(publish_opened(), 0)
    again = sent(core)
    assert again.sequence == 1
    assert again.batches[0] == first.batches[0]
    assert [payloads(batch) for batch in again.batches[1:]] == [[b"late"], [b"later"]]
    answer(core, 1, count=3, base_offset=0, duplicate=True)
    answer(core, 2, batches=2, count=2, base_offset=3)
    assert [w.result(0).offset for w in (waiters[0], waiters[2], late, later)] == [0, 2, 3, 4]


def test_without_a_connection_each_waits_no_longer_than_it_should() -> None:
    core = make_core()
    early, late = submit(core), submit(core, now_ns=4 * SECOND)
    core.on_timer(5 * SECOND)
    with pytest.raises(ConnectionLostError):
        early.result(0)
    assert not late.done()
    assert core.next_timer_ns() == 9 * SECOND


def test_what_is_in_flight_is_bounded_in_bytes() -> None:
    core = opened_core()
    frames = 0
    while core.next_request() is not None or frames == 0:
        while not core.is_full:
            submit(core, b"x" * 200_000)
        frames += 1
        assert frames < 100
    assert core.is_full
    core.on_lost(LOST, 0)
    resent = 0
    core.opening()
    core.on_response(publish_opened(), 0)
    while (request := core.next_request()) is not None:
        resent += request.ByteSize()
    assert IN_FLIGHT_BYTES_MAX - 2**20 < resent < IN_FLIGHT_BYTES_MAX + 2**20
    assert QUEUE_BYTES_MAX < IN_FLIGHT_BYTES_MAX


# ------------------------------------------------------------------- of a publisher


def put(core: PublishCore, tally: Tally, payload: bytes = b"x", subject: str = "a") -> Any:
    return core.submit(subject, payload, None, None, now_ns=0, tally=tally)


def outcome(handle: Any) -> PublishAck | HermesError:
    batch, index = handle
    try:
        ack: PublishAck = batch.ack(index)
    except HermesError as error:
        return error
    return ack


def test_a_publisher_counts_what_is_under_way() -> None:
    core, tally = opened_core(), Tally()
    handles = [put(core, tally, subject=subject) for subject in "aab"]
    idle: Future[None] = Future()
    tally.wait_until_settled(idle)
    sent(core)
    answer(core, 1, count=2, base_offset=0)
    assert not idle.done()
    answer(core, 2, count=1, base_offset=2)
    assert idle.done()
    assert [outcome(handle) for handle in handles] == [PublishAck(0), PublishAck(1), PublishAck(2)]
    assert tally.take_failures() == (0, None)


def test_a_publisher_counts_what_failed_and_keeps_the_first_error() -> None:
    core, tally = opened_core(), Tally()
    handles = [put(core, tally) for _ in range(3)]
    settled: Future[None] = Future()
    handles[0][0].watch(settled)
    sent(core)
    refuse(core, 1)
    sent(core)
    assert not settled.done()
    answer(core, 2, count=1, base_offset=0)
    refuse(core, 3, "first")
    refuse(core, 4, "second")
    assert settled.done()
    assert outcome(handles[0]) == PublishAck(0)
    assert "second" in str(outcome(handles[2]))
    failed, error = tally.take_failures()
    assert (failed, str(error)) == (2, "first")
    assert tally.take_failures() == (0, None)


def test_what_is_queued_and_closed_is_not_settled() -> None:
    core, tally = opened_core(), Tally()
    batch, _ = put(core, tally)
    put(core, tally, subject="b")  # closes the first
    assert not batch.is_open
    assert not batch.is_settled


def test_a_publisher_shares_no_batch_with_others() -> None:
    core, tally = opened_core(), Tally()
    put(core, tally)
    submit(core)
    put(core, Tally())
    assert len(sent(core).batches) == 3


def test_a_fatal_error_settles_what_a_publisher_has_under_way() -> None:
    core, tally = opened_core(), Tally()
    put(core, tally)
    sent(core)
    put(core, tally)
    core.on_failed(InvalidArgumentError("no"))
    idle: Future[None] = Future()
    tally.wait_until_settled(idle)
    assert idle.done()
    assert tally.take_failures()[0] == 2


def test_payloads_are_let_go_of_when_all_is_settled() -> None:
    core, tally = opened_core(), Tally()
    batch, index = put(core, tally, b"x" * 1_000)
    sent(core)
    answer(core, 1, count=1, base_offset=9)
    assert not batch.payloads
    assert batch.ack(index) == PublishAck(9)
