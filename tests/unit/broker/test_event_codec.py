"""The form on disk: these bytes are in stores already, so they cannot change."""

from __future__ import annotations

from typing import Any

import pytest

from hermes.broker import events as ev
from hermes.broker.event_codec import LAYOUTS, decode, encode
from hermes.log.record import Kind, Record, StoredRecord, look_up_term
from tests.support.world import POLICY


def record(
    kind: Kind,
    key: str,
    first: int | None,
    last: int | None,
    body: str,
    payload: bytes | None = None,
) -> Record:
    return Record(7, kind, key, first, last, bytes.fromhex(body), payload)


RANGES: dict[str, Any] = {"engine_time_ns": 1, "consumer": "c", "session": 2, "member": 3}
GOLDEN: list[tuple[ev.Event, Record]] = [
    (
        ev.Published(
            engine_time_ns=1,
            subject="a.b",
            first=5,
            last=6,
            head=b"\x08\x02",
            content=b"zz",
            sizes=(1, 300),
            session=9,
            producer_id=b"p",
            producer_sequence=4,
            dead_letter_consumer="c",
            dead_letter_offset=3,
        ),
        record(
            Kind.PUBLISHED, "a.b", 5, 6, "080110091a020802220301ac022a017030043a01634003", b"zz"
        ),
    ),
    (
        ev.Delivered(ranges=((5, 6), (9, 9)), attempt=1, deadline_ns=300, mean_bytes=10, **RANGES),
        record(Kind.DELIVERED, "c", 5, 9, "080110021803200128ac02320400020201380a"),
    ),
    (
        ev.Acked(ranges=((5, 6),), **RANGES),
        record(Kind.ACKED, "c", 5, 6, "080110021803"),
    ),
    (
        ev.Released(
            ranges=((5, 5),),
            attempt=1,
            cause=ev.ReleaseCause.MEMBER_GONE,
            due_ns=4,
            failure=True,
            **RANGES,
        ),
        record(Kind.RELEASED, "c", 5, 5, "0801100218032001280230013804"),
    ),
    (
        ev.ConsumerCreated(
            engine_time_ns=1, consumer="c", session=2, policy=POLICY, position=3, at_ns=4
        ),
        record(Kind.CONSUMER_CREATED, "c", None, None, "080110021a081080d88ee16f180520032804"),
    ),
    (
        ev.CheckpointTaken(engine_time_ns=1, lsn=9, chain=b"\xff\x01", at_ns=300, note="n\n"),
        Record(7, Kind.CHECKPOINT, body=bytes.fromhex("080110091a02ff0120ac022a026e0a")),
    ),
]


@pytest.mark.parametrize(("event", "golden"), GOLDEN, ids=lambda value: type(value).__name__)
def test_golden_bytes(event: ev.Event, golden: Record) -> None:
    assert encode(event, 7) == golden


def test_ids_are_look_up_terms() -> None:
    event = ev.Published(
        engine_time_ns=0, subject="a", first=0, last=1, head=b"", content=b"", sizes=(0, 0),
        ids=("x", ""),
    )  # fmt: skip
    assert encode(event, 0).terms == (look_up_term("x"),)
    assert look_up_term("x") < 2**63


def test_every_kind_is_one_event_or_none() -> None:
    kinds = [layout.kind for layout in LAYOUTS]
    assert len(kinds) == len(set(kinds))
    others = {Kind.PUBLISHED, Kind.PUBLISHED_LIVE, Kind.LOST}
    others |= {Kind.SEGMENT_COMPACTED, Kind.SEGMENT_DROPPED}
    silent = set(Kind) - set(kinds) - others
    assert silent == {
        Kind.SNAPSHOT,
        Kind.SEGMENT_SEALED,
        Kind.PAYLOAD_ERASED,
    }
    for kind in silent:
        assert decode(StoredRecord(1, 0, kind, None, None, None, b"", None, None, b"")) is None
