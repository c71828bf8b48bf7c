"""Invariant 6: one flipped bit is detected and named; a log is never silently shorter.

Small real stores, killed or stopped, with one bit flipped in HEAD, the WAL, the active or a
sealed segment. What each flip must come to:

- a changed committed fact is named by `verify`, wherever it lies;
- opening refuses it, or says what it mended - but for sealed segments, of which opening
  checks the ends alone: `verify` and the scrub find the rest;
- whatever opens holds exactly what was committed, sealed segments' insides apart.

Flips in free space, unused bytes and indexes change no committed fact, and are counted as
such: the rows are compared, all of them, before anything is opened.

`SEED=n` repeats a run. `FLIPS=n` is how many a long one tries.
"""

from __future__ import annotations

import os
import random
import re
from collections import Counter
from pathlib import Path

import pytest

from hermes import limits
from hermes.errors import StoreDamagedError
from hermes.log import housekeeper
from hermes.log.log import open_log
from hermes.log.schema import PAGE_BYTES
from hermes_inspect import verify_store
from tests.contract.records import Outcomes
from tests.support.faults.flips import Bench, Flip, Found, Opening, Place, Specimen, Stop, specimen
from tests.support.faults.seeds import seed_of_run, tell, tell_seed
from tests.support.tampering import segment

THIS = "tests/faults/test_log_flips.py"
# Flips of each place that touch what is committed, so that a short run says something of it;
# of the active segment one in ten does.
TOUCHING_MIN = 6
LONG_FLIPS = int(os.environ.get("FLIPS", "20000"))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting for a HEAD that somebody might be writing; a keeper that keeps still."""
    monkeypatch.setattr(verify_store, "HEAD_AGAIN_SECS", 0)
    monkeypatch.setattr(limits, "RESERVE_BYTES", 4096)
    monkeypatch.setattr(housekeeper.Housekeeper, "start", lambda _: None)


def random_flip(whole: Specimen, place: Place, rng: random.Random) -> Flip:
    names = [name for name, (_, data) in whole.files.items() if whole.place_of(name) is place]
    name = rng.choice([name for name in names if whole.files[name][1]])
    size = len(whole.files[name][1])
    if place is Place.HEAD and rng.random() < 0.5:  # its two slots are a fortieth of it
        return Flip(name, rng.choice((0, 4096)) + rng.randrange(100), rng.randrange(8))
    return Flip(name, rng.randrange(size), rng.randrange(8))


def judge(found: Found) -> None:
    if found.touches:
        assert found.verified, "verify named nothing"
    if found.place is Place.SEALED:
        assert found.opening is not Opening.UNNOTICED or found.touches, found.said
        return
    assert found.opening not in (Opening.UNNOTICED, Opening.LEFT_OUT), found.said
    if found.touches:
        assert found.opening is not Opening.EXACT, "opening said nothing"


def flip_all(tmp_path: Path, seed: int, flips: int) -> Counter[tuple[Place, bool, Opening]]:
    """So many flips, as many in each kind of file of each kind of store; more of them while
    a place had too few that touch anything, ten times as many at the most."""
    rng = random.Random(seed)
    wholes = {stop: specimen(tmp_path / stop, stop) for stop in Stop}
    places = [
        (stop, place)
        for stop, whole in wholes.items()
        for place in Place
        if any(data and whole.place_of(name) is place for name, (_, data) in whole.files.items())
    ]
    counts: Counter[tuple[Place, bool, Opening]] = Counter()
    touching: Counter[Place] = Counter()
    for number in range(10 * flips):
        if number >= flips and all(touching[place] >= TOUCHING_MIN for place in Place):
            break
        stop, place = places[number % len(places)]
        flip = random_flip(wholes[stop], place, rng)
        try:
            found = Bench(wholes[stop], tmp_path / "flipped").try_flip(flip)
            judge(found)
        except BaseException as error:
            error.add_note(f"{stop} store, {flip}")
            raise
        counts[place, found.touches, found.opening] += 1
        touching[place] += found.touches
    return counts


def tell_counts(counts: Counter[tuple[Place, bool, Opening]]) -> None:
    for place in Place:
        touching = {o: counts[place, True, o] for o in Opening}
        total = sum(touching.values())
        free = sum(counts[place, False, o] for o in Opening)
        noticed = total - touching[Opening.UNNOTICED]
        tell(
            f"{place}: {total + free} flips, {free} touch nothing committed; of {total}"
            f" verify names {total} (100 %), opening {noticed}"
            f" ({100 * noticed / max(1, total):.1f} %: {touching[Opening.REFUSED]} refused,"
            f" {touching[Opening.LEFT_OUT]} left out, {touching[Opening.MENDED]} mended)"
        )


def test_flipped_bits(tmp_path: Path) -> None:
    seed = seed_of_run()
    tell_seed(seed, THIS)
    counts = flip_all(tmp_path, seed, flips=330)
    tell_counts(counts)
    for place in Place:
        assert (
            sum(n for (p, touches, _), n in counts.items() if touches and p is place)
            >= TOUCHING_MIN
        )


@pytest.mark.parametrize("stop", Stop)
def test_each_bit_of_a_head_slot(tmp_path: Path, stop: Stop) -> None:
    whole = specimen(tmp_path / "store", stop)
    for at in (*range(0, 100, 9), *range(4096, 4196, 9)):
        found = Bench(whole, tmp_path / "flipped").try_flip(Flip("HEAD", at, at % 8))
        judge(found)
        assert (found.touches, found.opening) == (True, Opening.MENDED)
        assert "of HEAD was damaged" in found.said


def test_a_flipped_payload_of_the_active_segment(tmp_path: Path) -> None:
    """The chain covers a payload's hash alone: opening checked that, and not the payload."""
    whole = specimen(tmp_path / "store", Stop.CLOSED)
    data = whole.files[whole.active][1]
    content = bytes((31 + i) % 251 for i in range(700))  # of round 31, see `fill`
    at = data.find(content[:100])
    assert at > 0
    found = Bench(whole, tmp_path / "flipped").try_flip(Flip(whole.active, at + 50, 3))
    judge(found)
    assert found.opening is Opening.REFUSED
    assert "payload of record" in found.said


def test_a_page_of_the_tail_that_cannot_be_read(tmp_path: Path) -> None:
    """It was refused as "database disk image is malformed": neither segment nor records.

    And `verify` had no end where a damaged tree led back to records before.
    """
    whole = specimen(tmp_path / "store", Stop.CLOSED, rounds=80, roll_every=200)
    bench = Bench(whole, tmp_path / "flipped")
    size, said = len(whole.files[whole.active][1]), []
    for page in range(1, size // PAGE_BYTES):  # the kind of page, the number of its cells
        for at in (0, 3, 4):
            found = bench.try_flip(Flip(whole.active, page * PAGE_BYTES + at, 2))
            judge(found)
            said.append(found.said)
    named = [text for text in said if "not all can be read" in text]
    assert named
    assert all(text.startswith(f"{whole.active} is damaged: of the records ") for text in named)


def test_a_text_of_a_sealed_segment_that_is_none(tmp_path: Path) -> None:
    """Opening ended with a UnicodeDecodeError when meta held a byte that is no UTF-8."""
    whole = specimen(tmp_path / "store", Stop.KILLED)
    name = min(whole.files)
    at = whole.files[name][1].find(b"next_offset")
    found = Bench(whole, tmp_path / "flipped").try_flip(Flip(name, at + 1, 7))
    judge(found)
    assert found.opening is Opening.LEFT_OUT
    assert found.said.startswith(f"left out: {name} is damaged")


def test_an_index_that_gives_numbers_twice(tmp_path: Path) -> None:
    """The next offset was taken from an index, which no chain covers, and never compared."""
    whole = specimen(tmp_path / "store", Stop.CLOSED)
    folder = tmp_path / "store"
    with segment(folder / whole.active) as db:
        (sql,) = db.execute("SELECT sql FROM sqlite_schema WHERE name = 'by_offset'").fetchone()
        db.execute("PRAGMA writable_schema = ON")
        db.execute("DROP INDEX by_offset")
        db.execute(sql.replace("first IS NOT NULL", f"first < {whole.end[1] - 4}"))
        db.execute("UPDATE sqlite_schema SET sql = ? WHERE name = 'by_offset'", (sql,))
    with pytest.raises(StoreDamagedError, match="its index says"):
        open_log(folder, Outcomes(), low_space_bytes=0)


def test_a_format_that_never_was(tmp_path: Path) -> None:
    """0 passed for a format that this version reads."""
    specimen(tmp_path / "store", Stop.CLOSED)
    with segment(min((tmp_path / "store").glob("*.segment"))) as db:
        db.execute("PRAGMA user_version = 0")
    log = open_log(tmp_path / "store", Outcomes(), low_space_bytes=0)
    (told,) = log.quarantined
    assert told.reason.endswith("says format 0, which never was")
    log.close()


@pytest.mark.parametrize("column", ["at_ns", "body", "payload_hash"])
def test_a_value_of_another_type_in_the_tail(tmp_path: Path, column: str) -> None:
    """One bit in a row's header makes a float of a number: opening ended with struct.error."""
    whole = specimen(tmp_path / "store", Stop.CLOSED)
    value = "0.5" if column == "at_ns" else "7"
    with segment(tmp_path / "store" / whole.active) as db:
        (sql,) = db.execute("SELECT sql FROM sqlite_schema WHERE name = 'records'").fetchone()
        db.execute("PRAGMA writable_schema = ON")
        loose = "UPDATE sqlite_schema SET sql = ? WHERE name = 'records'"
        db.execute(loose, (re.sub(r" (INTEGER|BLOB)( NOT NULL)?(?=,)| STRICT", "", sql),))
        db.commit()
        db.execute("PRAGMA writable_schema = RESET")
        db.execute(
            f"UPDATE records SET {column} = {value} WHERE lsn = (SELECT max(lsn) - 2 FROM records)"
        )
        db.execute("PRAGMA writable_schema = ON")
        db.execute(loose, (sql,))
    told = r"records 87(\.\.\d+ not all can| on cannot) be read"
    with pytest.raises(StoreDamagedError, match=told):
        open_log(tmp_path / "store", Outcomes(), low_space_bytes=0)


def test_a_payload_of_the_tail_that_became_null(tmp_path: Path) -> None:
    """One bit does it to a payload of 10 bytes, and a payload that is not there was not hashed."""
    whole = specimen(tmp_path / "store", Stop.CLOSED)
    with segment(tmp_path / "store" / whole.active) as db:
        db.execute(
            "UPDATE records SET payload = NULL WHERE lsn = (SELECT max(lsn) - 2 FROM records)"
        )
    with pytest.raises(StoreDamagedError, match="payload of record"):
        open_log(tmp_path / "store", Outcomes(), low_space_bytes=0)


@pytest.mark.torture
def test_flipped_bits_at_length(tmp_path: Path) -> None:
    seed = seed_of_run()
    tell_seed(seed, f"-m torture {THIS}")
    tell_counts(flip_all(tmp_path, seed, flips=LONG_FLIPS))
