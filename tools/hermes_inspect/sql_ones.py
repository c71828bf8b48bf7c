"""[P] The rows of records about one message, the short way.

Where every message travels alone, a record is a row, and what a row costs is what a query
costs. Most queries look at a few columns that the record has itself: then its body is not
parsed, and nobody is asked which message that was. What comes out is what `sql_rows.py`
makes of the same record, as far as it is looked at; tests hold the two against each other.
"""

from __future__ import annotations

from typing import Final

from hermes.log.record import Kind, StoredRecord
from hermes.log.sql_table import Row
from hermes_inspect.rows import SETTLEMENTS, kind_name
from hermes_inspect.sql_rows import PLACE_BITS, Window, moment

_PUBLISHED: Final = int(Kind.PUBLISHED)
# What is in the columns of a record. `payload_hash` too, but of a publish alone.
_OF_RECORD: Final = frozenset(
    {"lsn", "recorded_at", "recorded_at_ns", "kind", "message_offset", "consumer"}
)
_OF_MESSAGE: Final = frozenset({"subject", "message_id"})


class Ones:
    """Rows of one scan: `kinds` are those whose records about one offset come this way."""

    def __init__(self, directory: Window, columns: frozenset[str], *, payloads: bool) -> None:
        """`columns` are those that are looked at; the others may be None."""
        self._directory = directory
        self._at = "recorded_at" in columns
        self._message = bool(columns & _OF_MESSAGE)
        self._rest = (None,) * (9 + payloads)  # from member to payload_hash
        kinds: set[int] = set()
        if columns <= _OF_RECORD | _OF_MESSAGE:
            kinds |= SETTLEMENTS
        if columns <= _OF_RECORD | {"subject"}:
            kinds.add(_PUBLISHED)
        self.kinds = frozenset(kinds)

    def row(self, record: StoredRecord) -> Row:
        """The row of such a record."""
        offset, key, subject, text = record.first, record.key, None, None
        consumer = key
        if record.kind == _PUBLISHED:
            subject, consumer = key, None
        elif self._message and offset is not None:
            directory = self._directory
            directory.window = (offset, offset)
            for piece in directory.messages(offset, offset):
                subject, text = piece.subject, (piece.ids[0] or None) if piece.ids else None
        return (
            record.lsn,
            moment(record.at_ns) if self._at else None,
            record.at_ns,
            kind_name(record.kind),
            offset,
            text,
            subject,
            consumer,
            *self._rest,
            record.lsn << PLACE_BITS,
        )
