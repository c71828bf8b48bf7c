"""The short way says the same as protobuf, or nothing."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hermes.batch_of_one import (
    HEAD_OF_ONE,
    content_of_one,
    id_of_one,
    only_payload,
    only_payload_bytes,
)
from hermes.broker.v1 import broker_pb2

SIZES = [0, 1, 127, 128, 129, 16_383]


def test_the_head_is_protobufs() -> None:
    assert broker_pb2.BatchHead(count=1).SerializeToString() == HEAD_OF_ONE


@pytest.mark.parametrize("size", SIZES)
def test_the_content_is_protobufs(size: int) -> None:
    payload = bytes(n % 251 for n in range(size))
    content = broker_pb2.BatchContent(payloads=[payload]).SerializeToString()
    assert content_of_one(payload) == content
    assert only_payload_bytes(content) == size
    assert only_payload(content) == payload


def test_a_long_payload_goes_the_long_way() -> None:
    payload = bytes(16_384)
    assert content_of_one(payload) is None
    assert only_payload(broker_pb2.BatchContent(payloads=[payload]).SerializeToString()) is None


def test_what_is_more_than_one_payload_is_not_taken_for_one() -> None:
    two = broker_pb2.BatchContent(payloads=[b"a", b"b"])
    headed = broker_pb2.BatchContent(payloads=[b"a"], headers=[broker_pb2.Headers()])
    for content in (two, headed, broker_pb2.BatchContent()):
        assert only_payload_bytes(content.SerializeToString()) == -1


@given(st.binary(max_size=300))
@example(b"\x0a\x80\x00")  # a varint longer than it need be
@example(b"\x0a\xff\xff")
@example(b"\x0a\x83\x80\x00abc")
def test_any_bytes_are_read_as_protobuf_reads_them_or_not_at_all(data: bytes) -> None:
    payload = only_payload(data)
    if payload is not None:
        parsed = broker_pb2.BatchContent.FromString(data)
        assert list(parsed.payloads) == [payload] and not parsed.headers
        assert parsed.SerializeToString() == data


@pytest.mark.parametrize("text", ["", "a", "order-1", "é" * 20, "x" * 127, "x" * 128])
def test_the_id_of_one_is_protobufs(text: str) -> None:
    head = broker_pb2.BatchHead(count=1, ids=[text] if text else []).SerializeToString()
    assert id_of_one(head) == (text if len(text) < 128 else None)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        broker_pb2.BatchHead(count=2, ids=["a", "b"]).SerializeToString(),
        broker_pb2.BatchHead(count=1, ids=["a"], keys=["k"]).SerializeToString(),
        broker_pb2.BatchHead(count=1, timestamps_ns=[1]).SerializeToString(),
        b"\x08\x01\x12",
        b"\x08\x01\x12\x05ab",
        b"\x08\x01\x12\x01\xff",
    ],
)
def test_what_is_more_than_an_id_is_left_to_protobuf(head: bytes) -> None:
    assert id_of_one(head) is None
