"""Verify a store: look at it once, walk its pieces side by side, judge what came of it.

    HEAD and the files' ends  ->  pieces  ->  worker processes  ->  joints, HEAD, checkpoints

How far the log was committed is read first, and nothing beyond it is looked at, so a live
server may go on writing. A store that is small is walked in this process. Pieces keep
nothing open between them, and a segment that is dropped meanwhile is left out.

Nothing is printed here; `verify.py` does that.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec

from hermes.errors import StoreDamagedError, StoreError, StoreVersionError
from hermes.log.catalog import list_segments
from hermes.log.chain_walk import Break, Walked
from hermes.log.facts import Mark, SegmentStart
from hermes.log.head import FILE_NAME, HeadRead, read_head
from hermes.log.scan import SegmentScan
from hermes_inspect.store import UnreadableStoreError, require_readable
from hermes_inspect.verify_claims import Links, judge_claims
from hermes_inspect.verify_joints import SegmentSeen, Whole, judge, judge_head, merge
from hermes_inspect.verify_lost import lost_payloads
from hermes_inspect.verify_notes import Claims, Keys
from hermes_inspect.verify_walk import Claim, Piece, PieceWalked, walk_piece
from hermes_inspect.workers import worker_pool

# About so much of a file per piece: a fraction of a second, so that progress is seen.
PIECE_BYTES: Final = 32 * 1024 * 1024
# Below this the processes would cost more than they bring.
ALONE_BYTES: Final = 96 * 1024 * 1024
# HEAD is written beside us: a slot that looks torn is looked at again.
HEAD_LOOKS: Final = 5
HEAD_AGAIN_SECS: Final = 0.02

OnBytes = Callable[[int], None]


class Found(msgspec.Struct):
    """One segment at the start of the run. `last_lsn` None: its end cannot be read."""

    path: Path
    first_lsn: int
    start: SegmentStart | None
    last_lsn: int | None
    bytes: int
    problem: str = ""


class Looked(msgspec.Struct):
    """The store at the start of the run: what is to be verified."""

    folder: Path
    store_id: str
    head: HeadRead | None
    head_breaks: list[Break]
    segments: list[Found]

    @property
    def bytes(self) -> int:
        return sum(found.bytes for found in self.segments)


class Verdict(msgspec.Struct):
    """What verifying found."""

    store_id: str
    segments: int
    first_lsn: int
    end: Mark | None
    bytes: int
    walked: Walked
    whole: Whole
    head: Mark | None
    breaks: list[Break]
    dropped: int = 0  # segments that went while we looked
    log_checkpoints: int = 0
    file_checkpoints: int = 0
    too_old: int = 0  # checkpoints about records that are not held any more
    newest: Claim | None = None  # of the checkpoints in the log
    newest_outside: Claim | None = None
    seen: list[SegmentSeen] = []  # what each segment's walk saw

    @property
    def sound(self) -> bool:
        return not self.breaks and not self.walked.more_breaks


def look(folder: Path) -> Looked:
    """What there is.

    Raises NoStoreError, EmptyStoreError, UnreadableStoreError, StoreVersionError.
    """
    with suppress(StoreDamagedError):  # every segment is missing: a break, told below
        require_readable(folder)
    try:
        # In this order: whatever HEAD names is in the segments that are listed after it.
        head, head_breaks = _head(folder)
        listed = list_segments(folder)
    except OSError as error:
        raise UnreadableStoreError(
            f"{folder} cannot be read: {error.strerror}",
            hint="read permission is enough, for HEAD too; ask for it",
        ) from error
    segments = [found for item in listed if (found := _find(*item)) is not None]
    store_id = head.store_id if head is not None else ""
    for found in segments:
        if not store_id and found.start is not None:
            store_id = found.start.store_id
    return Looked(folder, store_id, head, head_breaks, segments)


def _head(folder: Path) -> tuple[HeadRead | None, list[Break]]:
    """HEAD, and what is wrong with it. Raises OSError, StoreVersionError."""
    path = folder / FILE_NAME
    again = threading.Event()
    turn = 0
    while True:
        turn += 1
        try:
            head = read_head(path)
        except StoreDamagedError as error:
            head, problem = None, f"HEAD is damaged: {error.message}"
        else:
            if head is not None and not head.bad_slots:
                return head, []
            problem = "HEAD is missing: how far the log was committed is unknown"
            if head is not None:
                problem = f"HEAD: slot {head.bad_slots[0]} is damaged; the other one was used"
        if turn == HEAD_LOOKS:
            return head, [Break("head", problem)]
        again.wait(HEAD_AGAIN_SECS)


def _find(first_lsn: int, path: Path) -> Found | None:
    """One segment; None if it was dropped meanwhile. Raises StoreVersionError, StoreError."""
    start: SegmentStart | None = None
    last_lsn: int | None = None
    problem = ""
    try:
        with SegmentScan(path) as scan:
            try:
                start = scan.start()
            except StoreDamagedError as error:
                problem = error.message
            last = scan.last_lsn()
            last_lsn = first_lsn - 1 if last is None else last
    except StoreVersionError:
        raise
    except StoreDamagedError as error:
        problem = problem or error.message
    except StoreError:
        if not path.exists():
            return None
        raise
    return Found(path, first_lsn, start, last_lsn, _file_bytes(path), problem)


def _file_bytes(path: Path) -> int:
    size = 0
    for name in (path.name, path.name + "-wal"):
        try:
            size += path.with_name(name).stat().st_size
        except FileNotFoundError:
            continue
    return size


def plan(looked: Looked) -> list[list[Piece]]:
    """Each segment cut into ranges of lsns of about the same number of bytes."""
    segments = looked.segments
    planned = []
    for i, found in enumerate(segments):
        last_lsn = found.last_lsn
        if last_lsn is None:  # what the next segment, or HEAD, says of it
            after = segments[i + 1].first_lsn if i + 1 < len(segments) else None
            head_lsn = looked.head.mark.lsn if looked.head else found.first_lsn
            last_lsn = max(found.first_lsn, head_lsn if after is None else after - 1)
        records = last_lsn - found.first_lsn + 1
        count = min(max(1, found.bytes // PIECE_BYTES), max(1, records))
        edges = [found.first_lsn + records * n // count for n in range(count + 1)]
        planned.append(
            [
                Piece(found.path, first, after - 1, found.bytes // count)
                for first, after in pairwise(edges)
            ]
        )
    return planned


def verify_store(
    looked: Looked, keys: Keys, outside: Claims, on_bytes: OnBytes, *, workers: int | None = None
) -> Verdict:
    """Walk and judge. `on_bytes` is told of progress, in bytes of the files.

    `workers`: processes; None: as many as there are cores, or none for a small store.
    """
    planned = plan(looked)
    results: dict[Piece, PieceWalked] = {}
    for piece, result in _walk_all(planned, keys, looked.store_id, workers):
        results[piece] = result
        on_bytes(piece.bytes)
    verdict, claims = _gather(looked, planned, results)
    verdict.file_checkpoints = len(outside.claims) + len(outside.breaks)
    verdict.newest_outside = max(outside.claims, key=lambda claim: claim.lsn, default=None)
    verdict.breaks += outside.breaks
    verdict.breaks += lost_payloads(looked.folder, verdict.seen)
    _judge_marks(looked, claims + outside.claims, verdict)
    verdict.breaks.sort(key=_order)
    return verdict


def _order(found: Break) -> tuple[bool, int]:
    """In the order of the log; what concerns no record comes last."""
    return found.lsn is None, found.lsn or 0


def _walk_all(
    planned: list[list[Piece]], keys: Keys, store_id: str, workers: int | None
) -> Iterator[tuple[Piece, PieceWalked]]:
    pieces = [piece for segment in planned for piece in segment]
    if workers is None:
        small = sum(piece.bytes for piece in pieces) < ALONE_BYTES
        workers = 0 if small else len(os.sched_getaffinity(0))
    if not workers:
        for piece in pieces:
            yield piece, walk_piece(piece, keys.lines, store_id)
        return
    pool = worker_pool(min(workers, len(pieces)), ["hermes_inspect.verify_walk"])
    try:
        futures: dict[Future[PieceWalked], Piece] = {
            pool.submit(walk_piece, piece, keys.lines, store_id): piece for piece in pieces
        }
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool as error:
        raise StoreError(
            "a process that was reading ended unexpectedly", hint="is there enough memory?"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def check_indexes(looked: Looked) -> list[Break]:
    """Let SQLite compare each segment's indexes with its records; slow, one after another."""
    breaks = []
    for found in looked.segments:
        try:
            with SegmentScan(found.path) as scan:
                problems = scan.check_pages()
        except StoreError as error:
            problems = [error.message] if found.path.exists() else []
        name = found.path.name
        breaks += [Break("index", f"{name}: {problem}", name) for problem in problems]
    return breaks


def _gather(
    looked: Looked, planned: list[list[Piece]], results: dict[Piece, PieceWalked]
) -> tuple[Verdict, list[Claim]]:
    """Put the pieces together and judge the joints."""
    seen: list[SegmentSeen] = []
    claims: list[Claim] = []
    dropped = 0
    breaks = list(looked.head_breaks)
    checkpoints = 0
    newest: Claim | None = None
    for found, pieces in zip(looked.segments, planned, strict=True):
        if not found.path.exists() and not seen:
            dropped += 1
            continue
        answers = [results[piece] for piece in pieces]
        name = found.path.name
        walked = merge([answer.walked for answer in answers], name)
        seen.append(SegmentSeen(name, found.first_lsn, found.start, walked))
        if found.start is None:
            text = f"{name}: its meta table cannot be read: {found.problem}"
            breaks.append(Break("meta", text, name, found.first_lsn))
        for answer in answers:
            claims += answer.claims
            checkpoints += answer.checkpoints
            newest = answer.newest or newest
    whole = judge(seen, looked.store_id, oldest_went=dropped > 0) if seen else Whole()
    end = None
    total = Walked(1, 0)
    if seen:
        total = merge([segment.walked for segment in seen], "")
        end = Mark(total.last_lsn, whole.next_offset, total.chain or b"")
    return (
        Verdict(
            store_id=looked.store_id,
            segments=len(seen),
            first_lsn=seen[0].first_lsn if seen else 1,
            end=end,
            bytes=looked.bytes,
            walked=total,
            whole=whole,
            head=looked.head.mark if looked.head else None,
            breaks=breaks + [b for segment in seen for b in segment.walked.breaks] + whole.breaks,
            dropped=dropped,
            log_checkpoints=checkpoints,
            newest=newest,
            seen=seen,
        ),
        claims,
    )


def _judge_marks(looked: Looked, claims: list[Claim], verdict: Verdict) -> None:
    """HEAD and checkpoints against the links that the log holds."""
    with Links([(f.path, f.first_lsn, f.start) for f in looked.segments]) as links:
        if looked.head is not None:
            head = looked.head.mark
            verdict.breaks += judge_head(head, verdict.end, links.at(head.lsn))
        end_lsn = verdict.end.lsn if verdict.end else 0
        found, verdict.too_old = judge_claims(claims, links, end_lsn, verdict.breaks)
        verdict.breaks += found
