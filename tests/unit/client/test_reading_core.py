"""Where a Read continues."""

from __future__ import annotations

from hermes.broker.v1 import broker_pb2 as pb
from hermes.client.core.reading import READ_AHEAD_MESSAGES_MAX, ReadCore
from tests.unit.client.fake_broker import batch_delivery, delivery


def make_core(limit: int = 0) -> ReadCore:
    return ReadCore(("a",), pb.Start(oldest=True), limit=limit, follow=False)


def test_without_a_limit_it_goes_on_for_ever() -> None:
    """Counting down from no limit made the request of a second connection invalid."""
    core = make_core()
    core.on_response(pb.ReadResponse(deliveries=[delivery(3, b"")]))
    request = core.request()
    assert (request.limit, request.start.offset) == (0, 4)
    assert not core.is_complete


def test_a_limit_counts_messages_over_all_connections() -> None:
    core = make_core(limit=3)
    core.on_response(
        pb.ReadResponse(deliveries=[batch_delivery(0, [b"0", b"1", b"2"], selection=[0, 1])])
    )
    request = core.request()
    assert (request.limit, request.start.offset) == (1, 2)
    core.on_response(pb.ReadResponse(deliveries=[delivery(2, b"")]))
    assert core.is_complete


def test_it_continues_after_what_was_skipped() -> None:
    core = make_core()
    core.on_response(pb.ReadResponse(deliveries=[delivery(3, b"")], next_offset=90))
    assert core.request().start.offset == 90


def test_it_does_not_read_far_ahead_of_the_user() -> None:
    core = make_core()
    payloads = [b""] * READ_AHEAD_MESSAGES_MAX
    core.on_response(pb.ReadResponse(deliveries=[batch_delivery(0, payloads)]))
    assert core.is_ahead
    core.inbox.take()
    assert core.inbox.buffered == READ_AHEAD_MESSAGES_MAX - 1


def test_a_delivery_handed_out_is_told_once() -> None:
    """So that reading goes on: telling it for each message cost more than the message."""
    core = make_core()
    released: list[int] = []
    core.inbox.released = lambda: released.append(core.inbox.buffered)
    core.on_response(pb.ReadResponse(deliveries=[batch_delivery(0, [b""] * 3), delivery(3, b"")]))
    for _ in range(3):
        core.inbox.take()
    assert released == []
    core.inbox.take()
    assert released == [1]
    core.inbox.take_batch()
    assert released == [1, 0]
