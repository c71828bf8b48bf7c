"""Marks against the log: is the record that somebody signed still the one that is there?

`Links` looks up stored links, one segment open at a time; whoever asks in the order of the
log opens each file once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from hermes.errors import StoreError
from hermes.log.chain_walk import Break
from hermes.log.facts import SegmentStart
from hermes.log.scan import SegmentScan
from hermes_inspect.verify_walk import Claim, contradiction

_GONE = frozenset({"unreadable", "missing"})


class Links:
    """The stored links of a store's records, by lsn."""

    def __init__(self, segments: Sequence[tuple[Path, int, SegmentStart | None]]) -> None:
        """Path, first lsn by its name, and meta of each segment, oldest first."""
        self._segments = [segment for segment in segments if segment[0].exists()]
        self._open: tuple[Path, SegmentScan] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._open is not None:
            self._open[1].__exit__(None, None, None)
            self._open = None

    @property
    def before_lsn(self) -> int:
        """The lsn of the record before the first one held."""
        return self._segments[0][1] - 1 if self._segments else 0

    def at(self, lsn: int) -> bytes | None:
        """The link of a record; of the one before all from meta; None: not held, not readable."""
        if self._segments and lsn == self.before_lsn:
            start = self._segments[0][2]
            return None if start is None else start.before.chain
        for path, first_lsn, _ in reversed(self._segments):
            if first_lsn <= lsn:
                try:
                    return self._scan(path).chain_at(lsn)
                except StoreError:
                    return None
        return None

    def _scan(self, path: Path) -> SegmentScan:
        if self._open is None or self._open[0] != path:
            self._close()
            self._open = (path, SegmentScan(path))
        return self._open[1]


def judge_claims(
    claims: Sequence[Claim], links: Links, end_lsn: int, known: Sequence[Break]
) -> tuple[list[Break], int]:
    """Breaks, and how many claims are about records that are no longer held.

    `known` breaks say which records are missing: what is missing is not told twice.
    """
    breaks: list[Break] = []
    too_old = 0
    beyond: list[Claim] = []
    gone = [(b.lsn, b.last_lsn or b.lsn) for b in known if b.what in _GONE and b.lsn is not None]
    for claim in sorted(claims, key=lambda claim: claim.lsn):
        if claim.lsn < links.before_lsn:
            too_old += 1
            continue
        chain = links.at(claim.lsn)
        if chain is not None:
            if chain != claim.chain:
                breaks.append(contradiction(claim, chain, segment=claim.segment))
        elif claim.lsn > end_lsn:
            beyond.append(claim)
        elif not any(first <= claim.lsn <= last for first, last in gone):
            text = f"record {claim.lsn}, which was signed ({claim.source}), is not there"
            breaks.append(Break("checkpoint", text, None, claim.lsn))
    if beyond:  # the newest of them says it all
        breaks.append(_cut_short(beyond[-1], end_lsn))
    return breaks, too_old


def _cut_short(claim: Claim, end_lsn: int) -> Break:
    return Break(
        "checkpoint",
        f"record {claim.lsn} was signed ({claim.source}), and the log ends at {end_lsn}:"
        f" records {end_lsn + 1}..{claim.lsn} were cut off",
        claim.segment,
        end_lsn + 1,
        claim.lsn,
        expected=str(claim.lsn),
        found=str(end_lsn),
    )
