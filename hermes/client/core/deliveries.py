"""[P] A delivery as received: one batch, decoded only as far as somebody looks.

Every message of a batch shares its `Delivered`; a message is that plus an index.
"""

from __future__ import annotations

from collections.abc import Mapping

from hermes.batch_of_one import HEAD_OF_ONE, only_payload
from hermes.broker.v1 import broker_pb2 as pb


class Delivered:
    """One batch with its place in the message line.

    `base_offset` is None for a live message, `attempt` 0 when there is nothing to
    settle. `published_at_ns` is Unix time.
    """

    __slots__ = (
        "_content",
        "_content_bytes",
        "_head",
        "_head_bytes",
        "_payloads",
        "attempt",
        "base_offset",
        "published_at_ns",
        "size_bytes",
        "subject",
    )

    def __init__(
        self, batch: pb.Batch, base_offset: int | None, attempt: int, published_at_ns: int
    ) -> None:
        self.subject = batch.subject
        # Bytes, not the message they came in: that would keep its whole frame.
        self._head_bytes = head = batch.head
        self._content_bytes = content = batch.content
        self.size_bytes = len(head) + len(content)
        self.base_offset = base_offset
        self.attempt = attempt
        self.published_at_ns = published_at_ns
        self._head: pb.BatchHead | None = None
        self._content: pb.BatchContent | None = None
        self._payloads: list[bytes] | None = None

    @property
    def count(self) -> int:
        """Messages in the batch."""
        return 1 if self._head_bytes == HEAD_OF_ONE else self._decode_head().count

    def payload(self, index: int) -> bytes:
        payloads = self._payloads
        if payloads is None:
            payloads = self._decode_payloads()
        return payloads[index]

    def payloads(self, indexes: range | list[int]) -> list[bytes]:
        """A list of those at `indexes`, decoded in one step."""
        payloads = self._payloads
        if payloads is None:
            payloads = self._decode_payloads()
        if isinstance(indexes, range):
            whole = len(indexes) == len(payloads)
            return list(payloads) if whole else payloads[indexes.start : indexes.stop]
        return [payloads[index] for index in indexes]

    def headers(self, index: int) -> dict[str, str]:
        """A fresh dict."""
        columns = self._decode_content().headers
        return dict(columns[index].entries) if columns else {}

    def message_id(self, index: int) -> str | None:
        if self._head_bytes == HEAD_OF_ONE:
            return None
        ids = self._decode_head().ids
        return (ids[index] or None) if ids else None

    def _decode_head(self) -> pb.BatchHead:
        if self._head is None:
            self._head = pb.BatchHead.FromString(self._head_bytes)
        return self._head

    def _decode_content(self) -> pb.BatchContent:
        if self._content is None:
            self._content = pb.BatchContent.FromString(self._content_bytes)
        return self._content

    def _decode_payloads(self) -> list[bytes]:
        only = only_payload(self._content_bytes)
        if only is not None:
            self._payloads = payloads = [only]
        else:
            content = pb.BatchContent.FromString(self._content_bytes)
            self._payloads = payloads = list(content.payloads)
            if content.headers:
                self._content = content
        return payloads


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
