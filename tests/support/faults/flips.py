"""One flipped bit in a store, and what opening and `verify` make of it.

A `Specimen` is a small store as it lay on the disk: of a server that was killed (a WAL, HEAD
without a sync, sealed segments) or stopped (no WAL). `Bench.try_flip` writes it out with one
bit flipped and asks three:

- the rows themselves, read without judgement (`facts_of`): has a committed fact changed?
  Free space, unused bytes and indexes hold none;
- `verify`, which must name every change;
- opening, which must refuse, or say what it mended, or hold exactly what was committed.
  Only a change within a sealed segment may pass it: it looks at their ends.
"""

from __future__ import annotations

import shutil
from enum import StrEnum, auto
from pathlib import Path
from typing import Final

import msgspec

from hermes.errors import StoreDamagedError, StoreError, StoreVersionError
from hermes.log.catalog import list_segments
from hermes.log.head import FILE_NAME, read_head
from hermes.log.log import SqliteLog, open_log
from hermes.log.record import Kind
from hermes.log.scan import SegmentScan
from hermes_inspect.verify_notes import Claims, Keys
from hermes_inspect.verify_store import look, verify_store
from tests.contract.records import BIG, Outcomes, event, publish, snapshot

NO_KEYS: Final = Keys((), given=False)
Files = dict[str, tuple[int, bytes]]  # name -> mode, content


class Place(StrEnum):
    """What kind of file a flip is in."""

    HEAD = auto()
    WAL = auto()
    ACTIVE = auto()
    SEALED = auto()


class Opening(StrEnum):
    """What opening makes of a flip."""

    REFUSED = auto()
    MENDED = auto()  # and said so; nothing is missing
    LEFT_OUT = auto()  # that segment, named exactly; the rest is there
    EXACT = auto()  # everything that was committed is there, unchanged
    UNNOTICED = auto()  # it opened, and a committed fact is another


class Flip(msgspec.Struct, frozen=True):
    name: str
    at: int
    bit: int


class Found(msgspec.Struct, frozen=True):
    """What came of one flip. `touches`: a committed fact is another, or cannot be read."""

    flip: Flip
    place: Place
    touches: bool
    verified: bool  # `verify` named something
    opening: Opening
    said: str  # by opening


class Specimen(msgspec.Struct, frozen=True):
    """The files of a sound store, and what it holds."""

    files: Files
    facts: object
    end: tuple[int, int]  # next lsn, next offset
    active: str

    def place_of(self, name: str) -> Place:
        if name == FILE_NAME:
            return Place.HEAD
        if name.endswith("-wal"):
            return Place.WAL
        return Place.ACTIVE if name == self.active else Place.SEALED


def fill(folder: Path, *, rounds: int, roll_every: int) -> SqliteLog:
    """A log with publishes of many sizes, deliveries and acks in several segments; open."""
    outcomes = Outcomes()
    log = open_log(folder, outcomes, low_space_bytes=0)
    for n in range(rounds):
        at, key = log.next_offset, f"orders.{n % 7}"
        payload = bytes((n + i) % 251 for i in range((0, 40, 700, 9_000)[n % 4]))
        group = [publish(at, n % 4 + 1, key, at_ns=n, payload=payload, terms=(n,))]
        group += [event(Kind.DELIVERED, "c", at, at + n % 4), event(Kind.ACKED, "c", at)]
        outcomes.wait_for(log.append(group, log.next_lsn))
        if n == rounds - roll_every // 2:
            log._writer.ask_for_checkpoint()  # what follows is in the WAL alone
        if n % roll_every == roll_every - 1 and n < rounds - 1:
            outcomes.wait_for(log.roll(snapshot(), log.next_lsn))
            log._keeper.finish_files()
    return log


class Stop(StrEnum):
    """How the server of a specimen came to its end."""

    KILLED = auto()  # the newest records are in the WAL alone
    COPIED = auto()  # killed when all of the WAL was in the segment already, too
    CLOSED = auto()


def specimen(folder: Path, stop: Stop, *, rounds: int = 36, roll_every: int = 14) -> Specimen:
    """Make a store and keep its files as they lie there. Wants a keeper that does not start."""
    log = fill(folder, rounds=rounds, roll_every=roll_every)
    if stop is Stop.COPIED:
        log._writer.active.checkpoint()
    if stop is Stop.CLOSED:
        log.close()
    names = [p for p in folder.iterdir() if p.name == FILE_NAME or ".segment" in p.name]
    files = {
        p.name: (p.stat().st_mode & 0o777, p.read_bytes()) for p in names if "-shm" not in p.name
    }
    end = (log.next_lsn, log.next_offset)
    log.close()
    active = list_segments(folder)[-1][1].name
    return Specimen(files, facts_of(folder), end, active)


def facts_of(folder: Path) -> object:
    """Every committed fact, as far as it can be read; None if something cannot."""
    found: list[object] = []
    try:
        head = read_head(folder / FILE_NAME)
        found.append(None if head is None or head.bad_slots else head.mark)
        for _, path in list_segments(folder):
            with SegmentScan(path) as scan:
                found.append((scan.start(), scan._db.pragma("user_version")))
                rows, lsn = [], 0
                while more := scan.rows(lsn + 1, 1 << 60, limit_bytes=BIG):
                    rows += more
                    lsn = more[-1][0]
                found.append(rows)
    except (StoreError, UnicodeDecodeError):
        return None
    return found


class Bench:
    """Tries flips on a specimen, in a folder of its own."""

    def __init__(self, whole: Specimen, folder: Path) -> None:
        self._whole = whole
        self._folder = folder

    def try_flip(self, flip: Flip) -> Found:
        """Raises AssertionError for a refusal that names nothing."""
        self._write(flip)
        touches = facts_of(self._folder) != self._whole.facts
        self._forget_memory()
        verified = self._verify()
        self._forget_memory()
        opening, said = self._open(flip)
        place = self._whole.place_of(flip.name)
        return Found(flip, place, touches, verified, opening, said)

    def _write(self, flip: Flip) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()
        for name, (mode, content) in self._whole.files.items():
            path = self._folder / name
            if name == flip.name:
                changed = bytearray(content)
                changed[flip.at] ^= 1 << flip.bit
                path.write_bytes(changed)
            else:
                path.write_bytes(content)
            path.chmod(mode)

    def _forget_memory(self) -> None:
        """Readers leave an index of the WAL, which no restart of the machine would show."""
        for path in self._folder.glob("*-shm"):
            path.unlink()

    def _verify(self) -> bool:
        try:
            verdict = verify_store(look(self._folder), NO_KEYS, Claims(), lambda _: None, workers=0)
        except StoreError:
            return True  # no store, or one of a newer version: said by name
        assert verdict.sound or all(found.text for found in verdict.breaks)
        return not verdict.sound

    def _open(self, flip: Flip) -> tuple[Opening, str]:
        try:
            log = open_log(self._folder, Outcomes(), low_space_bytes=0)
        except (StoreDamagedError, StoreVersionError, StoreError) as error:
            named = any(name in str(error) for name in (".segment", FILE_NAME, "record"))
            if not named:
                raise AssertionError("a refusal that names nothing") from error
            return Opening.REFUSED, str(error)
        end = (log.next_lsn, log.next_offset)
        warnings, lost = log.report.warnings, log.report.lost
        left_out = [Path(told.path).name for told in log.quarantined]
        log.close()
        if left_out and lost is None and end == self._whole.end:
            assert left_out == [flip.name], "another file is blamed"
            assert flip.name in warnings[0]
            return Opening.LEFT_OUT, warnings[0]
        if (
            lost is not None
            or end != self._whole.end
            or facts_of(self._folder) != self._whole.facts
        ):
            return Opening.UNNOTICED, f"it ends at {end}, {warnings}"
        return (Opening.MENDED if warnings else Opening.EXACT), " ".join(warnings)
