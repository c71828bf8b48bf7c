"""What callers may write for durations, places, filters and payloads."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from hermes.broker.v1 import broker_pb2 as pb
from hermes.client.options import (
    client_options,
    consume_open,
    outgoing,
    queue_groups,
    reason_text,
    to_filters,
    to_ns,
    to_start,
)
from hermes.client.typed import event
from hermes.errors import ConnectionLostError, InvalidArgumentError


@event("orders.{region}.created")
@dataclass
class Created:
    region: str


@pytest.mark.parametrize(
    ("value", "expected_ns"),
    [(0, 0), (1.5, 1_500_000_000), (timedelta(milliseconds=20), 20_000_000)],
)
def test_durations(value: float | timedelta, expected_ns: int) -> None:
    assert to_ns(value, "x") == expected_ns


@pytest.mark.parametrize("value", [-1, timedelta(seconds=-1), float("nan"), float("inf"), "5"])
def test_bad_durations_are_named(value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="ack_timeout"):
        to_ns(value, "ack_timeout")


def test_places_in_the_line() -> None:
    assert to_start("all") == pb.Start(oldest=True)
    assert to_start("new") == pb.Start(newest=True)
    assert to_start(0) == pb.Start(offset=0)
    moment = datetime(2024, 5, 6, 7, 8, 9, 123_456, tzinfo=UTC)
    assert to_start(moment) == pb.Start(time_ns=1_714_979_289_123_456_000)
    eastern = moment.astimezone(timezone(timedelta(hours=-5)))
    assert to_start(eastern) == to_start(moment)


@pytest.mark.parametrize("value", ["old", -1, True, 1.5, datetime(2024, 1, 1)])  # noqa: DTZ001
def test_bad_places(value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="start"):
        to_start(value)


def test_filters() -> None:
    assert to_filters("a.>") == (("a.>",), None)
    assert to_filters(["a", "b"]) == (("a", "b"), None)
    assert to_filters(Created) == (("orders.*.created",), Created)


def test_the_opening_request_leaves_out_what_was_not_given() -> None:
    request = consume_open(
        "c",
        ("a",),
        start="all",
        max_in_flight=5,
        ack_timeout=None,
        max_attempts=None,
        backoff=None,
        update=False,
    )
    assert not request.HasField("ack_timeout_ns")
    assert not request.HasField("max_attempts")
    assert not request.HasField("backoff")
    assert request.credit.messages == 5


def test_the_opening_request_has_what_was_given() -> None:
    request = consume_open(
        "c",
        ("b", "a", "b"),
        start=7,
        max_in_flight=1,
        ack_timeout=timedelta(seconds=2),
        max_attempts=0,
        backoff=(0.5, 10),
        update=True,
    )
    assert request.ack_timeout_ns == 2_000_000_000
    assert request.HasField("max_attempts")
    assert (request.backoff.initial_ns, request.backoff.max_ns) == (500_000_000, 10_000_000_000)
    assert request.start.offset == 7
    assert list(request.filters) == ["a", "b"]  # in whatever order they were written
    assert request.update


def test_max_in_flight_must_be_positive() -> None:
    with pytest.raises(InvalidArgumentError, match="max_in_flight"):
        consume_open(
            "c",
            ("a",),
            start="all",
            max_in_flight=0,
            ack_timeout=None,
            max_attempts=None,
            backoff=None,
            update=False,
        )


def test_reasons_are_cut_at_a_character() -> None:
    assert reason_text(None) == ""
    cut = reason_text("ä" * 600)
    assert len(cut.encode()) == 1_024
    assert set(cut) == {"ä"}
    assert len(reason_text("x" + "ä" * 600).encode()) == 1_023


def test_queue_groups() -> None:
    assert queue_groups(None) == ()
    assert queue_groups("a") == ("a",)
    assert queue_groups(["a", "b"]) == ("a", "b")


@pytest.mark.parametrize("payload", [b"x", bytearray(b"x"), memoryview(b"x"), "x"])
def test_payloads(payload: Any) -> None:
    message = outgoing("a", payload, {"k": "v"}, "id-1")
    assert (message.subject, message.payload, message.message_id) == ("a", b"x", "id-1")
    assert message.headers == pb.Headers(entries={"k": "v"})


def test_an_event_brings_subject_and_headers() -> None:
    message = outgoing(Created("eu"), None, {"trace": "1"}, None)
    assert message.headers is not None
    headers = dict(message.headers.entries)
    assert message.subject == "orders.eu.created"
    assert headers["event-type"] == "Created"
    assert headers["trace"] == "1"


@pytest.mark.parametrize(
    ("subject", "payload"),
    [("a", None), ("a", 5), (5, None), (Created("eu"), b"x"), ("\ud800", b"x")],
)
def test_what_cannot_be_published(subject: Any, payload: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        outgoing(subject, payload, None, None)


def test_header_values_must_be_text() -> None:
    headers: Any = {"k": 5}
    with pytest.raises(InvalidArgumentError, match="headers"):
        outgoing("a", b"", headers, None)


def test_each_client_has_an_id_and_says_its_name() -> None:
    first = dict(client_options("x:1", "billing", "1.2", 1, 1, 1).metadata)
    second = dict(client_options("x:1", None, "1.2", 1, 1, 1).metadata)
    assert first["hermes-client-name"] == "billing"
    assert first["hermes-client-version"] == "python/1.2"
    assert first["hermes-client-id"] != second["hermes-client-id"]
    for bad in ("bil\nling", "ü", "x" * 257):
        with pytest.raises(InvalidArgumentError, match="name"):
            client_options("x:1", bad, "1", 1, 1, 1)


def test_an_unreachable_broker_is_named_with_a_hint() -> None:
    error = client_options("x:1", None, "1", 1, 1, 1).unreachable(ConnectionLostError("refused"))
    assert "x:1: refused" in str(error)
    assert "is `hermes serve` running at x:1?" in str(error)
