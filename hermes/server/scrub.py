"""The background scrub: every sealed segment is read again once in a while, and checked.

Theory: what is rarely read rots unseen, and is found when it is needed. One thread walks
segment after segment (hermes/log/scrub.py says how, scrub_plan.py in which order), slowly
enough that nobody notices, and rests between two passes. Damage is marked in the log
(`Log.quarantine`), as it is when a read meets it; what that means for consumers is told by
quarantine.py. Here only the break itself is told: the records and offsets that
`hermes-inspect verify` names. Serving goes on, and so does the pass.

Rules
- Only damage is marked. What cannot be looked at just now (no descriptors, no memory), a
  file that changes or is not sealed yet, and a fault of our own, leave a segment as it is;
  the pass comes back to it some times before it ends without it.
- Progress is in memory only: a new process begins anew, at a place that is drawn at random.
  An opening of the log afresh (fail stop) goes on where the pass was.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, NamedTuple

from hermes.clock import Clock
from hermes.errors import LogClosedError, SegmentDamagedError, StoreError
from hermes.log.bodies import erased_lsn
from hermes.log.pace import Pace
from hermes.log.port import Log, SegmentInfo
from hermes.log.record import Kind, StoredRecord
from hermes.log.scrub import Finding, Scrubbed, Sealed, scrub_segment
from hermes.log.segment import file_name, is_sealed_file
from hermes.server.config import ServerConfig
from hermes.server.logs import get_logger
from hermes.server.scrub_plan import left_to_check
from hermes.server.settings import NS_PER_SEC

EVENT: Final = "a sealed segment is damaged"
# Looks at one segment that changes its file under each of them.
_LOOKS_MAX: Final = 5
# How often, and when, a pass comes back to what it could not check.
_RETURNS_MAX: Final = 10
_AGAIN_NS: Final = 60 * NS_PER_SEC
# A disk that hangs in a read must not hold up the stop.
_JOIN_SECS: Final = 5.0

_Passed = Callable[[int], None]

_log = get_logger("hermes.server")


class _Run(NamedTuple):
    """What one thread works on."""

    log: Log
    folder: Path
    ending: threading.Event


class _StopScrub(Exception):  # noqa: N818 - no error
    """Raised in the middle of a segment when the thread is to end."""


class Scrub:
    """One server's scrub: a thread per opened log, and what it has done so far.

    Attributes may be read by any thread.
    """

    def __init__(self, config: ServerConfig, clock: Clock) -> None:
        self.passes = 0  # completed
        self.segments_checked = 0
        self.bytes_checked = 0
        self.damaged: dict[int, Finding] = {}  # by the first lsn of the segment
        self.last_pass_at_ns = 0  # wall clock, when the last pass ended; 0: none did yet
        self.enabled = config.store_path is not None and config.scrub_bytes_per_sec > 0
        self._folder = config.store_path
        self._interval_ns = int(config.scrub_interval_secs * NS_PER_SEC)
        self._rate = config.scrub_bytes_per_sec
        self._clock = clock
        self._due_ns = 0  # monotonic
        self._number = 1  # of the pass that is under way, or of the next
        self._begin_at: int | None = None
        self._returns = 0  # of this pass, to what it could not check
        self._checked: dict[int, int] = {}  # first lsn -> number of the pass
        self._marked: set[int] = set()  # damaged segments that this log leaves out
        self._told: set[str] = set()  # why something could not be checked, in this pass
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, log: Log) -> None:
        """Begin, or go on, with a log; does nothing without a store, or if it is switched off."""
        if self._folder is None or not self.enabled or not log.durable:
            return
        self._marked.clear()
        if self.damaged:  # this log does not know, and the files may have been restored
            self._checked = {n: k for n, k in self._checked.items() if n not in self.damaged}
            self._due_ns = 0
        self._ending = threading.Event()
        run = _Run(log, self._folder, self._ending)
        self._thread = threading.Thread(
            target=self._work, args=(run,), name="hermes-scrub", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End the thread: within one read. Idempotent; waits, so not for the loop's thread."""
        self._ending.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(_JOIN_SECS)

    # ----------------------------------------------------------- on the thread

    def _work(self, run: _Run) -> None:
        try:
            while True:
                wait_ns = self._due_ns - self._clock.monotonic_ns()
                if run.ending.wait(max(0, wait_ns) / NS_PER_SEC):
                    return
                try:
                    self._pass(run)
                except LogClosedError:
                    return  # who opens the log again starts the scrub again
                except StoreError as error:
                    self._cannot("the list of segments", error)
                    self._come_back()
        except _StopScrub:
            return
        except Exception as error:  # noqa: BLE001 - a bug of ours must not pass unseen
            _log.error("the scrub of old segments failed", exc_info=error)

    def _pass(self, run: _Run) -> None:
        """Check what is left of the pass that is under way."""
        pace = Pace(self._rate, self._clock)

        def passed(size_bytes: int) -> None:
            self.bytes_checked += size_bytes
            if run.ending.wait(pace.rest_secs(size_bytes)):
                raise _StopScrub

        segments = {segment.first_lsn: segment for segment in _sealed(run.log)}
        self._checked = {n: number for n, number in self._checked.items() if n in segments}
        self.damaged = {n: found for n, found in self.damaged.items() if n in segments}
        if self._begin_at is None:
            self._begin_at = random.choice(list(segments)) if segments else 0
        left = left_to_check(segments, self._checked, self._number, self._begin_at)
        put_off = 0
        for first_lsn in left:
            if first_lsn in self._marked or self._check(run, segments[first_lsn], passed):
                self._checked[first_lsn] = self._number
            else:
                put_off += 1
        if put_off and self._returns < _RETURNS_MAX:
            self._returns += 1
            self._come_back()
            return
        self.passes += 1
        self._number += 1
        self._returns = 0
        self._told.clear()
        self.last_pass_at_ns = self._clock.wall_ns()
        self._due_ns = self._clock.monotonic_ns() + self._interval_ns
        _log.debug("scrub pass done", segments=len(segments), damaged=len(self.damaged))

    def _come_back(self) -> None:
        self._due_ns = self._clock.monotonic_ns() + min(self._interval_ns, _AGAIN_NS)

    def _check(self, run: _Run, segment: SegmentInfo, passed: _Passed) -> bool:
        """Check a segment; False if that is not possible just now."""
        name = file_name(segment.first_lsn)
        for _ in range(_LOOKS_MAX):
            try:
                if not is_sealed_file(run.folder / name):
                    return False  # it was rolled away from a moment ago
                scrubbed = _scrub(run, segment, passed)
            except _StopScrub:
                raise
            except FileNotFoundError:
                return True  # dropped meanwhile
            except (StoreError, OSError) as error:
                self._cannot(name, error)
                return False
            except Exception as error:  # noqa: BLE001 - the other segments are worth a look
                _log.error("the scrub of a segment failed", segment=name, exc_info=error)
                return False
            if scrubbed is not None:
                self.segments_checked += 1
                if scrubbed.finding is None:
                    self.damaged.pop(segment.first_lsn, None)
                else:
                    self._found(run, segment.first_lsn, scrubbed.finding)
                return True
        return False

    def _found(self, run: _Run, first_lsn: int, found: Finding) -> None:
        """Let nobody read the segment any more; tell of it, if that is news."""
        self._marked.add(first_lsn)
        with suppress(ValueError):  # dropped meanwhile
            run.log.quarantine(first_lsn, found.text)
        if self.damaged.get(first_lsn) != found:
            self.damaged[first_lsn] = found
            _tell(run.folder, found)

    def _cannot(self, what: str, error: Exception) -> None:
        if str(error) not in self._told:
            self._told.add(str(error))
            _log.warning(
                "old segments cannot be checked now; it is tried again", of=what, cause=str(error)
            )


def _tell(folder: Path, found: Finding) -> None:
    _log.error(
        EVENT,
        path=str(folder / found.segment),
        first_lsn=found.first_lsn,
        last_lsn=found.last_lsn,
        first_offset=None if found.offsets is None else found.offsets[0],
        last_offset=None if found.offsets is None else found.offsets[1],
        found=found.text,
        more_breaks=found.more,
        unreadable=found.unreadable,
        works="everything but what this file holds",
        remedy="stop the server, keep a copy of the file, put the file of a backup in its "
        "place, start again; `hermes-inspect verify` tells all that is wrong",
    )


def _sealed(log: Log) -> list[SegmentInfo]:
    """The sealed segments; one that cannot even be described is left out of reads first."""
    for _ in range(_LOOKS_MAX):
        try:
            return [segment for segment in log.segments(subjects=False) if segment.sealed]
        except SegmentDamagedError as error:
            log.quarantine(error.fields["first_lsn"], error.fields["reason"])
    return [segment for segment in log.segments(subjects=False) if segment.sealed]


def _scrub(run: _Run, segment: SegmentInfo, passed: _Passed) -> Scrubbed | None:
    """Raises StoreError, OSError, _StopScrub."""
    first, last = segment.first_offset, segment.last_offset
    offsets = None if first is None or last is None else (first, last)
    sealed = Sealed(run.log.store_id, segment.first_lsn, segment.last_lsn, offsets)
    after = _record_at(run.log, segment.last_lsn + 1)
    return scrub_segment(
        run.folder, sealed, after, passed, is_erased=lambda lsn: _is_erased(run.log, lsn)
    )


def _record_at(log: Log, lsn: int) -> StoredRecord | None:
    """The record with this lsn; None if it is not held, or cannot be read."""
    with closing(log.reader()) as reader:
        try:
            records = reader.read(lsn, limit=1, limit_bytes=1, payloads=False)
        except StoreError:
            return None  # a segment of its own, with a check of its own
    return records[0] if records and records[0].lsn == lsn else None


def _is_erased(log: Log, lsn: int) -> bool:
    """Whether a PayloadErased took the payload of this record out. Raises StoreError."""
    with closing(log.reader()) as reader:
        before = None
        while erasure := reader.latest(Kind.PAYLOAD_ERASED, at_or_before_lsn=before):
            if erased_lsn(erasure.body) == lsn:
                return True
            before = erasure.lsn - 1
    return False
