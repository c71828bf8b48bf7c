"""Deliveries: joined, cut, and never larger than a frame."""

from __future__ import annotations

from hermes import limits
from hermes.broker.batch import LineBatch
from hermes.broker.dispatch import Assignment
from hermes.broker.v1 import broker_pb2 as pb
from hermes.server.frames import Deliveries


def line_batch(first: int, payloads: list[bytes]) -> LineBatch:
    head = pb.BatchHead(count=len(payloads)).SerializeToString()
    content = pb.BatchContent(payloads=payloads).SerializeToString()
    return LineBatch(first, first + len(payloads) - 1, "a", head, content, 0, 1)


def frames_of(deliveries: Deliveries) -> list[pb.ConsumeResponse]:
    frames = []
    while deliveries:
        frame = pb.ConsumeResponse()
        deliveries.take(frame.deliveries)
        assert frame.deliveries
        frames.append(frame)
    return frames


def offsets_of(delivery: pb.Delivery) -> list[int]:
    selection = list(delivery.selection) or [
        0,
        pb.BatchHead.FromString(delivery.batch.head).count - 1,
    ]
    pairs = zip(selection[::2], selection[1::2], strict=True)
    return [delivery.base_offset + i for a, b in pairs for i in range(a, b + 1)]


def payloads_of(delivery: pb.Delivery) -> list[bytes]:
    payloads = pb.BatchContent.FromString(delivery.batch.content).payloads
    return [payloads[offset - delivery.base_offset] for offset in offsets_of(delivery)]


def test_a_whole_batch_is_forwarded_byte_for_byte() -> None:
    batch = line_batch(10, [b"a", b"b"])
    deliveries = Deliveries(limits.FRAME_BYTES_MIN)
    deliveries.add([Assignment(1, 1, batch, 10, 11)])
    ((delivery,),) = [frame.deliveries for frame in frames_of(deliveries)]
    assert (delivery.batch.head, delivery.batch.content) == (batch.head, batch.content)
    assert (delivery.base_offset, list(delivery.selection)) == (10, [])


def test_neighbours_of_one_batch_and_attempt_are_one_delivery() -> None:
    batch = line_batch(0, [b"%d" % i for i in range(8)])
    deliveries = Deliveries(limits.FRAME_BYTES_MIN)
    parts = [(1, 0, 1), (1, 2, 2), (1, 5, 7), (2, 3, 3), (1, 4, 4)]
    deliveries.add([Assignment(1, attempt, batch, first, last) for attempt, first, last in parts])
    (frame,) = frames_of(deliveries)
    got = [(d.attempt, offsets_of(d), payloads_of(d)) for d in frame.deliveries]
    assert got == [
        (1, [0, 1, 2, 5, 6, 7], [b"0", b"1", b"2", b"5", b"6", b"7"]),
        (2, [3], [b"3"]),
        (1, [4], [b"4"]),
    ]


def test_a_frame_takes_what_fits() -> None:
    frame_bytes = 20_000
    deliveries = Deliveries(frame_bytes)
    batches = [line_batch(i, [bytes(3_000)]) for i in range(20)]
    deliveries.add([Assignment(1, 1, batch, batch.first, batch.last) for batch in batches])
    frames = frames_of(deliveries)
    assert max(frame.ByteSize() for frame in frames) <= frame_bytes
    assert [d.base_offset for frame in frames for d in frame.deliveries] == list(range(20))
    assert len(frames) < 8


def test_a_batch_larger_than_a_frame_is_cut() -> None:
    """The copy of a dead letter has more headers than the batch that was published."""
    frame_bytes = 20_000
    payloads = [b"%03d" % i + bytes(1_000) for i in range(100)]
    batch = line_batch(7, payloads)
    deliveries = Deliveries(frame_bytes)
    deliveries.add([Assignment(1, 3, batch, 7, 50), Assignment(1, 3, batch, 60, 106)])
    frames = frames_of(deliveries)
    assert max(frame.ByteSize() for frame in frames) <= frame_bytes
    got = [d for frame in frames for d in frame.deliveries]
    offsets = [offset for delivery in got for offset in offsets_of(delivery)]
    assert offsets == [*range(7, 51), *range(60, 107)]
    assert [p for d in got for p in payloads_of(d)] == [payloads[o - 7] for o in offsets]
    assert {delivery.attempt for delivery in got} == {3}


def test_a_single_message_larger_than_a_frame_still_leaves() -> None:
    deliveries = Deliveries(10_000)
    batch = line_batch(0, [bytes(50_000)])
    deliveries.add([Assignment(1, 1, batch, 0, 0)])
    (frame,) = frames_of(deliveries)
    assert offsets_of(frame.deliveries[0]) == [0]
