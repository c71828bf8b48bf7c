"""The table of `recovery_plan.py` against real folders: every combination that can be built.

A folder is made so that it shows the facts; then it is observed (the facts must be those),
opened, and what came of it must be what the row says: the error's type and an untouched
folder, or a log that goes on, its warnings, and a second opening without any.

The second half kills the opening process at every call that changes the disk, and opens
again: it must end where an undisturbed opening ends.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from hermes import errors
from hermes.log import head as head_file
from hermes.log.head import create_head, read_head
from hermes.log.log import SqliteLog, open_log
from hermes.log.observing import observe_content
from hermes.log.record import Kind
from hermes.log.recovery_plan import (
    Decision,
    End,
    Facts,
    Format,
    Head,
    Lock,
    Place,
    Segments,
    Wal,
    every_combination,
    plan_recovery,
)
from hermes.log.segment import file_name
from tests.contract.records import BIG, Outcomes, publish
from tests.contract.store import put
from tests.support.folders import StoreFolder, three_segments

KINDS = {
    "StoreLockedError": errors.StoreLockedError,
    "StoreVersionError": errors.StoreVersionError,
    "StoreDamagedError": errors.StoreDamagedError,
    "StoreError": errors.StoreError,
}
SLOT = head_file.BLOCK_BYTES


# ------------------------------------------------------------------ folders to start from


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[Segments, Wal], Path]:
    root = tmp_path_factory.mktemp("templates")
    for wal in Wal:
        three_segments(root / f"WHOLE-{wal.name}", publish(4), killed=wal is Wal.HELD)
    open_log(root / "BARE-EMPTY", Outcomes()).close()
    three_segments(root / "OTHER", publish(4), killed=False)
    return {
        (Segments.WHOLE, Wal.EMPTY): root / "WHOLE-EMPTY",
        (Segments.WHOLE, Wal.HELD): root / "WHOLE-HELD",
        (Segments.BARE, Wal.EMPTY): root / "BARE-EMPTY",
        (Segments.STRANGE, Wal.EMPTY): root / "OTHER",
    }


def change(path: Path, sql: str, *, copy: bool = True) -> None:
    """Change a segment: in the file itself, or, not copied, in the WAL beside it."""
    path.chmod(0o600)
    db = apsw.Connection(str(path))
    db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    db.execute(sql)
    if copy:
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    db.close()


def flip_slot(head: Path, slot: int) -> None:
    data = bytearray(head.read_bytes())
    data[slot * SLOT + 40] ^= 8
    head.write_bytes(data)


class CannotBeError(Exception):
    """No folder shows these facts: the reason says why."""


def build(facts: Facts, folder: Path, templates: dict[tuple[Segments, Wal], Path]) -> None:
    """Make a folder that shows these facts. Raises CannotBeError."""
    if facts.wal is Wal.HELD and facts.segments in Segments.NONE | Segments.BARE:
        raise CannotBeError("without records there is no WAL of any")
    if facts.head in Head.ABSENT | Head.BOTH_BAD and facts.end in End.SHORT | End.AHEAD:
        raise CannotBeError("without HEAD nothing can be compared with it")
    if facts.segments is Segments.NONE and facts.end in End.AHEAD | End.CHANGED:
        raise CannotBeError("without segments there is no end of the log")
    if facts.segments is Segments.BARE and facts.end is End.AHEAD:
        raise CannotBeError("HEAD knows nothing, and the log no more")
    if facts.segments is Segments.BARE and facts.end is End.CHANGED and not _speaks(facts):
        raise CannotBeError("without a record there is none that could be wrong")
    if facts.head is Head.UNFINISHED and facts.format is Format.NEWER:
        raise CannotBeError("it is not looked at any more")
    bare = facts.segments in Segments.NONE | Segments.BARE
    shutil.copytree(templates[Segments.BARE if bare else Segments.WHOLE, facts.wal], folder)
    _set_segments(facts, folder, templates)
    _set_end(facts, folder)
    head = folder / head_file.FILE_NAME
    if facts.head is Head.ABSENT:
        head.unlink()
    elif facts.head is Head.UNFINISHED:
        head.write_bytes(head_file.UNFINISHED)
    elif facts.head is not Head.SOUND:
        read = read_head(head)
        assert read is not None
        flip_slot(head, 1 - read.slot)  # the older one: without the newer, HEAD lags
        if facts.head is Head.BOTH_BAD:
            flip_slot(head, read.slot)
    if facts.format is Format.NEWER:
        _make_newer(facts, folder)


def _speaks(facts: Facts) -> bool:
    return facts.head in Head.SOUND | Head.ONE_BAD


def _set_segments(facts: Facts, folder: Path, templates: dict[tuple[Segments, Wal], Path]) -> None:
    middle = folder / file_name(4)
    match facts.segments:
        case Segments.NONE:
            (folder / file_name(1)).unlink()
        case Segments.MISSING:
            middle.unlink()
        case Segments.DESCRIBED:
            _break(middle)
        case Segments.DAMAGED:
            # The one that would say what the first one holds is damaged too.
            _break(folder / file_name(1))
            _break(middle)
        case Segments.STRANGE:
            middle.unlink()
            shutil.copy(templates[Segments.STRANGE, Wal.EMPTY] / file_name(4), middle)


def _break(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(b"not a database" * 4096)


def _set_end(facts: Facts, folder: Path) -> None:
    """Move HEAD beside the log, or change the log's last record but one."""
    path = folder / head_file.FILE_NAME
    head = read_head(path)
    assert head is not None
    mark = head.mark
    match facts.end:
        case End.SHORT:
            create_head(path, head.store_id, type(mark)(mark.lsn + 3, 9, bytes(32)))
        case End.AHEAD:
            db = apsw.Connection(str(folder / file_name(7)))
            chain = db.execute("SELECT chain FROM records WHERE lsn = 8").get
            assert isinstance(chain, bytes)
            db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            db.close()
            create_head(path, head.store_id, type(mark)(8, 4, chain))
        case End.CHANGED if facts.segments is Segments.BARE:
            create_head(path, head.store_id, type(mark)(0, 0, bytes(32)))
        case End.CHANGED:
            sql = "UPDATE records SET body = x'00' WHERE lsn = 8"
            change(folder / file_name(7), sql, copy=facts.wal is Wal.EMPTY)


def _make_newer(facts: Facts, folder: Path) -> None:
    """The newest segment is of format 2; without segments, HEAD is."""
    segments = sorted(folder.glob("*.segment"))
    if segments:
        change(segments[-1], "PRAGMA user_version = 2", copy=facts.wal is Wal.EMPTY)
        return
    head = folder / head_file.FILE_NAME
    if not head.exists():
        raise CannotBeError("where there is nothing there is no version")
    slot = bytearray(head.read_bytes()[:96])
    slot[11] = 2
    data = bytes(slot) + zlib.crc32(slot).to_bytes(4, "big")
    with head.open("r+b") as file:
        file.seek(SLOT)
        file.write(data)


@contextmanager
def held(folder: Path, facts: Facts) -> Iterator[None]:
    """LOCK is held meanwhile, if the facts say so."""
    fd = os.open(folder / "LOCK", os.O_RDWR | os.O_CREAT)
    if facts.lock is Lock.HELD:
        fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(fd)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file that matters. Looking makes a -shm, and an empty -wal."""
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if not path.name.endswith("-shm")
        and path.name not in {"LOCK", "RESERVE"}
        and not (path.name.endswith("-wal") and path.stat().st_size == 0)
    }


# ------------------------------------------------------------------ the table


def expected_facts(facts: Facts) -> Facts:
    """What is not looked at any more has the value of a sound store."""
    if facts.head is Head.UNFINISHED:
        return Facts(head=facts.head, accept_loss=facts.accept_loss)
    if facts.format is Format.NEWER:
        return Facts(format=Format.NEWER, accept_loss=facts.accept_loss)
    if facts.segments in Segments.MISSING | Segments.DAMAGED | Segments.STRANGE:
        return Facts(head=facts.head, segments=facts.segments, accept_loss=facts.accept_loss)
    if facts.segments is Segments.NONE and not _speaks(facts):
        return Facts(head=facts.head, segments=facts.segments, accept_loss=facts.accept_loss)
    return facts


def check(facts: Facts, folder: Path) -> None:
    """Open a folder that shows these facts, and compare with the table."""
    plan = plan_recovery(facts)
    if facts.lock is Lock.FREE:
        assert observe_content(folder, accept_loss=facts.accept_loss).facts == expected_facts(facts)
    before = contents(folder)
    if plan.decision is Decision.REFUSE:
        assert plan.rule.refusal is not None
        with held(folder, facts), pytest.raises(errors.StoreError) as caught:
            open_log(folder, Outcomes(), accept_loss=facts.accept_loss)
        assert type(caught.value) is KINDS[plan.rule.refusal.value]
        assert caught.value.hint or facts.segments is Segments.STRANGE
        assert contents(folder) == before, "a refused store was touched"
        return
    store = StoreFolder(folder)
    log = store.open(accept_loss=facts.accept_loss)
    assert log.report.rule == plan.rule.name
    assert log.report.created == (plan.decision is Decision.CREATE)
    warns = plan.decision in (Decision.WARN, Decision.ACCEPT_LOSS)
    assert bool(log.report.warnings) == warns
    assert (log.report.lost is not None) == (plan.decision is Decision.ACCEPT_LOSS)
    if plan.decision is Decision.ACCEPT_LOSS:
        last = log.reader().latest(Kind.LOST)
        assert last is not None
        assert log.report.lost is not None
        assert log.report.lost[1] + 1 == last.lsn == log.next_lsn - 1
    put(store, log, publish(log.next_offset))
    end = log.next_lsn
    log.close()
    again = store.open()
    assert again.next_lsn == end
    if facts.segments is Segments.DESCRIBED:
        check_left_out(again)
        assert contents(folder)[file_name(4)] == before[file_name(4)], "it is evidence"
    else:
        assert (again.report.rule, again.report.warnings) == ("sound", ())
        assert not again.quarantined
    again.close()


def check_left_out(log: SqliteLog) -> None:
    """The middle one of three segments is named exactly, and nothing else is missing."""
    assert log.report.rule == "a damaged segment is left out"
    (warning,) = log.report.warnings
    assert "records 4..6, offsets 3..3, cannot be served" in warning
    (told,) = log.quarantined
    assert (told.first_lsn, told.last_lsn, told.first_offset, told.last_offset) == (4, 6, 3, 3)
    reader = log.reader()
    found = [record.lsn for record in reader.read(1, limit=99, limit_bytes=BIG)]
    assert found[:4] == [1, 2, 3, 7]
    assert found[-1] == log.next_lsn - 1
    assert reader.publishes(0, limit=99, limit_bytes=BIG)[1] == 3, "the line stops in front of it"


PARTS = [(head, segments, lock) for head in Head for segments in Segments for lock in Lock]


@pytest.mark.parametrize(
    ("head", "segments", "lock"), PARTS, ids=lambda fact: f"{type(fact).__name__}-{fact.name}"
)
def test_a_real_folder_ends_as_its_row_says(
    head: Head,
    segments: Segments,
    lock: Lock,
    tmp_path: Path,
    templates: dict[tuple[Segments, Wal], Path],
) -> None:
    built = 0
    for number, facts in enumerate(every_combination()):
        if (facts.head, facts.segments, facts.lock) != (head, segments, lock):
            continue
        if facts.place is not Place.STORE:
            continue  # two tests of their own: there is nothing else in such a place
        folder = tmp_path / str(number)
        try:
            build(facts, folder, templates)
        except CannotBeError:
            continue
        try:
            check(facts, folder)
        except BaseException as error:
            error.add_note(f"{facts}, row {plan_recovery(facts).rule.name!r}")
            raise
        shutil.rmtree(folder)
        built += 1
    assert built >= 2, "nothing was tested"


@pytest.mark.parametrize("place", [Place.FILE, Place.FOREIGN])
@pytest.mark.parametrize("accept_loss", [False, True])
def test_a_place_that_is_no_store(place: Place, accept_loss: bool, tmp_path: Path) -> None:
    path = tmp_path / "store"
    if place is Place.FILE:
        path.write_text("mine")
    else:
        path.mkdir()
        (path / "letter.txt").write_text("dear")
    plan = plan_recovery(Facts(place=place, accept_loss=accept_loss))
    assert plan.decision is Decision.REFUSE
    with pytest.raises(errors.StoreError) as caught:
        open_log(path, Outcomes(), accept_loss=accept_loss)
    assert type(caught.value) is errors.StoreError
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] in (["store"], ["letter.txt"])
