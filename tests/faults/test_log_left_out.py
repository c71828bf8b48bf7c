"""Opening a store with a damaged sealed segment: left out and named exactly, or refused.

Each store has the segments 1..3 (offsets 0..2), 4..6 (offset 3) and 7..9, the last active.
Left out means: the file is as it was, every other record is there, and the log goes on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from hermes.errors import StoreDamagedError
from hermes.log import head as head_file
from hermes.log.head import create_head, read_head
from hermes.log.log import SqliteLog
from hermes.log.record import Kind
from hermes.log.segment import file_name
from tests.contract.records import BIG, dropped, event, publish
from tests.contract.store import lsns, put, roll
from tests.support.folders import StoreFolder, three_segments
from tests.support.tampering import segment


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    three_segments(tmp_path / "store", publish(4), killed=False)
    return tmp_path / "store"


def overwrite(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(b"not a database" * 1_000)
    path.chmod(0o400)


def execute(sql: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with segment(path) as db:
            db.execute(sql)
        path.chmod(0o400)

    return change


def cut_short(path: Path) -> None:
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    path.chmod(0o400)


DAMAGES = {
    "NotADBError": overwrite,
    "CorruptError": cut_short,
    "has lost records": execute("DELETE FROM records WHERE lsn IN (3, 6)"),
    "not what its seal says": execute(
        "UPDATE records SET chain = zeroblob(32) WHERE lsn IN (3, 6)"
    ),
    "record [14] does not hash to its link": execute(
        "UPDATE records SET body = x'00' WHERE lsn IN (1, 4)"
    ),
    "record [14] does not hash": execute("UPDATE meta SET value = zeroblob(32) WHERE name='chain'"),
    "missing required field `chain`": execute("DELETE FROM meta WHERE name = 'chain'"),
    "Expected `int`": execute("UPDATE meta SET value = 'x' WHERE name = 'next_offset'"),
    "is not a segment of Hermes": execute("PRAGMA application_id = 7"),
    "no such table": execute("DROP TABLE meta"),
}


def opened(folder: Path) -> SqliteLog:
    return StoreFolder(folder).open()


def refused(folder: Path, match: str) -> None:
    """Opening is refused, twice alike, and no segment is touched."""
    before = {path.name: path.read_bytes() for path in folder.glob("*.segment")}
    for _ in range(2):
        with pytest.raises(StoreDamagedError, match=match):
            opened(folder)
    assert {path.name: path.read_bytes() for path in folder.glob("*.segment")} == before


@pytest.mark.parametrize("first_lsn", [1, 4])
@pytest.mark.parametrize("reason", DAMAGES)
def test_it_is_named_and_the_rest_is_served(folder: Path, reason: str, first_lsn: int) -> None:
    path = folder / file_name(first_lsn)
    DAMAGES[reason](path)
    before = path.read_bytes(), path.stat().st_mode
    store = StoreFolder(folder)
    log = store.open()
    assert log.report.rule == "a damaged segment is left out"
    (told,) = log.quarantined
    extent = {1: (1, 3, 0, 2), 4: (4, 6, 3, 3)}[first_lsn]
    assert (told.first_lsn, told.last_lsn, told.first_offset, told.last_offset) == extent
    assert told.path == str(path)
    assert re.search(reason, told.reason)
    (warning,) = log.report.warnings
    assert f"{path.name} is damaged: records {extent[0]}..{extent[1]}" in warning
    assert told.reason in warning
    sound = {1: [4, 5, 6, 7, 8, 9], 4: [1, 2, 3, 7, 8, 9]}[first_lsn]
    assert lsns(log.reader().read(1, limit=99, limit_bytes=BIG)) == sound
    assert put(store, log, publish(log.next_offset)) == 10
    roll(store, log)
    log.close()
    assert (path.read_bytes(), path.stat().st_mode) == before, "it is evidence"
    again = opened(folder)
    assert (again.next_lsn, [q.first_lsn for q in again.quarantined]) == (13, [first_lsn])
    again.close()


def test_with_the_file_back_nothing_is_marked(folder: Path) -> None:
    path = folder / file_name(4)
    sound = path.read_bytes()
    overwrite(path)
    opened(folder).close()
    path.chmod(0o600)
    path.write_bytes(sound)
    log = opened(folder)
    assert (log.report.rule, log.quarantined) == ("sound", ())
    log.close()


def test_a_segment_without_messages_has_no_offsets(tmp_path: Path) -> None:
    store = StoreFolder(tmp_path / "store")
    log = store.open()
    put(store, log, publish(0))
    roll(store, log)
    put(store, log, event(Kind.ACKED, "c", 0))
    roll(store, log)
    put(store, log, publish(1))
    log.close()
    overwrite(store.path / file_name(2))
    log = store.open()
    (told,) = log.quarantined
    assert (told.first_lsn, told.last_lsn, told.first_offset) == (2, 4, None)
    found, upto = log.reader().publishes(0, limit=9, limit_bytes=BIG)
    assert ([record.first for record in found], upto) == ([0, 1], 2), "nobody misses a message"
    assert "offsets" not in log.report.warnings[0]
    log.close()


def test_a_wal_beside_it_is_left_too(folder: Path) -> None:
    """A sealed segment whose WAL was not copied yet, and lost commits: it ends too early."""
    path, wal = folder / file_name(4), folder / (file_name(4) + "-wal")
    execute("DELETE FROM records WHERE lsn = 6")(path)
    path.chmod(0o600)
    wal.write_bytes(b"what is left of a WAL" * 100)
    before = path.read_bytes(), wal.read_bytes()
    log = opened(folder)
    assert [q.first_lsn for q in log.quarantined] == [4]
    log.close()
    assert (path.read_bytes(), wal.read_bytes()) == before


def test_one_that_was_dropped_before_is_no_evidence(folder: Path) -> None:
    """The event is committed: nobody needs it, and what the log announced is finished."""
    store = StoreFolder(folder)
    log = store.open()
    put(store, log, dropped(1, 3))
    log.close()
    overwrite(folder / file_name(1))
    log = store.open()
    assert (log.report.rule, log.quarantined) == ("sound", ())
    assert not (folder / file_name(1)).exists()
    log.close()


# ------------------------------------------------------------------- refusals


def test_two_neighbours_are_refused(folder: Path) -> None:
    """What the first one holds is written in the second."""
    overwrite(folder / file_name(1))
    overwrite(folder / file_name(4))
    refused(folder, r"00001.segment is damaged: records 1\.\.3 cannot be read")


def test_the_active_one_is_refused(folder: Path) -> None:
    overwrite(folder / file_name(7))
    refused(folder, "records 7 on cannot be read")


def test_a_damaged_tail_is_refused_beside_it(folder: Path) -> None:
    overwrite(folder / file_name(4))
    execute("UPDATE records SET body = x'00' WHERE lsn = 8")(folder / file_name(7))
    refused(folder, "record 8 does not hash")


def test_a_changed_seal_accuses_itself(folder: Path) -> None:
    """The file before it was blamed for not being what its seal says."""
    execute("UPDATE records SET body = x'00' WHERE lsn = 7")(folder / file_name(7))
    refused(folder, "00007.segment: record 7 does not hash")


def test_an_end_that_nobody_vouches_for_is_recomputed(folder: Path) -> None:
    """The seal of the first segment is in the second one, which is damaged."""
    execute("UPDATE records SET body = x'00' WHERE lsn = 2")(folder / file_name(1))
    overwrite(folder / file_name(4))
    refused(folder, "record 2 does not hash")


def test_one_before_it_that_was_cut_short_is_missing_records(folder: Path) -> None:
    execute("DELETE FROM records WHERE lsn = 3")(folder / file_name(1))
    overwrite(folder / file_name(4))
    refused(folder, r"records 3\.\.3 are missing")


def test_a_head_that_names_a_record_in_it_is_refused(folder: Path) -> None:
    head = read_head(folder / head_file.FILE_NAME)
    assert head is not None
    mark = type(head.mark)(5, 4, bytes(32))
    create_head(folder / head_file.FILE_NAME, head.store_id, mark)
    overwrite(folder / file_name(4))
    refused(folder, "the record that HEAD names, 5, is in it")


def test_a_drop_that_only_it_announces_is_not_taken_for_a_missing_segment(tmp_path: Path) -> None:
    store = StoreFolder(tmp_path / "store")
    log = store.open()
    put(store, log, publish(0))
    roll(store, log)
    put(store, log, dropped(1, 1))
    log.drop(1)
    roll(store, log)
    put(store, log, publish(1))
    log.close()
    overwrite(store.path / file_name(2))
    refused(store.path, r"records 1\.\.1 are not there; whether they were dropped may be in")


def test_one_that_was_renamed_is_refused(folder: Path) -> None:
    (folder / file_name(4)).rename(folder / file_name(5))
    refused(folder, "was renamed")
