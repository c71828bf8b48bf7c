"""What the recording clients were told: nothing is kept here that no client saw.

An outcome is OK (acknowledged), FAILED (refused), or UNKNOWN (nobody said).
"""

from __future__ import annotations

from enum import Enum

import msgspec


class Outcome(Enum):
    UNKNOWN = "unknown"
    OK = "ok"
    FAILED = "failed"


class Publication(msgspec.Struct):
    """One message that a client set out to publish. `key` is its payload's first 24 bytes."""

    key: bytes
    lane: str  # messages of one lane were submitted in the order of the ledger
    subject: str
    id: str = ""
    outcome: Outcome = Outcome.UNKNOWN
    offset: int | None = None
    duplicate: bool = False
    error: str = ""


class Receipt(msgspec.Struct, frozen=True):
    """One message in a handler's hands."""

    consumer: str
    offset: int
    attempt: int
    key: bytes


class Ledger:
    """The books of one run."""

    def __init__(self) -> None:
        self.publications: list[Publication] = []
        self.receipts: list[Receipt] = []
        self.confirmed: set[tuple[str, int]] = set()  # (consumer, offset) of ack(wait=True)
        self.blamed: set[tuple[str, int]] = set()  # nacked or rejected by a handler
        self.read: list[tuple[int, bytes]] = []  # (offset, key) as a following reader got them
        self.heard: list[int] = []  # offsets as a live subscription got them
        self.surprises: list[str] = []  # what no client should ever be told
        self._next_key = 0

    def publication(self, lane: str, subject: str, id: str = "") -> Publication:
        """A new message, entered before it is sent."""
        self._next_key += 1
        entry = Publication(b"%024d" % self._next_key, lane, subject, id)
        self.publications.append(entry)
        return entry

    def twin(self, of: Publication, lane: str) -> Publication:
        """The same message (id, payload) published once more."""
        entry = Publication(of.key, lane, of.subject, of.id)
        self.publications.append(entry)
        return entry

    def count(self, outcome: Outcome) -> int:
        return sum(entry.outcome is outcome for entry in self.publications)


def key_of(payload: bytes) -> bytes:
    return payload[:24]
