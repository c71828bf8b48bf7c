"""Walk over the rows of a segment's file, around what cannot be read.

Rows are read in short transactions. Where they cannot be read the next ones that can are
looked for, so that one bad page is one break and not the end of the walk. What rows must
be is the business of `chain_walk.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from hermes.errors import StoreError
from hermes.log.chain_walk import ChainWalk
from hermes.log.scan import SegmentScan, StoredRow

# Places behind which reading goes on; then the rest is given up.
PLACES_MAX: Final = 20


def walk_rows(
    scan: SegmentScan,
    walk: ChainWalk,
    last_lsn: int,
    *,
    read_bytes: int,
    on_rows: Callable[[Sequence[StoredRow]], None] = lambda _: None,
    on_error: Callable[[StoreError], None] = lambda _: None,
) -> None:
    """Let `walk` take the rows after its last one, up to and including `last_lsn`.

    About `read_bytes` are read in one transaction. `on_rows` gets what was taken, `on_error`
    why rows could not be read (the walk notes where); what they raise ends the walk.
    """
    places = 0
    at = walk.seen.last_lsn + 1
    while at <= last_lsn:
        try:
            rows = scan.rows(at, last_lsn, limit_bytes=read_bytes)
        except StoreError as error:
            on_error(error)
            places += 1
            go_on = places <= PLACES_MAX and at < last_lsn
            found = _next_readable(scan, at, last_lsn) if go_on else None
            at = (last_lsn if found is None else found - 1) + 1
            walk.skip(at - 1, error.message)
            continue
        if not rows:
            break
        walk.take(rows)
        on_rows(rows)
        at = rows[-1][0] + 1
    walk.end(last_lsn)


def _readable(scan: SegmentScan, lsn: int, last_lsn: int) -> bool:
    try:
        return bool(scan.rows(lsn, last_lsn, limit_bytes=1))
    except StoreError:
        return False


def _next_readable(scan: SegmentScan, bad_lsn: int, last_lsn: int) -> int | None:
    """The first lsn after a bad one from which rows can be read again, by leaps and bisection."""
    bad, step = bad_lsn, 1
    good = min(bad + 1, last_lsn)
    while not _readable(scan, good, last_lsn):
        if good == last_lsn:
            return None
        bad, step = good, step * 2
        good = min(bad_lsn + step, last_lsn)
    while good - bad > 1:
        middle = (good + bad) // 2
        if _readable(scan, middle, last_lsn):
            good = middle
        else:
            bad = middle
    return good
