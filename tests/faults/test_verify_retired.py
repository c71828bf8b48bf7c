"""Payloads that are gone: `verify` wants to see the record that announced it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hermes.log.log import open_log
from hermes.log.record import Kind, Record
from hermes.log.v1 import log_pb2
from hermes_inspect.verify_notes import Claims, Keys
from hermes_inspect.verify_store import Looked, Verdict, look, verify_store
from tests.contract.records import Outcomes, event, publish, snapshot
from tests.support.tampering import segment, segments

NO_KEYS = Keys((), given=False)


def verdict_on(looked: Looked) -> Verdict:
    return verify_store(looked, NO_KEYS, Claims(), lambda _: None, workers=0)


def compacted(first_lsn: int, first: int, last: int, *retired: int) -> Record:
    body = log_pb2.SegmentCompacted(first_lsn=first_lsn, retired=retired)
    return Record(
        at_ns=13,
        kind=Kind.SEGMENT_COMPACTED,
        first=first,
        last=last,
        body=body.SerializeToString(),
    )


def erased(published_lsn: int, offset: int | None) -> Record:
    body = log_pb2.PayloadErased(published_lsn=published_lsn, reason="asked")
    return Record(
        at_ns=14,
        kind=Kind.PAYLOAD_ERASED,
        first=offset,
        last=offset,
        body=body.SerializeToString(),
    )


def live() -> Record:
    return Record(at_ns=9, kind=Kind.PUBLISHED_LIVE, key="live.x", body=b"head", payload=b"now")


def append(folder: Path, *records: Record) -> None:
    outcomes = Outcomes()
    log = open_log(folder, outcomes)
    outcomes.wait_for(log.append(records, log.next_lsn))
    log.close()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Two segments; in the first, offsets 0..3 are records 1..4, and 5 and 6 are live."""
    folder = tmp_path / "store"
    outcomes = Outcomes()
    log = open_log(folder, outcomes)
    log.append([publish(n) for n in range(4)], 1)
    log.append([live(), live()], 5)
    log.roll(snapshot(), 7)
    log.append([publish(4), event(Kind.ACKED, "c", 0)], 9)
    outcomes.wait_for(10)
    log.close()
    return folder


def take_out(folder: Path, *lsns: int) -> None:
    with segment(segments(folder)[0]) as db:
        for lsn in lsns:
            db.execute("UPDATE records SET payload = NULL WHERE lsn = ?", (lsn,))


def test_what_a_compaction_announced_is_legal_and_counted(store: Path) -> None:
    append(store, compacted(1, 0, 2, 0, 1, 1, 1))
    take_out(store, 1, 3, 5, 6)
    verdict = verdict_on(look(store))
    assert verdict.sound, verdict.breaks
    assert (verdict.walked.retired, verdict.walked.payloads) == (4, 3)


def test_announced_and_not_done_is_legal(store: Path) -> None:
    append(store, compacted(1, 0, 3))
    assert verdict_on(look(store)).sound


def test_a_payload_that_is_gone_unannounced_is_named(store: Path) -> None:
    """One bit makes NULL of a payload of 10 bytes: it was counted as retired, the store sound."""
    take_out(store, 2, 3)
    (found,) = verdict_on(look(store)).breaks
    assert (found.what, found.lsn, found.last_lsn, found.offset) == ("payload", 2, 3, 1)
    assert found.segment == segments(store)[0].name
    assert "offsets 1..2" in found.text


def test_more_than_was_announced_is_named(store: Path) -> None:
    append(store, compacted(1, 0, 1))
    take_out(store, 1, 2, 3)
    (found,) = verdict_on(look(store)).breaks
    assert (found.what, found.offset) == ("payload", 2)


def test_another_segments_announcement_does_not_count(store: Path) -> None:
    append(store, compacted(7, 0, 3))
    take_out(store, 1)
    assert not verdict_on(look(store)).sound


def test_live_payloads_go_with_their_segment_alone(store: Path) -> None:
    take_out(store, 5, 6)
    (found,) = verdict_on(look(store)).breaks
    assert (found.what, found.lsn, found.last_lsn, found.offset) == ("payload", 5, 6, None)


def test_an_erased_payload(store: Path) -> None:
    append(store, erased(2, 1), erased(5, None))
    take_out(store, 2, 5)
    assert verdict_on(look(store)).sound
    take_out(store, 6)
    (found,) = verdict_on(look(store)).breaks
    assert (found.lsn, found.last_lsn) == (5, 6)


def test_what_is_announced_and_done_after_the_look_is_legal(store: Path) -> None:
    """A live server may compact a segment between the look at the log's end and the walk."""
    looked = look(store)
    append(store, compacted(1, 0, 3))
    take_out(store, 1, 2, 3, 4)
    verdict = verdict_on(looked)
    assert verdict.sound, verdict.breaks


def test_an_announcement_that_does_not_decode_announces_nothing(store: Path) -> None:
    append(store, compacted(1, 0, 3, 7, 7))
    take_out(store, 1)
    assert not verdict_on(look(store)).sound
