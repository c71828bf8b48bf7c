"""[P] The log's port: what the broker may ask of a log, and what it is told.

Three logs implement it: SQLite segments (`log.py`), memory (`memory.py`, for
simulation and tests) and nothing (`null.py`, a broker without a store). The port
stays narrow and free of SQLite so that another database can take its place.

Rules
- One owner appends. lsns are dense; the owner knows them before the commit, and
  says so: `expected_next_lsn` that differs from the log's is a bug and raises.
- The outcome of an append is told once, in order, through the listener given at
  open: `Committed(last_lsn)` covers every record up to that lsn. `Failed` is the
  last word: nothing after it is ever committed by this object; whether the records
  between the last Committed and the failure are on disk is unknown until reopened.
- The listener is called on the log's own thread. It must not block or raise.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

import msgspec

from hermes.errors import StoreError
from hermes.log.facts import Mark
from hermes.log.record import Record, StoredRecord

KeyFilter = Callable[[str], bool]


class Committed(msgspec.Struct, frozen=True, gc=False):
    """Every record up to `last_lsn` is durable."""

    last_lsn: int
    segment_bytes: int  # size of the active segment's content, for the roll decision
    queued_bytes: int  # still waiting in the queue


class Failed(msgspec.Struct, frozen=True, gc=False):
    """The log has stopped. `error` says why; reopen to learn what is on disk."""

    error: Exception


Outcome = Committed | Failed
Listener = Callable[[Outcome], None]


class SegmentInfo(msgspec.Struct, frozen=True):
    """One segment, for GC, inspection and metrics. Bounds are inclusive.

    `retired` are the offsets whose payloads its file no longer holds, as of the
    SegmentCompacted record `compacted_lsn` (0: it was never compacted); what is announced
    and not yet carried out is not in them. `payload_bytes` is what it holds of payloads:
    exact where it was compacted, elsewhere an estimate from a sample of its records.
    """

    first_lsn: int
    last_lsn: int
    records: int
    bytes: int
    first_offset: int | None  # of the messages published in it
    last_offset: int | None
    lowest_touched: int | None  # offset hull over all its records
    highest_touched: int | None
    first_at_ns: int
    last_at_ns: int
    sealed: bool
    subjects: tuple[str, ...]  # keys of its PUBLISHED records
    payload_bytes: int = 0
    compacted_lsn: int = 0
    retired: tuple[tuple[int, int], ...] = ()  # ascending, disjoint, not touching
    quarantined: str = ""  # why nothing is read from it and it must be kept; empty: sound


class Batch(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Where a PUBLISHED record stands: the unit in which payloads are retired."""

    first: int
    last: int
    lsn: int
    key: str


class Compaction(msgspec.Struct, frozen=True):
    """A segment whose payloads are announced as retired and whose file still holds them.

    `error` says why the last attempt failed, None before the first. `stuck`: it will not be
    tried again before the log is opened anew (the file is damaged, or the announcement
    cuts a batch); otherwise it will, as when the disk is full.
    """

    first_lsn: int
    error: StoreError | None = None
    stuck: bool = False


class Quarantined(msgspec.Struct, frozen=True):
    """A damaged sealed segment that is left out. Bounds are inclusive.

    Offsets are those of the messages published in it, None where there were none.
    """

    first_lsn: int
    last_lsn: int
    first_offset: int | None
    last_offset: int | None
    reason: str
    path: str = ""  # empty where there is no file


class LogReader(Protocol):
    """Look-ups over every segment. Sync, one thread at a time, own connections.

    Every method answers from committed records only, in lsn order, and holds no
    transaction after it returns. Unknown offsets, terms and keys give empty answers.

    A segment that turns out to be damaged raises SegmentDamagedError; so whoever asks may
    have it quarantined (`Log.quarantine`) and ask again. What is in quarantine is not read:
    `publishes`, `batches` and `publish_of` raise SegmentDamagedError where they would have to
    answer from it, `count_messages` counts all its messages, whatever the filter,
    `offset_at_time` takes them for late enough if one may be, the others leave it out.
    """

    def read(
        self, from_lsn: int, *, limit: int, limit_bytes: int, payloads: bool = True
    ) -> list[StoredRecord]:
        """Records from an lsn on; at least one if there is any, whatever its size."""
        ...

    def publishes(
        self,
        from_offset: int,
        *,
        limit: int,
        limit_bytes: int,
        keys: KeyFilter | None = None,
        before_offset: int | None = None,
    ) -> tuple[list[StoredRecord], int]:
        """PUBLISHED records that hold an offset >= from_offset and match the filter.

        Returns them with the offset up to which everything was considered: where the
        next call continues. In front of a quarantined segment that is its first offset, and
        SegmentDamagedError is raised to whoever asks from there. `keys` is asked once per key
        and segment, about keys of other records too, and the answers are remembered: ask with
        the same callable again.
        """
        ...

    def batches(
        self, from_offset: int, *, before_offset: int | None = None, limit: int
    ) -> list[Batch]:
        """PUBLISHED records that hold an offset of from_offset..before_offset - 1, in order.

        From an index alone: neither bodies nor payloads are read, retired ones are listed as
        others are. The next call continues after the last one's `last`.
        """
        ...

    def publish_of(self, offset: int) -> StoredRecord | None:
        """The PUBLISHED record whose range holds the offset."""
        ...

    def touching(self, offset: int, *, after_lsn: int = 0, limit: int) -> list[StoredRecord]:
        """Records whose hull first..last holds the offset."""
        ...

    def with_term(self, term: int, *, limit: int) -> list[StoredRecord]:
        """Records that were appended with this look-up term."""
        ...

    def of_key(
        self, key: str, *, kinds: Collection[int] | None = None, after_lsn: int = 0, limit: int
    ) -> list[StoredRecord]:
        """Records of one key (a subject, a consumer)."""
        ...

    def count_messages(self, from_offset: int, keys: KeyFilter | None = None) -> int:
        """How many messages at or after the offset match the filter."""
        ...

    def count_each(self, asked: Sequence[tuple[int, KeyFilter | None]]) -> list[int]:
        """`count_messages` for each (offset, filter), with every segment looked at once."""
        ...

    def offset_at_time(self, at_ns: int) -> int | None:
        """Offset of the first message recorded at or after a Unix time; None if none is.

        Found by bisection: where the wall clock was set back, one of the places where the
        times pass `at_ns`, in the oldest segment that has one.
        """
        ...

    def latest(self, kind: int, *, at_or_before_lsn: int | None = None) -> StoredRecord | None:
        """The newest record of a rare kind, or the newest not after an lsn.

        Raises ValueError for kinds that travel with messages (below `FIRST_RARE_KIND`):
        nobody asks for the newest of those, and an index would cost each commit.
        """
        ...

    def close(self) -> None: ...


class Log(Protocol):
    """An append-only log with one writer."""

    @property
    def store_id(self) -> str:
        """UUID of the store; empty for the null log."""
        ...

    @property
    def next_lsn(self) -> int:
        """The lsn that the next appended record gets."""
        ...

    @property
    def next_offset(self) -> int:
        """The offset after the last PUBLISHED record appended."""
        ...

    @property
    def committed(self) -> Mark:
        """The last committed record: its lsn, the offset after it, its link in the chain.

        At least as far as every outcome told; what it names is durable. Before the first
        record, and in a log that keeps nothing: lsn 0 and the genesis of its store.
        May be read from any thread; goes on being answered after the log has failed.
        """
        ...

    @property
    def oldest_offset(self) -> int:
        """The oldest message offset whose record is still held (next_offset when none is).

        Its payload may be retired: compaction takes payloads and keeps records, so only
        `drop` moves this.
        """
        ...

    @property
    def durable(self) -> bool:
        """False for the null log: it numbers and forgets."""
        ...

    @property
    def low_space(self) -> bool:
        """The disk is below the reserve's watermark: publishes are to be refused."""
        ...

    @property
    def free_bytes(self) -> int:
        """Free bytes where the log is kept, as last seen; 0 when it is kept nowhere."""
        ...

    @property
    def queued_bytes(self) -> int:
        """Bytes of the records that wait for their commit."""
        ...

    def append(self, records: Sequence[Record], expected_next_lsn: int) -> int:
        """Queue records as one atomic group; returns the lsn of the last.

        The sequence is the log's from now on: the caller does not change it.
        Never blocks, and never refuses for want of room: who reads publishes looks at
        `queued_bytes` and `low_space`. Raises `LogClosedError` once the log has failed or
        is closed, ValueError for records that no log may hold (`record.admit`).
        """
        ...

    def roll(self, snapshot: Record, expected_next_lsn: int) -> int:
        """Begin a new segment with SegmentSealed and `snapshot`; returns the snapshot's lsn.

        SegmentSealed takes expected_next_lsn, the snapshot the one after it. The log fills
        SegmentSealed itself, with the snapshot's times. Raises ValueError when the active
        segment is empty, LogClosedError as `append` does.
        """
        ...

    def drop(self, first_lsn: int) -> None:
        """Forget the oldest segment, named by its first lsn; its file goes soon after.

        The SegmentDropped record that names it must be committed first. Raises ValueError
        if it is not, for the active segment, or for one that is not the oldest.
        """
        ...

    def room_to_compact(self, first_lsn: int) -> bool:
        """Whether the disk holds a copy of a sealed segment and stays above its watermark.

        To be asked before SegmentCompacted is appended. Raises ValueError as `compact` does
        for the active segment and for one that does not exist.
        """
        ...

    def compact(self, first_lsn: int) -> None:
        """Take the payloads out of a sealed segment that SegmentCompacted announced as retired.

        The records that name the segment must be committed first, as one group: each tells
        ranges of retired offsets within a hull of `RECORD_HULL_MAX` (key none, first..last
        their hull, `retired` coded as in deliveries); one without offsets retires no
        message. What all of them name, now and earlier, goes. Payloads of PUBLISHED_LIVE
        records go with any compaction of their segment. Records, bodies, hashes and the
        chain stay: a reader answers such a record with payload None and its payload_hash.

        Reads what is announced, some 1 µs per range: for a thread that may wait. The work
        itself goes on beside the log and is over when `segments` tells the announcement's
        lsn as `compacted_lsn`; until then `compactions` names it. Opening the log goes on
        with what was announced and is not done.

        Raises ValueError, and does nothing, when no committed record announces something
        that is not done yet, for the active segment, for one that does not exist, and when
        the ranges cut a batch or leave the segment: whole batches are retired, or nothing.
        """
        ...

    def quarantine(self, first_lsn: int, reason: str) -> bool:
        """Read nothing more from a sealed segment, named by its first lsn: it is damaged.

        For as long as this log is open; the file is not touched. Returns False when it is
        in quarantine already. From any thread. Raises ValueError unless it is a sealed one.
        """
        ...

    @property
    def compactions(self) -> tuple[Compaction, ...]:
        """What is announced, and not done yet. May be read from any thread."""
        ...

    @property
    def quarantined(self) -> tuple[Quarantined, ...]:
        """The segments that are left out, oldest first. From any thread, and cheap."""
        ...

    def segments(self, *, subjects: bool = True) -> list[SegmentInfo]:
        """All segments, oldest first, the active one last.

        Costs look-ups in each segment's file: for a thread that may wait. Without `subjects`
        theirs are empty, and the look-ups are few.
        """
        ...

    def reader(self) -> LogReader: ...

    def close(self) -> None:
        """Commit what is queued, stop the writer, release the lock. Idempotent."""
        ...
