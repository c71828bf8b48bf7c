"""The walk names what is wrong, once, and goes on behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from hermes.limits import RECORD_HULL_MAX
from hermes.log.chain import genesis, hash_payload, link
from hermes.log.chain_walk import BREAKS_MAX, Break, ChainWalk, Row
from hermes.log.record import Kind
from tests.support import tampering

START = genesis("5f0c3b52-9f44-4b87-8e0f-3a1c7f1a2b3c")
COLUMNS = tampering.COLUMNS


@dataclass
class Draft:
    kind: int = Kind.PUBLISHED
    key: str | None = "a.b"
    offsets: tuple[int, int] | None = None
    body: bytes = b"body"
    payload: bytes | None = None


def log_of(*drafts: Draft, first_lsn: int = 1) -> list[Row]:
    """Rows as a log would hold them."""
    rows: list[Row] = []
    chain = START
    for lsn, draft in enumerate(drafts, first_lsn):
        first, last = draft.offsets or (None, None)
        digest = None if draft.payload is None else hash_payload(draft.payload)
        front = (lsn, 7, int(draft.kind), draft.key, first, last, draft.body)
        chain = link(chain, *front, digest)
        rows.append((*front, draft.payload, digest, chain))
    return rows


def ten() -> list[Row]:
    """Publishes and acks in turn: lsns 1..10, offsets 0..9 in five batches of two."""
    drafts = []
    for n in range(5):
        drafts.append(Draft(offsets=(2 * n, 2 * n + 1), payload=b"salt and payload %d" % n))
        drafts.append(Draft(Kind.ACKED, "consumer", (2 * n, 2 * n + 1)))
    return log_of(*drafts)


def changed(rows: list[Row], lsn: int, **columns: Any) -> list[Row]:
    row = dict(zip(COLUMNS, rows[lsn - 1], strict=True)) | columns
    return [*rows[: lsn - 1], tuple(row.values()), *rows[lsn:]]


def walked(rows: list[Row], last_lsn: int | None = None) -> ChainWalk:
    walk = ChainWalk(1, START, segment="file")
    for row in rows:  # one by one: what is carried from call to call matters
        walk.take([row])
    walk.end(rows[-1][0] if last_lsn is None else last_lsn)
    return walk


def breaks(rows: list[Row], last_lsn: int | None = None) -> list[Break]:
    return walked(rows, last_lsn).seen.breaks


def test_a_sound_log() -> None:
    walk = walked(ten())
    seen = walk.seen
    assert seen.breaks == []
    assert (seen.first_lsn, seen.last_lsn, seen.records, seen.chain) == (1, 10, 10, ten()[-1][9])
    assert (seen.payloads, seen.retired) == (5, 0)
    assert (seen.first_offset, seen.next_offset, seen.lowest, seen.highest) == (0, 10, 0, 9)
    together = ChainWalk(1, START)
    together.take(ten())
    assert together.seen == seen


@pytest.mark.parametrize(
    "columns",
    [
        {"at_ns": 8},
        {"kind": int(Kind.PUBLISHED_LIVE)},
        {"key": "a.c"},
        {"body": b"Body"},
        {"body": b""},
    ],
    ids=str,
)
def test_a_changed_record_is_one_break(columns: dict[str, Any]) -> None:
    rows = changed(ten(), 5, **columns)
    (found, *more) = breaks(rows)
    assert (found.what, found.segment, found.lsn, found.offset) == ("record", "file", 5, 4)
    assert found.expected != found.found == ten()[4][9].hex()
    assert [b.what for b in more] in ([], ["offsets"])  # a publish less is a gap, too


def test_a_changed_link_is_told_from_a_changed_record() -> None:
    (found,) = breaks(changed(ten(), 6, chain=b"x" * 32))
    assert (found.what, found.lsn) == ("link", 6)
    assert found.text == "record 6 (offset 4) has another link stored: it was changed"
    (last,) = breaks(changed(ten(), 10, chain=b"x" * 32))
    assert last.lsn == 10


def test_a_changed_payload_or_hash() -> None:
    (found,) = breaks(changed(ten(), 3, payload=b"other"))
    assert (found.what, found.lsn, found.offset) == ("payload", 3, 2)
    assert (found.expected, found.found) == (ten()[2][8].hex(), hash_payload(b"other").hex())  # type: ignore[union-attr]
    both = breaks(changed(ten(), 3, payload_hash=bytes(32)))
    assert {(b.what, b.lsn) for b in both} == {("record", 3), ("payload", 3)}


def test_a_payload_that_nothing_covers() -> None:
    (found,) = breaks(changed(ten(), 2, payload=b"smuggled in"))
    assert (found.what, found.lsn, found.expected) == ("payload", 2, None)


@pytest.mark.parametrize(
    ("column", "value"),
    [("payload", 1), ("payload_hash", 0), ("body", None), ("chain", None), ("first", b"\x01")],
)
def test_a_value_of_another_type_is_named(column: str, value: object) -> None:
    """One flipped bit in a row's header. `verify` ended with a TypeError for a payload of 1, and
    took a hash of 0 for none, as the chain did."""
    found = breaks(changed(ten(), 3, **{column: value}))
    assert [(b.what, b.lsn) for b in found] == [("row", 3)]
    assert f"its {column} is of type {type(value).__name__}" in found[0].text


def test_retired_payloads_are_fine_and_counted() -> None:
    seen = walked(changed(changed(ten(), 3, payload=None), 5, payload=None)).seen
    assert seen.breaks == []
    assert (seen.payloads, seen.retired) == (3, 2)


def test_missing_records_are_named_and_what_follows_is_checked() -> None:
    rows = ten()
    (found,) = breaks([*rows[:3], *rows[6:]])
    assert (found.what, found.lsn, found.last_lsn) == ("missing", 4, 6)
    assert found.text == "records 4..6 are missing"
    after = [*rows[:3], *changed(rows, 9, body=b"x")[6:]]
    assert [b.lsn for b in breaks(after)] == [4, 9]


def test_records_missing_at_the_end() -> None:
    (found,) = breaks(ten()[:8], 10)
    assert (found.what, found.lsn, found.last_lsn) == ("missing", 9, 10)


def test_a_record_that_comes_again() -> None:
    rows = ten()
    found = breaks([*rows[:4], rows[3], *rows[4:]])
    assert (found[0].what, found[0].lsn) == ("lsn", 4)


@pytest.mark.parametrize(
    ("draft", "said"),
    [
        (Draft(offsets=(5, 6)), "is not the next publish"),
        (Draft(), "has no range of offsets"),
        (Draft(key=None, offsets=(0, 0)), "without a subject"),
        (Draft(Kind.ACKED, "c", (4, 3)), "impossible range"),
        (Draft(Kind.ACKED, "c", (-1, 3)), "impossible range"),
        (Draft(Kind.ACKED, "c", (0, RECORD_HULL_MAX)), "impossible range"),
    ],
)
def test_what_no_log_may_hold_though_it_is_chained(draft: Draft, said: str) -> None:
    first = Draft(offsets=(0, 0)) if draft.offsets == (5, 6) else Draft(Kind.ACKED, "c", (0, 0))
    (found,) = breaks(log_of(first, draft))
    assert said in found.text
    assert found.lsn == 2


def test_what_is_no_record_at_all() -> None:
    found = breaks(changed(ten(), 4, at_ns="soon"))
    assert (found[0].what, found[0].lsn) == ("row", 4)


def test_an_unreadable_stretch_is_skipped() -> None:
    rows = ten()
    walk = ChainWalk(1, START, segment="file")
    walk.take(rows[:2])
    walk.skip(6, "torn")
    walk.take(changed(rows, 8, body=b"x")[6:])
    walk.end(10)
    assert [(b.what, b.lsn, b.last_lsn) for b in walk.seen.breaks][:1] == [("unreadable", 3, 6)]
    assert [b.lsn for b in walk.seen.breaks if b.what == "record"] == [8]


def test_many_breaks_are_counted() -> None:
    drafts = [Draft(Kind.ACKED, "c", (n, n)) for n in range(60)]
    rows = log_of(*drafts)
    for lsn in range(2, 60, 2):
        rows = changed(rows, lsn, body=b"x")
    seen = walked(rows).seen
    assert len(seen.breaks) == BREAKS_MAX
    assert seen.more_breaks == 29 - BREAKS_MAX


def test_a_walk_may_begin_anywhere() -> None:
    rows = ten()
    walk = ChainWalk(5, rows[3][9])
    walk.take(rows[4:])
    walk.end(10)
    assert walk.seen.breaks == []
    assert (walk.seen.first_offset, walk.seen.next_offset) == (4, 10)
    blind = ChainWalk(5, None)
    blind.take(changed(rows, 5, body=b"x")[4:])
    assert blind.seen.breaks == [], "without the link before, the first record is taken as it is"
