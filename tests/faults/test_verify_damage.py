"""Damage to a store at rest: `verify` names what is wrong, and never less than all of it."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from hermes.errors import StoreError
from hermes.log.bodies import dropped_range
from hermes.log.head import BLOCK_BYTES, FILE_NAME
from hermes.log.log import open_log
from hermes.log.record import Kind
from hermes.log.segment import file_name
from hermes.log.v1 import log_pb2
from hermes_inspect import verify_store as verifying
from hermes_inspect.verify_notes import Claims, Keys
from hermes_inspect.verify_store import Verdict, check_indexes, look, verify_store
from tests.contract.records import Outcomes, dropped, event, publish, snapshot
from tests.support.tampering import all_rows, rewrite, segment, segments, truncate

NO_KEYS = Keys((), given=False)

DELIVERED_AND_ACKED = (Kind.DELIVERED, Kind.ACKED)


def verdict_on(folder: Path, workers: int = 0) -> Verdict:
    return verify_store(look(folder), NO_KEYS, Claims(), lambda _: None, workers=workers)


def fill(folder: Path, rounds: int = 60, *, roll_every: int = 20) -> None:
    """Publishes of different sizes and subjects, deliveries and acks, in several segments."""
    outcomes = Outcomes()
    log = open_log(folder, outcomes)
    sizes = random.Random(5)
    at = 0
    for n in range(rounds):
        count = n % 4 + 1
        payload = sizes.randbytes(sizes.choice((0, 40, 700, 9_000)))
        key = f"orders.{n % 7}"
        group = [publish(at, count, key, at_ns=n, payload=payload, terms=(n,))]
        group += [event(kind, "billing", at, at + count - 1) for kind in DELIVERED_AND_ACKED]
        log.append(group, log.next_lsn)
        at += count
        if n % roll_every == roll_every - 1:
            log.roll(snapshot(), log.next_lsn)
    outcomes.wait_for(log.next_lsn - 1)
    log.close()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound") / "store"
    fill(folder)
    return folder


@pytest.fixture
def store(sound: Path, tmp_path: Path) -> Path:
    """A copy, to be damaged."""
    return Path(shutil.copytree(sound, tmp_path / "store"))


def test_a_sound_store(sound: Path) -> None:
    verdict = verdict_on(sound)
    assert verdict.sound, verdict.breaks
    assert check_indexes(look(sound)) == []
    rows = all_rows(sound)
    assert verdict.end is not None and verdict.head is not None
    assert (verdict.end.lsn, verdict.end.chain) == (rows[-1]["lsn"], rows[-1]["chain"])
    assert verdict.head == verdict.end
    assert (verdict.segments, verdict.whole.seals, verdict.walked.payloads) == (4, 3, 60)


def test_pieces_and_processes_change_nothing(
    store: Path, sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifying, "PIECE_BYTES", 20_000)
    alone, together = verdict_on(sound), verdict_on(sound, workers=2)
    assert sum(map(len, verifying.plan(look(sound)))) > 12
    assert alone.sound and together.sound
    assert alone.walked == together.walked == verdict_on(sound).walked
    with segment(segments(store)[1]) as db:
        db.execute("UPDATE records SET body = x'00' WHERE lsn IN (70, 90, 91)")
    found = [[b.lsn for b in verdict_on(store, workers=n).breaks] for n in (0, 2)]
    assert found == [[70, 90, 91]] * 2


# -------------------------------------------------------------- one fact changed

COLUMNS = {
    "at_ns": "at_ns + 1",
    "kind": "kind + 1",
    "key": "key + 1",
    "last": "last + 1",
    "body": "CAST(body || x'00' AS BLOB)",
    "payload_hash": "zeroblob(32)",
    "chain": "zeroblob(32)",
    "payload": "CAST(payload || x'00' AS BLOB)",
}


@pytest.mark.parametrize("column", COLUMNS)
def test_any_column_of_any_record(store: Path, column: str) -> None:
    lsns = [row["lsn"] for row in all_rows(store) if row["kind"] == Kind.PUBLISHED]
    for lsn in (lsns[0], lsns[len(lsns) // 2], lsns[-1]):
        copy = Path(shutil.copytree(store, store.with_name(f"{column}-{lsn}")))
        path = [p for p in segments(copy) if int(p.name[:20]) <= lsn][-1]
        with segment(path) as db:
            db.execute(f"UPDATE records SET {column} = {COLUMNS[column]} WHERE lsn = ?", (lsn,))
            (offset,) = db.execute("SELECT first FROM records WHERE lsn = ?", (lsn,)).fetchone()
        verdict = verdict_on(copy)
        first = verdict.breaks[0]
        assert (first.segment, first.lsn, first.offset) == (path.name, lsn, offset), first
        if column not in {"kind", "last", "payload_hash"}:  # these say something to others, too
            assert [b.lsn for b in verdict.breaks if b.what != "seal"] == [lsn]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("UPDATE meta SET value = zeroblob(32) WHERE name = 'chain'", "meta"),
        ("UPDATE meta SET value = value + 1 WHERE name = 'next_offset'", "meta"),
        ("UPDATE meta SET value = value + 1 WHERE name = 'first_lsn'", "meta"),
        ("UPDATE meta SET value = 'x' WHERE name = 'store_id'", "meta"),
        ("DELETE FROM meta WHERE name = 'chain'", "meta"),
    ],
)
def test_a_changed_meta_table(store: Path, change: str, what: str) -> None:
    path = segments(store)[2]
    with segment(path) as db:
        db.execute(change)
    verdict = verdict_on(store)
    assert (what, path.name) in {(b.what, b.segment) for b in verdict.breaks}


def test_a_seal_that_lies_though_all_is_chained(store: Path) -> None:
    def lie(row: dict[str, Any]) -> None:
        if row["kind"] == Kind.SEGMENT_SEALED and row["lsn"] > 100:
            seal = log_pb2.SegmentSealed.FromString(row["body"])
            seal.records += 1
            seal.highest_touched += 1
            row["body"] = seal.SerializeToString()

    rewrite(store, lie)
    found = [b for b in verdict_on(store).breaks if b.what == "seal"]
    assert len(found) == 4
    assert "says another records" in found[0].text and found[0].lsn == 123


def test_a_history_rewritten_with_all_hashes_is_not_seen_without_checkpoints(store: Path) -> None:
    """The reason for checkpoints (tests/e2e/test_verify.py)."""

    def forge(row: dict[str, Any]) -> None:
        if row["lsn"] == 70:
            row["body"] += b"\x00"

    before = all_rows(store)
    rewrite(store, forge)
    assert all_rows(store) != before
    assert verdict_on(store).sound


# ------------------------------------------------------------------- bits and files


def facts(folder: Path) -> list[object]:
    """Everything that is committed, as far as it can be read."""
    found: list[object] = [(folder / FILE_NAME).read_bytes()]
    for path in segments(folder):
        with segment(path) as db:
            found.append(sorted(db.execute("SELECT name, value FROM meta")))
            found.append([db.execute(f"PRAGMA {n}").fetchone() for n in ("user_version",)])
    return [*found, *all_rows(folder)]


def test_any_flipped_bit_of_committed_data(store: Path) -> None:
    """A sealed segment, flipped all over. What changes a fact is found, and named."""
    original = all_rows(store)
    before = facts(store)
    path = segments(store)[1]
    data = path.read_bytes()
    chance = random.Random(7)
    found = 0
    for _ in range(150):
        place, bit = chance.randrange(len(data)), chance.randrange(8)
        flipped = bytearray(data)
        flipped[place] ^= 1 << bit
        path.write_bytes(flipped)
        try:
            verdict = verdict_on(store)
        except StoreError:
            continue  # the header: no SQLite file any more, or one of a newer version
        if not verdict.sound:
            found += 1
            first = verdict.breaks[0]
            assert first.segment in {path.name, segments(store)[2].name}, (place, bit, first)
            assert first.lsn is None or first.lsn >= int(path.name[:20]), (place, bit, first)
            _names_the_change(store, original, verdict, (place, bit))
            continue
        # An index, or nothing: what is committed is what it was.
        assert facts(store) == before, (place, bit)
        path.write_bytes(flipped)  # reading the facts may have left a journal
    assert found > 40, "half of the file is indexes and room to grow"


def _names_the_change(
    folder: Path, original: list[dict[str, Any]], verdict: Verdict, flip: tuple[int, int]
) -> None:
    """The first record that differs is the first one named, where both can be read."""
    try:
        now = {row["lsn"]: row for row in all_rows(folder)}
    except Exception:  # noqa: BLE001 - it cannot be read by any means: told as such
        assert verdict.breaks
        return
    differing = [row["lsn"] for row in original if now.get(row["lsn"]) != row]
    named = [b.lsn for b in verdict.breaks if b.lsn is not None]
    if differing:
        assert named and named[0] <= differing[0] <= max(
            max(b.last_lsn or 0, b.lsn or 0) for b in verdict.breaks
        ), (flip, differing[:3], verdict.breaks[:3])


def test_a_torn_page_costs_its_own_records_only(store: Path) -> None:
    path = segments(store)[1]
    pages = path.stat().st_size // 8192
    told = []
    for page in range(1, pages):
        copy = Path(shutil.copytree(store, store.with_name(f"page-{page}")))
        torn = copy / path.name
        torn.chmod(0o600)
        with torn.open("r+b") as file:
            file.seek(page * 8192)
            file.write(b"\xff" * 8192)
        verdict = verdict_on(copy)
        assert verdict.end is not None and verdict.end.lsn == 186, "the others are checked"
        for b in verdict.breaks:
            assert b.segment == path.name, (page, b)
        told.append({b.what: (b.lsn, b.last_lsn) for b in verdict.breaks})
    stretches = [what["unreadable"] for what in told if "unreadable" in what]
    # The two leaves of the table: each costs its own records and no others.
    assert {(61, 98), (99, 122)} <= set(stretches)
    assert [what for what in told if "payload" in what], "overflow pages hold payloads alone"


def test_a_missing_segment(store: Path) -> None:
    gone = segments(store)[1]
    gone.unlink()
    (found,) = verdict_on(store).breaks
    assert (found.what, found.lsn, found.last_lsn) == ("missing", 61, 122)


def test_a_missing_oldest_segment(store: Path) -> None:
    segments(store)[0].unlink()
    (found,) = verdict_on(store).breaks
    assert (found.what, found.lsn, found.last_lsn) == ("missing", 1, 60)


def test_a_renamed_segment(store: Path) -> None:
    last = segments(store)[-1]
    last.rename(store / file_name(500))
    assert {"meta", "missing"} <= {b.what for b in verdict_on(store).breaks}


def test_a_file_that_is_no_segment(store: Path) -> None:
    path = segments(store)[1]
    path.chmod(0o600)
    path.write_bytes(b"no database" * 1_000)
    verdict = verdict_on(store)
    assert verdict.breaks[0].segment == path.name
    assert any(b.what == "unreadable" and (b.lsn, b.last_lsn) == (61, 122) for b in verdict.breaks)


def test_a_log_that_ends_before_head(store: Path) -> None:
    head = (store / FILE_NAME).read_bytes()
    truncate(store, 150)
    assert verdict_on(store).sound, "cut off with HEAD: only a checkpoint tells"
    (store / FILE_NAME).write_bytes(head)
    (found,) = verdict_on(store).breaks
    last = all_rows(store)[-1]["lsn"]
    assert (found.what, found.lsn, found.last_lsn, last) == ("missing", 151, 186, 150)


@pytest.mark.parametrize("slots", [(0,), (1,), (0, 1)])
def test_a_damaged_head(store: Path, slots: tuple[int, ...]) -> None:
    data = bytearray((store / FILE_NAME).read_bytes())
    for slot in slots:
        data[slot * BLOCK_BYTES + 50] ^= 4
    (store / FILE_NAME).write_bytes(data)
    verdict = verdict_on(store)
    (found,) = [b for b in verdict.breaks if b.what == "head"]
    assert ("both slots" in found.text) == (len(slots) == 2)


def test_no_head(store: Path) -> None:
    (store / FILE_NAME).unlink()
    (found,) = verdict_on(store).breaks
    assert "HEAD is missing" in found.text


def test_a_flipped_wal_is_a_shorter_log(tmp_path: Path) -> None:
    """SQLite drops what follows, and says ok. HEAD tells."""
    outcomes = Outcomes()
    log = open_log(tmp_path / "live", outcomes)
    for n in range(20):
        outcomes.wait_for(log.append([publish(n)], log.next_lsn))
    assert verdict_on(tmp_path / "live").sound
    copy = Path(shutil.copytree(tmp_path / "live", tmp_path / "copy"))
    log.close()
    (wal,) = copy.glob("*-wal")
    data = bytearray(wal.read_bytes())
    data[len(data) // 2] ^= 1
    wal.write_bytes(data)
    for scratch in copy.glob("*-shm"):
        scratch.unlink()
    (found,) = verdict_on(copy).breaks
    assert found.what == "missing" and found.last_lsn == 20
    assert found.lsn is not None and 1 < found.lsn < 20


# ------------------------------------------------------------- legal peculiarities


def test_a_dropped_segment_is_legal(tmp_path: Path) -> None:
    outcomes = Outcomes()
    log = open_log(tmp_path / "store", outcomes)
    outcomes.wait_for(log.append([publish(0, 3)], 1))
    outcomes.wait_for(log.roll(snapshot(), 2))
    announcement = dropped(1, 1)
    assert dropped_range(announcement.body) == (1, 1)
    outcomes.wait_for(log.append([announcement, publish(3)], log.next_lsn))
    assert verdict_on(tmp_path / "store").sound, "announced, and still there"
    log.drop(1)
    log.close()
    verdict = verdict_on(tmp_path / "store")
    assert verdict.sound, verdict.breaks
    assert verdict.first_lsn == 2


def test_a_segment_that_is_dropped_meanwhile_is_left_out(store: Path) -> None:
    looked = look(store)
    segments(store)[0].unlink()
    verdict = verify_store(looked, NO_KEYS, Claims(), lambda _: None)
    assert verdict.sound, verdict.breaks
    assert (verdict.dropped, verdict.first_lsn) == (1, 61)


def test_an_index_that_hides_a_record(store: Path) -> None:
    """No hash covers an index; a search by it would miss what the log holds."""
    path = segments(store)[1]
    with segment(path) as db:
        db.execute("PRAGMA writable_schema = ON")
        sql = "SELECT sql FROM sqlite_schema WHERE name = 'by_offset'"
        (before,) = db.execute(sql).fetchone()
        db.execute("DROP INDEX by_offset")
        db.execute(before.replace("first IS NOT NULL", "first > 60"))
        db.execute("UPDATE sqlite_schema SET sql = ? WHERE name = 'by_offset'", (before,))
    assert check_indexes(look(store.parent / "store"))[0].segment == path.name
    assert verdict_on(store).sound


def test_an_accepted_loss_is_legal_and_told(store: Path) -> None:
    head = (store / FILE_NAME).read_bytes()
    truncate(store, 150)
    (store / FILE_NAME).write_bytes(head)
    open_log(store, Outcomes(), accept_loss=True).close()
    verdict = verdict_on(store)
    assert verdict.sound, verdict.breaks
    assert verdict.whole.losses == [(151, 186)]


def test_an_empty_store(tmp_path: Path) -> None:
    open_log(tmp_path / "store", Outcomes()).close()
    verdict = verdict_on(tmp_path / "store")
    assert verdict.sound, verdict.breaks
    assert verdict.end is not None and verdict.end.lsn == 0


def test_what_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no store"):
        look(tmp_path)


def test_a_newer_store_is_refused(store: Path) -> None:
    with segment(segments(store)[0]) as db:
        db.execute("PRAGMA user_version = 2")
    with pytest.raises(StoreError, match="format 2"):
        look(store)
