"""[P] A delivery as received: one batch, decoded only as far as somebody looks.

Every message of a batch shares its `Delivered`; a message is that plus an index.
"""

from __future__ import annotations

from collections.abc import Mapping

from hermes.broker.v1 import broker_pb2 as pb

# A BatchHead of one message without id, key or timestamp: by far the most common one.
HEAD_OF_ONE = pb.BatchHead(count=1).SerializeToString()


class Delivered:
    """One batch with its place in the message line.

    `base_offset` is None for a live message, `attempt` 0 when there is nothing to
    settle. `published_at_ns` is Unix time.
    """

    __slots__ = ("_batch", "_content", "_head", "attempt", "base_offset", "published_at_ns")

    def __init__(
        self, batch: pb.Batch, base_offset: int | None, attempt: int, published_at_ns: int
    ) -> None:
        self._batch = batch
        self.base_offset = base_offset
        self.attempt = attempt
        self.published_at_ns = published_at_ns
        self._head: pb.BatchHead | None = None
        self._content: pb.BatchContent | None = None

    @property
    def subject(self) -> str:
        return self._batch.subject

    @property
    def size_bytes(self) -> int:
        return len(self._batch.content) + len(self._batch.head)

    @property
    def count(self) -> int:
        """Messages in the batch."""
        return 1 if self._batch.head == HEAD_OF_ONE else self._decode_head().count

    def payload(self, index: int) -> bytes:
        content = self._content
        if content is None:
            content = self._decode_content()
        return content.payloads[index]

    def payloads(self, indexes: range | list[int]) -> list[bytes]:
        """Those at `indexes`, decoded in one step."""
        payloads = self._decode_content().payloads
        if isinstance(indexes, range):
            whole = len(indexes) == len(payloads)
            return list(payloads) if whole else payloads[indexes.start : indexes.stop]
        return [payloads[index] for index in indexes]

    def headers(self, index: int) -> dict[str, str]:
        """A fresh dict."""
        columns = self._decode_content().headers
        return dict(columns[index].entries) if columns else {}

    def message_id(self, index: int) -> str | None:
        ids = self._decode_head().ids
        return (ids[index] or None) if ids else None

    def _decode_head(self) -> pb.BatchHead:
        if self._head is None:
            self._head = pb.BatchHead.FromString(self._batch.head)
        return self._head

    def _decode_content(self) -> pb.BatchContent:
        if self._content is None:
            self._content = pb.BatchContent.FromString(self._batch.content)
        return self._content


def selected_indexes(count: int, selection: list[int]) -> range | list[int]:
    """The indexes that a flattened range list means; all of them when it is empty."""
    if not selection:
        return range(count)
    if len(selection) == 2:
        return range(selection[0], selection[1] + 1)
    return [
        index
        for first, last in zip(selection[::2], selection[1::2], strict=True)
        for index in range(first, last + 1)
    ]


def batch_of_one(
    subject: str, payload: bytes, headers: Mapping[str, str] | None, message_id: str | None
) -> pb.Batch:
    """A batch that holds a single message."""
    content = pb.BatchContent(payloads=(payload,))
    if headers:
        content.headers.append(pb.Headers(entries=dict(headers)))
    head = HEAD_OF_ONE
    if message_id:
        head = pb.BatchHead(count=1, ids=(message_id,)).SerializeToString()
    return pb.Batch(subject=subject, head=head, content=content.SerializeToString())
