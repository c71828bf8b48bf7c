"""The life of a small log on a recorded disk, from a seed; and whether an image of it is whole.

`Story` appends in every way there is (single records, groups, several groups at once),
rolls, drops, checkpoints and reopens. The limits are small, so that a few dozen appends
pass through WAL restarts, checkpoints and seals. The keeper's rounds are made by the story,
between commits, so that a seed gives the same calls again; with `free` the keeper is a
thread as always, and only the choices are the same.
"""

from __future__ import annotations

import errno
import random
import threading
from pathlib import Path
from typing import Final

import pytest

from hermes import limits
from hermes.errors import LogClosedError
from hermes.log import housekeeper
from hermes.log.chain import genesis, link
from hermes.log.log import SqliteLog, open_log
from hermes.log.port import Committed, Outcome
from hermes.log.record import Kind, Record
from tests.contract.records import BIG, Outcomes, dropped, event, publish, snapshot
from tests.support.faults.disk import Said, Sync, Told
from tests.support.faults.recording import Recorder

# As few bytes as still let each limit be reached by some dozen appends.
SMALL: Final = {
    "WAL_CHECKPOINT_BYTES": 64 * 1024,
    "WAL_LEFT_BYTES_MAX": 32 * 1024,
    "WAL_BYTES_MAX": 256 * 1024,
    "RESERVE_BYTES": 4096,
}


def make_small(patch: pytest.MonkeyPatch, *, free: bool = False) -> None:
    """Set the small limits, and a keeper that only moves when it is told to, unless `free`."""
    for name, value in SMALL.items():
        patch.setattr(limits, name, value)
    patch.setattr(housekeeper, "TICK_SECONDS", 0.001)
    if not free:
        patch.setattr(housekeeper.Housekeeper, "start", lambda _: None)


class LogFailedError(Exception):
    """The log of a story has told its end; its error is the cause."""


class Story:
    """One log and what was told of it. `chains` is the link of every record there was."""

    def __init__(self, recorder: Recorder, rng: random.Random, *, free: bool = False) -> None:
        self.recorder = recorder
        self.chains: dict[int, bytes] = {}
        self.told = 0
        self.opened_at: list[int] = []  # the disk's steps before each opening
        self._rng = rng
        self._free = free
        self._outcomes = Outcomes()
        self._rolled = threading.Event()
        self.log = self._open()

    def run(self, steps: int) -> None:
        """So many steps, a roll or two among them. Raises LogFailedError, StoreError."""
        moves = (self._one, self._one, self._group, self._several, self._big)
        for number in range(steps):
            self._rng.choice(moves)()
            if number % 3 == 2:
                self._round()
            if self._rng.random() < 0.08:
                self.roll()
            if self._rng.random() < 0.05:
                self.drop()
            if self._rng.random() < 0.03:
                self.log.close()
                self.log = self._open()

    def play(self, steps: int) -> None:
        """`run`, with a roll, a seal and a drop in it whatever the seed says."""
        self.run(steps // 2)
        self.roll()
        self.run(steps - steps // 2)
        self.drop()
        self._one()

    def close(self) -> None:
        self.log.close()

    def roll(self) -> None:
        """A new segment; the keeper seals the old one, which it is handed after the outcome."""
        self._rolled.clear()
        self._wait(self.log.roll(snapshot(), self.log.next_lsn))
        assert self._rolled.wait(timeout=10), "the old segment was not handed to the keeper"
        self._round()

    def drop(self) -> None:
        """Announce and carry out the drop of the oldest segment, if it is not the only one."""
        oldest = self.log.segments()[0]
        if len(self.log.segments()) < 2:
            return
        self.recorder.note(Said(oldest.last_lsn))
        self._append(dropped(oldest.first_lsn, oldest.last_lsn))
        self._wait(self.log.next_lsn - 1)
        self.log.drop(oldest.first_lsn)
        self._round()

    # ------------------------------------------------------------------- moves

    def _one(self) -> None:
        self._append(self._publish(self.log.next_offset))
        self._wait(self.log.next_lsn - 1)

    def _group(self) -> None:
        at = self.log.next_offset
        self._append(
            self._publish(at, 3), event(Kind.DELIVERED, "c", at, at + 2), event(Kind.ACKED, "c", at)
        )
        self._wait(self.log.next_lsn - 1)

    def _several(self) -> None:
        """More groups than one transaction takes while the first is under way."""
        for _ in range(4):
            self._append(self._publish(self.log.next_offset, 2))
        self._wait(self.log.next_lsn - 1)

    def _big(self) -> None:
        self._append(self._publish(self.log.next_offset, size=self._rng.randrange(40_000)))
        self._wait(self.log.next_lsn - 1)

    def _round(self) -> None:
        """What the keeper does once a second."""
        if self._free:
            return
        try:
            self.log._keeper._round()
        except Exception as error:  # noqa: BLE001  # as the keeper's thread does
            self.log._writer.doom(error)
            raise LogFailedError from self._outcomes.wait_for_failure()

    # ------------------------------------------------------------------ helpers

    def _open(self) -> SqliteLog:
        self._outcomes = Outcomes()
        steps = self.recorder.disk.steps
        began = len(steps)
        self.opened_at.append(began)
        log = open_log(
            self.recorder.folder, self._hear, low_space_bytes=0, vfs=self.recorder.vfs_name
        )
        if any(isinstance(step, Sync) and step.failed for step in steps[began:]):
            # An opening that finds the disk full begins anew, with the space of the reserve.
            assert self.recorder.trouble is not None
            assert self.recorder.trouble.code == errno.ENOSPC
            self.opened_at.append(len(steps))
        hand_to_keeper = log._writer.on_rolled

        def rolled(path: Path) -> None:
            hand_to_keeper(path)
            self._rolled.set()

        log._writer.on_rolled = rolled
        return log

    def _hear(self, outcome: Outcome) -> None:
        if isinstance(outcome, Committed):
            assert self._outcomes.error is None, "told as committed after the failure"
            self.recorder.note(Told(outcome.last_lsn))
            self.told = outcome.last_lsn
        self._outcomes(outcome)

    def _publish(self, first: int, count: int = 1, *, size: int = 40) -> Record:
        key = f"orders.{self._rng.randrange(30)}"
        terms = (self._rng.randrange(1 << 60),)
        return publish(first, count, key, payload=self._rng.randbytes(size), terms=terms)

    def _append(self, *records: Record) -> None:
        try:
            self.log.append(records, self.log.next_lsn)
        except LogClosedError as error:
            raise LogFailedError from error

    def _wait(self, lsn: int) -> None:
        try:
            self._outcomes.wait_for(lsn)
        except AssertionError:
            if self._outcomes.error is None:
                raise
            raise LogFailedError from self._outcomes.error
        known = max(self.chains, default=0)
        for record in self.log.reader().read(known + 1, limit=1000, limit_bytes=BIG):
            self.chains[record.lsn] = record.chain


def check_whole(log: SqliteLog, chains: dict[int, bytes] | None = None) -> None:
    """lsns and offsets without a gap, each link of the chain recomputed.

    `chains` are the links that there were: what is held must be exactly that.
    """
    first = log.segments()[0].first_lsn
    chain = genesis(log.store_id) if first == 1 else (chains or {})[first - 1]
    lsn, offset = first - 1, log.oldest_offset
    reader = log.reader()
    while records := reader.read(lsn + 1, limit=1_000, limit_bytes=BIG):
        for r in records:
            chain = link(
                chain, r.lsn, r.at_ns, r.kind, r.key, r.first, r.last, r.body, r.payload_hash
            )
            assert (r.lsn, r.chain) == (lsn + 1, chain)
            assert chains is None or chains.get(r.lsn, chain) == chain, f"another record {r.lsn}"
            lsn = r.lsn
            if r.kind == Kind.PUBLISHED:
                assert r.first == offset
                assert r.last is not None
                offset = r.last + 1
    assert (log.next_lsn, log.next_offset) == (lsn + 1, offset)


def check_image(
    folder: Path, told: int, dropped_upto: int, chains: dict[int, bytes], *, go_on: bool = False
) -> int:
    """Open what a power loss left: it opens, and everything that was told is there.

    Only segments up to `dropped_upto` may be gone. With `go_on` the log is written to and
    opened once more. Returns the last lsn that is held.
    """
    outcomes = Outcomes()
    log = open_log(folder, outcomes, low_space_bytes=0)
    try:
        assert log.report.lost is None
        held = log.next_lsn - 1
        assert held >= told, f"{held} are held, {told} were told"
        assert log.segments()[0].first_lsn <= dropped_upto + 1
        check_whole(log, chains)
        if go_on:
            outcomes.wait_for(log.append([publish(log.next_offset)], log.next_lsn))
    finally:
        log.close()
    if go_on:
        log = open_log(folder, Outcomes(), low_space_bytes=0)
        try:
            assert log.next_lsn == held + 2
            assert log.report.warnings == ()
        finally:
            log.close()
    return held
