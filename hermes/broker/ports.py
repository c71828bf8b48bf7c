"""[P] What the engine needs of the world around it, and what it hands out.

The engine is plain synchronous code without asyncio, threads or sockets: a host (the
server's asyncio loop, or a simulation) wakes it, reads for it, and owns the streams.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from hermes.broker.batch import LineBatch
from hermes.broker.ranges import Range
from hermes.errors import HermesError

if TYPE_CHECKING:
    from hermes.broker.dispatch import Assignment


class MemberPort(Protocol):
    """The stream behind a member. Nothing here blocks; called at commit, in order."""

    def deliver(self, assignments: Sequence[Assignment]) -> None: ...

    def end(self, error: HermesError) -> None:
        """The broker ends this membership."""
        ...


class FetchAhead(msgspec.Struct, frozen=True):
    """Read matching batches for one consumer's window."""

    consumer: str
    created_lsn: int
    from_offset: int
    filters: tuple[str, ...]
    limit: int
    limit_bytes: int


class FetchRanges(msgspec.Struct, frozen=True):
    """Read the batches that hold these offsets: due redeliveries, or dead letters to copy."""

    consumer: str
    created_lsn: int
    ranges: tuple[Range, ...]
    for_copies: bool


Fetch = FetchAhead | FetchRanges


class Fetched(msgspec.Struct, frozen=True):
    """The answer. `scanned_to` is where the next FetchAhead continues; `unread` is the rest
    of a FetchRanges that asked for more than is read at once. `pinned`: a FetchAhead can go
    no further, because these offsets are in a segment that is damaged; `withheld`: so are
    these of a FetchRanges. They are not gone: they wait until the file is restored."""

    request: Fetch
    batches: Sequence[LineBatch]
    scanned_to: int = 0
    unread: tuple[Range, ...] = ()
    pinned: Range | None = None
    withheld: tuple[Range, ...] = ()


class Host(Protocol):
    """Drives the engine."""

    def wake(self) -> None:
        """Call `engine.turn()` soon, once. Called on the engine's own thread."""
        ...

    def fetch(self, request: Fetch) -> None:
        """Read beside the loop, then call `engine.fetched(...)` on it."""
        ...
