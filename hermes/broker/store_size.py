"""[P] How large the store is, against how large it may be.

The sealed segments are counted by whoever looks at the files (the executor of garbage
collection), the active one by each commit: so a limit is met within a commit or two.
"""

from __future__ import annotations

from hermes.errors import LimitExceededError


class StoreSize:
    """Bytes of one store. `is_stuck` and `slack_bytes` are the executor's."""

    __slots__ = ("active_bytes", "bytes_max", "is_stuck", "sealed_bytes", "slack_bytes")

    def __init__(self, bytes_max: int | None) -> None:
        self.bytes_max = bytes_max
        self.sealed_bytes = 0
        self.active_bytes = 0
        # Room beyond the limit while segments are being freed; none once nothing is left to free.
        self.slack_bytes = 0
        self.is_stuck = True

    @property
    def bytes(self) -> int:
        return self.sealed_bytes + self.active_bytes

    @property
    def full(self) -> bool:
        """Whether publishes are to be refused."""
        if self.bytes_max is None:
            return False
        return self.bytes >= self.bytes_max + (0 if self.is_stuck else self.slack_bytes)

    def rolled(self) -> None:
        """A new segment begins; what the last one held is sealed."""
        self.sealed_bytes += self.active_bytes
        self.active_bytes = 0

    def refusal(self) -> LimitExceededError:
        """What a publisher is told."""
        return LimitExceededError(
            f"the store holds {self.bytes:,} bytes, its limit is {self.bytes_max:,}: publishing is "
            "refused until there is room again",
            hint="acks and reads go on; `hermes gc --dry-run` says what holds the room, "
            "HERMES_MAX_STORE_BYTES is the limit",
            store_bytes=self.bytes,
            store_bytes_max=self.bytes_max,
        )
