"""Opening a store, the same for every command: where it is, whether it can be read, what is wrong.

Rules
- Read only, beside a live server or at rest; a WAL is never ignored (hermes.log.database).
- What makes reading pointless is raised as one of the errors below: there is no store, it
  is of a newer format, it is empty, this user may not read it. Each has an exit code, the
  same from every command (docs/inspect.md has the table).
- Damage is raised only when nothing can be read. Otherwise the store opens, `damage` says
  what is wrong, and the command ends with `EXIT_DAMAGED` after it has shown the rest.
- The ends of segments are looked at, not every byte: that is what `verify` is for.

What the records say is not known here.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from hermes.cli.options import UsageError
from hermes.cli.running import EXIT_FAILED
from hermes.errors import HermesError, StoreDamagedError, StoreError, StoreVersionError
from hermes.log.catalog import LOCK_NAME, list_segments
from hermes.log.head import FILE_NAME as HEAD_NAME
from hermes.log.head import HeadRead, read_head
from hermes.log.log_end import check_head
from hermes.log.port import SegmentInfo
from hermes.log.reader import SqliteReader, open_reader
from hermes.log.survey import Survey, Surveyed, check_segments, survey_beside

VARIABLE: Final = "HERMES_STORE_PATH"
DEFAULT_PATH: Final = Path("hermes-data")

EXIT_NO_STORE: Final = 3
EXIT_NEWER: Final = 4
EXIT_DAMAGED: Final = 5
EXIT_EMPTY: Final = 6
EXIT_UNREADABLE: Final = 7


class NoStoreError(StoreError):
    """There is no store at this path."""


class EmptyStoreError(StoreError):
    """A store that holds no record."""


class UnreadableStoreError(StoreError):
    """This user cannot read the store."""


EXIT_CODES: Final[tuple[tuple[type[HermesError], int], ...]] = (
    (NoStoreError, EXIT_NO_STORE),
    (StoreVersionError, EXIT_NEWER),
    (StoreDamagedError, EXIT_DAMAGED),
    (EmptyStoreError, EXIT_EMPTY),
    (StoreError, EXIT_UNREADABLE),
)


def code_of(error: HermesError) -> int:
    """The exit code that an error ends a command with."""
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), EXIT_FAILED)


# ------------------------------------------------------------------------- options

StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store",
        "-s",
        metavar="PATH",
        help=f"Folder of the store ({VARIABLE}; default ./{DEFAULT_PATH}).",
        show_default=False,
        readable=False,  # what cannot be read has a code of its own
    ),
]
StoreArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="[STORE]", help="The same as --store.", show_default=False, readable=False
    ),
]


def store_path(option: Path | None, argument: Path | None = None) -> Path:
    """Where the store is: as said, else by the environment, else ./hermes-data.

    Raises UsageError when it is said twice and differently.
    """
    if option is not None and argument is not None and option != argument:
        raise UsageError(f"the store is given twice: {argument} and --store {option}")
    said = option or argument
    return said if said is not None else Path(os.environ.get(VARIABLE) or DEFAULT_PATH)


# --------------------------------------------------------------------------- stores


class Store(msgspec.Struct, frozen=True):
    """A store that is open for reading.

    `damage` tells what is wrong with it, one sentence each; `notes` what a person should
    know besides. `head_lsn` is the last committed record as HEAD has it; None if unknown.
    """

    path: Path
    reader: SqliteReader
    store_id: str
    damage: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    head_lsn: int | None = None

    def segments(
        self, *, subjects: bool = False, without: Collection[int] = ()
    ) -> list[SegmentInfo]:
        """The segments as they are now, but those `without` (first lsns). Raises StoreError."""
        return self.reader.segments(subjects=subjects, without=without)

    def quarantined(self) -> tuple[Surveyed, ...]:
        """Sealed segments that a server would leave out when it starts, by the seals behind
        them; none where nothing was seen to be damaged, or where it would not start."""
        if not self.damage and not self.reader.damage:
            return ()
        try:
            return survey_beside(self.path, leave_out_damaged=True).damaged
        except StoreError:
            return ()

    @property
    def first_lsn(self) -> int:
        """Of the oldest record held. Raises StoreError."""
        return self.reader.entries()[0].first_lsn

    @property
    def last_lsn(self) -> int:
        """Of the newest committed record at this moment. Raises StoreError."""
        for entry in reversed(self.reader.entries()):
            facts = self.reader.describe(entry)
            if facts is not None and facts.records:
                return facts.last_lsn
        return 0


@contextmanager
def open_store(path: Path) -> Iterator[Store]:
    """A store, closed at the end of the block.

    Raises NoStoreError, EmptyStoreError, UnreadableStoreError, StoreVersionError, and
    StoreDamagedError when nothing of it can be read.
    """
    require_readable(path)
    damage, notes = [], []
    head: HeadRead | None = None
    try:
        # Before the segments: a live log only grows, so it must reach what HEAD says now.
        head = read_head(path / HEAD_NAME)
    except PermissionError:
        notes.append("HEAD cannot be read by this user: whether the log is whole is not known")
    except StoreDamagedError as error:
        damage.append(str(error))
    if head is not None and head.bad_slots:
        damage.append(f"slot {head.bad_slots[0]} of HEAD is damaged; the other one was used")
    found, looked = _look(path, head)
    if looked is not None:
        damage.append(looked)
    reader = open_reader(path, tolerant=True)
    try:
        if not reader.entries():
            raise StoreDamagedError(damage[0] if damage else f"{path}: no segment can be read")
        store_id = found.segments[0].start.store_id if found else head.store_id if head else ""
        store = Store(
            path=path,
            reader=reader,
            store_id=store_id,
            damage=tuple(damage),
            notes=tuple(notes),
            head_lsn=head.mark.lsn if head else None,
        )
        if not damage and not store.last_lsn:
            raise nothing_in(path)
        yield store
    finally:
        reader.close()


def require_readable(path: Path) -> None:
    """Look at names and permissions only.

    Raises NoStoreError, EmptyStoreError, UnreadableStoreError, and StoreDamagedError when
    every segment is missing.
    """
    try:
        names = {entry.name for entry in path.iterdir()}
        segments = [found for _, found in list_segments(path)]
    except PermissionError as error:
        raise _unreadable(path) from error
    except FileNotFoundError as error:
        raise NoStoreError(
            f"there is no {path}", hint=f"name a store with --store or {VARIABLE}"
        ) from error
    except NotADirectoryError as error:
        raise NoStoreError(f"{path} is not a folder", hint="a store is a folder") from error
    if not segments:
        if HEAD_NAME in names:
            raise StoreDamagedError(
                f"{path} has a {HEAD_NAME}, but every segment is missing",
                hint="restore the missing files from a backup",
            )
        if LOCK_NAME in names:
            raise EmptyStoreError(f"{path} is empty: a server has only begun to make it")
        raise NoStoreError(f"{path} holds no store", hint="name the folder of a store")
    for segment in segments:
        if not os.access(segment, os.R_OK, effective_ids=True) and segment.exists():
            raise _unreadable(segment)


def nothing_in(path: Path) -> EmptyStoreError:
    """The error for a store without a record."""
    return EmptyStoreError(
        f"{path} is empty: no record was ever committed", hint="start a server with it"
    )


def _unreadable(path: Path) -> UnreadableStoreError:
    return UnreadableStoreError(
        f"{path} cannot be read by this user", hint="read permission is enough; ask for it"
    )


def _look(path: Path, head: HeadRead | None) -> tuple[Survey | None, str | None]:
    """The ends of all segments, and the first damage seen; one of both may be None.

    Raises StoreVersionError, and StoreError for what no reader can open.
    """
    try:
        found = survey_beside(path)
    except StoreDamagedError as error:
        return None, str(error)
    return found, _judge(found, head)


def _judge(found: Survey, head: HeadRead | None) -> str | None:
    """What is wrong with segments that can be read; None if nothing is seen."""
    try:
        check_segments(found, head.store_id if head else found.segments[-1].start.store_id)
        if head is None:
            return None
        end = found.end
        if end.lsn < head.mark.lsn:
            return (
                f"records {end.lsn + 1}..{head.mark.lsn} are missing: they were committed, "
                "and the log ends before them"
            )
        check_head(found, head.mark)
    except StoreError as error:
        return str(error)
    return None
