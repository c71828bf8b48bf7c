"""Batches: what is refused, and what cutting keeps."""

from __future__ import annotations

from typing import Any

import pytest

from hermes import limits
from hermes.broker import batch as batches
from hermes.broker.batch import IncomingBatch, LineBatch, LiveBatch, check_batch
from hermes.broker.v1 import broker_pb2
from hermes.errors import HermesError, InvalidArgumentError, LimitExceededError


def head(count: int = 3, **columns: Any) -> bytes:
    return broker_pb2.BatchHead(count=count, **columns).SerializeToString()


def content(count: int = 3, *, size: int = 2, headers: list[dict[str, str]] | None = None) -> bytes:
    body = broker_pb2.BatchContent(payloads=[bytes([i]) * size for i in range(count)])
    for entries in headers or []:
        body.headers.add().entries.update(entries)
    return body.SerializeToString()


def check(head_bytes: bytes, content_bytes: bytes, limit: int = 1_000) -> IncomingBatch:
    return check_batch("a", head_bytes, content_bytes, limit)


FULL_HEAD = head(ids=["x", "", "z"], keys=["k0", "k1", "k2"], timestamps_ns=[10, 11, 12])
FULL_CONTENT = content(headers=[{"n": "0"}, {}, {"n": "2"}])


def line(first: int = 100) -> LineBatch:
    return LineBatch(first, first + 2, "a", FULL_HEAD, FULL_CONTENT, 77, 5)


# ------------------------------------------------------------------------ refusals


def test_a_good_batch_is_taken_as_it_is() -> None:
    batch = check(FULL_HEAD, FULL_CONTENT)
    assert (batch.head, batch.content) == (FULL_HEAD, FULL_CONTENT)
    assert (batch.count, batch.sizes, batch.ids) == (3, (2, 2, 2), ("x", "", "z"))


@pytest.mark.parametrize(
    ("head_bytes", "content_bytes", "error", "says"),
    [
        (b"\xff\xff", content(), InvalidArgumentError, "not the protobuf"),
        (head(), b"\xff\xff", InvalidArgumentError, "not the protobuf"),
        (head(0), content(0), InvalidArgumentError, "count is 0"),
        (
            head(limits.BATCH_MESSAGES_MAX + 1),
            content(0),
            InvalidArgumentError,
            "count is 16385",
        ),
        (head(2), content(3), InvalidArgumentError, "has 3 payloads"),
        (head(ids=["a"]), content(), InvalidArgumentError, "column ids has 1"),
        (head(keys=["k"] * 4), content(), InvalidArgumentError, "column keys has 4"),
        (head(timestamps_ns=[1]), content(), InvalidArgumentError, "column timestamps_ns"),
        (head(), content(headers=[{}]), InvalidArgumentError, "column headers has 1"),
        (head(ids=["a", "@1", ""]), content(), InvalidArgumentError, "begins with '@'"),
        (head(ids=["a", "b\n", ""]), content(), InvalidArgumentError, "is not valid"),
        (head(ids=["a", "b" * 257, ""]), content(), InvalidArgumentError, "is not valid"),
        (head(), content(size=1_001), LimitExceededError, "1,001 bytes"),
        (
            head(),
            content(headers=[{str(i): "" for i in range(65)}, {}, {}]),
            LimitExceededError,
            "65 headers",
        ),
        (
            head(),
            content(headers=[{"n": "x" * limits.HEADERS_BYTES_MAX}, {}, {}]),
            LimitExceededError,
            "headers of 16,385 bytes",
        ),
    ],
)
def test_what_is_refused(
    head_bytes: bytes, content_bytes: bytes, error: type[HermesError], says: str
) -> None:
    with pytest.raises(error, match=says):
        check(head_bytes, content_bytes)


def test_the_limit_is_that_of_a_message_not_of_a_batch() -> None:
    assert check(head(), content(size=1_000)).sizes == (1_000,) * 3
    with pytest.raises(LimitExceededError):
        check(head(), content(size=1_001))


# -------------------------------------------------------------------------- cutting


def test_take_keeps_every_column() -> None:
    new_head, new_content = batches.take(FULL_HEAD, FULL_CONTENT, [0, 2])
    columns = broker_pb2.BatchHead.FromString(new_head)
    body = broker_pb2.BatchContent.FromString(new_content)
    assert columns.count == 2
    assert list(columns.ids) == ["x", "z"]
    assert list(columns.keys) == ["k0", "k2"]
    assert list(columns.timestamps_ns) == [10, 12]
    assert list(body.payloads) == [b"\0\0", b"\2\2"]
    assert [dict(h.entries) for h in body.headers] == [{"n": "0"}, {"n": "2"}]


def test_take_adds_no_columns() -> None:
    new_head, new_content = batches.take(head(), content(), [1])
    assert (new_head, new_content) == (head(1), batches.take(head(), content(), [1])[1])
    assert not broker_pb2.BatchContent.FromString(new_content).headers


def test_a_cut_batch_passes_the_check_again() -> None:
    cut = batches.cut(check(FULL_HEAD, FULL_CONTENT), [1, 2])
    assert cut == check(cut.head, cut.content)
    assert cut.ids == ("", "z")


# ---------------------------------------------------------------------------- parts


def test_the_whole_batch_goes_as_it_is() -> None:
    batch = line()
    assert batches.part(batch, [(100, 102)]) == (batch, ())


def test_half_of_a_batch_goes_as_a_selection() -> None:
    batch = line()
    assert batches.part(batch, [(100, 100), (102, 102)]) == (batch, ((0, 0), (2, 2)))


def test_less_than_half_is_cut_out() -> None:
    part, selection = batches.part(line(), [(101, 101)])
    assert (part.first, part.last, selection) == (101, 101, ())
    ((offset, view),) = batches.views(part)
    assert (offset, view.payload, view.timestamp_ns) == (101, b"\1\1", 11)


def test_little_of_a_batch_in_two_places_is_its_hull_and_a_selection() -> None:
    batch = LineBatch(0, 9, "a", head(10), content(10), 0, 0)
    part, selection = batches.part(batch, [(2, 2), (5, 6)])
    assert (part.first, part.last) == (2, 6)
    assert selection == ((0, 0), (3, 4))
    offsets = [(part.first + a, part.first + b) for a, b in selection]
    assert [view.payload[0] for _, view in batches.views(part, offsets)] == [2, 5, 6]


# ---------------------------------------------------------------------------- views


def test_views_name_what_has_no_id_by_its_place() -> None:
    assert [(o, v.id, v.headers) for o, v in batches.views(line())] == [
        (100, "x", {"n": "0"}),
        (101, "@101", {}),
        (102, "z", {"n": "2"}),
    ]
    assert [o for o, _ in batches.views(line(), [(101, 102)])] == [101, 102]


def test_views_of_a_live_batch_are_named_by_record_and_index() -> None:
    live = LiveBatch("a", head(), content(), 3, None, 77, 5)
    assert [(o, v.id, v.timestamp_ns) for o, v in batches.views(live)] == [
        (0, "@5.0", 77),
        (1, "@5.1", 77),
        (2, "@5.2", 77),
    ]
    durable = LiveBatch("a", head(), content(), 3, 40, 77, 5)
    assert [v.id for _, v in batches.views(durable)] == ["@40", "@41", "@42"]


def test_a_single_message_is_a_batch_that_passes_the_check() -> None:
    batch = batches.single("a", b"xy", id="i", headers={"n": "v"}, timestamp_ns=9)
    assert batch == check(batch.head, batch.content)
    assert batches.single("a", b"") == check(head(1), batches.single("a", b"").content)


def test_mean_bytes_are_rounded_up() -> None:
    assert LineBatch(0, 2, "a", b"", bytes(10), 0, 0).mean_bytes == 4
