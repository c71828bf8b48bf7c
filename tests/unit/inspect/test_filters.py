"""Filters: as typed, as described, and what fits."""

from __future__ import annotations

import pytest

from hermes.broker import events as ev
from hermes.broker.batch import single
from hermes.broker.event_codec import encode
from hermes.errors import InvalidArgumentError
from hermes.log.record import Kind, StoredRecord
from hermes_inspect.filters import (
    EVERYTHING,
    GROUPS,
    Filter,
    describe,
    fits,
    parse,
    parse_kinds,
    parse_range,
)
from hermes_inspect.model import RecordView, view_of
from hermes_inspect.times import Clockface


def stored(event: ev.Event, lsn: int = 5, at_ns: int = 1_000) -> RecordView:
    record = encode(event, at_ns)
    digest = None if record.payload is None else bytes(32)
    return view_of(
        StoredRecord(
            lsn,
            at_ns,
            record.kind,
            record.key,
            record.first,
            record.last,
            record.body,
            record.payload,
            digest,
            bytes(32),
        )
    )


def published(subject: str = "orders.eu", text: str = "Grüße", first: int = 7) -> RecordView:
    batch = single(subject, text.encode(), id="an-id", headers={"Region": "EU"})
    return stored(
        ev.Published(
            engine_time_ns=1,
            subject=subject,
            first=first,
            last=first,
            head=batch.head,
            content=batch.content,
            sizes=batch.sizes,
            ids=batch.ids,
        )
    )


def nacked(consumer: str = "billing", reason: str = "too late") -> RecordView:
    return stored(
        ev.Nacked(
            engine_time_ns=1,
            consumer=consumer,
            ranges=((3, 4), (9, 9)),
            session=1,
            member=2,
            attempt=1,
            due_ns=5,
            reason=reason,
        )
    )


LINES = [
    "kind:acked",
    "kind:settlements",
    "kind:acked,nacked",
    "subject:orders.>",
    "subject:orders.* subject:news.a",
    "consumer:billing",
    "consumer:'with blank'",
    "offset:5",
    "offset:5..9",
    "offset:5..",
    "lsn:..9",
    "text:boom",
    "kind:delivered subject:a.> consumer:x since:'2026-01-31 12:00:00.000' lsn:5..9 text:'a b'",
]


@pytest.mark.parametrize("line", LINES)
def test_a_description_can_be_typed(line: str) -> None:
    wanted = parse(line, now_ns=0)
    assert wanted != EVERYTHING
    assert describe(wanted, Clockface()) == line
    assert parse(describe(wanted, Clockface()), now_ns=0) == wanted


def test_bare_words_are_text() -> None:
    assert parse("kind:acked boom bang", now_ns=0).text == "boom bang"
    assert parse("http://x", now_ns=0).text == "http://x"
    assert parse("  ", now_ns=0) == EVERYTHING


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("kind:nope", "there are publishes"),
        ("since:soon", "no moment"),
        ("offset:x", "expected a number"),
        ("offset:..", "expected a number"),
        ("lsn:1 lsn:2", "said twice"),
        ("subject:a..b", "not valid"),
        ("text:'open", "not closed"),
        ("kind:session_opened consumer:x", "have no consumer"),
        ("kind:snapshot subject:x", "have no subject"),
    ],
)
def test_what_cannot_be_typed(line: str, complaint: str) -> None:
    with pytest.raises(InvalidArgumentError, match=complaint):
        parse(line, now_ns=0)


def test_kinds_and_groups() -> None:
    assert parse_kinds(["acked", "Dead-Lettered"]) == {Kind.ACKED, Kind.DEAD_LETTERED}
    assert parse_kinds(["live,acked"]) == GROUPS["live"] | {Kind.ACKED}
    every = frozenset().union(*GROUPS.values())
    assert every == frozenset(Kind)


def test_ranges() -> None:
    assert parse_range("offset", "5") == (5, 5)
    assert parse_range("offset", "..9") == (None, 9)


@pytest.mark.parametrize(
    ("line", "publish", "nack"),
    [
        ("", True, True),
        ("kind:published", True, False),
        ("kind:settlements", False, True),
        ("subject:orders.*", True, False),
        ("subject:news.*", False, False),
        ("consumer:billing", False, True),
        ("consumer:other", False, False),
        ("offset:7", True, False),
        ("offset:9", False, True),
        ("offset:5..8", True, False),  # the hull of the nack passes over it, its ranges do not
        ("offset:..3", False, True),
        ("lsn:5", True, True),
        ("lsn:6..", False, False),
        ("since:1970-01-01T00:00:00.000001", True, True),
        ("since:1970-01-02", False, False),
        ("until:1970-01-01", False, False),
        ("text:GRÜSSE", True, False),
        ("text:an-id", True, False),
        ("text:'region: eu'", True, False),
        ("text:'Too late'", False, True),
        # Whether its messages are on the subject, the caller looks up.
        ("consumer:billing subject:orders.*", False, True),
        ("kind:nacked subject:orders.*", False, True),
        ("kind:published,nacked subject:orders.*", True, True),
        ("kind:published,nacked subject:news.*", False, True),
    ],
)
def test_what_fits(line: str, publish: bool, nack: bool) -> None:
    wanted = parse(line, now_ns=0)
    assert fits(wanted, published()) is publish
    assert fits(wanted, nacked()) is nack


def test_the_same_names_give_the_same_test_of_keys() -> None:
    """Readers remember what a filter matches by its identity."""
    assert Filter(consumers=("a",)).keys is Filter(consumers=("a",)).keys
    assert Filter(subjects=("a.>",)).keys is Filter(subjects=("a.>",)).keys
    assert Filter(subjects=("a.>",), kinds=frozenset({Kind.ACKED})).keys is None
