"""Look at a store that is to be opened: the facts that decide, and what is wrong in words.

Nothing is changed here, but for LOCK's content: a refused store is left as evidence. What
a fact leads to is in `recovery_plan.py`, what is done then in `opening.py`. What comes
after a fact that refuses is not looked at, and has the value of a sound store.
"""

from __future__ import annotations

import stat
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec

from hermes.errors import StoreDamagedError, StoreError, StoreVersionError
from hermes.log import head as head_file
from hermes.log.catalog import LOCK_NAME, Entry, list_segments
from hermes.log.chain import genesis
from hermes.log.facts import Mark
from hermes.log.head import HeadRead, read_head, sync_folder
from hermes.log.log_end import check_head, check_tail
from hermes.log.recovery_plan import End, Facts, Format, Head, Place, Segments, Wal
from hermes.log.space import RESERVE_NAME
from hermes.log.survey import Survey, Surveyed, check_segments, survey

_OWN_NAMES: Final = {LOCK_NAME, head_file.FILE_NAME, RESERVE_NAME}
# What a file system or a volume puts into an empty folder.
_FOREIGN_NAMES: Final = {"lost+found"}


class Observed(msgspec.Struct, frozen=True):
    """What was found. `error` is what a refusal says; `warnings` what opening says if it is
    not refused. `head` is HEAD, or the log's own end in its place; None with nothing there."""

    facts: Facts
    error: StoreError | None = None
    warnings: tuple[str, ...] = ()
    survey: Survey = Survey((), None)
    head: HeadRead | None = None

    @property
    def end(self) -> Mark:
        """The log's end. Only where there are segments or a HEAD."""
        if self.survey.segments:
            return self.survey.end
        assert self.head is not None
        return Mark(0, 0, genesis(self.head.store_id))


# ----------------------------------------------------------------------- folder


def observe_place(path: Path) -> Observed:
    """Whether a store can be at this path. Raises OSError."""
    if path.exists() and not path.is_dir():
        error = StoreError(
            f"{path} is a file, not a folder",
            hint="the store path names a folder",
            path=str(path),
        )
        return Observed(Facts(place=Place.FILE), error)
    names = {entry.name for entry in path.iterdir()} if path.exists() else set()
    names -= _FOREIGN_NAMES
    if names and not any(name in _OWN_NAMES or ".segment" in name for name in names):
        error = StoreError(
            f"{path} holds other files and no store",
            hint="choose an empty folder or a new one",
            path=str(path),
        )
        return Observed(Facts(place=Place.FOREIGN), error)
    return Observed(Facts())


def make_folder(path: Path) -> None:
    """Make the store's folder if it is not there, durable. Raises OSError."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=stat.S_IRWXU)
        sync_folder(path.parent)


# ---------------------------------------------------------------------- content


def observe_content(folder: Path, *, accept_loss: bool, vfs: str = "") -> Observed:
    """Look at HEAD, at the segments, at the log's end and at the WALs.

    Raises apsw.Error, OSError: something cannot be read at all, and nothing is decided.
    """
    facts = Facts(accept_loss=accept_loss)
    if head_file.is_unfinished(folder / head_file.FILE_NAME):
        error = StoreError(
            f"a restore into {folder} was not finished",
            hint="run the same hermes restore again: it begins anew; nothing here is a store yet",
            path=str(folder),
        )
        return Observed(msgspec.structs.replace(facts, head=Head.UNFINISHED), error)
    try:
        state, head, head_error, warnings = _observe_head(folder / head_file.FILE_NAME)
        kind, seen, damage = _observe_segments(list_segments(folder), head, vfs)
        warnings += tuple(f"left out: {_told(segment)}" for segment in seen.damaged)
    except StoreVersionError as error:
        return Observed(msgspec.structs.replace(facts, format=Format.NEWER), error)
    facts = msgspec.structs.replace(facts, head=state, segments=kind)
    if damage is not None:
        return Observed(facts, damage)
    if head is None and seen.segments:
        head = HeadRead(seen.segments[0].start.store_id, seen.end, 0, (0, 1))
    observed = Observed(facts, head_error, warnings, seen, head)
    return observed if head is None else _with_end(observed, folder, vfs)


def _observe_head(path: Path) -> tuple[Head, HeadRead | None, StoreError | None, tuple[str, ...]]:
    """Raises StoreVersionError, OSError."""
    try:
        head = read_head(path)
    except StoreDamagedError as error:
        warning = "both slots of HEAD were damaged; the log's own end was taken"
        return Head.BOTH_BAD, None, error, (warning,)
    if head is None:
        missing = StoreDamagedError(
            f"{path} is missing; how far the log was committed is unknown",
            hint="restore it from a backup, or go on after what is there with --accept-loss",
            path=str(path),
        )
        return Head.ABSENT, None, missing, ("HEAD was missing; the log's own end was taken",)
    if head.bad_slots:
        slots = " and ".join(str(slot) for slot in head.bad_slots)
        warning = f"slot {slots} of HEAD was damaged; the other one was used"
        return Head.ONE_BAD, head, None, (warning,)
    return Head.SOUND, head, None, ()


def _observe_segments(
    found: list[tuple[int, Path]], head: HeadRead | None, vfs: str
) -> tuple[Segments, Survey, StoreError | None]:
    """Raises StoreVersionError, apsw.Error, OSError."""
    seen = Survey((), None)
    if not found:
        return Segments.NONE, seen, None
    try:
        seen = survey(found, vfs=vfs, leave_out_damaged=True)
        check_segments(seen, seen.segments[0].start.store_id if head is None else head.store_id)
        _check_neighbours(seen, vfs)
    except StoreVersionError:
        raise
    except StoreDamagedError as error:
        kind = Segments.MISSING if error.fields.get("missing") else Segments.DAMAGED
        return kind, seen, error
    except StoreError as error:
        return Segments.STRANGE, seen, error
    bare = len(seen.segments) == 1 and seen.segments[0].first_record is None
    if seen.damaged:
        return Segments.DESCRIBED, seen, None
    return Segments.BARE if bare else Segments.WHOLE, seen, None


def _check_neighbours(seen: Survey, vfs: str) -> None:
    """What seals a segment is in the one behind it: where that is damaged, the end of the
    one before it has only itself to speak for it, and is recomputed. Raises StoreDamagedError.
    """
    for before, after in pairwise(seen.segments):
        if after.damage:
            check_tail(before, vfs=vfs)


def _told(segment: Surveyed) -> str:
    start = segment.start
    entry = Entry(start.first_lsn, start.before.next_offset, segment.path, segment.facts)
    return entry.damaged(segment.damage).message


def _with_end(observed: Observed, folder: Path, vfs: str) -> Observed:
    """The log's end beside HEAD, and the WALs. Raises apsw.Error, OSError."""
    assert observed.head is not None
    mark, end = observed.head.mark, observed.end
    segments = observed.survey.segments
    state = End.FITS if end == mark else End.AHEAD
    error, warnings = observed.error, observed.warnings
    if mark.lsn > end.lsn:
        state = End.SHORT
        error = StoreDamagedError(
            f"records {end.lsn + 1}..{mark.lsn} were committed and are lost:"
            f" the log ends at {end.lsn}",
            hint="restore the folder from a backup, or go on without them with --accept-loss",
            first_lsn=end.lsn + 1,
            last_lsn=mark.lsn,
            path=str(folder),
        )
        warnings += (f"the loss of records {end.lsn + 1}..{mark.lsn} was accepted",)
    elif segments:
        try:
            check_head(observed.survey, mark, vfs=vfs)
            check_tail(segments[-1], vfs=vfs)
        except StoreDamagedError as damage:
            state, error = End.CHANGED, damage
    whole = [found.path for found in segments if not found.damage]
    wals = [path.with_name(path.name + "-wal") for path in whole]
    held = any(wal.exists() and wal.stat().st_size for wal in wals)
    facts = msgspec.structs.replace(observed.facts, end=state, wal=Wal.HELD if held else Wal.EMPTY)
    return msgspec.structs.replace(observed, facts=facts, error=error, warnings=warnings)
