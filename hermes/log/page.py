"""[P] One answer's worth of records: a bounded number, and a bounded size."""

from __future__ import annotations

from hermes.log.record import StoredRecord


class Page:
    """Records gathered for one answer, up to a number and a size.

    The first record is taken whatever its size.
    """

    def __init__(self, limit: int, limit_bytes: int) -> None:
        self.records: list[StoredRecord] = []
        self.room = limit
        self._room_bytes = limit_bytes

    @property
    def full(self) -> bool:
        return self.room <= 0 or self._room_bytes <= 0

    def take(self, record: StoredRecord) -> bool:
        """Add a record; False if it does not fit."""
        size = len(record.body) + (len(record.payload) if record.payload is not None else 0)
        if self.room <= 0 or (self.records and size > self._room_bytes):
            return False
        self.room -= 1
        self._room_bytes -= size
        self.records.append(record)
        return True
