"""[P] Batches: checked on the way in, forwarded as they are, cut only when they must be.

Theory: bytes are cheap, Python objects are not. A batch is subject, head and content;
head and content are opaque protobuf bytes (BatchHead, BatchContent) that are checked
once, stored as published and forwarded unchanged. Only two things re-encode one:
duplicates that are cut out before it is stored, and a member that gets less than half.

What a batch means to a consumer does not belong here.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from hermes import limits
from hermes.batch_of_one import HEAD_OF_ONE, only_payload_bytes
from hermes.broker.ranges import Range
from hermes.broker.v1 import broker_pb2
from hermes.errors import InvalidArgumentError, LimitExceededError


class IncomingBatch(msgspec.Struct, frozen=True, gc=False):
    """A checked batch, not yet in the line. `ids` is () or one per message."""

    subject: str
    head: bytes
    content: bytes
    count: int
    sizes: tuple[int, ...]  # payload bytes of each message
    ids: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        return len(self.head) + len(self.content)


class LineBatch(msgspec.Struct, frozen=True, gc=False):
    """A batch in the message line: offsets first..last, both included."""

    first: int
    last: int
    subject: str
    head: bytes
    content: bytes
    published_at_ns: int
    published_lsn: int

    @property
    def count(self) -> int:
        return self.last - self.first + 1

    @property
    def base_offset(self) -> int:
        return self.first

    @property
    def bytes(self) -> int:
        return len(self.head) + len(self.content)

    @property
    def mean_bytes(self) -> int:
        """Bytes of a message, rounded up."""
        return -(-len(self.content) // self.count)


class LiveBatch(msgspec.Struct, frozen=True, gc=False):
    """A batch on its way to live subscriptions; `base_offset` when it is durable too."""

    subject: str
    head: bytes
    content: bytes
    count: int
    base_offset: int | None
    published_at_ns: int
    published_lsn: int

    @property
    def bytes(self) -> int:
        return len(self.head) + len(self.content)


class MessageView(msgspec.Struct, frozen=True, gc=False):
    """One message taken out of a batch, for the per-message RPCs."""

    id: str
    payload: bytes
    headers: dict[str, str]
    timestamp_ns: int


def check_batch(subject: str, head: bytes, content: bytes, message_bytes_max: int) -> IncomingBatch:
    """Parse and check what a publisher sent.

    Raises InvalidArgumentError (bytes that do not parse, columns whose lengths
    disagree) or LimitExceededError (too many messages, a message too large).
    The subject is not checked here.
    """
    if head == HEAD_OF_ONE:
        payload_bytes = only_payload_bytes(content)
        if 0 <= payload_bytes <= message_bytes_max:
            return IncomingBatch(subject, head, content, 1, (payload_bytes,))
    try:
        columns = broker_pb2.BatchHead.FromString(head)
        body = broker_pb2.BatchContent.FromString(content)
    except Exception as error:  # protobuf's DecodeError is not typed
        raise InvalidArgumentError(
            "batch head or content is not the protobuf it should be",
            hint="head is a BatchHead, content a BatchContent",
        ) from error
    count = columns.count
    if not 1 <= count <= limits.BATCH_MESSAGES_MAX:
        raise InvalidArgumentError(
            f"batch count is {count}, expected 1..{limits.BATCH_MESSAGES_MAX}"
        )
    payloads = body.payloads
    if len(payloads) != count:
        raise InvalidArgumentError(f"batch count is {count}, but it has {len(payloads)} payloads")
    for name, column in (
        ("ids", columns.ids),
        ("keys", columns.keys),
        ("timestamps_ns", columns.timestamps_ns),
        ("headers", body.headers),
    ):
        if column and len(column) != count:
            raise InvalidArgumentError(
                f"batch column {name} has {len(column)} entries, expected none or {count}"
            )
    ids = tuple(columns.ids)
    if ids:
        _check_ids(ids)
    sizes = tuple(map(len, payloads))
    if body.headers:
        _check_headers(body.headers)
    if len(content) > message_bytes_max:
        check_message_bytes(max(sizes), message_bytes_max)
    return IncomingBatch(subject, head, content, count, sizes, ids)


def check_message_bytes(payload_bytes: int, message_bytes_max: int) -> None:
    """Raise LimitExceededError if one payload is over the limit."""
    if payload_bytes > message_bytes_max:
        raise LimitExceededError(
            f"message of {payload_bytes:,} bytes is over the limit of {message_bytes_max:,} bytes",
            hint="raise max_message_bytes (HERMES_MAX_MESSAGE_BYTES) or send a reference",
            limit="max_message_bytes",
        )


def check_id(text: str) -> None:
    """Raise InvalidArgumentError unless `text` may be a message id."""
    if text.startswith("@"):
        raise InvalidArgumentError(
            f"message id {text[:40]!r} begins with '@'", hint="@ and an offset is Hermes' own form"
        )
    if len(text) > limits.MESSAGE_ID_BYTES_MAX or not text.isprintable():
        raise InvalidArgumentError(
            f"message id {text[:40]!r} is not valid",
            hint=f"at most {limits.MESSAGE_ID_BYTES_MAX} printable characters",
        )


def _check_ids(ids: Sequence[str]) -> None:
    for text in ids:
        check_id(text)


def _check_headers(columns: Sequence[broker_pb2.Headers]) -> None:
    for headers in columns:
        check_headers(headers.entries)


def check_headers(entries: object) -> None:
    """Raise LimitExceededError for more headers, or more bytes of them, than allowed."""
    assert hasattr(entries, "items")
    if not entries:
        return
    if len(entries) > limits.HEADERS_MAX:  # type: ignore[arg-type]
        raise LimitExceededError(
            f"message has {len(entries)} headers, "  # type: ignore[arg-type]
            f"at most {limits.HEADERS_MAX} are allowed",
            limit="headers_max",
        )
    total = sum(len(name) + len(value) for name, value in entries.items())
    if total > limits.HEADERS_BYTES_MAX:
        raise LimitExceededError(
            f"headers of {total:,} bytes are over the limit of {limits.HEADERS_BYTES_MAX:,} bytes",
            limit="headers_bytes_max",
        )


def single(
    subject: str,
    payload: bytes,
    *,
    id: str = "",
    headers: dict[str, str] | None = None,
    timestamp_ns: int = 0,
) -> IncomingBatch:
    """A batch of one message, from the per-message RPCs. Checks nothing."""
    head = broker_pb2.BatchHead(count=1)
    if id:
        head.ids.append(id)
    if timestamp_ns:
        head.timestamps_ns.append(timestamp_ns)
    content = broker_pb2.BatchContent(payloads=[payload])
    if headers:
        content.headers.add().entries.update(headers)
    return IncomingBatch(
        subject,
        head.SerializeToString(),
        content.SerializeToString(),
        1,
        (len(payload),),
        (id,) if id else (),
    )


def take(head: bytes, content: bytes, keep: Sequence[int]) -> tuple[bytes, bytes]:
    """Head and content with only the messages at these indexes, in order."""
    columns = broker_pb2.BatchHead.FromString(head)
    body = broker_pb2.BatchContent.FromString(content)
    new_head = broker_pb2.BatchHead(count=len(keep))
    if columns.ids:
        new_head.ids.extend([columns.ids[i] for i in keep])
    if columns.keys:
        new_head.keys.extend([columns.keys[i] for i in keep])
    if columns.timestamps_ns:
        new_head.timestamps_ns.extend([columns.timestamps_ns[i] for i in keep])
    new_content = broker_pb2.BatchContent(payloads=[body.payloads[i] for i in keep])
    if body.headers:
        new_content.headers.extend([body.headers[i] for i in keep])
    return new_head.SerializeToString(), new_content.SerializeToString()


def cut(batch: IncomingBatch, keep: Sequence[int]) -> IncomingBatch:
    """The batch without its other messages (duplicates)."""
    head, content = take(batch.head, batch.content, keep)
    return IncomingBatch(
        batch.subject,
        head,
        content,
        len(keep),
        tuple(batch.sizes[i] for i in keep),
        tuple(batch.ids[i] for i in keep) if batch.ids else (),
    )


def part(batch: LineBatch, ranges: Sequence[Range]) -> tuple[LineBatch, tuple[Range, ...]]:
    """What to send of a batch for these offsets: (batch, selection as index ranges).

    The selection is () when all of it is meant. Less than half of a batch is cut out
    as a new one over the hull of the ranges.
    """
    first, last = ranges[0][0], ranges[-1][1]
    if len(ranges) == 1 and first == batch.first and last == batch.last:
        return batch, ()
    wanted = sum(b - a + 1 for a, b in ranges)
    if wanted * 2 < batch.count:
        keep = range(first - batch.first, last - batch.first + 1)
        head, content = take(batch.head, batch.content, keep)
        batch = LineBatch(
            first,
            last,
            batch.subject,
            head,
            content,
            batch.published_at_ns,
            batch.published_lsn,
        )
        if len(ranges) == 1:
            return batch, ()
    return batch, tuple((a - batch.first, b - batch.first) for a, b in ranges)


def views(
    batch: LineBatch | LiveBatch, ranges: Sequence[Range] = ()
) -> list[tuple[int, MessageView]]:
    """(offset, message) of each message, or of those in `ranges` (offsets).

    A message without an id gets one that names its place: @offset, or @lsn.index when
    it is live and has no offset (its "offset" is then its index).
    """
    columns = broker_pb2.BatchHead.FromString(batch.head)
    body = broker_pb2.BatchContent.FromString(batch.content)
    ids, headers, times = columns.ids, body.headers, columns.timestamps_ns
    base = batch.base_offset
    prefix = "@" if base is not None else f"@{batch.published_lsn}."
    start = base or 0
    result = []
    for first, last in ranges or ((start, start + columns.count - 1),):
        for offset in range(first, last + 1):
            i = offset - start
            view = MessageView(
                (ids[i] if ids else "") or f"{prefix}{offset}",
                body.payloads[i],
                dict(headers[i].entries) if headers else {},
                times[i] if times else batch.published_at_ns,
            )
            result.append((offset, view))
    return result
